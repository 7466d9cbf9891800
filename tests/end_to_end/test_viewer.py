"""The page of an answer and of a comparison in a browser: what moves it, what it says, and that it asks for nothing."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import vidcompress
from browser import open_file, pixels, watched_page
from vidcompress.cli import main
from vidcompress.qa import Comparison
from vidcompress.qa.viewer.page import embedded, json_in_html

EVIL = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\"><!--"


@pytest.fixture(scope="module")
def clip_rows(qa: vidcompress.VisualQA, clip: Path) -> Comparison:
    """vidcom2, which scores, census, which has mass, and random, which has neither."""
    few = vidcompress.VisualQA(qa.model, qa.processor, num_frames=8)
    methods = ["vidcom2", "census", "random"]
    return few.compare(
        "which shape appears first?", video=clip, methods=methods, retention_ratios=[0.25], repeats=1
    )


@pytest.fixture(scope="module")
def layer_rows(qa: vidcompress.VisualQA, image: Path) -> Comparison:
    """globalcom2 before the language model, fastv inside it, and a budget out of reach."""
    return qa.compare(
        "what digit is shown?",
        image=image,
        methods="globalcom2,fastv",
        retention_ratios=[0.6, 0.1],
        repeats=1,
    )


@pytest.fixture
def opened(chromium: Any, tmp_path: Path) -> Any:
    """A function that opens a page's text and returns the page; at the end nobody was asked and nothing went wrong."""
    contexts, watches = [], []

    def open_page(text: str, **settings: Any) -> Any:
        context = watched_page(chromium, **settings)
        page, watch = context.__enter__()
        contexts.append(context)
        path = tmp_path / f"page-{len(contexts)}.html"
        path.write_text(text, encoding="utf-8")
        watches.append((watch, open_file(page, path)))
        page.locator(".kept-viewer[data-ready]").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.__exit__(None, None, None)
    for watch, url in watches:
        assert watch.requests == [url]
        assert watch.complaints == []


@pytest.fixture
def neighbour() -> Iterator[tuple[str, list[str]]]:
    """Address of a picture on a server of this machine, and the paths that it was asked for."""
    arrived: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            arrived.append(self.path)
            self.send_error(404)

        def log_message(self, *words: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/pixel.png", arrived
        server.shutdown()


def row(page: Any, name: str) -> Any:
    """Radio button of a row."""
    return page.locator(".list label", has_text=name).first.locator("input")


def test_the_scrubber_the_strip_and_the_keys_change_the_frame(opened: Any, clip_rows: Comparison) -> None:
    page = opened(clip_rows.html())
    canvas, scrubber = page.locator("canvas"), page.locator(".scrubber")
    assert page.locator(".when").inner_text() == "frame 1 of 8, 0.0 s"
    frames = [pixels(canvas)]
    scrubber.fill("3")
    assert page.locator(".when").inner_text().startswith("frame 4 of 8, ")
    frames.append(pixels(canvas))
    scrubber.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".when").inner_text().startswith("frame 5 of 8, ")
    frames.append(pixels(canvas))
    strip = page.locator(".strip").bounding_box()
    page.mouse.click(strip["x"] + strip["width"] - 3, strip["y"] + 10)
    assert page.locator(".when").inner_text().startswith("frame 8 of 8, ")
    assert scrubber.input_value() == "7"
    frames.append(pixels(canvas))
    page.keyboard.press("ArrowLeft")  # a click on the strip gives the scrubber the keys
    assert page.locator(".when").inner_text().startswith("frame 7 of 8, ")
    frames.append(pixels(canvas))
    assert len(set(frames)) == len(frames)
    scrubber.fill("0")
    assert pixels(canvas) == frames[0]  # the same frame is the same picture
    assert page.locator(".strip .now").count() == 1


def test_a_clip_plays_and_stops(opened: Any, clip_rows: Comparison) -> None:
    page = opened(clip_rows.html())
    page.get_by_role("button", name="Play").click()
    page.locator(".when", has_text="frame 3 of 8").wait_for()
    page.get_by_role("button", name="Pause").click()
    assert page.get_by_role("button", name="Play").is_visible()


def test_the_rows_change_canvas_answer_and_label(opened: Any, clip_rows: Comparison) -> None:
    page = opened(clip_rows.html())
    canvas, slider = page.locator("canvas"), page.locator("input.rows")
    assert slider.get_attribute("aria-valuetext") == "vidcom2 at 0.25"
    drawn, labels = {}, {}
    for number, name in enumerate(("all tokens", "vidcom2 at 0.25", "census at 0.25", "random at 0.25")):
        slider.fill(str(number))
        drawn[name], labels[name] = pixels(canvas), canvas.get_attribute("aria-label")
        assert labels[name].endswith(f", {name}") and labels[name].startswith("frame 1: ")
        assert page.locator(".list input:checked").get_attribute("value") == str(number)
        entry = clip_rows.rows[number]
        assert page.locator(".card .answer").inner_text() == entry.text
        assert f"{entry.kept} of {entry.total} visual tokens" in page.locator(".card").inner_text()
        verdict = page.locator(".verdict")
        assert verdict.is_visible() == (number > 0)
        if number:
            assert verdict.inner_text().startswith("same as" if entry.agreement == 1 else "differs from")
    assert len(set(drawn.values())) == len(set(labels.values())) == 4
    row(page, "vidcom2").focus()
    page.keyboard.press("ArrowDown")  # radio buttons are one group with arrow keys
    assert slider.input_value() == "2" and pixels(canvas) == drawn["census at 0.25"]


def test_scores_and_mass_show_where_there_are_any(opened: Any, clip_rows: Comparison) -> None:
    page = opened(clip_rows.html())
    canvas, slider = page.locator("canvas"), page.locator("input.rows")
    buttons = {name: page.locator(".modes label", has_text=name) for name in ("Kept", "Scores", "Mass")}
    plain = pixels(canvas)
    assert buttons["Scores"].is_visible() and not buttons["Mass"].is_visible()
    buttons["Scores"].click()
    heat = pixels(canvas)
    assert heat != plain and "score, frame" in page.locator(".legend").inner_text()
    assert "with scores" in canvas.get_attribute("aria-label")
    page.keyboard.press("ArrowLeft")
    assert pixels(canvas) == plain and page.locator(".legend").inner_text() == "dropped"
    slider.fill("2")
    assert buttons["Mass"].is_visible()
    plain = pixels(canvas)
    buttons["Mass"].click()
    assert pixels(canvas) != plain and "tokens that it stands for" in page.locator(".legend").inner_text()
    slider.fill("3")  # random has neither
    assert not any(button.is_visible() for button in buttons.values())
    assert "with mass" not in canvas.get_attribute("aria-label")


def test_layers_show_what_they_drop(opened: Any, layer_rows: Comparison) -> None:
    page = opened(layer_rows.html())
    select = page.locator(".layers")
    assert not select.is_visible()  # globalcom2 drops before the language model
    row(page, "fastv 0.6").check(force=True)
    assert select.is_visible()
    thumbnail = page.locator("canvas").first
    at_last = pixels(thumbnail)
    assert "as sent" not in select.locator("option:checked").inner_text()
    select.select_option(label="as sent")
    assert pixels(thumbnail) != at_last
    assert "64 of 64 tokens" in page.locator("figcaption").first.inner_text()
    assert "dropped before layer" not in page.locator(".legend").inner_text()
    row(page, "fastv 0.6").check(force=True)  # another choice stays
    select.focus()
    page.keyboard.press("ArrowDown")
    assert pixels(thumbnail) == at_last
    (layer,) = layer_rows.rows[3].answer.report.visuals[0].maps[0].stages  # type: ignore[union-attr]
    left = int(layer_rows.rows[3].answer.report.visuals[0].maps[0].stages[layer].sum())  # type: ignore[union-attr]
    assert f"64 of 64 tokens, {left} from layer {layer} on" in page.locator("figcaption").first.inner_text()
    assert f"dropped before layer {layer}" in page.locator(".legend").inner_text()
    assert "on average over the layers" in page.locator(".card").inner_text()


def test_a_budget_out_of_reach_says_so(opened: Any, layer_rows: Comparison) -> None:
    gone = [number for number, entry in enumerate(layer_rows.rows) if entry.answer is None]
    page = opened(layer_rows.html())
    kept = pixels(page.locator("canvas").first)
    page.locator("input.rows").fill(str(gone[0]))
    assert page.locator(".card .answer").inner_text() == "no answer"
    assert layer_rows.rows[gone[0]].note in page.locator(".notes").inner_text()
    assert pixels(page.locator("canvas").first) != kept
    assert "no answer" in page.locator("canvas").first.get_attribute("aria-label")


def test_times_are_bars_on_one_scale(opened: Any, clip_rows: Comparison) -> None:
    page = opened(clip_rows.html())
    names = page.locator(".times th").all_inner_texts()
    assert names == ["encode", "compress", "prefill", "generate", "total"], "what all rows share is in none"
    widths: list[float] = []
    for number in range(len(clip_rows.rows)):
        page.locator("input.rows").fill(str(number))
        shown = page.locator(".times td i").evaluate_all(
            "bars => bars.map((bar) => parseFloat(bar.style.width))"
        )
        assert len(shown) == 4 and all(0 <= width <= 100 for width in shown)
        widths += shown
    assert max(widths) == 100 and widths.count(100) < len(widths)


def test_it_fits_the_screen_in_both_schemes(opened: Any, layer_rows: Comparison) -> None:
    page = opened(layer_rows.html())
    papers = set()
    for width, scheme in ((360, "dark"), (820, "light"), (1200, "dark"), (1200, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        papers.add(
            (scheme, page.locator(".kept-viewer").evaluate("main => getComputedStyle(main).backgroundColor"))
        )
        for box in (canvas.bounding_box() for canvas in page.locator("canvas").all()):
            assert box["width"] >= 100 and box["x"] >= 0 and box["x"] + box["width"] <= width
            assert box["height"] <= 501
    reds = {scheme: int(paper.removeprefix("rgb(").split(",")[0]) for scheme, paper in papers}
    assert len(papers) == 2 and reds["dark"] < 60 < 200 < reds["light"]


def test_texts_are_never_read_as_html(opened: Any, qa: vidcompress.VisualQA, image: Path) -> None:
    answer = qa.ask("what digit is shown?", image=image, max_new_tokens=2)
    report = dataclasses.replace(answer.report, notes=[EVIL], method=EVIL)
    page = opened(dataclasses.replace(answer, text=EVIL, question=EVIL, report=report).html())
    assert page.title().endswith(" - what was kept") and page.locator("img").count() == 0
    assert page.locator("h1").inner_text() == page.locator(".card .answer").inner_text() == EVIL
    assert page.locator(".notes").inner_text() == EVIL


def test_the_same_texts_in_a_page_that_reads_them_as_html_are_noticed(chromium: Any, tmp_path: Path) -> None:
    """Negative control of the test before."""
    path = tmp_path / "naive.html"
    path.write_text(f"<title>What was kept</title><h1><script>'{EVIL}'</script></h1>", encoding="utf-8")
    with watched_page(chromium) as (page, _):
        open_file(page, path)
        page.wait_for_function("document.title === 'taken'")


def test_what_a_page_asks_of_others_is_noticed_and_the_policy_stops_it(
    chromium: Any, tmp_path: Path, qa: vidcompress.VisualQA, image: Path, neighbour: tuple[str, list[str]]
) -> None:
    """Negative control of the guard in `opened`: it sees the request, which arrives only where there is no policy."""
    url, arrived = neighbour
    text = qa.ask("what digit is shown?", image=image, max_new_tokens=2).html()
    asking = text.replace("</main>", f'</main><img src="{url}">')
    open_to_all = asking.replace('http-equiv="Content-Security-Policy"', 'name="off"')
    for page_text, hits in ((text, []), (asking, []), (open_to_all, ["/pixel.png"])):
        path = tmp_path / "asking.html"
        path.write_text(page_text, encoding="utf-8")
        with watched_page(chromium) as (page, watch):
            own = open_file(page, path)
            page.locator(".kept-viewer[data-ready]").wait_for()
            assert watch.strangers(own) == ([] if page_text is text else [url])
            assert bool(watch.complaints) == (page_text is asking) or page_text is open_to_all
        assert arrived == hits


def test_an_error_of_a_script_is_noticed(chromium: Any, tmp_path: Path) -> None:
    """Negative control of the complaints in `opened`."""
    path = tmp_path / "broken.html"
    path.write_text("<script>nobody()</script>", encoding="utf-8")
    with watched_page(chromium) as (page, watch):
        open_file(page, path)
        page.wait_for_load_state()
        assert any("nobody" in complaint for complaint in watch.complaints)


@pytest.mark.parametrize(("width", "script"), [(360, False), (1000, True)], ids=["notebook", "inserted"])
def test_a_frame_has_the_height_of_its_page(
    chromium: Any, tmp_path: Path, clip_rows: Comparison, width: int, script: bool
) -> None:
    """As in a notebook, and as in the HTML of gradio, where scripts that are not in a frame do not run."""
    path = tmp_path / "notebook.html"
    text = clip_rows._repr_html_()
    if script:
        text = f"<div id=place></div><script>place.innerHTML = {json_in_html(text)}</script>"
    path.write_text(f"<!doctype html><p>before</p>{text}<p>after</p>", encoding="utf-8")
    with watched_page(chromium, width=width) as (page, watch):
        url = open_file(page, path)
        inside = page.frame_locator("iframe")
        inside.locator(".kept-viewer[data-ready]").wait_for()
        heights = "[frame.offsetHeight, frame.contentDocument.body.getBoundingClientRect().height]"
        page.wait_for_function(
            f"() => {{ const frame = document.querySelector('iframe'); const [own, page] = {heights};"
            "return Math.abs(own - page) <= 1; }"
        )
        canvas = inside.locator("canvas")
        before = pixels(canvas)
        inside.locator(".scrubber").fill("5")
        assert pixels(canvas) != before
        assert watch.strangers(url) == [] and watch.complaints == []


def test_several_visuals_and_none(
    opened: Callable[..., Any], qa: vidcompress.VisualQA, image: Path, clip: Path
) -> None:
    both = opened(qa.ask("what digit is shown?", image=image, video=clip, max_new_tokens=2).html())
    assert both.locator(".visual h2").all_inner_texts() == ["image 0", "video 1"]
    assert both.locator("canvas").count() == 3
    thumbnail, crops, frame = both.locator("canvas").all()
    drawn = pixels(thumbnail), pixels(crops), pixels(frame)
    both.locator(".scrubber").fill("2")
    assert (pixels(thumbnail), pixels(crops)) == drawn[:2] and pixels(frame) != drawn[2]
    alone = opened(qa.ask("what digit is shown?", max_new_tokens=2).html())
    assert (
        alone.locator("canvas").count() == 0 and "no picture or clip" in alone.locator(".card").inner_text()
    )


def test_the_command_line_writes_pages(
    capsys: pytest.CaptureFixture[str], opened: Callable[..., Any], tmp_path: Path, clip: Path
) -> None:
    one, all_rows = tmp_path / "one.html", tmp_path / "all.html"
    words = ("which shape appears first?", str(clip), "--num-frames", "4")
    with pytest.raises(SystemExit, match="^0$"):
        main(["ask", *words, "--html", str(one), "--json"])
    entry = json.loads(capsys.readouterr().out)
    assert entry["html"] == str(one)
    page = opened(one.read_text(encoding="utf-8"))
    assert page.locator(".card .answer").inner_text() == entry["answer"]
    assert page.locator(".when").inner_text().startswith("frame 1 of 4")
    with pytest.raises(SystemExit, match="^0$"):
        main(["compare", *words, "--methods", "vidcom2", "--only", "--repeats", "1", "--html", str(all_rows)])
    assert f"wrote {all_rows}" in capsys.readouterr().err
    page = opened(all_rows.read_text(encoding="utf-8"))
    assert page.locator(".list b").all_inner_texts() == ["all tokens", "vidcom2", "vidcom2", "vidcom2"]


def test_a_page_in_a_frame_is_text_of_an_attribute() -> None:
    assert embedded("<p title=\"a\">'&amp;'</p>").count('"') == 6

"""The app in a browser: it answers about an upload, streams, shows cards, stops, and asks no other host."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vidcompress
from browser import chromium, watched_page  # noqa: F401  (a fixture)
from vidcompress.tools.app.server import running_app

pytest.importorskip("gradio", reason="needs gradio: pip install '.[app]'")

GRADIOS_OWN = "Method not implemented."
"""What gradio's own script warns about when it closes the progress of an upload."""
WORDS = """() => {
    window.words = [];
    new MutationObserver(() => {
        const card = document.querySelector(".vc-card .vc-answer");
        const open = document.querySelector(".vc-card.vc-open");
        if (card && open) window.words.push(card.textContent);
    }).observe(document.querySelector("#cards"), {childList: true, subtree: true, characterData: true});
}"""


@pytest.fixture(scope="module")
def lookups() -> Iterator[list[str]]:
    """Names that this process looks up while the app runs; only those of this machine are answered."""
    asked: list[str] = []
    ask = socket.getaddrinfo

    def guarded(host: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in (None, "", "127.0.0.1", "localhost", "::1"):
            asked.append(str(name))
            raise socket.gaierror(-2, "only this machine is asked in tests")
        return ask(host, *rest, **named)

    socket.getaddrinfo = guarded  # type: ignore[assignment]
    yield asked
    socket.getaddrinfo = ask


@pytest.fixture(scope="module")
def url(qa: vidcompress.VisualQA, lookups: list[str]) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with running_app(qa, port=port, max_new_tokens=12) as address:
        yield address


@pytest.fixture
def steps(qa: vidcompress.VisualQA) -> Iterator[list[float]]:
    """Moments of the model's steps, each of which waits a little, so that a person's clicks come in between."""
    moments: list[float] = []

    def step(*_: object) -> None:
        moments.append(time.monotonic())
        time.sleep(0.15)

    handle = qa.model.register_forward_hook(step)
    yield moments
    handle.remove()


def opened(page: Any, url: str, file: Path | str | None = None, question: str = "") -> None:
    """Open the app, upload a file and write a question."""
    page.goto(url)
    page.locator("#ask").wait_for()
    if file is not None:
        page.locator("input[type=file]").first.set_input_files(str(file))
        page.locator("#preview img, #preview [role=alert]").first.wait_for()
    if question:
        page.get_by_label("Question").fill(question)


def complaints(watch: Any) -> list[str]:
    return [text for text in watch.complaints if text != GRADIOS_OWN]


def test_it_streams_and_answers_about_a_picture(
    chromium: Any,  # noqa: F811
    url: str,
    qa: vidcompress.VisualQA,
    image: Path,
    lookups: list[str],
    steps: list[float],
) -> None:
    question = "where is the white square?"
    rows = expected(qa, question, image=image)
    with watched_page(chromium) as (page, watch):
        opened(page, url, image, question)
        assert page.locator("#preview img").count() == 1
        page.evaluate(WORDS)
        page.locator("#ask").click()
        page.locator(".vc-done").wait_for(timeout=60_000)
        shows(page, rows, question)
        grown = [text.strip() for text in page.evaluate("window.words")]
        assert rows[0].text == "bottom left" and "bottom" in grown
        assert all("bottom left".startswith(text) for text in grown)
        assert watch.strangers(url, url.replace("http", "ws")) == []
        assert complaints(watch) == []
    assert lookups == []


def test_it_answers_about_a_clip(
    chromium: Any,  # noqa: F811
    url: str,
    qa: vidcompress.VisualQA,
    clip: Path,
    lookups: list[str],
) -> None:
    question = "what digit is shown?"
    rows = expected(qa, question, video=clip)
    with watched_page(chromium) as (page, watch):
        opened(page, url, clip, question)
        assert page.locator("#preview img").count() == 8
        page.locator("#ask").click()
        page.locator(".vc-done").wait_for()
        shows(page, rows, question)
        assert watch.strangers(url, url.replace("http", "ws")) == []
        assert complaints(watch) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    assert lookups == []


def expected(qa: vidcompress.VisualQA, question: str, **media: Path) -> tuple[Any, ...]:
    given = {"methods": ["globalcom2", "random"], "retention_ratios": 0.25, "controls": False}
    return qa.compare(question, **media, **given, repeats=1).rows


def shows(page: Any, rows: tuple[Any, ...], question: str) -> None:
    """Cards and viewer show these rows."""
    names = ["all tokens", "globalcom2 at 0.25", "random at 0.25"]
    assert page.locator(".vc-card h3").all_inner_texts() == names
    assert page.locator(".vc-answer").all_inner_texts() == [row.text for row in rows]
    for card, row in zip(page.locator(".vc-card").all_inner_texts(), rows, strict=True):
        assert f"{row.kept} of {row.total}" in card
    assert len({row.kept for row in rows}) == 2
    assert page.locator(".vc-card img").evaluate_all("all => all.every(one => one.naturalWidth > 100)")
    page.frame_locator("#viewer iframe").get_by_role("heading", name=question).wait_for()


def test_the_guards_see_what_leaves(chromium: Any, url: str, lookups: list[str]) -> None:  # noqa: F811
    """The control of the other tests: a request to another host is seen, in the browser and in the server."""
    with watched_page(chromium) as (page, watch):
        page.goto(f"{url}/config")
        page.evaluate("fetch('http://example.org/').catch(() => null)")
        page.evaluate("console.error('a complaint')")
        assert watch.strangers(url) == ["http://example.org/"]
        assert "a complaint" in complaints(watch)
    with pytest.raises(OSError, match="only this machine"):
        socket.create_connection(("example.org", 80))
    assert lookups == ["example.org"]
    lookups.clear()


def test_stop_ends_it(chromium: Any, url: str, image: Path, steps: list[float]) -> None:  # noqa: F811
    with watched_page(chromium) as (page, watch):
        opened(page, url, image, "where is the white square?")
        page.locator("#ask").click()
        page.locator(".vc-card").first.wait_for()
        page.locator("#stop").click()
        page.locator(".vc-stopped").wait_for()
        ran = len(steps)
        assert page.locator("#status").inner_text().startswith("Stopped")
        assert page.locator(".vc-card").count() < 3
        page.wait_for_timeout(600)
        assert len(steps) <= ran + 1
        page.locator("#ask").click()  # and it answers again
        page.locator(".vc-done").wait_for(timeout=60_000)
        assert page.locator(".vc-card").count() == 3
        assert complaints(watch) == []


def test_a_second_tab_waits_until_the_first_is_closed(
    chromium: Any,  # noqa: F811
    url: str,
    image: Path,
    steps: list[float],
) -> None:
    with watched_page(chromium) as (two, watch):
        with watched_page(chromium) as (one, _):
            for page in (one, two):
                opened(page, url, image, "where is the white square?")
            one.locator("#ask").click()
            one.locator(".vc-card").first.wait_for()
            two.locator("#ask").click()
            two.locator(".vc-waiting").wait_for()
            assert "Another tab is asking. Your question is number 2" in two.locator("#status").inner_text()
            assert two.locator(".vc-card").count() == 0
        two.locator(".vc-done").wait_for(timeout=60_000)
        assert two.locator(".vc-card").count() == 3
        assert complaints(watch) == []


def test_what_is_no_picture_gets_one_message(chromium: Any, url: str, tmp_path: Path) -> None:  # noqa: F811
    text, large = tmp_path / "notes.mp4", tmp_path / "large.mp4"
    text.write_text("these are no frames\n" * 50)
    with large.open("wb") as file:
        file.truncate(200 * 1024**2)
    with watched_page(chromium) as (page, watch):
        opened(page, url)
        page.locator("input[type=file]").first.set_input_files(str(large))
        toast = page.get_by_text("exceed the maximum allowed size")
        toast.wait_for()
        assert toast.count() == 1 and "large.mp4" in toast.inner_text()
        assert page.locator("#preview img, #preview [role=alert]").count() == 0
        page.locator("#ask").click()
        page.locator(".vc-failed").wait_for()
        assert "There is no picture and no clip yet" in page.locator("#status").inner_text()
        page.locator("input[type=file]").first.set_input_files(str(text))
        page.locator("#preview [role=alert]").wait_for()
        said = page.locator("#preview [role=alert]").all_inner_texts()
        assert len(said) == 1 and said[0].startswith("'notes.mp4' is neither a picture nor a clip")
        assert complaints(watch) == []


def test_a_phone_an_example_and_a_number_of_tokens(chromium: Any, url: str) -> None:  # noqa: F811
    with watched_page(chromium, width=390, height=844) as (page, watch):
        opened(page, url)
        page.get_by_text("a picture: what digit is shown?").click()
        page.locator("#preview img").wait_for()
        page.get_by_label("number of tokens").check()
        page.get_by_label("Visual tokens", exact=True).fill("58")
        page.locator("#ask").click()
        page.locator("#viewer iframe").wait_for()
        assert "58 of 464 (12.5 %)" in page.locator(".vc-card").nth(1).inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("tab", name="Cost").click()
        figures = page.locator("#cost .vc-large")
        figures.first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        before = figures.all_inner_texts()
        for _ in range(5):
            page.locator("#cost-ratio input[type=range]").press("ArrowRight")
        page.wait_for_function(
            "before => document.querySelector('#cost .vc-large')?.textContent !== before", arg=before[0]
        )
        assert complaints(watch) == []

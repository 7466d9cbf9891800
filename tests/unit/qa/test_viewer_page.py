"""The page of the viewer: its data say what the maps say, its texts stay texts, and it stays small."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidcompress.core.report.maps import ViewMap
from vidcompress.errors import ArgumentError
from vidcompress.qa.viewer.page import embedded, json_in_html, viewer_data, viewer_page
from vidcompress.qa.viewer.pictures import small_pictures
from vidcompress.qa.viewer.rows import ViewerRow

SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
WHOLE = (0.0, 0.0, 1.0, 1.0)
MOST = 150 * 1000


def noise(count: int, height: int = 432, width: int = 768) -> list[Image.Image]:
    """Frames that compress as photographs do at best: 1/f noise in three channels that differ, with grain over it."""
    rng = np.random.default_rng(3)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(down, across), 1 / width)
    frames = []
    for _ in range(count):
        waves = rng.normal(size=(3, height, width // 2 + 1)) + 1j * rng.normal(
            size=(3, height, width // 2 + 1)
        )
        field = np.fft.irfft2(waves * falloff, s=(height, width))
        field = 128 + 48 * field / field.std() + 8 * rng.normal(size=field.shape)
        frames.append(Image.fromarray(np.clip(field, 0, 255).astype(np.uint8).transpose(1, 2, 0)))
    return frames


def view(
    seed: int, grid: tuple[int, int] = (3, 5), *, kind: Any = "frame", time: float | None = 0.5
) -> ViewMap:
    """A view with everything that a method can say of it."""
    rng = np.random.default_rng(seed)
    cells = rng.random(grid) < 0.9
    kept = cells & (rng.random(grid) < 0.4)
    scores = np.where(cells, rng.normal(size=grid), np.nan).astype(np.float32)
    mass = np.where(kept, 1 + 7 * rng.random(grid), 0).astype(np.float32)
    stages = {2: kept & (rng.random(grid) < 0.5), 5: kept & (rng.random(grid) < 0.2)}
    return ViewMap(kind, time, WHOLE, cells, kept, scores, mass, stages)


def row(*views: ViewMap, **fields: Any) -> ViewerRow:
    """A row about one clip."""
    times = {"encode": 12.5, "prefill": 30.0}
    return ViewerRow("vidcom2", "0.4", "a ring", 6, 15, None, [views], timing_ms=times, **fields)


def data_of(page: str) -> dict[str, Any]:
    """The data of a page, as its script reads them."""
    (text,) = re.findall(r'<script type="application/json" id="kept-data">(.*?)</script>', page, re.DOTALL)
    data: dict[str, Any] = json.loads(text)
    return data


def mask(text: str, grid: tuple[int, int]) -> np.ndarray[Any, Any]:
    """A mask from its bits."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8))
    return bits[: grid[0] * grid[1]].reshape(grid).astype(bool)


def test_the_data_say_what_the_maps_say() -> None:
    views = [view(1, time=0.0), view(2, time=1.25)]
    frames = noise(2, 48, 80)
    data = data_of(
        viewer_page([row(*views, notes=["small"], separators=(1, 3))], question="what?", media=[frames])
    )
    visual, (entry,) = data["visuals"][0], data["rows"]
    assert (data["question"], visual["kind"], visual["size"], visual["pictures"]) == (
        "what?",
        "video",
        [80, 48],
        [0, 1],
    )
    assert (entry["method"], entry["budget"], entry["text"]) == ("vidcom2", "0.4", "a ring")
    assert (entry["kept"], entry["total"], entry["separators"], entry["notes"]) == (6, 15, [1, 3], ["small"])
    assert entry["timing"] == {"encode": 12.5, "prefill": 30.0}
    blobs, said = data["blobs"], entry["visuals"][0]
    low, high = said["scores"]["frame"]
    for number, one in enumerate(views):
        assert visual["views"][number]["time"] == one.time and visual["views"][number]["place"] == [
            0,
            0,
            1,
            1,
        ]
        assert np.array_equal(mask(blobs[visual["views"][number]["cells"]], one.grid), one.cells)
        mine = said["views"][number]
        assert (
            np.array_equal(mask(blobs[mine["kept"]], one.grid), one.kept) and mine["count"] == one.kept.sum()
        )
        assert {int(layer) for layer in mine["stages"]} == {2, 5}
        for layer, left in one.stages.items():
            assert np.array_equal(mask(blobs[mine["stages"][str(layer)]], one.grid), left)
        levels = np.array([SIGNS.index(sign) for sign in blobs[mine["scores"]]]).reshape(one.grid)
        assert np.array_equal(levels == 63, ~one.cells)
        back = low + (high - low) * levels / 62
        assert one.scores is not None and one.mass is not None
        assert np.allclose(back[one.cells], np.clip(one.scores, low, high)[one.cells], atol=(high - low) / 61)
        masses = np.exp(
            np.array([SIGNS.index(sign) for sign in blobs[mine["mass"]]]) / 62 * np.log(said["mass"])
        )
        assert np.allclose(masses, one.mass[one.kept], rtol=0.05)


@pytest.mark.parametrize(
    "values", [np.full((2, 2), 3.0), np.array([[np.inf, -np.inf], [0, 1]]), np.full((2, 2), np.nan)]
)
def test_scores_of_any_kind_have_a_level_or_none(values: np.ndarray[Any, Any]) -> None:
    ones = np.ones((2, 2), np.bool_)
    frame = ViewMap("frame", None, WHOLE, ones, ones, values.astype(np.float32))
    data = viewer_data([row(frame)], question="", media=[noise(1, 8, 8)])
    said = data["rows"][0]["visuals"][0]
    if np.isnan(values).all():
        assert said["scores"] is None and "scores" not in said["views"][0]
        return
    levels = [SIGNS.index(sign) for sign in data["blobs"][said["views"][0]["scores"]]]
    assert max(levels) <= 62
    if np.isinf(values).any():
        assert levels[:2] == [62, 0]


def test_scores_have_a_scale_for_each_kind_of_view() -> None:
    crop, whole = view(4, kind="crop"), view(5, kind="thumbnail")
    assert whole.scores is not None
    whole.scores[:] *= 1000
    data = viewer_data([row(whole, crop)], question="", media=[noise(1)[0]])
    scales = data["rows"][0]["visuals"][0]["scores"]
    assert list(scales) == ["thumbnail", "crop"] and scales["thumbnail"][1] > 100 * scales["crop"][1]


def test_equal_texts_stand_once() -> None:
    one, other = view(1), view(2)
    alone = viewer_data([row(one)], question="", media=[noise(1, 8, 8)])
    twice = viewer_data([row(one), row(one)], question="", media=[noise(1, 8, 8)])
    different = viewer_data([row(one), row(other)], question="", media=[noise(1, 8, 8)])
    assert twice["blobs"] == alone["blobs"] and len(different["blobs"]) > len(alone["blobs"])


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "]]>",
        "@data@ @style@",
        "\u2028\ud800",
        '\\u003c\x00"',
    ],
)
def test_texts_end_no_element_and_come_back_as_they_were(text: str, tmp_path: Path) -> None:
    plain = viewer_page([row(view(1))], question="", media=[noise(1, 8, 8)])
    page = viewer_page([row(view(1), notes=[text])], question=text, media=[noise(1, 8, 8)], remarks=[text])
    data = data_of(page)
    assert data["question"] == data["rows"][0]["notes"][0] == data["remarks"][0] == text
    assert page.count("<") == plain.count("<")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    assert json.dumps(text).count("<") == text.count("<")  # which json alone would leave
    assert "<" not in json_in_html(text)


def test_a_frame_holds_the_page_as_its_text() -> None:
    page = viewer_page([row(view(1))], question="a \"b\" & 'c' <d>", media=[noise(1, 8, 8)])
    frame = embedded(page)
    (inside,) = re.findall(r'srcdoc="([^"]*)"', frame)
    assert html.unescape(inside) == page and frame.count("<") == 2


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("how many\n<b>cars</b>?", "how many &lt;b&gt;cars&lt;/b&gt;? - what was kept"),
        ("@data@ @title@", "@data@ @title@ - what was kept"),
        ("word " * 40, "word " * 15 + "... - what was kept"),
        ("\x00\ud800", "What was kept"),
    ],
)
def test_the_title_begins_with_the_question(question: str, title: str) -> None:
    page = viewer_page([row(view(1))], question=question, media=[noise(1, 8, 8)])
    assert re.findall("<title>(.*?)</title>", page, re.DOTALL) == [title]


def test_the_page_loads_nothing() -> None:
    page = viewer_page([row(view(1))], question="what?", media=[noise(1)])
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in page
    shell = re.sub(r"<script type=.*?</script>", "", page, flags=re.DOTALL)
    assert len(shell) < len(page)
    assert not re.findall(
        r"https?:|[\"'(]//|@import|url\(|<link|<iframe|src=|fetch\(|XMLHttp|import\(", shell
    )
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_a_clip_of_eight_frames_and_seven_rows_is_at_most_150_kb() -> None:
    frames = noise(8)
    rows = [row(*(view(10 * number + frame, (14, 14)) for frame in range(8))) for number in range(7)]
    page = viewer_page(rows, question="what?", media=[frames])
    pictures = [base64.b64decode(uri.partition(",")[2]) for uri in data_of(page)["pictures"]]
    assert len(page.encode()) <= MOST
    sizes = [Image.open(io.BytesIO(file)).size for file in pictures]
    assert len(pictures) == 8 and len(set(sizes)) == 1 and max(sizes[0]) >= 128
    flat = viewer_page(rows, question="what?", media=[[Image.new("RGB", (768, 432), "teal")] * 8])
    assert len(flat) < len(page) - 40_000  # noise is what the budget is for
    whole = sum(len(file) for file in small_pictures(frames, 10**9)) * 4 / 3
    assert len(page) + whole > 3 * MOST  # without the budget it would not fit


def test_masks_leave_less_room_for_pictures() -> None:
    """Frames of 24 x 24 tokens with scores, masses and stages in every row."""
    frames = noise(8)
    rows = [row(*(view(10 * number + frame, (24, 24)) for frame in range(8))) for number in range(7)]
    assert len(viewer_page(rows, question="what?", media=[frames]).encode()) <= MOST


@pytest.mark.parametrize("count", [1, 3, 40])
def test_pictures_share_their_budget(count: int) -> None:
    pictures = noise(count, 216, 384)
    small, large = (small_pictures(pictures, budget) for budget in (2_000 * count, 6_000 * count))
    assert sum(map(len, small)) <= 2_000 * count < sum(map(len, large)) <= 6_000 * count
    assert len(small) == len(large) == count
    with Image.open(io.BytesIO(large[0])) as picture:
        assert picture.format == "WEBP" and picture.width * 216 == pytest.approx(
            picture.height * 384, rel=0.05
        )
    assert small_pictures([], 5) == [] and max(map(len, small_pictures(pictures[:1], 1))) < 600
    with Image.open(io.BytesIO(small_pictures([Image.new("RGB", (20, 10))], 10**6)[0])) as picture:
        assert picture.size == (20, 10)  # none is made larger


def test_two_frames_of_a_temporal_patch_show_the_first() -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue", "lime", "black")]
    data = viewer_data([row(view(1), view(2))], question="", media=[frames])
    shown = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) for uri in data["pictures"]]
    assert [max(range(3), key=picture.getpixel((8, 8)).__getitem__) for picture in shown] == [0, 1]


def test_rows_without_an_answer_show_the_picture() -> None:
    data = viewer_data([ViewerRow("fastv", "0.1", notes=["too few"])], question="", media=[noise(3, 8, 8)])
    assert data["visuals"][0]["views"] == [] and len(data["pictures"]) == 1
    assert data["rows"][0]["text"] is None and data["rows"][0]["visuals"] == []


def test_what_does_not_belong_together_is_refused() -> None:
    frames = noise(1, 8, 8)
    with pytest.raises(ArgumentError, match=r"rows=\[\]: there is nothing to show; pass at least one row"):
        viewer_page([], question="", media=[])
    with pytest.raises(
        ArgumentError, match="media: 2 pictures and clips for a row about 1; pass one for each visual"
    ):
        viewer_page([row(view(1))], question="", media=[frames, frames])
    with pytest.raises(
        ArgumentError, match="rows: they cut visual 0 into different views; make a page of rows about"
    ):
        viewer_page([row(view(1)), row(view(1, (2, 2)))], question="", media=[frames])
    with pytest.raises(
        ArgumentError, match="2 frames were encoded, got 5; pass the frames that were sampled"
    ):
        viewer_page([row(view(1), view(2))], question="", media=[noise(5, 8, 8)])

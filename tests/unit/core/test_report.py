"""Reports count what was kept, per view, without touching the device before they are asked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vidcompress.core.layout import Layout, View
from vidcompress.core.report import Report, VisualReport
from vidcompress.errors import ArgumentError
from vidcompress.qa.overlay import draw_overlay


def image_layout() -> Layout:
    """A 4 x 4 thumbnail, then a 4 x 6 canvas of two crops (4 x 4 and 4 x 2), a newline after each canvas row."""
    view, row, col, line, separator = [], [], [], [], []
    for position in range(16):
        view.append(0)
        row.append(position // 4)
        col.append(position % 4)
        line.append(4)
        separator.append(False)
    for canvas_row in range(4):
        for canvas_col in range(7):
            newline = canvas_col == 6
            view.append(3 if newline else 1 if canvas_col < 4 else 2)
            row.append(canvas_row)
            col.append(canvas_col)
            line.append(canvas_row)
            separator.append(newline)
    views = (
        View("thumbnail", 4, 4),
        View("crop", 4, 4, box=(0.0, 0.0, 4.0, 2.667)),
        View("crop", 4, 2, box=(0.0, 2.667, 4.0, 4.0)),
    )
    return _layout("image", views, view, row, col, line, separator, (4, 4), (4, 6), (16, 16, 8), 4)


def video_layout(frames: int = 5) -> Layout:
    """Frames of 3 x 3 tokens, one newline at the end."""
    view = [number for number in range(frames) for _ in range(9)] + [frames]
    row = [cell // 3 for _ in range(frames) for cell in range(9)] + [2]
    col = [cell % 3 for _ in range(frames) for cell in range(9)] + [3]
    views = tuple(View("frame", 3, 3, time=0.5 * number) for number in range(frames))
    separator = [False] * (9 * frames) + [True]
    line = [0] * len(view)
    return _layout("video", views, view, row, col, line, separator, (3, 3), None, (9,) * frames, 1)


def _layout(
    modality: Any, views: Any, view: Any, row: Any, col: Any, line: Any, separator: Any, *rest: Any
) -> Layout:
    grid, canvas, sizes, lines = rest
    long = [torch.tensor(values, dtype=torch.int64) for values in (view, row, col, line)]
    mask = torch.tensor(separator)
    count = len(view)
    return Layout(
        modality, views, *long, mask, grid, canvas, sizes, int(mask.sum()), lines, torch.arange(count), count
    )


def make_report(layout: Layout, kept: list[int], budget: int) -> Report:
    """A report of one input."""
    visual = VisualReport.from_selection(layout, torch.tensor(kept, dtype=torch.int64), budget=budget)
    report = Report("globalcom2", retention_ratio=0.25, visuals=[visual])
    report.timing_ms["encode"] = 1.23456
    return report


def test_counts_per_view_and_separators() -> None:
    report = make_report(image_layout(), [0, 5, 16, 17, 18, 21, 22], 8)
    visual = report.visuals[0]
    assert [(view.kind, view.kept, view.total) for view in visual.views] == [
        ("thumbnail", 2, 16),
        ("crop", 3, 16),
        ("crop", 1, 8),
    ]
    assert (visual.separators_kept, visual.separators_total) == (1, 4)
    assert (report.total, report.budget, report.kept) == (44, 8, 7)
    assert visual.kept_positions.tolist() == [0, 5, 16, 17, 18, 21, 22]


def test_to_dict_is_json_and_adds_up() -> None:
    entry = json.loads(json.dumps(make_report(image_layout(), [0, 16, 20, 22], 4).to_dict()))
    tokens = entry["visual_tokens"]
    assert {"total", "budget", "kept", "per_view"} == set(tokens)
    assert (
        sum(view["kept"] for view in tokens["per_view"]) + entry["visuals"][0]["separators"]["kept"]
        == tokens["kept"]
    )
    assert tokens["per_view"][1]["box"] == [0.0, 0.0, 4.0, 2.667]
    assert "box" not in tokens["per_view"][0]
    assert entry["timing_ms"] == {"encode": 1.235}


def test_text_lists_every_view() -> None:
    text = str(make_report(video_layout(), [0, 1, 9, 45], 4))
    assert "4 of 46 (8.7 %)" in text
    assert "2/9  1/9  0/9  0/9  0/9" in text
    assert "1/1" in text
    assert "kept=4 of 46" in repr(make_report(video_layout(), [0, 1, 9, 45], 4))


def test_rows_are_told_apart() -> None:
    layout = video_layout()
    visuals = [
        VisualReport.from_selection(layout, torch.arange(3 + row), budget=5, row=row) for row in (0, 1)
    ]
    report = Report("random", visuals=visuals)
    assert report.for_row(1).kept == 4
    assert report.kept == 7
    assert Report("none").for_row(0).visual_tokens() == {"total": 0, "budget": 0, "kept": 0, "per_view": []}


def test_layout_with_frames_left_out_counts_in_the_full_sequence() -> None:
    layout = video_layout().restrict_to_frames(torch.tensor([1, 3]), (1, 3))
    report = make_report(layout, [9, 10, 27, 45], 4)
    assert [view.kept for view in report.visuals[0].views] == [2, 1]
    assert report.visuals[0].separators_kept == 1
    assert report.total == 46


class _Refusing(torch.Tensor):
    """A tensor that may be stored and measured, not read."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ in {"__get__", "detach", "dim", "size"}:
            return super().__torch_function__(func, types, args, kwargs or {})
        raise AssertionError(f"{func.__name__} reads the tensor")


def test_making_a_report_reads_nothing() -> None:
    source = torch.arange(4).as_subclass(_Refusing)
    visual = VisualReport.from_selection(video_layout(), source, budget=4)
    assert (visual.kept, visual.total) == (4, 46)
    with pytest.raises(AssertionError, match="reads the tensor"):
        _ = visual.views


def test_source_of_another_shape_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"source must have shape \(K,\), got Tensor of shape \(1, 3\)"):
        VisualReport.from_selection(video_layout(), torch.zeros(1, 3, dtype=torch.int64), budget=1)


def test_the_mass_is_one_line_where_it_is_on() -> None:
    report = make_report(video_layout(), [0, 1, 2, 9, 45], 5)
    assert "mass" not in report.text() and "mass" not in report.to_dict()
    report.mass = "on"
    assert "\n  mass on (strength 1)\n" in report.text() + "\n"
    assert report.to_dict()["mass"] == {"strength": 1.0, "cap": None}
    report.mass_strength, report.mass_cap = 0.75, 16.0
    for one in (report, report.for_row(0)):
        assert "\n  mass on (strength 0.75, cap 16)\n" in one.text() + "\n"
        assert one.to_dict()["mass"] == {"strength": 0.75, "cap": 16.0}
    assert "mass" not in report.for_row(1).text(), "a row of text only has no tokens to weigh"


def bright(picture: Image.Image, box: tuple[int, int, int, int]) -> float:
    """Mean grey level inside a box."""
    return float(np.asarray(picture.crop(box).convert("L")).mean())


def test_overlay_of_an_image_darkens_what_was_dropped() -> None:
    white = Image.new("RGB", (60, 40), "white")
    # The thumbnail's left half, and all of the first crop.
    kept = [n for n in range(16) if n % 4 < 2] + [16 + 7 * r + c for r in range(4) for c in range(4)]
    sheet = draw_overlay(make_report(image_layout(), kept, len(kept)), white)
    pixels = np.asarray(sheet.convert("L")).astype(int)
    middle = pixels[56 + 20]
    dark = np.flatnonzero(middle < 100)
    assert len(dark) > 100
    thumbnail, canvas = dark[dark < 480], dark[dark > 500]
    assert thumbnail.min() == pytest.approx(16 + 234, abs=8)
    assert canvas.min() == pytest.approx(500 + (sheet.width - 516) * 4 / 6, abs=24)


def test_overlay_of_a_clip_is_a_contact_sheet() -> None:
    frames = [Image.new("RGB", (64, 48), "white") for _ in range(5)]
    report = make_report(video_layout(), [0, 1, 2, 9, 45], 5)
    sheet = draw_overlay(report, frames)
    assert sheet.width > 600
    as_tensor = torch.full((5, 48, 64, 3), 255, dtype=torch.uint8)
    assert np.array_equal(np.asarray(draw_overlay(report, as_tensor)), np.asarray(sheet))


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([np.zeros((4, 4, 3), np.uint8)] * 4, "5 frames were encoded, got 4"),
        ("missing.png", "5 frames .* got 1"),
    ],
)
def test_overlay_wants_the_frames_that_were_encoded(pictures: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        draw_overlay(make_report(video_layout(), [0], 1), pictures)


def test_overlay_of_a_visual_that_is_not_there() -> None:
    with pytest.raises(ArgumentError, match="index=1: this report has 1 visual inputs"):
        draw_overlay(make_report(video_layout(), [0], 1), [], index=1)

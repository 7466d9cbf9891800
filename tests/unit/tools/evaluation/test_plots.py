"""Plots: what is drawn where, the same bytes twice, and what is refused."""

from __future__ import annotations

import builtins
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from result_files import marks, row, run_of, write
from vidcompress.errors import ArgumentError, UnsupportedInputError
from vidcompress.tools.evaluation.report.load import read_rows
from vidcompress.tools.evaluation.report.plot_style import (
    BESIDE,
    COLOURS,
    GREY,
    MARKERS,
    _apart,
    side_by_side,
)
from vidcompress.tools.evaluation.report.plots import Point, accuracy_plot, heat_map, save
from vidcompress.tools.evaluation.report.run_plots import needle_cells, plot_rows

UNTIMED = [row("d", time_to_first_token_ms={}), row("d", "random", 0.5, time_to_first_token_ms={})]
LABELS = {"x_label": "visual tokens", "y_label": "accuracy, %"}


def series(count: int) -> dict[str, list[Point]]:
    """Methods m0, m1, ... a point apart, and a control."""
    lines = {f"m{i}": [Point(x, 50 + i + x / 10, 48, 52) for x in (64, 16)] for i in range(count)}
    return {**lines, "random": [Point(16, 20), Point(64, 40)]}


def words(figure: Any) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def test_few_methods_share_a_panel_with_a_legend_and_bars_side_by_side() -> None:
    figure = accuracy_plot(series(3), baseline=Point(100, 90), title="model", **LABELS)
    (axes,) = figure.axes
    assert list(axes.texts) == [], "no leader lines"
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["all tokens", "m2", "m1", "m0", "random"]
    lines = {line.get_label(): line for line in axes.get_lines()}
    for handle, name in zip(legend.legend_handles, ("all tokens", "m2", "m1", "m0", "random"), strict=True):
        assert handle.get_color() == lines[name].get_color()
    assert len({(lines[f"m{i}"].get_color(), lines[f"m{i}"].get_marker()) for i in range(3)}) == 3
    greys = [line for line in axes.get_lines() if line.get_color() == GREY]
    assert [list(line.get_ydata()) for line in greys] == [[20, 40]], "only the control is grey"
    bars = [path for bars in axes.collections for path in bars.get_segments()]
    assert len(bars) == 6, "one bar per point with an interval"
    places = sorted(float(path[0][0]) for path in bars)
    span = math.log(places[-1] / places[0])
    gaps = [math.log(after / before) / span for before, after in zip(places, places[1:], strict=False)]
    assert min(gaps) > 0.9 * BESIDE, "no bar lies on another"
    for place, true in zip(places, [16] * 3 + [64] * 3, strict=True):
        assert place == pytest.approx(true, rel=0.03)
    for i in range(3):  # each bar is that of its own point
        xs = [float(x) for x in lines[f"m{i}"].get_xdata()]
        assert set(xs) <= set(places)


def test_points_at_places_of_their_own_are_not_moved() -> None:
    given = {"a": [Point(10, 1, 0, 2), Point(20, 1, 0, 2)], "b": [Point(12, 1, 0, 2), Point(20, 1)]}
    for log_x in (True, False):
        moved = side_by_side(given, log_x)
        assert moved == {
            label: [p.__class__(*vars(p).values()) for p in points] for label, points in given.items()
        }
    both = side_by_side({**given, "c": [Point(10, 5, 4, 6)]}, True)
    assert both["a"][0].x < 10 < both["c"][0].x and both["b"] == given["b"]
    assert side_by_side({"a": [Point(0.0, 1, 0, 2)]}, True) == {"a": [Point(0.0, 1, 0, 2)]}


def test_bars_of_controls_and_of_nearly_one_x_stand_apart_too() -> None:
    given = {
        "m": [Point(64, 50, 40, 60), Point(16, 5)],
        "random": [Point(64.2, 45, 35, 55)],
        "uniform": [Point(64, 44, 34, 54)],
    }
    figure = accuracy_plot(given, baseline=Point(100, 90, 85, 95), **LABELS)
    bars = [path for bars in figure.axes[0].collections for path in bars.get_segments()]
    places = sorted(float(path[0][0]) for path in bars)
    assert len(places) == 4 and places[-1] == 100, "the uncompressed model has its bar"
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    hollow = {name: lines[name].get_markerfacecolor() == "white" for name in given}
    assert hollow == {"m": False, "random": True, "uniform": True}
    assert lines["random"].get_marker() != lines["uniform"].get_marker()
    step = BESIDE * math.log(64.2 / 16)
    for before, after in zip(places[:3], places[1:3], strict=False):
        assert math.log(after / before) == pytest.approx(step)
    assert math.exp(sum(map(math.log, places[:3])) / 3) == pytest.approx(64.07, rel=1e-3), "about their mean"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted), st.floats(0, 0.3))
def test_places_are_apart_and_moved_no_more_than_they_must(places: list[float], step: float) -> None:
    moved = _apart(places, step)
    assert all(b - a >= step - 1e-9 for a, b in zip(moved, moved[1:], strict=False))
    assert sum(moved) == pytest.approx(sum(places), abs=1e-9), "about the same mean"
    if all(b - a >= step for a, b in zip(places, places[1:], strict=False)):
        assert moved == pytest.approx(places, abs=1e-12)


def test_figures_of_ticks_do_not_lie_on_one_another() -> None:
    near = {"a": [Point(27.5, 1), Point(69.6, 2)], "b": [Point(27.9, 1), Point(139, 2)]}
    axes = accuracy_plot(near, **LABELS).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["27.5", "69.6", "139"]


def seen(colour: str, matrix: list[list[float]]) -> Any:
    """CIE L*a*b* of a colour seen through a matrix on linear RGB."""
    import numpy as np

    coded = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(xyz @ np.clip(matrix @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


SIGHTS = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}
"""What is left of a colour without one kind of cone (Machado, Oliveira and Fernandes 2009)."""


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_are_told_apart_without_one_kind_of_cone_and_markers_without_colour(sight: str) -> None:
    def nearest(colours: tuple[str, ...]) -> float:
        shades = [seen(colour, SIGHTS[sight]) for colour in colours]
        return min(float(abs(a - b).max()) for a, b in itertools.combinations(shades, 2))

    assert nearest(COLOURS) > 10, "a difference of 2 can just be seen"
    assert nearest(("#1f5fa8", "#c8501e", "#2a8a57", "#8a4fae", "#b08a00", "#b3305f", "#1b8f9e")) < 9, (
        "a control"
    )
    assert len(set(MARKERS)) == len(COLOURS) == len(set(COLOURS))


def test_many_methods_get_panels_of_their_own() -> None:
    figure = accuracy_plot(series(20), baseline=Point(100, 90), **LABELS)
    shown = [axes for axes in figure.axes if axes.axison]
    assert sorted(axes.get_title(loc="left") for axes in shown) == sorted(f"m{i}" for i in range(20))
    assert len({axes.get_ylim() for axes in shown}) == 1, "heights can be compared"
    for axes in shown:
        assert len(axes.get_lines()) == 23, "20 methods, a control, the baseline and its point"
    assert {"random", "all tokens", *LABELS.values()} <= set(words(figure))
    assert len(accuracy_plot(series(20), panels=False, **LABELS).axes) == 1


def test_controls_alone_can_be_drawn() -> None:
    assert "random" in words(accuracy_plot(series(0), **LABELS))


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_data_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    one, two = (
        save(accuracy_plot(series(2), **LABELS), tmp_path / f"{name}{suffix}").read_bytes() for name in "ab"
    )
    assert one == two
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"a{suffix}", f"b{suffix}"]


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "has no points"),
        ({"m": []}, "has no points"),
        ({"m": [Point(math.nan, 1)]}, "'m' must have finite numbers"),
        ({"m": [Point(1, 1, 0, math.inf)]}, "'m' must have finite numbers"),
        ({"m": [Point(0, 1)]}, "on a logarithmic axis, x above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(given: dict[str, list[Point]], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        accuracy_plot(given, **LABELS)


def test_a_heat_map_has_a_cell_per_place() -> None:
    cells = {(8.0, 0.0): (1.0, 4), (8.0, 0.5): (0.25, 4), (64.0, 0.0): (0.5, 2)}
    figure = heat_map(cells, x_label="frames", y_label="position")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["100\nn=4", "25\nn=4", "50\nn=2"]
    grid = axes.images[0].get_array()
    assert grid[0, 0] == 1 and grid[1, 0] == 0.25 and grid[0, 1] == 0.5
    assert math.isnan(grid.data[1, 1]), "what is missing stays blank"
    with pytest.raises(ArgumentError, match="nothing to draw"):
        heat_map({}, x_label="x", y_label="y")
    with pytest.raises(ArgumentError, match=r"share at \(1, 2\) must be from 0 to 1, got 2"):
        heat_map({(1, 2): (2, 1)}, x_label="x", y_label="y")


def test_where_it_cannot_be_saved(tmp_path: Path) -> None:
    figure = accuracy_plot(series(1), **LABELS)
    with pytest.raises(ArgumentError, match=r"must end in .svg, .png, .pdf"):
        save(figure, tmp_path / "a.gif")
    with pytest.raises(ArgumentError, match=r"cannot be written \("):
        save(figure, tmp_path / "no" / "a.svg")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedInputError, match=re.escape("pip install '.[plot]' in the checkout")):
        accuracy_plot(series(1), **LABELS)


def test_a_run_is_drawn_against_tokens_and_time(tmp_path: Path) -> None:
    rows, _ = read_rows([run_of(tmp_path / "run", questions=20)])
    files = plot_rows(rows, tmp_path / "new" / "plots")
    kinds = [
        re.sub(r"-[0-9a-f]{8}\.svg$", "", p.name).partition("--")[2] for p in files if p.suffix == ".svg"
    ]
    assert sorted(kinds) == ["average", "gqa--time", "gqa--tokens", "pope--time", "pope--tokens"]
    assert [path.with_suffix(".png") for path in files if path.suffix == ".svg"] == [
        path for path in files if path.suffix == ".png"
    ]
    for path in files:
        if path.suffix == ".png":
            assert min(Image.open(path).size) > 300
    assert plot_rows(read_rows([write(tmp_path / "few", UNTIMED)])[0], tmp_path / "one.png") == [
        tmp_path / "one.png"
    ]
    drawn = next(path for path in files if "gqa--tokens" in path.name).read_text()
    for said in ("visual tokens per question", "accuracy, %", "globalcom2", "random", "all tokens"):
        assert said in drawn
    assert "time to first token, ms" in next(p for p in files if "gqa--time" in p.name).read_text()


def test_a_needle_task_is_drawn_as_heat_maps(tmp_path: Path) -> None:
    facts = [{"frames": f, "position": p} for f in (8, 64) for p in (0.0, 0.5, 1.0)] * 2
    entries = [
        row("needle", score=[1.0] * 12, facts=facts),
        row("needle", "random", 0.5, score=[*([0.0] * 6), *([1.0] * 5), None], facts=facts),
    ]
    rows, _ = read_rows([write(tmp_path / "run", entries)])
    files = plot_rows(rows, tmp_path / "plots")
    assert len([path for path in files if "--needle--needle--" in path.name]) == 4, "as .svg and .png"
    cells = needle_cells(rows[1])
    assert cells[(8.0, 0.0)] == (0.5, 2)
    assert cells[(64.0, 1.0)] == (0.0, 1), "the failed question is left out"


def test_many_positions_are_put_together(tmp_path: Path) -> None:
    facts = [{"frames": 8, "position": i / 100} for i in range(100)]
    rows, _ = read_rows([write(tmp_path / "run", [row("needle", score=marks(100, 0.5, 0), facts=facts)])])
    cells = needle_cells(rows[0])
    assert sorted({position for _, position in cells}) == [i / 10 for i in range(11)]
    assert sum(count for _, count in cells.values()) == 100


def test_hostile_facts_draw_nothing(tmp_path: Path) -> None:
    facts = [{"frames": "8", "position": 0.5}, {"frames": 8, "position": None}]
    rows, _ = read_rows([write(tmp_path / "run", [row("needle", facts=facts)])])
    assert needle_cells(rows[0]) == {}


def test_nothing_to_draw(tmp_path: Path) -> None:
    rows, _ = read_rows([write(tmp_path / "run", [row("d", "fastv", 0.1, unreachable="floor")])])
    with pytest.raises(ArgumentError, match="no row has a score to draw"):
        plot_rows(rows, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_points_of_one_budget_stand_side_by_side() -> None:
    """All methods at one number of tokens: none hides another."""
    one = {label: [Point(32.0, 80.0, 75.0, 85.0)] for label in ("a", "b", "c")}
    for log_x in (True, False):
        places = [points[0].x for points in side_by_side(one, log_x).values()]
        assert len(set(places)) == 3 and places == sorted(places)
        assert sum(places) / 3 == pytest.approx(32, rel=0.01)
    bare = {label: [Point(32.0, 80.0)] for label in "ab"}
    assert side_by_side(bare, True) == bare, "the control: points without bars stay"

"""Dose and response: which tokens are on objects, what stays of the background, masses, resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shapes_accuracy import dose
from shapes_accuracy.accuracy import prepare
from shapes_accuracy.dose import Experiment, Thinned, dose_table, evenly, figure, on_objects, run
from shapes_accuracy.measure import load
from vidcompress.adapters.base import adapter_for
from vidcompress.core.batch import VisualBatch
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.shapes import ClipExample, clip_example

ROOT = Path(__file__).resolve().parents[3]
CLIPS = 4


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return load(ROOT / "models" / "tiny-onevision")


@pytest.fixture(scope="module")
def encoded(loaded: tuple[Any, Any]) -> tuple[list[ClipExample], list[VisualTokens]]:
    clips = [clip_example(seed, 4) for seed in range(dose.FIRST_SEED, dose.FIRST_SEED + CLIPS)]
    inputs = prepare(loaded[1], clips, [dose.QUESTION] * CLIPS)
    adapter = adapter_for(loaded[0])
    with torch.no_grad():
        return clips, adapter.encode(adapter.visuals(inputs)[1])


def by_pixels(example: ClipExample, rows: int, cols: int) -> list[bool]:
    """The truth again, pixel by pixel of a frame enlarged so that cells are whole."""
    found = []
    _, height, width, _ = example.frames.shape
    for boxes in example.boxes:
        areas = np.zeros((len(boxes), height * rows, width * cols), dtype=bool)
        for area, box in zip(areas, boxes, strict=True):
            if box is not None:
                area[box[1] * rows : box[3] * rows, box[0] * cols : box[2] * cols] = True
        cells = areas.reshape(len(boxes), rows, height, cols, width).mean((2, 4))
        found += (cells > dose.COVERED).any(0).ravel().tolist()
    return found


def test_tokens_on_objects_are_those_that_the_pixels_say(encoded: Any) -> None:
    shares = []
    for example, tokens in zip(*encoded, strict=True):
        truth = on_objects(example, tokens.layout)
        assert list(truth) == by_pixels(example, *tokens.layout.grid)
        shares.append(np.mean(truth))
    assert 0 < min(shares) and max(shares) < 1


def test_background_is_thinned_and_objects_stay(encoded: Any) -> None:
    clips, tokens = encoded
    truth = tuple(on_objects(clip, one.layout) for clip, one in zip(clips, tokens, strict=True))
    budgets: Any = [None] * CLIPS  # the truth decides
    batch = VisualBatch(tokens)
    thinned = {kind: Thinned(truth, 0.25, kind).select(batch, budgets) for kind in dose.KINDS}
    for number, (one, on) in enumerate(zip(tokens, truth, strict=True)):
        layout, on_object = one.layout, torch.tensor(on)
        objects = layout.token_index[on_object]
        picked = thinned["objects"][number]
        assert (
            torch.isin(objects, picked.index).all() and torch.isin(layout.separator_index, picked.index).all()
        )
        background = int((~on_object).sum())
        assert len(picked) == len(objects) + round(background * 0.25) + layout.num_separators
        assert picked.mass is not None
        assert float(picked.mass.sum()) == pytest.approx(len(layout), abs=1e-3)
        assert picked.mass[torch.isin(picked.index, objects)].eq(1).all()
        heavy = picked.mass[
            ~torch.isin(picked.index, objects) & ~torch.isin(picked.index, layout.separator_index)
        ]
        assert heavy.min() > 3, "each stands for four"
        for kind in ("random", "uniform"):
            control = thinned[kind][number]
            assert len(control) == len(picked) and control.mass is None
            assert not torch.isin(objects, control.index).all(), "a control loses tokens on objects"
            assert control.index.diff().gt(0).all()


def test_evenly() -> None:
    tokens = np.arange(10)
    assert evenly(tokens, 0.2).tolist() == [2, 7] and evenly(tokens, 1.0).tolist() == tokens.tolist()
    assert evenly(tokens, 0.01).tolist() == [5], "at least one speaks for the background"
    assert evenly(tokens[:0], 0.5).tolist() == []


@pytest.mark.slow
def test_mass_mends_what_dropping_background_ruins(loaded: tuple[Any, Any], tmp_path: Path) -> None:
    few = Experiment(clips=30, shares=(1.0, 0.05), batch_size=15)

    def die(done: int, of: int) -> None:
        if done == 1:
            raise KeyboardInterrupt("killed")

    with pytest.raises(KeyboardInterrupt, match="^killed$"):
        run(*loaded, few, tmp_path / "j.jsonl", die)
    first = (tmp_path / "j.jsonl").read_bytes()
    rows = run(*loaded, few, tmp_path / "j.jsonl")
    assert (tmp_path / "j.jsonl").read_bytes().startswith(first), "the first batch is not asked again"
    found = {(row["kind"], row["mass"], row["share"]): row for row in rows}
    right = {key: dose.marks(row).count("1") for key, row in found.items()}
    assert right["objects", "off", 0.05] < 15 < 21 < right["objects", "on", 0.05]
    assert dose.mean_error(found["objects", "off", 0.05]) > 0.5, "it counts too many"
    assert right["random", "off", 0.05] > 15, "as many tokens of everything do not mislead"
    with pytest.raises(ArgumentError, match="belongs to another run"):
        run(*loaded, Experiment(clips=30, shares=(1.0, 0.1), batch_size=15), tmp_path / "j.jsonl")


def result_of(errors: dict[tuple[str, str, float], list[int | None]]) -> dict[str, Any]:
    rows = [
        {"kind": kind, "mass": mass, "share": share, "errors": found, "kept": 9.0, "on_objects": 0.25}
        for (kind, mass, share), found in errors.items()
    ]
    where = {"command": "python x", "commit": "abcdef0123456789", "dirty": True, "machine": "m"}
    return {"rows": rows, "experiment": {"shares": [1.0, 0.1]}, "provenance": where}


def test_table_and_figure(tmp_path: Path) -> None:
    assert dose_table(tmp_path) is None
    cells: dict[tuple[str, str, float], list[int | None]] = {
        (kind, mass, 0.1): [0] * 9 + [-1] for kind in dose.KINDS for mass in ("off", "on")
    }
    cells["objects", "off", 1.0] = [0] * 10
    cells["objects", "off", 0.1] = [1] * 8 + [0, None]
    result = result_of(cells)
    (tmp_path / dose.FILE).write_text(json.dumps(result))
    text = dose_table(tmp_path) or ""
    assert "| all objects, background thinned | 100, +0.00 | 10, +0.89 |" in text
    assert "| all objects, background thinned, with mass | 100, +0.00 | 90, -0.10 |" in text
    assert "| what mass adds, objects kept |  | +80 (" in text and "25 % of all tokens" in text
    (axes,) = figure(result).axes
    labels = [str(line.get_label()) for line in axes.get_lines()]
    assert {"all objects, background thinned", "as many tokens at random, with mass", "all tokens"} <= {
        *labels
    }

"""The accuracy sweep: same inputs for all, journalled, resumable; intervals and tables."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from shapes_accuracy import accuracy
from shapes_accuracy.accuracy import EncodeOnce, Sweep, run_sweep
from shapes_accuracy.measure import with_rows
from shapes_accuracy.summary import summary
from tiny_models import Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.statistics import paired, wilson

ROOT = Path(__file__).resolve().parents[3]


class Parrot:
    """A processor whose answers depend on the generated ids, so that methods differ."""

    def batch_decode(self, ids: torch.Tensor, skip_special_tokens: bool = True) -> list[str]:
        return [" Red" if int(row.sum()) % 2 else "no" for row in ids]


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> Sweep:
    model = tiny_model("llava_onevision")

    def prepare(processor: Any, examples: list[Any], texts: list[str]) -> dict[str, torch.Tensor]:
        return batch(model, [Scene((("video", 4),), seed=example.seed % 1000) for example in examples])

    monkeypatch.setattr(accuracy, "prepare", prepare)
    return Sweep("clip", 10, (0.5, 0.1), ("globalcom2", "random", "frames"), batch_size=4)


def test_a_killed_run_ends_like_an_unkilled_one(sweep: Sweep, tmp_path: Path) -> None:
    model = tiny_model("llava_onevision")
    whole = run_sweep(model, Parrot(), sweep, tmp_path / "whole.jsonl")

    def die(done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    journal = tmp_path / "killed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(model, Parrot(), sweep, journal, die)
    with journal.open("a") as file:
        file.write('{"types": ["col')  # a write that the kill cut short
    resumed = run_sweep(model, Parrot(), sweep, journal)
    assert journal.read_text() == (tmp_path / "whole.jsonl").read_text()
    assert summary(resumed) == summary(whole)
    assert resumed.batches == 3 and len(resumed.types) == 10
    assert all(len(c.correct) == 10 for c in resumed.cells.values() if c.unreachable is None)


def test_a_foreign_journal_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    model = tiny_model("llava_onevision")
    run_sweep(model, Parrot(), sweep, tmp_path / "j.jsonl")
    other = Sweep("clip", 9, (0.5,), ("globalcom2",))
    with pytest.raises(ArgumentError, match="j.jsonl belongs to another run: sweep is"):
        run_sweep(model, Parrot(), other, tmp_path / "j.jsonl")


def test_cells_start_with_the_uncompressed_model_and_know_who_serves_what() -> None:
    assert Sweep("image", ratios=(1.0, 0.5)).cells()[0] == ("none", 1.0)
    images, clips = ({name for name, _ in Sweep(medium).cells()} for medium in ("image", "clip"))
    assert {"none", "globalcom2", "random", "uniform", "pool"} <= images
    assert {"vidcom2", "frames"} <= clips - images
    assert set(accuracy.COMPOSITIONS) <= images & clips
    listed = Sweep("image", ratios=(0.5,), methods=("all", "pool", "random+fastv:rank=0.5")).cells()
    assert {name for name, _ in listed} == images - set(accuracy.COMPOSITIONS) | {"random+fastv:rank=0.5"}
    assert len(listed) == len(set(listed))
    for method in ("vidcom2", "vidcom2+fastv"):
        with pytest.raises(ArgumentError, match="'vidcom2' does not serve images"):
            Sweep("image", methods=(method,)).cells()
    with pytest.raises(ArgumentError, match="retention_ratio must be a number with 0 < R <= 1, got 2"):
        Sweep("image", ratios=(2,)).cells()


def test_rows_are_added_beside_those_of_the_same_questions_and_answers() -> None:
    def result(commit: str, *rows: tuple[str, float, str]) -> dict[str, Any]:
        lines = [{"method": name, "retention_ratio": ratio, "correct": marks} for name, ratio, marks in rows]
        same = {"model": "m", "medium": "clip", "dtype": "float32", "types": ["color", "count"]}
        return {**same, "sweep": {"questions": 2}, "rows": lines, "provenance": {"commit": commit}}

    whole = ("none", 1.0, "11")
    old = result("a", whole, ("random", 0.5, "10"), ("vcast", 0.5, "00"), ("random", 0.1, "00"))
    new = result("b", whole, ("vcast", 0.5, "01"), ("vcast", 0.1, "10"))
    both = with_rows(old, new)
    assert [(row["method"], row["retention_ratio"], row["correct"]) for row in both["rows"]] == [
        whole,
        ("random", 0.5, "10"),
        ("vcast", 0.5, "01"),
        ("random", 0.1, "00"),
        ("vcast", 0.1, "10"),
    ]
    assert both["provenance"] == {"commit": "a"}
    assert both["added"] == [{"methods": ["vcast"], "provenance": {"commit": "b"}}]
    assert len(with_rows(both, new)["added"]) == 2
    with pytest.raises(ArgumentError, match="add: the uncompressed model answers otherwise"):
        with_rows(old, result("b", ("none", 1.0, "10"), ("vcast", 0.5, "01")))
    with pytest.raises(ArgumentError, match="add: the result file has another sweep"):
        with_rows(old, {**new, "sweep": {"questions": 3}})


def test_labels_carry_options() -> None:
    settings = accuracy.settings_of("globalcom2:allocation=uniform,tau=5,positions=original", 0.5)
    method = settings.method
    assert (method.allocation, method.tau, method.alpha) == ("uniform", 5, 0.5)  # type: ignore[attr-defined]
    assert (settings.positions, settings.budget.retention_ratio) == ("original", 0.5)
    with pytest.raises(ArgumentError, match="key=value, got 'tau'"):
        accuracy.settings_of("globalcom2:tau", 0.5)
    with pytest.raises(ArgumentError, match="no option 'taw'"):
        accuracy.settings_of("globalcom2:taw=1", 0.5)


def test_encoding_is_shared_and_right() -> None:
    model = tiny_model("llava_onevision")
    once = EncodeOnce(adapter_for(model))
    calls = []
    handle = model.model.vision_tower.register_forward_pre_hook(lambda *_: calls.append(1))
    inputs = batch(model, [Scene((("video", 4),))])
    try:
        one, two = (once.encode(once.visuals(inputs)[1]) for _ in range(2))
        (third,) = once.encode(once.visuals(inputs)[1], frames=[(0, 2)])
    finally:
        handle.remove()
    assert len(calls) == 2 and one is two and len(third) < len(one[0])


def test_intervals() -> None:
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)  # textbook values
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12) and wilson(10, 10)[1] == pytest.approx(1)
    assert paired("1100", "1100") == (0.0, 0.0)
    mean, half = paired("1010", "1100")
    assert mean == 0 and half == pytest.approx(1.96 * (2 / 3) ** 0.5 / 2)


def load_script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_filled_from_the_result_file(sweep: Sweep, tmp_path: Path) -> None:
    done = run_sweep(tiny_model("llava_onevision"), Parrot(), sweep, tmp_path / "j.jsonl")
    result = {
        "types": done.types,
        "rows": summary(done),
        "provenance": {
            "command": "python x",
            "commit": "abcdef0123456789",
            "dirty": False,
            "machine": "m",
            "versions": {"torch": "1", "transformers": "2"},
        },
    }
    (tmp_path / "m-clip.json").write_text(json.dumps(result))
    script = load_script("accuracy_table")
    text = script.fill(
        "a\n<!-- accuracy:full/m-clip -->\nold\n<!-- /accuracy -->\n<!-- accuracy:n -->\nkept\n<!-- /accuracy -->\n",
        tmp_path,
    )
    assert "old" not in text and "kept" in text
    right = done.cells["globalcom2@0.5"].correct.count("1")
    assert "| 0.5 | globalcom2 | 9 | 17 | " in text.replace("**", "") and f" {100 * right / 10:.1f}" in text
    assert "| 0.1 | frames | – |" in text  # one frame of 4 tokens is above a budget of 2
    assert script.fill(text, tmp_path) == text


def test_the_cards_are_up_to_date() -> None:
    script = load_script("accuracy_table")
    for card in script.pages():
        assert script.fill(card.read_text(), ROOT / "docs/results/shapes") == card.read_text(), card

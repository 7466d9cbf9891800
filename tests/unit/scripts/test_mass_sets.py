"""Sets of cells about mass: every label is read, nothing runs twice, seeds are new, killed runs go on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from shapes_accuracy import accuracy, dose, measure, sets
from shapes_accuracy.accuracy import Sweep, check_seeds, settings_of
from shapes_accuracy.cost import SECONDS, minutes
from shapes_accuracy.sets import COLUMNS, FIRST_SEED, LONG, SETS, Column, levers, plan
from vidcompress.core.method import METHODS
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.shapes import HELD_OUT_SEEDS, TRAINING_SEEDS, held_out, held_out_questions

ROOT = Path(__file__).resolve().parents[3]
LOOKED_AT = (0, 500_000, 600_000, 620_000, 700_000, 800_000)
"""First seeds of the published tables and of the trials in which something was chosen or looked at."""
CLIP, NATIVE = COLUMNS[0], next(column for column in COLUMNS if column.axes)
RUNS = [(one, column) for one in SETS.values() for column in one.columns]


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("one", "column"), RUNS, ids=lambda value: value.name)
def test_every_cell_is_read_and_served(one: sets.CellSet, column: Column) -> None:
    if not one.methods(column):
        assert (one, column) not in plan([one], [column])
        return
    cells = one.sweep(column).cells()
    assert len(cells) == len(set(cells))
    for label, ratio in cells:
        settings_of(label, ratio)
        assert not (column.axes and "positions" in label), "a family with axes has one policy"


@pytest.mark.parametrize("column", [*COLUMNS, *LONG], ids=lambda column: column.name)
def test_no_cell_runs_in_two_sets(column: Column) -> None:
    # Beside all tokens, which show that the questions are the same.
    cells = [
        cell
        for one in SETS.values()
        if column in one.columns and one.methods(column)
        for cell in one.sweep(column).cells()[1:]
    ]
    assert len(cells) == len(set(cells))


def test_the_main_set_has_every_method_twice_and_each_default_once() -> None:
    labels = SETS["main"].sweep(CLIP).methods
    assert {
        "random",
        "random:mass=on,positions=original",
        "uniform",
        "divprune:mass=on,positions=original",
    } <= {*labels}
    assert {"evs", "evs:mass=on"} <= {*labels}, "evs keeps original positions as published"
    assert all(name in labels for name in sets.serving("clip"))
    assert "divprune:mass=on" in SETS["levers"].sweep(CLIP).methods
    assert "divprune:mass=on" in SETS["main"].sweep(NATIVE).methods
    assert not any(
        "+" in label for one in SETS.values() if one.name != "compositions" for label in one.methods(CLIP)
    )


def test_levers_that_are_defaults_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levers("divprune", CLIP) == "divprune:mass=on,positions=original"
    assert levers("divprune", CLIP, mass=None) == "divprune:positions=original"
    assert levers("divprune", CLIP, "contiguous", "off") == "divprune"
    assert levers("globalcom2+fastv", CLIP) == "globalcom2+fastv:mass=on,positions=original"
    monkeypatch.setattr(METHODS.get("divprune"), "mass", "on")
    monkeypatch.setattr(METHODS.get("divprune"), "positions", "scaled")
    assert levers("divprune", CLIP) == "divprune", "at 8 frames scaled positions are the original ones"
    assert levers("divprune", CLIP, mass="off") == "divprune:mass=off"
    assert levers("divprune", LONG[0]) == "divprune:positions=original"
    assert levers("divprune", LONG[0], "scaled") == "divprune"
    assert SETS["main"].sweep(CLIP).methods.count("divprune") == 1


def test_parts_are_those_that_the_method_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "OURS", "globalcom2")
    labels = sets._parts(CLIP)
    assert "globalcom2:allocation=uniform" in labels and "globalcom2:allocation=uniform,mass=off" in labels
    assert "globalcom2:positions=contiguous" in labels
    assert not any("floor" in label or "time" in label for label in labels), "globalcom2 has neither"
    assert not any("positions" in label for label in sets._parts(NATIVE))
    assert "globalcom2:mass=off" in sets._parts(NATIVE) and not SETS["levers"].methods(NATIVE)


def test_seeds_are_held_out_and_new() -> None:
    for medium in ("image", "clip"):
        seeds = [seed for seed, *_ in held_out_questions(medium, 1000, first=FIRST_SEED)]
        assert seeds[0] == FIRST_SEED and seeds[-1] < dose.FIRST_SEED
        assert all(seed in HELD_OUT_SEEDS and seed not in TRAINING_SEEDS for seed in (seeds[0], seeds[-1]))
    for first in (FIRST_SEED, dose.FIRST_SEED, script("make_counting").FIRST_SEED):
        assert all(abs(first - seen) >= 50_000 for seen in LOOKED_AT)
        check_seeds(first, 1000)
    assert dose.FIRST_SEED + 10_000 <= script("make_counting").FIRST_SEED
    with pytest.raises(ArgumentError, match="first_seed=1000000 with 20 questions must lie in 0 to 999999"):
        Sweep("image", 20, first_seed=TRAINING_SEEDS.start).cells()
    with pytest.raises(ArgumentError, match="first_seed=999990 with 20 questions"):
        check_seeds(999_990, 20)


def test_questions_begin_at_the_first_seed() -> None:
    (first, _), *_ = held_out("image", 2, first=FIRST_SEED)
    (official, _), *_ = held_out("image", 2)
    assert (first.seed, official.seed) == (FIRST_SEED, 0)
    (batch,) = accuracy._batches(Sweep("clip", 2, frames=4, first_seed=FIRST_SEED))
    assert batch[0][0].seed == FIRST_SEED and len(batch[0][0].frames) == 4


def test_sets_and_columns_are_chosen_by_name_in_order() -> None:
    chosen = plan(
        sets.chosen_sets("levers,main"), sets.chosen_columns("tiny-next-image, tiny-onevision-clip")
    )
    assert [(one.name, column.name) for one, column in chosen] == [
        ("levers", "tiny-next-image"), ("levers", "tiny-onevision-clip"),
        ("main", "tiny-next-image"), ("main", "tiny-onevision-clip"),
    ]  # fmt: skip
    assert sets.chosen_sets("") == list(SETS.values())
    with pytest.raises(ArgumentError, match="sets: 'leverz' is not known; .*did you mean 'levers'"):
        sets.chosen_sets("leverz")
    with pytest.raises(ArgumentError, match="columns: 'tiny-next-clip' is not known"):
        sets.chosen_columns("tiny-next-clip")


def test_cost_grows_with_questions_and_cells() -> None:
    assert SECONDS.keys() == {column.name for column in (*COLUMNS, *LONG)}
    few, many = SETS["levers"].sweep(CLIP, 100), SETS["main"].sweep(CLIP, 100)
    assert 0 < minutes(CLIP, few) < minutes(CLIP, many)
    assert minutes(CLIP, SETS["levers"].sweep(CLIP, 200)) == pytest.approx(2 * minutes(CLIP, few))


def test_a_dry_run_measures_nothing_and_a_run_writes_each_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, ran = script("accuracy_mass"), []
    monkeypatch.setattr(module, "measure", lambda *given: ran.append(given) or given[3])
    app = module.typer.Typer()
    app.command()(module.main)
    given = ["--sets", "main", "--columns", "tiny-next-image", "--out", str(tmp_path), "--questions", "40"]
    said = CliRunner().invoke(app, [*given, "--dry-run"])
    assert said.exit_code == 0 and not ran and "main-tiny-next-image" in said.output
    assert CliRunner().invoke(app, given).exit_code == 0
    ((model, sweep, _, out, _),) = ran
    assert (model.name, sweep.questions, sweep.first_seed) == ("tiny-next", 40, FIRST_SEED)
    assert out == tmp_path / "main-tiny-next-image.json"


@pytest.mark.slow
def test_a_killed_measurement_ends_like_an_unkilled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(
        "clip", 4, (0.1,), ("divprune:mass=on,positions=original", "random"), 2, 4, first_seed=FIRST_SEED
    )
    model = ROOT / "models" / "tiny-onevision"
    torch.set_num_threads(1)
    measure.measure(model, sweep, tmp_path / "whole.jsonl", tmp_path / "whole.json")
    asked = accuracy._ask
    calls: list[int] = []

    def die(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:  # in the middle of the second batch
            raise KeyboardInterrupt("killed")
        return asked(*given)

    monkeypatch.setattr(accuracy, "_ask", die)
    with pytest.raises(KeyboardInterrupt, match="^killed$"):
        measure.measure(model, sweep, tmp_path / "j.jsonl", tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
    measure.measure(model, sweep, tmp_path / "j.jsonl", tmp_path / "r.json")
    assert len(calls) == 5 + 3, "the first batch is not asked again"
    assert (tmp_path / "j.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    ended, whole = (json.loads((tmp_path / name).read_text()) for name in ("r.json", "whole.json"))
    assert ended["rows"] == whole["rows"] and ended["sweep"]["first_seed"] == FIRST_SEED

"""The sweeps of configs/: they parse, reach what the papers publish, and say what is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcompress.core.method import METHODS
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import BudgetError
from vidcompress.loading.resources import find
from vidcompress.tools.evaluation.lmms_eval.row import check_lmms_row, model_arguments
from vidcompress.tools.evaluation.lmms_eval.settings import read_settings
from vidcompress.tools.evaluation.report.published import published_tables
from vidcompress.tools.evaluation.report.published_comparison import is_about
from vidcompress.tools.evaluation.run.sweep import Sweep
from vidcompress.tools.evaluation.run.sweep_file import load_sweep

CONFIGS = find("configs")
SWEEPS = {path.stem: load_sweep(path) for path in sorted(CONFIGS.glob("*.toml"))}
TABLES = {table.name: table for table in published_tables()}
LAYERS = {"7b-hf": 32, "13b-hf": 40, "ov-hf": 28, "Qwen2": 28, "8B-Instruct": 36, "7B-Instruct": 28}
"""Decoder layers of the models, by how their names end; Vicuna 7B and 13B, Qwen2 7B, Qwen3 8B, Qwen2.5 7B."""


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_is_named_like_its_file_and_listed(name: str) -> None:
    sweep = SWEEPS[name]
    assert sweep.name == name
    listed = (CONFIGS / "README.md").read_text(encoding="utf-8")
    assert name in listed or f"-{name.rpartition('-')[2]}" in listed
    assert {"random", "uniform"} <= set(sweep.methods), "controls are in every table"
    assert sweep.rows()


@pytest.mark.parametrize("name", [name for name, sweep in SWEEPS.items() if sweep.published])
def test_a_sweep_measures_what_its_table_publishes(name: str) -> None:
    sweep, table = SWEEPS[name], TABLES[SWEEPS[name].published or ""]
    assert all(is_about(table, model.name) for model in sweep.models)
    if table.num_frames is not None:
        assert [model.num_frames for model in sweep.models] == [table.num_frames]
    if table.visual_tokens == 2880:
        assert [model.preset for model in sweep.models] == ["2880"]
    methods = [parse_method_spec(label) for label in ("none", *sweep.methods)]
    ratios = {float(budget["retention_ratio"]) for budget in sweep.budgets} | {1.0}
    tasks = {task.name for task in sweep.tasks}
    for task in table.tasks:
        assert tasks & set(task.tasks), task.name
    for row in table.rows:
        ours = [parse_method_spec(label) for label in table.method_of(row).ours]
        assert not ours or any(label in methods for label in ours), row.method
        if row.num_frames is None and (row.method, row.retention_ratio) != (
            "DyCoke",
            0.3,
        ):  # its file says how
            assert row.retention_ratio in ratios, row


@pytest.mark.parametrize("name", SWEEPS)
def test_the_plugin_takes_what_a_sweep_tells_it(name: str, tmp_path: Path) -> None:
    for row in SWEEPS[name].rows():
        if row.task.kind == "lmms":
            found = read_settings(model_arguments(row))
            assert (found.pretrained, found.method) == (row.model.name, parse_method_spec(row.method)[0])
            assert found.loading.get("preset") == row.model.preset
            check_lmms_row(row, tmp_path / row.id)
    assert not any(tmp_path.iterdir()), "a check leaves nothing behind"


def test_every_table_about_a_method_of_ours_has_a_sweep() -> None:
    single = {
        f"others-{model}" for model in ("llava-onevision", "llava-video", "qwen3-vl-8b", "qwen3-vl-32b")
    }
    assert {name for name in TABLES if name not in single} == {s.published for s in SWEEPS.values()} - {None}


@pytest.mark.parametrize("name", [name for name, sweep in SWEEPS.items() if sweep.published])
def test_every_budget_is_within_reach_by_itself_or_fitted(name: str) -> None:
    sweep = SWEEPS[name]
    layers = next(count for end, count in LAYERS.items() if sweep.models[0].name.endswith(end))
    for label in sweep.methods:
        method, options = parse_method_spec(label)
        if not hasattr(METHODS.get(method), "plan_layers") or options:
            continue
        for budget in sweep.budgets:
            try:
                METHODS.get(method)().plan_layers(
                    2880, round(2880 * float(budget["retention_ratio"])), layers
                )
            except BudgetError:
                assert f"{method}:schedule=fit" in sweep.methods, (label, budget)


def floor(method: str, layers: int) -> float:
    """Per cent of the tokens below which the published layers do not go."""
    plan = METHODS.get(method)(schedule="published").plan_layers
    return next(b for b in range(1, 1000) if _reaches(plan, b, layers)) / 10


def _reaches(plan, budget: int, layers: int) -> bool:  # type: ignore[no-untyped-def]
    try:
        plan(10_000, budget * 10, layers)
    except BudgetError:
        return False
    return True


@pytest.mark.parametrize(
    "name, method, layers, said",
    [
        ("globalcom2-llava-next-7b", "sparsevlm", 32, 9.8),
        ("globalcom2-llava-next-13b", "sparsevlm", 40, 10.5),
        ("vidcom2-llava-onevision", "sparsevlm", 28, 11.1),
        ("vidcom2-llava-video", "pdrop", 28, 25.0),
    ],
)
def test_the_floors_in_the_remarks_are_true(name: str, method: str, layers: int, said: float) -> None:
    assert floor(method, layers) == pytest.approx(said, abs=0.11)
    assert f"{said:g} %" in Path(CONFIGS / f"{name}.toml").read_text(encoding="utf-8")


def test_what_needs_a_judge_says_so() -> None:
    for name, sweep in SWEEPS.items():
        assert isinstance(sweep, Sweep)
        if any(task.name == "lmms:mmvet" for task in sweep.tasks):
            assert "OPENAI_API_KEY" in (CONFIGS / f"{name}.toml").read_text(encoding="utf-8"), name


def test_the_sweep_about_mass_has_pairs_that_differ_by_mass_alone() -> None:
    sweep = SWEEPS["mass-counting"]
    specs = [parse_method_spec(label) for label in sweep.methods]
    assert (
        ("census" in METHODS.names()) == ("census" in sweep.methods) == ("census:mass=off" in sweep.methods)
    )
    for name in ("random", "uniform", "divprune", "vidcom2"):
        assert {(name, ()), (name, (("mass", "on"),))} <= {
            (n, tuple(options.items())) for n, options in specs
        }
    for name in ("divprune", "vidcom2"):
        placed = {"positions": "original"}
        assert (name, placed) in specs and (name, {**placed, "mass": "on"}) in specs
    assert not sweep.published and {model.attn_implementation for model in sweep.models} == {"sdpa"}
    assert {task.name for task in sweep.tasks} >= {"lmms:mvbench_moving_count", "lmms:mvbench_action_count"}

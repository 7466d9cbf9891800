"""Rows that lmms-eval runs: what it is told, what is kept of what it says, and what makes a row empty."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from vidcompress.errors import ArgumentError, VidcompressError
from vidcompress.tools.evaluation.lmms_eval import row as lmms_row
from vidcompress.tools.evaluation.lmms_eval.arguments import as_read
from vidcompress.tools.evaluation.lmms_eval.row import check_lmms_row
from vidcompress.tools.evaluation.lmms_eval.settings import read_settings
from vidcompress.tools.evaluation.report.load import read_rows
from vidcompress.tools.evaluation.run.distributed import Ranks
from vidcompress.tools.evaluation.run.runner import Runner
from vidcompress.tools.evaluation.run.sweep_file import read_sweep

FOUND = {
    "main": "acc",
    "scores": {"acc": 0.5},
    "samples": {"id": ["a/0", "a/1"], "score": [1.0, 0.0], "facts": [{}, {}]},
    "tokens": {"total": 10, "budget": 5, "kept": 5},
    "times_ms": {},
    "time_to_first_token_ms": {},
    "questions_per_second": 2.0,
    "failed": [],
    "version": 3,
    "revision": "abc",
    "split": "test",
}
SWEEP = {
    "models": [{"name": "tiny-onevision", "num_frames": 4, "dtype": "float32", "device": "cpu"}],
    "tasks": [{"name": "lmms:pope", "limit": 2, "form": "chat", "include_path": "mine"}],
    "methods": ["random:policy=exact"],
    "ratios": [0.5],
    "seed": 7,
}


@pytest.fixture
def harness(monkeypatch):
    """Stands for the plugin: `asked` is what it was told; `say` what it does."""
    made = SimpleNamespace(asked=[], say=lambda given: FOUND)

    def run_lmms(task, **given):
        made.asked.append((task, given))
        return made.say(given)

    monkeypatch.setattr(lmms_row, "import_module", lambda name: SimpleNamespace(run_lmms=run_lmms))
    monkeypatch.setattr(lmms_row, "version", lambda name: "0.7.3")
    return made


def test_a_row_is_run_once_and_kept_in_our_form(harness, tmp_path):
    base, row = Runner(read_sweep(SWEEP), tmp_path).run()
    task, given = harness.asked[1]
    assert (task, given["limit"], given["batch_size"], given["simple"], given["device"]) == (
        "pope",
        2,
        8,
        False,
        "cpu",
    )
    assert str(given["include_path"]) == "mine"
    assert given["model_args"] == {
        "pretrained": "tiny-onevision",
        "method": "random",
        "retention_ratio": 0.5,
        "seed": 7,
        "policy": "exact",
        "max_frames_num": 4,
        "dtype": "float32",
    }
    assert row.good and row.result["baseline"] == base.row.id
    assert row.result["task"] == {
        "name": "pope",
        "split": "test",
        "revision": "abc",
        "questions": 2,
        "metric": "acc",
        "harness": "lmms-eval 0.7.3",
    }
    assert row.result["scores"] == {"acc": 0.5}
    assert {entry.id for entry in read_rows([tmp_path])[0]} == {base.row.id, row.row.id}
    again = Runner(read_sweep(SWEEP), tmp_path).run()
    assert [outcome.result for outcome in again] == [base.result, row.result]
    assert len(harness.asked) == 2


def test_a_dry_run_checks_the_model_arguments_of_a_row(tmp_path):
    base, row = read_sweep({**SWEEP, "methods": ["random"]}).rows()
    check_lmms_row(base, tmp_path / base.id)
    with pytest.raises(
        ArgumentError, match=r"^lmms:pope with tiny-onevision, random at 0.5: .*journal=.*a comma"
    ):
        check_lmms_row(row, tmp_path / "a,b")
    spec = dataclasses.replace(row.model, preset="2880")
    with pytest.raises(
        ArgumentError, match=r"random at 0.5: preset='2880' with llava_onevision: it has no presets"
    ):
        check_lmms_row(dataclasses.replace(row, model=spec), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (["method 'fastv' cannot keep 3"] * 2, "method 'fastv' cannot keep 3"),
        (["method 'fastv' cannot keep 3", None], None),
        (["no such file"] * 2, None),
        ([], None),
    ],
)
def test_only_a_method_that_cannot_makes_a_row_empty(harness, tmp_path, errors, reason):
    def fails(given):
        lines = [
            {"head": {}},
            *({"id": str(n), "answer": "", "error": error} for n, error in enumerate(errors)),
        ]
        given["out"].mkdir(parents=True, exist_ok=True)
        given["journal"].write_text("".join(json.dumps(line) + "\n" for line in lines))
        raise VidcompressError("none of the questions could be answered")

    harness.say = fails
    _, outcome = Runner(read_sweep(SWEEP), tmp_path).run()
    assert (outcome.result and outcome.result["unreachable"]) == reason
    assert outcome.error == (None if reason else "none of the questions could be answered")
    assert (tmp_path / outcome.row.id / "result.json").exists() == (reason is not None)


def test_of_several_machines_the_first_takes_its_own_processes(harness, tmp_path, monkeypatch):
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [value])
    ranks = Ranks()
    ranks.size, ranks.here = 16, 8
    Runner(read_sweep(SWEEP), tmp_path, ranks).run()
    assert [given["processes"] for _, given in harness.asked] == [8, 8]


def test_a_row_tells_the_plugin_only_what_it_takes(harness, tmp_path):
    """What a sweep may say of a model and in a label, as lmms-eval would read it back: 2880 is a number to it."""
    model = {"name": "tiny-next", "preset": "2880", "attn_implementation": "sdpa", "revision": "main"}
    methods = ["globalcom2:encoder_saving=crops,allocation=gated,max_views=4"]
    mass = {"mass": "on", "mass_strength": 0.5, "mass_cap": 16}
    some = {**SWEEP, "models": [model], "methods": methods, "view_text": "drop", **mass}
    whole, row = Runner(read_sweep(some), tmp_path).run()
    _, (_, given) = harness.asked
    read = {name: as_read(str(v)) for name, v in given["model_args"].items()}
    found = read_settings(read)
    assert read["preset"] == 2880 and found.loading["preset"] == "2880"
    assert found.options == {
        "allocation": "gated",
        "encoder_saving": "crops",
        "max_views": 4,
        "view_text": "drop",
        **mass,
    }
    assert found.config.weighs and (found.config.mass_strength, found.config.mass_cap) == (0.5, 16.0)
    assert found.head()["options"]["mass"] == "on", "so that its answers are not those of a run without"
    names = ("view_text", "mass", "mass_strength", "mass_cap")
    assert [[x.result["settings"][name] for name in names] for x in (whole, row)] == [
        ["keep", "off", 1.0, None],
        ["drop", "on", 0.5, 16.0],
    ]

"""Trackers: what a row is to them, that each row is sent once, and that they cost no row of the sweep."""

import json
import subprocess
import sys
from types import ModuleType

import pytest

from result_files import row as result_row
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.run.outcome import RowOutcome
from vidcompress.tools.evaluation.run.runner import ProgressListener
from vidcompress.tools.evaluation.run.sweep_file import read_sweep
from vidcompress.tools.evaluation.tracking.adapters import open_trackers
from vidcompress.tools.evaluation.tracking.base import Tracker, record_of
from vidcompress.tools.evaluation.tracking.listener import LEDGER, TrackingListener


class FakeModule(ModuleType):
    """Module with the calls of trackio and wandb; `calls` has what was called, and `broken` fails `log`."""

    def __init__(self, name):
        super().__init__(name)
        self.calls, self.broken = [], None

    def init(self, **given):
        self.calls.append(("init", given))

    def log(self, measures):
        self.calls.append(("log", measures))
        if self.broken is not None:
            raise self.broken

    def finish(self):
        self.calls.append(("finish", None))


@pytest.fixture(params=["trackio", "wandb"])
def module(request, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    fake = FakeModule(request.param)
    monkeypatch.setitem(sys.modules, request.param, fake)
    return fake


def outcomes(**more):
    rows = read_sweep(
        {"models": ["tiny-next"], "tasks": ["shapes:image"], "methods": ["random"], "ratios": [0.25], **more}
    ).rows()
    results = [result_row("shapes:image", row.method, row.budget["retention_ratio"]) for row in rows]
    return [RowOutcome(row, result) for row, result in zip(rows, results, strict=True)]


def listener(out, module, inner=None):
    said = []
    made = TrackingListener(
        inner or ProgressListener(), open_trackers([module.__name__]), "look", out, said.append
    )
    return made, said


def test_a_row_is_a_run_with_its_settings_scores_tokens_and_times(module, tmp_path):
    tracking, said = listener(tmp_path, module)
    _, outcome = outcomes()
    tracking.outcome(outcome)
    (_, begun), (_, measures), (last, _) = module.calls
    assert (begun["project"], begun["name"], begun["group"], last) == (
        "look", outcome.row.id, "shapes:image", "finish",
    )  # fmt: skip
    assert begun.get("mode") == ("offline" if module.__name__ == "wandb" else None)
    config = begun["config"]
    assert (config["method"], config["retention_ratio"], config["dtype"]) == ("random", 0.25, "float32")
    assert json.loads(json.dumps(config)) == config
    assert measures == {
        "score/accuracy": 0.5, "tokens/total": 2880.0, "tokens/budget": 720.0, "tokens/kept": 720.0,
        "time/prefill_ms": 2.5, "time/first_token_ms": 40.0, "time/questions_per_second": 2.0,
        "memory/peak_bytes": 10**9, "questions": 2, "failed": 0,
    }  # fmt: skip
    assert said == []


def test_weights_and_biases_is_online_where_the_user_says_so(monkeypatch):
    fake = FakeModule("wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_MODE", "online")
    open_trackers(["wandb"])["wandb"].track(record_of(outcomes()[0], "look"))
    assert "mode" not in fake.calls[0][1]


def test_each_row_is_sent_once_also_by_the_next_run(module, tmp_path):
    for _ in range(2):
        tracking, said = listener(tmp_path, module)
        for outcome in outcomes():
            tracking.outcome(outcome)
            tracking.outcome(outcome)
        assert said == []
    names = [given["name"] for call, given in module.calls if call == "init"]
    assert len(names) == 2 and len(set(names)) == 2
    (tmp_path / LEDGER).unlink()  # without the ledger they would be sent again
    tracking, _ = listener(tmp_path, module)
    tracking.outcome(outcomes()[0])
    assert len([call for call, _ in module.calls if call == "init"]) == 3


def test_a_row_scored_otherwise_is_another_row(module, tmp_path):
    tracking, _ = listener(tmp_path, module)
    tracking.outcome(outcomes()[0])
    tracking.outcome(outcomes(failed="left-out")[0])
    assert len([call for call, _ in module.calls if call == "init"]) == 2


def test_a_kill_while_a_row_is_sent(module, tmp_path):
    """Whether it arrived is not known: it is not sent again, and a remark says so."""
    module.broken = KeyboardInterrupt()
    tracking, _ = listener(tmp_path, module)
    with pytest.raises(KeyboardInterrupt):
        tracking.outcome(outcomes()[0])
    module.broken = None
    path = tmp_path / LEDGER
    path.write_bytes(path.read_bytes() + b'\n{"tracker": "trac')  # a line cut short
    tracking, said = listener(tmp_path, module)
    for outcome in outcomes():
        tracking.outcome(outcome)
    names = [given["name"] for call, given in module.calls if call == "init"]
    assert len(names) == len(set(names)) == 2
    (remark,) = said
    assert "may lack, as a run ended while it was logged" in remark


def test_an_error_of_a_tracker_is_a_remark_and_the_next_run_tries_again(module, tmp_path):
    module.broken = OSError("no network")
    tracking, said = listener(tmp_path, module)
    for outcome in outcomes():
        tracking.outcome(outcome)
    assert len(said) == 2 and "was not logged (no network); the same command tries again" in said[0]
    assert [call for call, _ in module.calls].count("finish") == 2
    module.broken, module.calls = None, []
    tracking, said = listener(tmp_path, module)
    tracking.outcome(outcomes()[0])
    assert [call for call, _ in module.calls] == ["init", "log", "finish"] and said == []


def test_rows_without_a_result_are_not_sent_and_everything_is_passed_on(module, tmp_path):
    class Inner(ProgressListener):
        heard = []

        def row(self, row, questions, done):
            self.heard.append((row.id, questions, done))

        def advance(self, questions):
            self.heard.append(questions)

        def outcome(self, outcome):
            self.heard.append(outcome)

    tracking, _ = listener(tmp_path, module, Inner())
    first, second = outcomes()
    lost = [RowOutcome(first.row, error="no"), RowOutcome(second.row, second.result, error="no")]
    tracking.row(first.row, 3, 1)
    tracking.advance(2)
    for outcome in lost:
        tracking.outcome(outcome)
    assert Inner.heard == [(first.row.id, 3, 1), 2, *lost]
    assert module.calls == [] and not (tmp_path / LEDGER).exists()


def test_trackers_that_are_missing_or_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        ArgumentError, match=r"^--log-to=wandb: wandb cannot be imported \(.*\); pip install wandb"
    ):
        open_trackers(["wandb"])
    with pytest.raises(
        ArgumentError, match=r"--log-to must be one of trackio, wandb, got 'wandbb'; did you mean"
    ):
        open_trackers(["wandbb"])
    assert open_trackers([]) == {}


def test_trackers_meet_the_interface(module):
    assert isinstance(open_trackers([module.__name__])[module.__name__], Tracker)
    assert not isinstance(module, Tracker)


def test_no_tracker_is_imported_before_one_is_named():
    probe = (
        "import sys, vidcompress.tools.evaluation.tracking.adapters; "
        "assert not {'trackio', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", probe], check=True)

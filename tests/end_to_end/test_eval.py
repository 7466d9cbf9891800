"""`vidcompress eval` on the embedded model: what it answers, what it keeps, what fails alone."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from benchmark_folder import BROKEN, write_benchmark
from odd_media import write_odd
from vidcompress.cli import main
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.leaderboard import leaderboards_of
from vidcompress.tools.evaluation.report.load import read_rows
from vidcompress.tools.evaluation.report.tables import text
from vidcompress.tools.evaluation.run.batches import BatchInference
from vidcompress.tools.evaluation.run.model_cache import ModelCache
from vidcompress.tools.evaluation.run.runner import Runner
from vidcompress.tools.evaluation.run.sweep_file import read_sweep
from vidcompress.tools.runs import journal as journal_module

RESULT = ("samples", "scores", "per_kind", "tokens", "failed", "unreachable")
"""What a run that was interrupted has in common with one that was not."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_benchmark(tmp_path_factory.mktemp("data") / "bench")


@pytest.fixture
def models(qa):
    """The embedded model, loaded once for all tests; `asked` counts who wants it."""
    made = ModelCache(lambda spec: made.asked.append(spec.name) or (qa.model, qa.processor))
    made.asked = []
    return made


def sweep_of(*tasks, methods=("globalcom2",), ratios=(0.25,), **more):
    found = {"models": ["tiny-onevision"], "tasks": [str(task) for task in tasks], "methods": list(methods)}
    return read_sweep({**found, "ratios": list(ratios), "batch_size": 3, **more})


@pytest.fixture(scope="module")
def whole(folder, qa, tmp_path_factory):
    """A run that nothing disturbed: its folder and its outcomes."""
    out = tmp_path_factory.mktemp("whole")
    models = ModelCache(lambda spec: (qa.model, qa.processor))
    return out, Runner(sweep_of(f"data:{folder}"), out, models=models).run()


def lines_of(out, outcome):
    return [
        json.loads(line) for line in (out / outcome.row.id / "answers.jsonl").read_text().splitlines()[1:]
    ]


def test_every_answer_is_that_of_the_question_alone(whole, folder, qa):
    out, outcomes = whole
    questions = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    for outcome, asking in zip(outcomes, (qa.using(method="none", retention_ratio=1.0), qa), strict=True):
        lines = lines_of(out, outcome)
        assert [line["id"] for line in lines] == [question["id"] for question in questions]
        chat = asking.chat(image=folder / "scene.png", history=False)
        for question, line in zip(questions, lines, strict=True):
            if question["id"] in BROKEN:
                assert (line["answer"], line["score"], line["kept"]) == ("", None, None)
                continue
            media = {key: folder / question[key] for key in ("image", "video") if key in question}
            ask = chat.ask if "group" in question else lambda text, **more: asking.ask(text, **media, **more)  # noqa: B023
            answer = ask(question["question"], max_new_tokens=4)
            assert line["answer"] == answer.text
            assert (line["kept"], line["total"]) == (answer.report.kept, answer.report.total)
            assert line["score"] == float(answer.text == question["answer"])


def test_what_cannot_be_served_fails_alone(whole):
    _, outcomes = whole
    for outcome in outcomes:
        failed = {entry["id"]: entry["error"] for entry in outcome.result["failed"]}
        assert set(failed) == set(BROKEN)
        assert "is not a picture" in failed["broken"]
        assert "no such file" in failed["missing"]
        assert "stands for a picture or clip" in failed["placeholder"]
        assert not outcome.good


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """12 questions, 4 of them about clips that are odd or broken; and which of these can be read."""
    folder = write_benchmark(tmp_path_factory.mktemp("odd") / "bench", broken=False)
    clips = write_odd(folder)
    lines = (folder / "questions.jsonl").read_text().splitlines()
    asked = {"question": "what digit is shown?", "answer": "3"}
    for place, name in enumerate(clips):  # among the others, so that batches are mixed
        lines.insert(2 * place, json.dumps({"id": name, "video": name, **asked}))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return folder, clips


def test_odd_clips_cost_no_row(odd, models, tmp_path):
    folder, clips = odd
    for outcome in Runner(sweep_of(f"data:{folder}"), tmp_path, models=models).run():
        lines = {line["id"]: line for line in lines_of(tmp_path, outcome)}
        assert len(lines) == 12 and outcome.error is None and not outcome.result["unreachable"]
        for name, line in lines.items():
            assert bool(line["answer"]) == (clips.get(name, True)), line
        failed = {entry["id"]: entry["error"] for entry in outcome.result["failed"]}
        assert set(failed) == {"cut.mp4"} and "cut.mp4' is not a video in a known format" in failed["cut.mp4"]


@pytest.mark.parametrize(
    "error", [KeyError("new"), TypeError("new"), AssertionError("new"), RuntimeError("new")]
)
def test_whatever_a_decoder_raises_costs_one_question(error, odd, models, tmp_path, monkeypatch):
    """A clip of a codec that this PyAV stumbles over, in a mixed batch and in a group of questions."""
    from vidcompress.media.video import frame_decoder as decoding

    folder = tmp_path / "bench"
    shutil.copytree(odd[0], folder)
    lines = (folder / "questions.jsonl").read_text().splitlines()
    asked = {"question": "what digit is shown?", "answer": "3", "video": "palette.avi", "group": "palette"}
    lines[1:1] = [json.dumps({"id": f"pair{number}", **asked}) for number in range(2)]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    decode = decoding.Decoder.decode

    def stumble(self, packet):
        if packet.stream.codec_context.pix_fmt == "pal8":
            raise error
        return decode(self, packet)

    monkeypatch.setattr(decoding.Decoder, "decode", stumble)
    (outcome, _) = Runner(sweep_of(f"data:{folder}"), tmp_path / "out", models=models).run()
    failed = {entry["id"]: entry["error"] for entry in outcome.result["failed"]}
    assert set(failed) == {"cut.mp4", "palette.avi", "pair0", "pair1"}
    assert f"its reader failed ({type(error).__name__}" in failed["pair0"]
    answered = [line["id"] for line in lines_of(tmp_path / "out", outcome) if line["answer"]]
    assert len(answered) == 10 and {"turned.avi", "joined.ts", "clip"} <= set(answered)


def test_a_result_says_what_it_stands_for(whole, folder):
    out, (base, compressed) = whole
    result = json.loads((out / compressed.row.id / "result.json").read_text())
    assert result == compressed.result
    assert (result["baseline"], base.result["baseline"]) == (base.row.id, None)
    assert result["model"]["name"] == "tiny-onevision"
    assert (result["model"]["family"], result["model"]["parameters"]) == ("llava_onevision", 2870560)
    assert {key: result["task"][key] for key in ("name", "split", "questions", "metric", "harness")} == {
        "name": "small",
        "split": "test",
        "questions": 11,
        "metric": "exact",
        "harness": "vidcompress",
    }
    settings = result["settings"]
    assert (settings["batch_size"], settings["max_new_tokens"], settings["dtype"]) == (3, 4, "float32")
    assert (settings["policy"], settings["attention"], settings["device"]) == ("exact", "sdpa", "cpu")
    assert settings["num_frames"] == 8, "what the checkpoint takes of a clip, since nobody said"
    scores = dict(zip(result["samples"]["id"], result["samples"]["score"], strict=True))
    assert [scores[name] for name in BROKEN] == [0.0] * 3, "what failed is wrong"
    assert result["scores"] == {"accuracy": sum(scores.values()) / 11} and settings["failed"] == "wrong"
    assert result["samples"]["facts"][0] == {"seed": 0}
    assert sum(kind["questions"] for kind in result["per_kind"].values()) == 3
    kept = [kept for kept in result["samples"]["kept"] if kept is not None]
    assert result["tokens"]["kept"] == round(sum(kept) / 8, 3) < result["tokens"]["total"] / 3
    assert set(result["times_ms"]) == {"decode", "preprocess", "encode", "compress", "prefill", "generate"}
    assert 0 < result["times_ms"]["encode"]["median"] < result["time_to_first_token_ms"]["mean"]
    assert result["questions_per_second"] > 0
    assert result["peak_memory_bytes"] > 2**27
    assert result["restarts"] == 0
    head = result["provenance"]["head"]
    assert re.fullmatch("[0-9a-f]{64}", head["data"]) and re.fullmatch("[0-9a-f]{64}", head["weights"])
    assert result["provenance"]["versions"]["torch"] in torch.__version__ + "+cpu"
    assert {row.id for row in read_rows([out])[0]} == {base.row.id, compressed.row.id}


def test_a_finished_run_is_not_run_again(whole, folder, models):
    out, before = whole
    events = {path: path.read_bytes() for path in out.rglob("*.json*")}
    after = Runner(sweep_of(f"data:{folder}"), out, models=models).run()
    assert models.asked == []
    assert [outcome.result for outcome in after] == [outcome.result for outcome in before]
    assert {path: path.read_bytes() for path in out.rglob("*.json*")} == events


def test_other_settings_need_another_folder(whole, folder, models):
    out, _ = whole
    outcomes = Runner(sweep_of(f"data:{folder}", batch_size=4), out, models=models).run()
    assert all("batch_size is 3 there and 4 here; choose another folder" in o.error for o in outcomes)
    laid_out = sweep_of(f"data:{folder}", models=[{"name": "tiny-onevision", "preset": "2880"}])
    outcomes = Runner(laid_out, out, models=models).run()
    assert all("preset is None there and '2880' here" in o.error for o in outcomes)
    assert models.asked == []


def test_what_failed_can_be_left_out_and_counted_anew(folder, models, tmp_path):
    """Neither changes an answer or asks again; results of before there was a choice are counted anew too."""
    data = f"data:{folder}"
    before = Runner(sweep_of(data), tmp_path, models=models).run()
    answers = {path: path.read_bytes() for path in tmp_path.rglob("answers.jsonl")}
    models.asked.clear()
    left_out = Runner(sweep_of(data, failed="left-out"), tmp_path, models=models).run()
    for counted, outcome in zip(before, left_out, strict=True):
        result = outcome.result
        scores = dict(zip(result["samples"]["id"], result["samples"]["score"], strict=True))
        assert [scores[name] for name in BROKEN] == [None] * 3
        assert result["scores"]["accuracy"] == pytest.approx(counted.result["scores"]["accuracy"] * 11 / 8)
        assert result["failed"] == counted.result["failed"] and result["settings"]["failed"] == "left-out"
        path = tmp_path / outcome.row.id / "result.json"
        assert json.loads(path.read_text()) == result
        del result["settings"]["failed"]
        path.write_text(json.dumps(result))  # as it was written before
    again = Runner(sweep_of(data), tmp_path, models=models).run()
    assert [outcome.result for outcome in again] == [outcome.result for outcome in before]
    assert models.asked == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("answers.jsonl")} == answers
    table = text(read_rows([tmp_path])[0])
    assert table.count(", 3 failed") == 2
    assert "questions that failed and count as wrong: 3 on small" in table


def same_as(whole, out, outcomes):
    """Answers byte for byte, results but for times and restarts."""
    there, before = whole
    for one, other in zip(before, outcomes, strict=True):
        assert (out / other.row.id / "answers.jsonl").read_bytes() == (
            there / one.row.id / "answers.jsonl"
        ).read_bytes()
        assert {key: other.result[key] for key in RESULT} == {key: one.result[key] for key in RESULT}
    return True


def test_a_corrupt_line_is_asked_again(whole, folder, models, tmp_path):
    sweep = sweep_of(f"data:{folder}")
    outcomes = Runner(sweep, tmp_path, models=models).run()
    row = tmp_path / outcomes[1].row.id
    content = (row / "answers.jsonl").read_bytes().splitlines(keepends=True)
    content[4] = b"\xff" + content[4][1:]
    (row / "answers.jsonl").write_bytes(b"".join(content))
    with (row / "run.jsonl").open("ab") as log:
        log.write(b'\n{"event":"batch"}\nnonsense\xff')
    again = Runner(sweep, tmp_path, models=models).run()
    assert same_as(whole, tmp_path, again)
    assert [outcome.result["corrupt_lines"] for outcome in again] == [0, 1]
    assert [outcome.result["restarts"] for outcome in again] == [0, 1]
    assert len(models.asked) == 2, "loaded once for each run"


def test_a_disk_that_is_full_for_a_while_costs_nothing(whole, folder, models, tmp_path, monkeypatch):
    append, calls = journal_module._append, []

    def full(path, content):
        calls.append(path)
        if len(calls) in (2, 3):
            raise OSError(28, "No space left on device")
        append(path, content)

    monkeypatch.setattr(journal_module, "_append", full)
    assert same_as(whole, tmp_path, Runner(sweep_of(f"data:{folder}"), tmp_path, models=models).run())
    assert len(calls) > 6


def test_a_disk_that_stays_full_is_reported_per_question(whole, folder, models, tmp_path, monkeypatch):
    append, calls = journal_module._append, []

    def full(path, content):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        append(path, content)

    sweep = sweep_of(f"data:{folder}")
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "_append", full)
        first, second = Runner(sweep, tmp_path, models=models).run()
    assert len(first.result["failed"]) == 2 + 11 - 3, (
        "of the first batch two are broken; the others did not fit"
    )
    assert first.result["failed"][-1]["error"].endswith("No space left on device); make room and run again: what "
                                                        "was written before is kept")  # fmt: skip
    assert first.result["samples"]["score"][1:] == [0.0] * 10
    assert set(second.result["samples"]["score"]) == {None}, "a row without any answer has no score"
    assert second.result["scores"] == {}
    assert len(second.result["failed"]) == 11
    assert same_as(whole, tmp_path, Runner(sweep, tmp_path, models=models).run())


def test_rows_that_cannot_be_are_empty(folder, models, tmp_path):
    methods = ("vidcom2", "fastv", "globalcom2+fastv:schedule=fit", "random")
    outcomes = Runner(
        sweep_of(f"data:{folder}", methods=methods, ratios=[0.02]), tmp_path, models=models
    ).run()
    reasons = [outcome.result["unreachable"] for outcome in outcomes]
    assert reasons[0] is None and reasons[4] is None
    assert "serves video inputs only, got an image" in reasons[1]
    assert reasons[2] == reasons[3]
    assert "groups are asked over one compressed cache" in reasons[3]
    assert outcomes[1].result["scores"] == {} and outcomes[1].error is None
    models.asked.clear()
    again = Runner(sweep_of(f"data:{folder}", methods=methods, ratios=[0.02]), tmp_path, models=models).run()
    assert [outcome.result for outcome in again] == [outcome.result for outcome in outcomes]
    assert models.asked == []


def test_tokens_of_an_inside_method_are_averages_beside_an_average(models, tmp_path):
    """Budget and tokens kept both of the layers' inputs, on average; before the model the two were never apart."""
    data = write_benchmark(tmp_path / "data", 2, broken=False, clip=False)
    outcomes = Runner(
        sweep_of(f"data:{data}", methods=["fastv", "globalcom2+fastv", "globalcom2"], ratios=[0.5]),
        tmp_path / "out",
        models=models,
    ).run()
    tokens = {outcome.result["method"]: outcome.result["tokens"] for outcome in outcomes}
    assert len({counts["total"] for counts in tokens.values()}) == 1
    before = tokens["globalcom2"]
    assert before["kept"] == before["budget"] == pytest.approx(before["total"] / 2, abs=0.5)
    for method in ("fastv", "globalcom2+fastv"):
        assert tokens[method]["budget"] == before["budget"]
        assert before["budget"] - 1 < tokens[method]["kept"] <= before["budget"]


def test_a_budget_out_of_reach_is_a_reason(models, tmp_path):
    data = write_benchmark(tmp_path / "data", 1, broken=False, clip=False)
    _, outcome = Runner(
        sweep_of(f"data:{data}", methods=["fastv"], ratios=[0.02]), tmp_path / "out", models=models
    ).run()
    assert "its floor is 25.6 %; raise the budget" in outcome.result["unreachable"]
    assert outcome.good


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("too much"),
            "out of memory (OutOfMemoryError: too much); choose a smaller batch_size",
        ),
        (KeyError("a\nb"), r"KeyError: 'a\nb'"),
    ],
    ids=["memory", "other"],
)
def test_a_row_that_fails_does_not_stop_the_others(models, tmp_path, monkeypatch, error, said):
    data = write_benchmark(tmp_path / "data", 2, broken=False, clip=False)
    sweep = sweep_of(f"data:{data}", methods=["globalcom2", "random"], batch_size=1)
    call = BatchInference.__call__

    def fails(self, batch):
        if self.row.method == "globalcom2" and batch.number == 1:
            raise error
        return call(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(BatchInference, "__call__", fails)
        base, failed, last = Runner(sweep, tmp_path / "out", models=models).run()
    assert base.good and last.good and not failed.good
    assert failed.error.startswith(said)
    assert not (tmp_path / "out" / failed.row.id / "result.json").exists()
    again = Runner(sweep, tmp_path / "out", models=models).run()
    assert all(outcome.good for outcome in again)
    assert (again[1].resumed, again[1].result["restarts"]) == (1, 1)
    events = (tmp_path / "out" / failed.row.id / "run.jsonl").read_text()
    assert events.count('"event":"start"') == 2 and events.count('"event":"error"') == 1


@pytest.mark.parametrize("change", ["num_frames", "data", "batch_size"])
def test_no_row_is_made_beside_an_uncompressed_one_of_another_run(tmp_path, models, change):
    data = write_benchmark(tmp_path / "data", 2, broken=False, clip=False)
    assert Runner(sweep_of(f"data:{data}", methods=[]), tmp_path / "out", models=models).run()[0].good
    given = {"methods": ["globalcom2"], "ratios": [0.5]}
    if change == "data":
        write_benchmark(data, 3, broken=False, clip=False)
    else:
        given["models"] = [{"name": "tiny-onevision", change: 4}]
    runner = Runner(sweep_of(f"data:{data}", **given), tmp_path / "out", models=models)
    with pytest.raises(ArgumentError, match=r"answers.jsonl belongs to another run: "):
        runner.check_folder()
    outcomes = runner.run()
    for outcome in outcomes:
        assert f"none--1.0--{outcomes[0].row.id[-6:]}/answers.jsonl belongs to another run" in outcome.error
    assert not (tmp_path / "out" / outcomes[1].row.id).exists()


def test_answers_under_a_preset_are_no_answers_without(tmp_path, models):
    data = write_benchmark(tmp_path / "data", 1, broken=False, clip=False)
    sweep = sweep_of(f"data:{data}", methods=[])
    assert Runner(sweep, tmp_path / "out", models=models).run()[0].good
    preset = sweep_of(f"data:{data}", methods=[], models=[{"name": "tiny-onevision", "preset": "2880"}])
    (outcome,) = Runner(preset, tmp_path / "out", models=models).run()
    assert "belongs to another run: preset is None there and '2880' here" in outcome.error


def test_the_command_line_says_the_preset(capsys, tmp_path):
    data = write_benchmark(tmp_path / "data", 1, broken=False, clip=False)
    out = tmp_path / "out"
    run(
        capsys,
        "--data",
        data,
        "--model",
        "tiny-next",
        "--preset",
        "2880",
        "--methods",
        "random",
        "--retention-ratios",
        "0.1",
        "--out",
        out,
    )
    rows = read_rows([out])[0]
    assert [row.settings["preset"] for row in rows] == ["2880", "2880"]
    assert {row.tokens["total"] for row in rows} == {5 * 64}, "thumbnail and four crops, no newlines"
    assert sorted(row.tokens["kept"] for row in rows) == [32, 320]


def test_the_command_line_says_what_becomes_of_text_of_views(capsys, tmp_path):
    """Rows of their own beside those that keep it; a model without such text fails them and says so."""

    def asked(model, *more):
        words = ("--task", "shapes:clip", "--limit", 1, "--methods", "uniform", "--retention-ratios", "0.1")
        return run(capsys, *words, "--model", model, "--out", tmp_path / model, *more)[0]

    assert (asked("tiny-qwen", "--view-text", "drop"), asked("tiny-qwen")) == (0, 0)
    rows = read_rows([tmp_path / "tiny-qwen"])[0]
    assert {(row.method, row.settings["view_text"]) for row in rows} == {
        ("none", "keep"),
        ("uniform", "keep"),
        ("uniform:view_text=drop", "drop"),
    }
    assert len({row.baseline for row in rows if not row.is_baseline}) == 1
    assert asked("tiny-onevision", "--view-text", "drop") == 1
    failed = [row for row in read_rows([tmp_path / "tiny-onevision"])[0] if row.failed]
    assert [row.method for row in failed] == ["uniform:view_text=drop"]
    said = json.loads(failed[0].path.read_text())["failed"][0]["error"]
    assert said.startswith("view_text='drop' cannot go with LlavaOnevision"), said


def test_answers_with_mass_are_no_answers_without(tmp_path, models):
    """They are rows of their own, and a journal of one is refused by the other."""
    data = write_benchmark(tmp_path / "data", 2, broken=False, clip=False)
    plain = sweep_of(f"data:{data}", methods=["uniform"])
    out = tmp_path / "out"
    base, without = Runner(plain, out, models=models).run()
    sweeps = [
        sweep_of(f"data:{data}", methods=["uniform"], mass="on", **more) for more in ({}, {"mass_cap": 2})
    ]
    for sweep in sweeps:
        (_, row) = sweep.rows()
        shutil.copytree(out / without.row.id, out / row.id)
        (again, refused) = Runner(sweep, out, models=models).run()
        assert again.complete_before and f"method is 'uniform' there and {row.method!r} here" in refused.error
        shutil.rmtree(out / row.id)
        (again, fresh) = Runner(sweep, out, models=models).run()
        assert again.complete_before and fresh.good and not fresh.resumed and not fresh.complete_before
    assert all(outcome.complete_before for outcome in Runner(plain, out, models=models).run())
    rows = read_rows([out])[0]
    mass = {row.method: (row.settings["mass"], row.settings.get("mass_cap")) for row in rows}
    assert mass == {
        "none": ("off", None),
        "uniform": ("off", None),
        "uniform:mass=on": ("on", None),
        "uniform:mass=on,mass_cap=2": ("on", 2.0),
    }
    (board,) = leaderboards_of(rows)
    assert {entry.method for entry in board.entries} == {*mass} - {"none"}


def test_a_model_that_does_not_load_fails_its_rows_alone(tmp_path):
    data = write_benchmark(tmp_path / "data", 1, broken=False, clip=False)
    tried = []

    def load(spec):
        tried.append(spec.name)
        raise ArgumentError(f"model={spec.name!r} does not load")

    outcomes = Runner(sweep_of(f"data:{data}"), tmp_path / "out", models=ModelCache(load)).run()
    assert [outcome.error for outcome in outcomes] == [
        "ArgumentError: model='tiny-onevision' does not load"
    ] * 2
    assert tried == ["tiny-onevision"]


def test_a_task_of_pictures_for_a_model_without_clips(tmp_path):
    data = write_benchmark(tmp_path / "data", 1, broken=False)
    sweep = read_sweep({"models": ["tiny-next"], "tasks": [f"data:{data}"]})
    (outcome,) = Runner(sweep, tmp_path / "out").run()
    assert outcome.result["unreachable"] == "the model takes no videos"


def test_shapes_are_drawn_once_and_in_blocks(models, tmp_path):
    tasks = [
        {"name": "shapes:image", "questions": 2},
        {"name": "shapes:clip", "questions": 2, "seed": 1, "frames": 4},
    ]
    sweep = read_sweep({"models": ["tiny-onevision"], "tasks": tasks})
    image, clip = Runner(sweep, tmp_path, models=models).run()
    assert image.result["samples"]["id"] == ["0", "1"]
    assert set(clip.result["samples"]["id"]).isdisjoint(("0", "1"))
    assert image.result["scores"] == {"accuracy": 1.0}
    assert image.result["task"]["name"] == "shapes:image"
    pictures = sorted(path.name for path in (tmp_path / "media").rglob("*.*"))
    assert pictures == sorted(["0.png", "1.png", *(f"{name}-4.mp4" for name in clip.result["samples"]["id"])])


def run(capsys, *words):
    with pytest.raises(SystemExit, match=r"^\d+$") as stop:
        main(["eval", *map(str, words)])
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


def test_command_line(capsys, folder, tmp_path):
    words = (
        "--data",
        folder,
        "--methods",
        "random",
        "--retention-ratios",
        "0.5",
        "--limit",
        4,
        "--out",
        tmp_path,
    )
    code, out, _ = run(capsys, *words, "--dry-run", "--json")
    planned = json.loads(out)["rows"]
    assert (code, [row["state"] for row in planned]) == (0, ["new", "new"])
    code, out, err = run(capsys, *words)
    assert code == 1, "two pictures cannot be read"
    assert re.search(r"50 % +random", out)
    assert err.count("failed: tiny-onevision--small") == 0
    assert err.count(": question 'broken': ") == err.count(": question 'missing': ") == 2
    code, out, err = run(capsys, *words, "--json")
    entries = json.loads(out)["rows"]
    assert [row["complete_before"] for row in entries] == [True, True]
    assert [row["row"] for row in entries] == [row["row"] for row in planned]
    assert [len(row["failed"]) for row in entries] == [2, 2]
    assert run(capsys, *words, "--dry-run")[1].count("there ") == 2
    code, out, err = run(capsys, *words, "--num-frames", "5", "--dry-run")
    assert (code, out) == (2, "") and "num_frames is None there and 5 here" in err
    code, _, err = run(capsys, "--data", tmp_path / "nowhere", "--dry-run")
    assert code == 2 and "holds no questions.jsonl" in err, "a plan that cannot run is no plan"


def test_a_repeated_run_says_what_was_there(capsys, tmp_path):
    data = write_benchmark(tmp_path / "data", 2, broken=False, clip=False)
    words = ("--data", data, "-m", "tiny-onevision", "--methods", "random", "--out", tmp_path / "out")
    code, first, err = run(capsys, *words, "-r", "0.5")
    assert code == 0 and "complete before" not in err
    lines = [line for line in err.splitlines() if line.endswith("2 questions")]
    assert len(lines) == 2, "a line for each row that ran"
    code, again, err = run(capsys, *words, "-r", "0.5")
    assert (code, again) == (0, first), "the table is there again"
    assert err.splitlines()[-1] == "2 rows were complete before and none was left to run"
    assert not [line for line in err.splitlines() if line.endswith("2 questions")]
    code, _, err = run(capsys, *words, "-r", "0.5,0.25")
    assert code == 0 and err.count(", 2 questions\n") == 1 and "random 0.25: " in err
    assert err.splitlines()[-1] == "2 rows were complete before and 1 ran now"


@pytest.mark.parametrize("kind", ["data", "shapes"])
def test_another_limit_is_refused_in_one_line(capsys, tmp_path, kind):
    data = write_benchmark(tmp_path / "data", 3, broken=False, clip=False)
    words = ("--methods", "random", "-r", "0.5,0.25", "--out", tmp_path / "out")
    words += ("--data", data) if kind == "data" else ("--task", "shapes:image")
    assert run(capsys, *words, "--limit", "2")[0] == 0
    kept = {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.json*"))}
    for limit, now in ((("--limit", "1"), "--limit 1"), (("--limit", "3"), "--limit 3"), ((), "none")):
        for more in ((), ("--dry-run",)):
            code, out, err = run(capsys, *words, *limit, *more)
            assert (code, out) == (2, "")
            assert err.count("\n") == 1 and "data is" not in err
            assert f"out was begun with --limit 2, and this one has {now}; pass --limit 2 to go on" in err
            assert "or name another folder with --out" in err
    assert {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*.json*"))} == kept
    assert run(capsys, *words, "--limit", "2")[0] == 0
    if kind == "data":
        other = (*words[:-4], "--out", tmp_path / "whole", *words[-2:])
        assert run(capsys, *other)[0] == 0
        code, _, err = run(capsys, *other, "--limit", "2")
        assert code == 2 and "was begun with no --limit, and this one has --limit 2; leave it out" in err


def test_a_sweep_file_and_what_is_said_over_it(capsys, tmp_path):
    data = write_benchmark(tmp_path / "data", 1, broken=False, clip=False)
    path = tmp_path / "s.toml"
    path.write_text(
        f'methods = ["random"]\ntasks = ["data:{data}"]\n[[models]]\nname = "tiny-next"\nnum_frames = 2\n'
    )
    code, out, _ = run(
        capsys, "--out", tmp_path / "out", "--max-tokens", "9", "--dtype", "float32", path, "--dry-run"
    )
    assert code == 0
    names = [line.split()[1] for line in out.splitlines() if "--" in line]
    assert [name.startswith("tiny-next--data_") for name in names] == [True, True]
    assert [name.split("--")[2:4] for name in names] == [["none", "1.0"], ["random", "9"]]


def test_two_runs_do_not_share_a_folder(models, tmp_path):
    data = write_benchmark(tmp_path / "data", 1, broken=False, clip=False)
    runner = Runner(sweep_of(f"data:{data}"), tmp_path / "out", models=models)
    with (
        runner._folder_lock(),
        pytest.raises(ArgumentError, match=r"another run is at work in this folder; wait for it"),
    ):
        Runner(sweep_of(f"data:{data}"), tmp_path / "out", models=models).run()


def test_ctrl_c_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    data = write_benchmark(tmp_path / "data", 1, broken=False, clip=False)

    def interrupted(self, batch):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(BatchInference, "__call__", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        code, out, err = run(capsys, "--data", data, "--out", tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, out) == (130, "")
    assert f"interrupted; the answers so far are in {tmp_path / 'out'}, and the same command goes on" in err


def test_lmms_tasks_need_lmms_eval(tmp_path, models, monkeypatch):
    from vidcompress.tools.evaluation.lmms_eval import row as lmms_row

    def missing(name):
        raise ImportError(f"no module {name}")

    monkeypatch.setattr(lmms_row, "import_module", missing)
    sweep = read_sweep({"models": ["tiny-onevision"], "tasks": ["lmms:pope"]})
    (outcome,) = Runner(sweep, tmp_path, models=models).run()
    assert outcome.error.startswith("task='lmms:pope' needs lmms-eval, which is not installed (no module")
    assert Path(tmp_path / outcome.row.id).exists() is False

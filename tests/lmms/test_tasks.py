"""Our models under unmodified lmms-eval: local tasks and the official task files, the simple and the chat form."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmms_tasks import official, shapes
from odd_media import write_odd
from vidcompress import VisualQA
from vidcompress.tools.evaluation.lmms_eval.frame_rules import FrameRule

ONEVISION = "pretrained=tiny-onevision,method=globalcom2,retention_ratio=0.25"


def job(name: str, task: str, args: str = ONEVISION, **options: Any) -> dict[str, Any]:
    return {"name": name, "model": "vidcompress", "model_args": args, "task": task, **options}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tasks") / "tasks"
    shapes(made)
    spec = importlib.util.find_spec("lmms_eval")
    if spec is not None and spec.origin is not None:
        official(made, Path(spec.origin).parent, made.parent / "hub")
    broken = made / "broken"
    broken.mkdir()
    for name in ("shapes_utils.py", "images.jsonl"):
        (broken / name).write_bytes((made / name).read_bytes())
    (broken / "vc_broken.yaml").write_text(
        (made / "vc_images.yaml").read_text().replace("vc_images", "vc_broken")
    )
    for number in range(12):
        (broken / f"images{number}.png").write_bytes((made / f"images{number}.png").read_bytes())
    (broken / "images4.png").write_bytes(b"no picture")
    (broken / "images7.png").unlink()
    _odd(made, made / "odd")
    return made


def _odd(made: Path, folder: Path) -> None:
    """The task `vc_odd`: 12 questions about clips, 4 of which are odd or broken."""
    folder.mkdir()
    (folder / "shapes_utils.py").write_bytes((made / "shapes_utils.py").read_bytes())
    (folder / "vc_odd.yaml").write_text((made / "vc_clips.yaml").read_text().replace("vc_clips", "vc_odd"))
    rows = [json.loads(line) for line in (made / "clips.jsonl").read_text().splitlines()]
    for row in rows:
        (folder / row["media"]).write_bytes((made / row["media"]).read_bytes())
    rows = [*rows, *({**rows[0], "media": name} for name in write_odd(folder)), *rows]
    written = [json.dumps({**row, "id": number}) + "\n" for number, row in enumerate(rows)]
    (folder / "clips.jsonl").write_text("".join(written))


@pytest.fixture(scope="module")
def found(folder: Path, probe: Callable[..., Any]) -> Any:
    journal = folder.parent / "journals"
    kept = f"{ONEVISION},journal={journal}/some.jsonl"
    jobs = [
        job("pope simple", "pope_local", batch_size=3),
        job("pope chat", "pope_local", batch_size=3, simple=False),
        job("videomme simple", "videomme_local"),
        job("videomme chat", "videomme_local", simple=False),
        job("videomme as llava_vid", "videomme_local", limit=1) | {"model": "llava_vid"},
        job("cached", "pope_local", use_cache=str(folder.parent / "cache"), limit=2),
        job("cached again", "pope_local", use_cache=str(folder.parent / "cache"), limit=2),
        job("clips", "vc_clips", f"{ONEVISION},max_frames_num=8", batch_size=4),
        job("next chat", "vc_images", ONEVISION.replace("onevision", "next"), batch_size=4, simple=False),
        job(
            "preset",
            "vc_images",
            ONEVISION.replace("onevision", "next") + ",preset=2880",
            batch_size=4,
            limit=4,
        ),
        job("rounds", "vc_rounds"),
        job(
            "rounds inside",
            "vc_rounds",
            ONEVISION.replace("globalcom2", "fastv").replace("0.25", "0.5"),
            limit=2,
        ),
        job("choices", "vc_choices", ONEVISION.replace("0.25", "1.0").replace("globalcom2", "none")),
        job(
            "choices inside",
            "vc_choices",
            ONEVISION.replace("globalcom2", "fastv").replace("0.25", "0.5"),
            limit=1,
        ),
        job("broken", "vc_broken", batch_size=4),
        job("odd", "vc_odd", f"{ONEVISION},max_frames_num=8", batch_size=4),
        job("some", "vc_images", kept, batch_size=2, limit=5),
        job("rest", "vc_images", kept, batch_size=2),
        job("whole", "vc_images", f"{ONEVISION},journal={journal}/whole.jsonl", batch_size=2),
        job("other", "vc_images", kept.replace("0.25", "0.5"), batch_size=2),
    ]
    return probe(jobs, folder, folder.parent / "hub")


def counts(entry: Any) -> list[dict[str, Any]]:
    return [sample[0] for sample in entry["counts"]]


def test_official_task_files_score_local_rows(found: Any) -> None:
    for name, metric in (("pope", "pope_accuracy"), ("videomme", "videomme_perception_score")):
        simple, chat = found[f"{name} simple"], found[f"{name} chat"]
        assert "error" not in simple and "error" not in chat, (simple, chat)
        assert simple["answers"] == chat["answers"] and len(simple["answers"]) == 4
        assert simple["results"][f"{metric},none"] == chat["results"][f"{metric},none"]
        for entry in counts(simple):
            assert entry["kept"] == entry["budget"] < entry["total"]
            assert entry["time_to_first_token_ms"] > 0
    right = [
        answer == wanted
        for answer, wanted in zip(found["pope simple"]["answers"], ["yes", "no"] * 2, strict=True)
    ]
    assert found["pope simple"]["results"]["pope_accuracy,none"] == sum(right) / 4


def test_a_task_s_prompts_for_llava_video_can_be_had(found: Any) -> None:
    assert found["videomme as llava_vid"]["prompts"][0].endswith("The best answer is:")
    assert found["videomme simple"]["prompts"][0].endswith("from the given choices directly.")


def test_the_harness_finds_its_cached_answers_again(found: Any) -> None:
    """It does not where a model changes the generation arguments it is given."""
    assert found["cached"]["answers"] == found["cached again"]["answers"]
    assert counts(found["cached"])[0]["total"] > 0
    assert [sample[0] for sample in found["cached again"]["counts"]] == [None, None]


def test_a_clip_is_shown_as_its_family_is_evaluated(found: Any) -> None:
    """32 frames of 4 x 4 tokens and one newline, of clips with 8 frames."""
    assert {entry["total"] for entry in counts(found["videomme simple"])} == {32 * 16 + 1}
    assert {entry["total"] for entry in counts(found["clips"])} == {8 * 16 + 1}


def test_answers_are_those_of_visual_qa(found: Any, folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    qa = VisualQA.from_pretrained("tiny-next", device="cpu")
    items = [{"question": row["question"], "image": folder / row["media"]} for row in rows]
    answers = qa.ask_batch(items, batch_size=4)
    assert found["next chat"]["answers"] == [answer.text for answer in answers]
    assert [entry["kept"] for entry in counts(found["next chat"])] == [
        answer.report.kept for answer in answers
    ]
    qa = VisualQA.from_pretrained("tiny-next", device="cpu", preset="2880")
    answers = qa.ask_batch(items[:4], batch_size=4)
    assert found["preset"]["answers"] == [answer.text for answer in answers]
    assert {entry["total"] for entry in counts(found["preset"])} == {answers[0].report.total}
    clips = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    qa = VisualQA.from_pretrained("tiny-onevision", device="cpu")
    asked = [
        {"question": row["question"], "video": FrameRule(8).read(folder / row["media"])} for row in clips
    ]
    assert found["clips"]["answers"] == [answer.text for answer in qa.ask_batch(asked)]


def test_rounds_are_answered_over_media_that_are_compressed_once(found: Any) -> None:
    assert all(len(answer) == 3 and answer[1] == answer[2] for answer in found["rounds"]["answers"])
    assert found["rounds"]["results"]["acc,none"] == 1.0
    assert all(len(answer) == 3 for answer in found["rounds inside"]["answers"])
    assert "error" not in counts(found["rounds"])[0]


def test_likelihoods_choose_among_answers(found: Any) -> None:
    entry = found["choices"]
    assert "error" not in entry, entry
    losses = [[loss for loss, _ in answer] for answer in entry["answers"]]
    assert all(0 < loss < 1e3 for pair in losses for loss in pair)
    inside = [loss for answer in found["choices inside"]["answers"] for loss, _ in answer]
    assert inside == [1e9, 1e9]
    assert "prunes inside the language model" in counts(found["choices inside"])[0]["error"]


def test_a_broken_picture_fails_alone(found: Any) -> None:
    errors = [entry.get("error") for entry in counts(found["broken"])]
    assert [number for number, error in enumerate(errors) if error] == [4, 7]
    assert "No such file" in errors[7]
    assert [found["broken"]["answers"][number] for number in (4, 7)] == ["", ""]
    others = [number for number in range(12) if number not in (4, 7)]
    whole = found["whole"]["answers"]
    assert [found["broken"]["answers"][number] for number in others] == [whole[number] for number in others]


def test_odd_clips_are_answered_or_fail_alone(found: Any) -> None:
    assert "error" not in found["odd"], found["odd"]
    answers, told = found["odd"]["answers"], counts(found["odd"])
    assert len(answers) == len(told) == 12
    errors = {number: entry["error"] for number, entry in enumerate(told) if entry.get("error")}
    assert set(errors) == {7} and "cut.mp4' is not a video in a known format" in errors[7]
    assert [bool(answer) for answer in answers] == [number != 7 for number in range(12)]
    assert answers[:4] == answers[8:] == found["clips"]["answers"]


def test_a_run_goes_on_where_its_journal_ends(found: Any, folder: Path) -> None:
    journal = folder.parent / "journals"
    assert len(found["some"]["answers"]) == 5
    assert (journal / "some.jsonl").read_bytes() == (journal / "whole.jsonl").read_bytes()
    assert found["rest"]["answers"] == found["whole"]["answers"]
    assert found["rest"]["throughput"]["total_gen_tokens"] < found["whole"]["throughput"]["total_gen_tokens"]
    assert counts(found["rest"])[0]["timing_ms"]  # of the run before, from the file beside the journal
    assert "retention_ratio is 0.25 there and 0.5 here" in found["other"]["error"]

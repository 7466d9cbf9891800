"""The suite's tasks in the real lmms-eval: found, drawn, asked in both forms, marked and averaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.shapes import CLIP_TYPES, IMAGE_TYPES, held_out_questions
from vidcompress.tools.evaluation.suite import lmms

ROOT = Path(__file__).parents[2]
IMAGE, CLIP = (
    {f"vidcompress_shapes_{medium}_{kind}" for kind in kinds}
    for medium, kinds in (("image", IMAGE_TYPES), ("clip", CLIP_TYPES))
)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the probe says of 24 questions each."""
    if find_spec("lmms_eval") is None:
        pytest.skip("lmms-eval is not installed")
    room = tmp_path_factory.mktemp("lmms")
    environment = {
        **os.environ,
        "HF_HOME": str(room / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    environment |= {
        lmms.FOLDER: str(room / "suite"),
        lmms.COUNT: "24",
        lmms.SEED: "3",
        lmms.SUFFIX: " Be brief.",
    }
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    names = "vidcompress_shapes_image,vidcompress_shapes_clip,vidcompress_multi_image"
    command = [sys.executable, str(ROOT / "tests" / "lmms_parrot.py"), names]
    done = subprocess.run(command, env=environment, cwd=room, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_task_is_found(told: dict[str, Any]) -> None:
    groups = {"vidcompress_shapes_image", "vidcompress_shapes_clip"}
    assert set(told["tasks"]) == IMAGE | CLIP | groups | {
        f"vidcompress_{name}" for name in ("needle", "detail", "multi_image")
    }


@pytest.mark.parametrize("form", ["Simple", "Chat"])
def test_tasks_are_asked_and_marked(told: dict[str, Any], form: str) -> None:
    run = told[form]
    count = {name: 4 if name in IMAGE else 3 for name in IMAGE | CLIP} | {"vidcompress_multi_image": 24}
    assert run["samples"] == count
    for name, questions in count.items():
        assert run["scores"][name] == pytest.approx((questions + 1) // 2 / questions), name
    assert run["scores"]["vidcompress_shapes_image"] == 0.5
    assert run["scores"]["vidcompress_shapes_clip"] == pytest.approx(2 / 3)
    seen = run["seen"]
    assert Counter(prompt.endswith("? Be brief.") for prompt, _ in seen) == {True: 72}
    clips = [media[0] for _, media in seen if media[0] != "RGB"]
    assert len(clips) == 24 and all(Path(path).suffix == ".mp4" for path in clips)
    assert {len(media) for _, media in seen} == {1, 2, 3, 4}


def test_both_forms_ask_the_held_out_questions_of_the_seed(told: dict[str, Any]) -> None:
    assert sorted(told["Simple"]["seen"]) == sorted(told["Chat"]["seen"])
    wanted = [f"{asked.text} Be brief." for _, _, asked in held_out_questions("image", 24, first=30_000)]
    asked = [prompt for prompt, media in told["Simple"]["seen"] if media == ["RGB"]]
    assert sorted(asked) == sorted(wanted)


def test_environment_variables_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(lmms.FOLDER, str(tmp_path))
    for name, text, message in (
        (lmms.COUNT, "many", "VIDCOMPRESS_SUITE_QUESTIONS='many': must be a whole number; unset it for 600"),
        (lmms.COUNT, "0", "questions=0: must be a whole number from 1"),
        (lmms.SEED, "-1", "VIDCOMPRESS_SUITE_SEED='-1': must be a whole number; unset it for 0"),
    ):
        with monkeypatch.context() as only:
            only.setenv(name, text)
            with pytest.raises(ArgumentError, match=message):
                lmms.benchmark_folder("shapes-image")
    assert list(tmp_path.iterdir()) == []


def test_answers_are_marked_as_vidcompress_eval_marks_them() -> None:
    doc = {"answer": "top left"}
    for said, score in (("Top left.", 1.0), ("the top left", 1.0), ("top right", 0.0), ("", 0.0)):
        assert lmms.process_results(doc, [said]) == {"accuracy": score}

"""Uncompressed, our answers are those of lmms-eval's own `llava_hf` on the same checkpoints."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

from lmms_tasks import shapes
from lmms_wrappers import needs, search_path
from vidcompress.loading.resources import find

pytestmark = needs("torchvision")


def test_torchvision_stays_out_of_the_environment() -> None:
    assert importlib.util.find_spec("torchvision") is None


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, probe: Callable[..., Any]) -> Any:
    folder = tmp_path_factory.mktemp("against")
    shapes(folder / "tasks", images=16, clips=6)
    path = search_path(folder)
    jobs = []
    for model, task in (
        ("tiny-onevision", "vc_images"),
        ("tiny-onevision", "vc_clips"),
        ("tiny-next", "vc_images"),
    ):
        where = f"pretrained={find(f'models/{model}')}"
        theirs = f"{where},device_map=cpu,max_frames_num=12"
        ours = f"{where},method=none,max_frames_num=12"
        jobs += [
            {"name": f"{model} {task} theirs", "model": "llava_hf", "model_args": theirs, "task": task},
            {
                "name": f"{model} {task} ours",
                "model": "vidcompress",
                "model_args": ours,
                "task": task,
                "batch_size": 4,
            },
        ]
    return probe(jobs, folder / "tasks", folder / "hub", path)


@pytest.mark.parametrize(
    "model", ["tiny-onevision vc_images", "tiny-onevision vc_clips", "tiny-next vc_images"]
)
def test_uncompressed_answers_are_those_of_llava_hf(found: Any, model: str) -> None:
    theirs, ours = found[f"{model} theirs"], found[f"{model} ours"]
    assert "error" not in theirs and "error" not in ours, (theirs, ours)
    assert [answer.strip() for answer in theirs["answers"]] == ours["answers"]
    assert len(set(ours["answers"])) > 2 and all(ours["answers"])
    assert ours["results"]["acc,none"] == theirs["results"]["acc,none"] > 0.5

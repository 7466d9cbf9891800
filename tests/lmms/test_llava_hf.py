"""Uncompressed, our answers are those of lmms-eval's own `llava_hf` on the same checkpoints.

Its processors need torchvision, which does not go with torch for the CPU unless two operators are declared first, and
which is therefore kept in a folder of its own; and decord.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmms_tasks import shapes
from vidcompress.loading.resources import find

FOLDER = Path(os.environ.get("VIDCOMPRESS_TORCHVISION", Path(sys.prefix) / "torchvision"))
SHIM = '''
import sys

class Declare:
    """Declares torchvision's operators before it is imported: its parts in Python then work on a torch without CUDA."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                torch._declared_for_torchvision = library = torch.library.Library("torchvision", "DEF")
                library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None

sys.meta_path.insert(0, Declare())
'''

pytestmark = [
    pytest.mark.skipif(
        not (FOLDER / "torchvision").is_dir(),
        reason=f"torchvision is not in {FOLDER} (make install puts it there)",
    ),
    pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed"),
]


def test_torchvision_stays_out_of_the_environment() -> None:
    assert importlib.util.find_spec("torchvision") is None


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, probe: Callable[..., Any]) -> Any:
    folder = tmp_path_factory.mktemp("against")
    shapes(folder / "tasks", images=16, clips=6)
    (folder / "shim").mkdir()
    (folder / "shim" / "sitecustomize.py").write_text(SHIM)
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
    path = os.pathsep.join([str(folder / "shim"), str(FOLDER)])
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

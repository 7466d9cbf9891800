"""Uncompressed, ours are the prompts, pixels, positions, arguments and answers of lmms-eval's own chat wrappers.

They run on small random checkpoints in bfloat16, which the wrappers insist on, one question at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from internvl_folder import save_internvl
from lmms_tasks import shapes
from lmms_wrappers import needs, search_path
from qwen_folder import save_folder
from vidcompress.media.video.sampling import SamplingRule
from vidcompress.tools.evaluation.lmms_eval.conventions import convention
from vidcompress.tools.evaluation.lmms_eval.engine import generation_options
from vidcompress.tools.evaluation.lmms_eval.fetch_rule import FetchRule, PairsRule
from vidcompress.tools.evaluation.lmms_eval.frame_rules import MOST_TILES, MiddleRule
from vidcompress.tools.evaluation.lmms_eval.settings import LmmsSettings

pytestmark = needs("torchvision", "qwen_vl_utils")

CASES = {
    "qwen2_5_vl images": ("", ""),
    "qwen2_5_vl clips": (",max_num_frames=6", ",max_frames_num=6"),
    "qwen2_5_vl rate": (",fps=1.5", ",fps=1.5"),
    "qwen2_5_vl small": (
        ",min_pixels=3136,max_pixels=12544,max_num_frames=4",
        ",min_pixels=3136,max_pixels=12544,max_frames_num=4",
    ),
    "qwen3_vl images": ("", ""),
    "qwen3_vl clips": (",max_num_frames=6", ",max_frames_num=6"),
    "qwen3_vl rate": (",fps=2,max_num_frames=4", ",fps=2,max_frames_num=4"),
    "qwen3_vl total": (",total_pixels=400000,max_num_frames=6", ",total_pixels=400000,max_frames_num=6"),
    "qwen3_vl words": (",system_prompt=Be brief.", ",system_prompt=Be brief."),
    "qwen3_5 images": (",enable_thinking=False", ",enable_thinking=False"),
    "qwen3_5 clips": (",enable_thinking=False,max_num_frames=4", ",enable_thinking=False,max_frames_num=4"),
    "internvl_hf images": ("", ""),
    "internvl_hf clips": (",num_frames=6", ",max_frames_num=6"),
}
"""By wrapper and what is compared: model arguments of theirs, and of ours."""
OTHER = {
    "qwen2_5_vl clips": ",max_frames_num=4",
    "qwen3_vl clips": ",max_frames_num=4",
    "qwen3_vl images": ",system_prompt=Be brief.",
    "qwen3_5 images": ",enable_thinking=True",
    "internvl_hf clips": ",max_frames_num=5",
    "qwen2_5_vl images": ",min_pixels=3136,max_pixels=12544",
}
"""Controls: another number of frames, another prompt, other pixels."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, probe: Callable[..., Any]) -> Any:
    folder = tmp_path_factory.mktemp("wrappers")
    shapes(folder / "tasks", images=6, clips=4)
    at = {family: save_folder(folder / family, family) for family in ("qwen2_5_vl", "qwen3_vl", "qwen3_5")}
    at["internvl_hf"] = save_internvl(folder / "internvl_hf")
    jobs = []
    for name, (theirs, ours) in CASES.items():
        wrapper, what = name.split()
        task = "vc_images" if what in ("images", "words") else "vc_clips"
        where = f"pretrained={at[wrapper]}"
        shared = {"task": task, "simple": False}
        jobs.append(
            {"name": f"{name} theirs", "model": wrapper, "model_args": f"{where},device_map=cpu{theirs}"}
            | shared
        )
        where += ",method=none,dtype=bfloat16"
        jobs.append({"name": f"{name} ours", "model": "vidcompress", "model_args": where + ours} | shared)
        if name in OTHER:
            jobs.append(
                {"name": f"{name} other", "model": "vidcompress", "model_args": where + OTHER[name]} | shared
            )
    return probe(jobs, folder / "tasks", folder / "hub", search_path(folder))


@pytest.mark.parametrize("name", CASES)
def test_uncompressed_everything_is_that_of_the_wrapper(outcomes: Any, name: str) -> None:
    theirs, ours = outcomes[f"{name} theirs"], outcomes[f"{name} ours"]
    assert "error" not in theirs and "error" not in ours, (theirs, ours)
    assert ours["calls"]["prompts"] == theirs["calls"]["prompts"]
    assert all(call["positions"] for call in theirs["calls"]["prompts"]) and theirs["calls"]["pixels"]
    assert ours["calls"]["pixels"] == theirs["calls"]["pixels"]
    assert [answer.strip() for answer in theirs["answers"]] == ours["answers"]
    assert len(set(ours["answers"])) > 1 and all(ours["answers"])


@pytest.mark.parametrize("name", OTHER)
def test_other_frames_pixels_and_prompts_are_not_the_same(outcomes: Any, name: str) -> None:
    theirs, other = outcomes[f"{name} theirs"], outcomes[f"{name} other"]
    assert "error" not in other, other
    assert other["calls"]["prompts"] != theirs["calls"]["prompts"]
    assert other["answers"] != theirs["answers"]


DEFAULTS = """
import inspect, json
from lmms_eval.models.chat.internvl_hf import InternVLHf
from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL
from lmms_eval.models.chat.qwen3_5 import Qwen3_5
from lmms_eval.models.chat.qwen3_vl import Qwen3_VL

def stated(cls):
    given = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            given |= {p.name: p.default for p in parameters if p.default is not p.empty}
    given["generation"] = getattr(cls, "DEFAULT_GEN_KWARGS", None)
    return given | {"source": inspect.getsource(cls.generate_until)}

models = {"qwen2_5_vl": Qwen2_5_VL, "qwen3_vl": Qwen3_VL, "qwen3_5": Qwen3_5, "internvl": InternVLHf}
print(json.dumps({name: stated(cls) for name, cls in models.items()}, default=str))
"""


@pytest.fixture(scope="module")
def stated() -> Any:
    done = subprocess.run([sys.executable, "-c", DEFAULTS], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "qwen3_5"])
def test_defaults_are_those_in_the_source_of_the_qwen_wrappers(stated: Any, family: str) -> None:
    theirs, ours = stated[family], convention(family, LmmsSettings("x"))
    rule = ours.rule
    assert isinstance(rule, FetchRule)
    assert (rule.frames, rule.min_pixels) == (theirs["max_num_frames"], theirs["min_pixels"])
    if theirs.get("total_pixels") is None:
        assert (rule.max_pixels, rule.total_pixels, rule.fps) == (theirs["max_pixels"], None, theirs["fps"])
    else:
        assert (rule.max_pixels, rule.total_pixels) == (None, theirs["total_pixels"])
        assert rule.fps == 2.0 and theirs["fps"] is None  # FPS of qwen_vl_utils
    assert ours.thinking == theirs.get("enable_thinking")
    inserted = "system_prompt" in theirs["source"]
    assert ours.system_prompt == (theirs["system_prompt"] if inserted else None)
    generation = theirs["generation"] or {"max_new_tokens": 128, "temperature": 0.0}
    if theirs["generation"] is None:
        assert '"max_new_tokens": 128,' in theirs["source"] and '"temperature": 0.0,' in theirs["source"]
    assert generation_options({}, 1, ours.generation) == generation_options(
        {}, 1, {"top_k": None} | generation
    )


def test_defaults_are_those_in_the_source_of_internvl_hf(stated: Any) -> None:
    theirs, ours = stated["internvl"], convention("internvl", LmmsSettings("x"))
    assert ours.rule == MiddleRule(theirs["num_frames"], theirs["fps"])
    assert (1, MOST_TILES) == (theirs["min_patches"], theirs["max_patches"])
    assert 'gen_kwargs["max_new_tokens"] = 1024' in theirs["source"] and ours.system_prompt is None
    assert generation_options({}, 1, ours.generation)["max_new_tokens"] == 1024


SIZES = [(90, 130), (720, 1280), (37, 61), (12, 600), (300, 20), (28, 28), (500, 500)]
BOUNDS: list[dict[str, Any]] = [
    {"min_pixels": 3136, "max_pixels": 50_000},
    {"min_pixels": 200704, "max_pixels": 1605632},
    {"min_pixels": 65536, "total_pixels": 300_000},
    {"min_pixels": 900_000, "max_pixels": 900_000},
]
FETCH = """
import json, sys
import torch
from PIL import Image
from qwen_vl_utils import vision_process as utils

sizes, bounds = json.load(sys.stdin)
found = []
for patch in (14, 16):
    for size in sizes:
        picture = utils.fetch_image({"image": Image.new("RGB", size[::-1])}, image_patch_size=patch)
        for bound in bounds:
            frames = torch.zeros(6, 3, *size, dtype=torch.uint8)
            utils.VIDEO_READER_BACKENDS[utils.get_video_reader_backend()] = lambda ele: (frames, {}, 1.0)
            clip = utils.fetch_video({"video": "a.mp4", **bound}, image_patch_size=patch)
            found.append([picture.size[::-1], list(clip.shape[-2:])])
counts = []
for total in (4, 5, 9, 64, 65, 3001):
    for asked in ({"nframes": 4}, {"fps": 2.0}, {"fps": 0.5, "max_frames": 6}, {"fps": 30.0}):
        count = utils.smart_nframes(asked, total, 25.0)
        counts.append(torch.linspace(0, total - 1, count).round().long().tolist())
print(json.dumps([found, counts]))
"""


def test_sizes_and_frames_are_those_of_qwen_vl_utils(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": search_path(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", FETCH],
        input=json.dumps([SIZES, BOUNDS]),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sizes, counts = json.loads(done.stdout.splitlines()[-1])
    ours = []
    for factor in (28, 32):
        for size in SIZES:
            for bound in BOUNDS:
                rule = FetchRule(factor=factor, **{"max_pixels": None, **bound})
                picture = rule.picture(Image.new("RGB", size[::-1]))
                ours.append([list(picture.size[::-1]), list(rule.frame_size(6, size))])
    assert ours == sizes
    chosen = [
        PairsRule().choose(total, 25.0, **{"max_frames": 768, **asked})
        for total in (4, 5, 9, 64, 65, 3001)
        for asked in ({"num_frames": 4}, {"fps": 2.0}, {"fps": 0.5, "max_frames": 6}, {"fps": 30.0})
    ]
    assert chosen == counts
    assert [SamplingRule().choose(9, 25.0, num_frames=4, max_frames=768)] != counts[8:9]

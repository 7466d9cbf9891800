"""Export of a checkpoint for plain `from_pretrained`, with tokenizer, processor files and provenance."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GenerationConfig
from transformers.utils import logging

from tiny.architecture import GRID, MERGE, NATIVE, PATCH, PINPOINTS, TEMPORAL, VIEW
from tiny.encoder import STATISTICS
from tiny.prepare import CLIP_PIXELS, IMAGE_PIXELS
from tiny.stages import Stage
from tiny.words import load_tokenizer
from vidcompress.tools.evaluation.shapes.examples import CLIP_FPS, CLIP_FRAMES

_CLASSES = {
    "tiny-onevision": ("LlavaOnevisionProcessor", "LlavaOnevisionImageProcessor"),
    "tiny-next": ("LlavaNextProcessor", "LlavaNextImageProcessor"),
    NATIVE: ("Qwen3VLProcessor", "Qwen2VLImageProcessor"),
}


def preprocessor_config(name: str) -> dict[str, Any]:
    """Return the image processor's settings, in the form transformers stores them."""
    mean, std = STATISTICS[name]
    square = {"height": VIEW, "width": VIEW}
    config: dict[str, Any] = {
        "image_processor_type": _CLASSES[name][1],
        "processor_class": _CLASSES[name][0],
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": mean,
        "image_std": std,
    }
    if name == NATIVE:
        return {**config, **_patches(), "size": _budget(IMAGE_PIXELS)}
    config |= {"do_pad": True, "image_grid_pinpoints": PINPOINTS[name]}
    if name == "tiny-onevision":
        return {**config, "size": square}
    return {**config, "do_center_crop": True, "size": {"shortest_edge": VIEW}, "crop_size": square}


def _patches() -> dict[str, int]:
    """Return the sizes of a patch of native resolution."""
    return {"patch_size": PATCH, "temporal_patch_size": TEMPORAL, "merge_size": MERGE}


def _budget(pixels: tuple[int, int]) -> dict[str, int]:
    """Return the fewest and the most pixels under the names that Qwen's processors give them."""
    return {"shortest_edge": pixels[0], "longest_edge": pixels[1]}


def video_preprocessor_config(name: str) -> dict[str, Any]:
    """Return the video processor's settings, in the form transformers stores them."""
    mean, std = STATISTICS[name]
    config: dict[str, Any] = {
        "video_processor_type": "LlavaOnevisionVideoProcessor",
        "processor_class": _CLASSES[name][0],
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_sample_frames": False,
        "num_frames": CLIP_FRAMES,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": mean,
        "image_std": std,
        "size": {"height": VIEW, "width": VIEW},
    }
    if name == NATIVE:
        del config["num_frames"]
        return {
            **config,
            **_patches(),
            "video_processor_type": "Qwen3VLVideoProcessor",
            "do_sample_frames": True,
            "fps": CLIP_FPS,
            "min_frames": 4,
            "max_frames": 16,
            "size": _budget(CLIP_PIXELS),
        }
    return config


def processor_config(name: str) -> dict[str, Any]:
    """Return the processor's settings, in the form transformers stores them."""
    if name == NATIVE:
        return {"processor_class": _CLASSES[name][0]}
    config: dict[str, Any] = {"processor_class": _CLASSES[name][0], "image_token": "<image>"}
    if name == "tiny-onevision":
        return {
            **config,
            "video_token": "<video>",
            "num_image_tokens": GRID * GRID,
            "vision_feature_select_strategy": "full",
            "vision_aspect_ratio": "anyres_max_9",
        }
    return {
        **config,
        "patch_size": PATCH,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }


def provenance(
    state: Any, name: str, seed: int, stages: tuple[Stage, ...], remarks: list[str] | None = None
) -> dict[str, Any]:
    """Return what a reader needs to know about a run: how, how long, on what, how well (see TRAINING.json).

    Args:
        state: the run's state.
        name: the model.
        seed: of the run.
        stages: its curriculum.
        remarks: what happened besides, in words.
    """
    lessons = []
    for index, stage in enumerate(stages[: state.stage + 1]):
        rounds = stage.rounds if index < state.stage else state.round
        if rounds:
            lessons.append({**asdict(stage), "rounds": rounds, "steps": rounds * stage.round_steps})
    return {
        "model": name,
        "command": " ".join(["python", *sys.argv]),
        "seed": seed,
        "machine": f"{os.cpu_count()} CPU cores, threads: {torch.get_num_threads()}, device: {state.model.device}",
        "steps": state.step,
        "pictures": {
            kind: sum(lesson["rounds"] * lesson["pictures"] for lesson in lessons if lesson["kind"] == kind)
            for kind in ("views", "talk")
        },
        "seconds": round(state.seconds),
        "stages": lessons,
        "remarks": remarks or [],
        "last_round": state.history[-1] if state.history else None,
    }


def versions() -> dict[str, str]:
    """Return the versions that matter for a rerun."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def export(model: Any, name: str, out: Path, training: dict[str, Any]) -> None:
    """Write everything `from_pretrained` needs, file by file, each replaced in one go.

    Args:
        model: the model, float32.
        name: "tiny-onevision", "tiny-next" or "tiny-qwen".
        out: the folder; created if missing.
        training: what goes into TRAINING.json besides the versions.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(name)
    attention = model.config._attn_implementation
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{name}-") as folder:
        fresh = Path(folder)
        model.set_attn_implementation("sdpa")
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            do_sample=False,
            max_new_tokens=16,
        )
        try:
            model.save_pretrained(fresh)
        finally:
            model.set_attn_implementation(attention)
        tokenizer.save_pretrained(fresh)
        files = {
            "preprocessor_config.json": preprocessor_config(name),
            "processor_config.json": processor_config(name),
            "TRAINING.json": {**training, "versions": versions()},
        }
        if name != "tiny-next":
            files["video_preprocessor_config.json"] = video_preprocessor_config(name)
        for file, content in files.items():
            (fresh / file).write_text(json.dumps(content, indent=2) + "\n")
        for path in sorted(fresh.iterdir()):
            path.chmod(0o644)
            os.replace(path, out / path.name)
        shutil.rmtree(fresh / ".cache", ignore_errors=True)

"""Record what transformers' own Qwen processors make of a few synthetic pictures and clips.

The recordings under `tests/data/processors/` are what `NativeProcessor` is held to; the package and its tests need no
torchvision, only this script does. To make them again, in an environment of its own with the builds of torch and
torchvision that the package index holds (they need a GPU for nothing here):

    python -m venv runs/processors
    runs/processors/bin/pip install torch==2.13.0 torchvision==0.28.0 transformers==5.24.0 pillow jinja2
    runs/processors/bin/python scripts/record_processors.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import processor_cases as cases

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "data" / "processors"


def stock_processor(family: str, image: dict[str, Any], video: dict[str, Any]) -> Any:
    """Transformers' processor of a family with these settings of pictures and clips."""
    import transformers
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    shared = {
        "patch_size": cases.PATCH[family],
        "merge_size": 2,
        "temporal_patch_size": 2,
        **cases.CHANNELS[family],
    }
    videos, processor = {
        "qwen2_5_vl": (transformers.Qwen2VLVideoProcessor, transformers.Qwen2_5_VLProcessor),
        "qwen3_vl": (transformers.Qwen3VLVideoProcessor, transformers.Qwen3VLProcessor),
    }[family]
    if "min_pixels" in video and family == "qwen3_vl":
        raise ValueError("this family's clips have a size, no min_pixels")
    return processor(
        Qwen2VLImageProcessor(**shared, **image),
        cases.bytes_tokenizer(),
        videos(**shared, **{"cap_pixels_per_frame": False, **video}),
    )


def record(family: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Numbers for JSON, and arrays, of one family."""
    from PIL import Image

    numbers: dict[str, Any] = {"images": {}, "clips": {}, "sampled": []}
    arrays: dict[str, Any] = {}
    for name, settings in cases.SETTINGS[family].items():
        processor = stock_processor(family, settings, {})
        for size in cases.IMAGE_SIZES:
            made = processor(
                text=[cases.template(False)],
                images=[Image.fromarray(cases.picture(sum(size), *size))],
                return_tensors="pt",
            )
            key = f"{name}_{size[0]}x{size[1]}"
            numbers["images"][key] = described(made, processor, "image_grid_thw", 1)
            arrays[f"image_{key}"] = cases.few(made["pixel_values"])
    for name, settings in cases.CLIP_SETTINGS[family].items():
        processor = stock_processor(family, {}, settings)
        for count in cases.CLIP_FRAMES:
            frames, places = cases.clip(count), [number * cases.STEP for number in range(count)]
            if (
                family == "qwen3_vl" and count == 1
            ):  # refused there; a frame that stands still is what is meant
                frames, places = np.repeat(frames, 2, axis=0), places * 2
            about = {"fps": cases.FPS, "total_num_frames": count * cases.STEP, "frames_indices": places}
            made = processor(
                text=[cases.template(True)],
                videos=[frames],
                video_metadata=[about],
                do_sample_frames=False,
                return_tensors="pt",
            )
            key = f"{name}_{count}"
            numbers["clips"][key] = described(made, processor, "video_grid_thw", 2)
            arrays[f"clip_{key}"] = cases.few(made["pixel_values_videos"])
    for total, fps, asked in cases.SAMPLED:
        numbers["sampled"].append(sampled(processor.video_processor, total, fps, asked or {"fps": 2}))
    return numbers, arrays


def described(made: Any, processor: Any, grid: str, kind: int) -> dict[str, Any]:
    """Grid, text and placeholder count of one prompt; and seconds between patches where there are any."""
    ids, types = made["input_ids"][0], made["mm_token_type_ids"][0]
    numbers: dict[str, Any] = {
        "grid": made[grid][0].tolist(),
        "placeholders": int((types == kind).sum()),
        "columns": len(ids),
        "text": processor.tokenizer.decode(ids[types == 0]),
        "runs": np.diff(np.flatnonzero(np.diff(np.r_[0, (types == kind).numpy(), 0])))[::2].tolist(),
        "shape": list(made["pixel_values" if kind == 1 else "pixel_values_videos"].shape),
    }
    if "second_per_grid_ts" in made:
        numbers["seconds"] = float(made["second_per_grid_ts"][0])
    return numbers


def sampled(processor: Any, total: int, fps: float, asked: dict[str, Any]) -> list[int]:
    """Indices of the frames that a video processor takes."""
    from transformers.video_utils import VideoMetadata

    return [int(i) for i in processor.sample_frames(VideoMetadata(total_num_frames=total, fps=fps), **asked)]


def lines(numbers: dict[str, Any]) -> str:
    """JSON with one line per prompt."""
    parts = []
    for key in ("images", "clips"):
        rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in numbers[key].items())
        parts.append(f" {json.dumps(key)}: {{\n{rows}\n }}")
    return "{\n" + ",\n".join([*parts, f' "sampled": {json.dumps(numbers["sampled"])}']) + "\n}\n"


def main() -> None:
    """Write the recordings."""
    import torch
    import torchvision
    import transformers

    FOLDER.mkdir(parents=True, exist_ok=True)
    for family in cases.SETTINGS:
        numbers, arrays = record(family)
        (FOLDER / f"{family}.json").write_text(lines(numbers), encoding="utf-8")
        np.savez_compressed(FOLDER / f"{family}.npz", **arrays)
    versions = {module.__name__: module.__version__ for module in (torch, torchvision, transformers)}
    (FOLDER / "versions.json").write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

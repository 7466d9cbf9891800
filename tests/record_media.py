"""Record what transformers' torchvision processors make of a few synthetic pictures and clips.

The recordings under `tests/data/media/` are what `vidcompress.media` is held to; the package and its tests need no
torchvision, only this script does. To make them again, with torchvision beside a CPU build of torch:

    pip install --no-deps --target runs/torchvision torchvision==0.28.0
    PYTHONPATH=runs/torchvision python tests/record_media.py

A CPU build of torch lacks the compiled operators torchvision registers itself for, so `main` declares two of them
first. Encoder and canvases are small (28 and 56 px), which keeps the files small and changes no step of the work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "data" / "media"
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
HALF = [0.5, 0.5, 0.5]


def canvases(side: int, rows: int, cols: int) -> list[list[int]]:
    """All (height, width) canvases up to rows x cols crops."""
    return [[side * r, side * c] for r in range(1, rows + 1) for c in range(1, cols + 1)]


def checker(seed: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture with flat parts, sharp edges (bicubic overshoot) and noise: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    edges = (((x // 5) + (y // 7)) % 2 * 255)[..., None]
    noise = rng.integers(0, 256, (height, width, 3))
    kind = ((x * 3 // max(1, width)) + (y * 2 // max(1, height))) % 3
    return np.choose(kind[..., None], [ramp, edges + 0 * ramp, noise]).astype(np.uint8)


# name: (family, settings of the image processor, pictures as (height, width), one list per prompt or flat)
IMAGE_CASES: dict[str, tuple[str, dict[str, Any], list[Any]]] = {
    "next_flat": (
        "llava_next",
        {
            "size": {"shortest_edge": 28},
            "crop_size": {"height": 28, "width": 28},
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]],
        },
        [(37, 61), (200, 31), (28, 28), (1, 90), (19, 19)],
    ),
    "next_larger_edge": (
        "llava_next",
        {
            "size": {"shortest_edge": 33},
            "crop_size": {"height": 28, "width": 28},
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]],
        },
        [(64, 45), (17, 90)],
    ),
    "onevision_flat": (
        "llava_onevision",
        {
            "size": {"height": 28, "width": 28},
            "image_mean": HALF,
            "image_std": HALF,
            "image_grid_pinpoints": canvases(28, 4, 4),
        },
        [(41, 97), (130, 57), (28, 28), (9, 7), (101, 103)],
    ),
    "onevision_lists": (
        "llava_onevision",
        {
            "size": {"height": 28, "width": 28},
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
            "image_grid_pinpoints": canvases(28, 3, 3),
        },
        [[(45, 30)], [(33, 80), (77, 20), (28, 28)]],
    ),
}

# name: (settings of the video processor, clips as (frame, height, width))
VIDEO_CASES: dict[str, tuple[dict[str, Any], list[tuple[int, int, int]]]] = {
    "video_up": ({"size": {"height": 28, "width": 28}, "image_mean": HALF, "image_std": HALF}, [(3, 19, 25)]),
    "video_down": (
        {"size": {"height": 28, "width": 28}, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
        [(2, 90, 161), (2, 64, 31)],
    ),
}


def pictures(sizes: list[Any]) -> list[Any]:
    """The pictures of a case as PIL images, grouped as `sizes` is."""
    from PIL import Image

    flat = iter(range(1000))

    def make(size: Any) -> Any:
        return (
            [make(s) for s in size] if isinstance(size, list) else Image.fromarray(checker(next(flat), *size))
        )

    return [make(size) for size in sizes]


def clips(shapes: list[tuple[int, int, int]]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """The clips of a case: uint8 (frame, height, width, 3) each."""
    return [np.stack([checker(100 * i + f, h, w) for f in range(n)]) for i, (n, h, w) in enumerate(shapes)]


def main() -> None:
    """Run the reference processors and write the recordings."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    if torch.version.cuda is None:
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
    import transformers
    from transformers import (
        LlavaNextImageProcessor,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionVideoProcessor,
    )

    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    makers = {"llava_next": LlavaNextImageProcessor, "llava_onevision": LlavaOnevisionImageProcessor}
    for name, (family, settings, sizes) in IMAGE_CASES.items():
        made = makers[family](**settings)(pictures(sizes), return_tensors="pt")
        np.savez_compressed(FOLDER / f"{name}.npz", **{key: value.numpy() for key, value in made.items()})
    for name, (settings, shapes) in VIDEO_CASES.items():
        processor = LlavaOnevisionVideoProcessor(**settings)
        made = [
            processor(list(clip[None]), return_tensors="pt")["pixel_values_videos"][0]
            for clip in clips(shapes)
        ]
        np.savez_compressed(
            FOLDER / f"{name}.npz", **{f"clip_{i}": clip.numpy() for i, clip in enumerate(made)}
        )
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, transformers, np)}
    (FOLDER / "versions.json").write_text(json.dumps(versions, indent=2) + "\n")


if __name__ == "__main__":
    main()

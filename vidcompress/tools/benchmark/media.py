"""Media files of a benchmark: drawn in the shape of a workload or given, decoded and preprocessed with times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vidcompress.adapters.families import get_family, read_geometry
from vidcompress.core.devices import input_device
from vidcompress.errors import UnsupportedInputError
from vidcompress.media import load_image, read_video
from vidcompress.media.preprocessing.pixel_config import read_recipe
from vidcompress.media.preprocessing.processor import Processor
from vidcompress.tools.benchmark.plan import BenchPlan
from vidcompress.tools.benchmark.row import Workload

CLIP_SIZE = (640, 360)
"""(width, height) of a drawn clip, in pixels."""
CLIP_FPS = 8
MEDIA_PHASES = ("decode_video", "preprocess")


def pixel_processor(model: Any, device: Any = None) -> Processor:
    """Return the family's processor without a tokenizer, for pixels only; pixel settings follow from the config."""
    family = get_family(model.config.model_type)
    if family.native is not None:
        raise UnsupportedInputError(
            f"files are not prepared for {family.model_type} by bench; leave out --decode, --image and --video, or "
            "measure with compare"
        )
    geometry = read_geometry(model.config, crops=family.crops)
    recipe = read_recipe({}, geometry, "the config")
    return Processor(
        family=family,
        geometry=geometry,
        image_recipe=recipe,
        video_recipe=recipe,
        tokenizer=None,
        image_token=family.image_token,
        video_token="<video>" if family.video_layout is not None else None,
        resize_device=input_device(model) if device is None else device,
    )


@contextmanager
def media_file(plan: BenchPlan, workload: Workload) -> Iterator[Path | None]:
    """Context with the media file of the requests, drawn where none is given; None where nothing is decoded."""
    given = plan.image if workload.modality == "image" else plan.video
    if given is not None:
        yield Path(given)
    elif not plan.media:
        yield None
    else:
        with TemporaryDirectory() as folder:
            yield draw_file(workload, Path(folder), plan.seed)


def draw_file(workload: Workload, folder: Path, seed: int) -> Path:
    """Write a JPEG of the workload's size, or an H.264 clip of the workload's number of frames."""
    if workload.size is not None:
        from PIL import Image

        height, width = workload.size
        Image.fromarray(_picture(width, height, 0, seed)).save(folder / "picture.jpg")
        return folder / "picture.jpg"
    from vidcompress.tools.evaluation.shapes import write_frames

    frames = np.stack([_picture(*CLIP_SIZE, number, seed) for number in range(workload.frames)])
    write_frames(frames, folder / "clip.mp4", CLIP_FPS)
    return folder / "clip.mp4"


def _picture(width: int, height: int, number: int, seed: int) -> np.ndarray[Any, Any]:
    """Draw (height, width, 3) uint8: waves that move from frame to frame."""
    y, x = np.mgrid[0:height, 0:width]
    bands = [np.sin((x * (1 + c) + y * (2 - c)) / 37 + (number + seed) * (1 + c) / 5) for c in range(3)]
    return ((np.stack(bands, axis=-1) + 1) * 127.5).astype(np.uint8)


def open_media(
    processor: Processor, workload: Workload, path: Path, batch: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Decode and prepare a file once per request.

    Returns:
        The pixels of one request, as processors return them, and the milliseconds of `MEDIA_PHASES` for the batch.
    """
    from vidcompress.tools.benchmark.meters import wait_for

    begin = time.perf_counter()
    for _ in range(batch):
        read: Any = (
            load_image(str(path))
            if workload.modality == "image"
            else read_video(str(path), num_frames=workload.frames, max_frames=max(workload.frames, 1))
        )
    decoded = time.perf_counter()
    for _ in range(batch):
        if workload.modality == "image":
            pixels, _ = processor.prepare_images([read])
        else:
            pixels, _ = processor.prepare_videos([read])
    wait_for(processor.resize_device)
    done = time.perf_counter()
    return pixels, {"decode_video": (decoded - begin) * 1e3, "preprocess": (done - decoded) * 1e3}

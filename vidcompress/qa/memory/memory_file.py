"""Memories on disk: one safetensors file with its provenance, written whole or not at all, refused where it differs."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import uuid
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidcompress.checks import whole_number
from vidcompress.core.stream.stream import ROWS, Stream, StreamSize
from vidcompress.errors import ArgumentError, VidcompressError, one_line, shown
from vidcompress.qa.memory.clip_memory import ClipMemory
from vidcompress.qa.memory.remembering import MOST_TOKENS
from vidcompress.qa.pipeline import Pipeline
from vidcompress.session.held_clips import open_stream

FORMAT, VERSION = "vidcompress memory", 1
MAX_HEADER = 16 * 1024**2
"""Largest header that is read, in characters; the times of 10,000 frames take about 300 KiB."""
LONGEST_SIDE = 2**15
"""Largest side of a frame, in pixels."""
DAMAGED = (
    SafetensorError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
    MemoryError,
)
"""What a file may lead to whose parts are not what they should be."""
SAMPLE = 64
"""Values of a weight that its fingerprint reads."""


def fingerprint(model: Any) -> str:
    """Return a digest of a model's config, of the name, shape and type of each weight, and of some values of each.

    Args:
        model: of transformers.
    """
    digest = hashlib.sha256()
    config = {
        key: value
        for key, value in model.config.to_dict().items()
        if key not in ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
    }
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        if weight.device.type != "meta" and weight.numel():
            flat = weight.detach().flatten()
            step = max(1, flat.numel() // SAMPLE)
            digest.update(flat[::step][:SAMPLE].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def check_target(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file to write; a clip may take hours, so it is checked before one is read.

    Raises:
        ArgumentError: no path, or one of a folder.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ArgumentError(f"path={shown(path)}: must be the path of a file, such as 'clip.memory'")
    target = Path(path)
    if not target.name or os.path.isdir(target):
        raise ArgumentError(f"path={str(target)!r} is a folder; name a file in it, such as 'clip.memory'")
    return target


def write_memory(path: str | os.PathLike[str], memory: ClipMemory, pipeline: Pipeline) -> Path:
    """Write a memory; the file keeps its old content until the new one is complete.

    Args:
        path: of the file; its folder is made where it is missing.
        memory: of the clip.
        pipeline: of its model.

    Raises:
        ArgumentError: the file cannot be written.
    """
    target = check_target(path)
    memory.forget_times()
    state = memory.stream.state()
    tensors = {name: value.contiguous().cpu() for name, value in {**state, "newline": memory.newline}.items()}
    size = memory.stream.size
    header = {
        "version": VERSION,
        "library": vars(sys.modules["vidcompress"])["__version__"],  # an import would be a circle
        "model": fingerprint(pipeline.model),
        "model_type": str(pipeline.model.config.model_type),
        "config": pipeline.config.to_dict(),
        "size": {"most": size.most, "hold": size.hold, "grid": size.grid, "rows": size.rows},
        "clip": {
            "source": memory.source,
            "duration": memory.duration,
            "fps": memory.fps,
            "size": list(memory.size),
            "view": list(memory.view),
            "times": [[number, time] for number, time in memory.times.items()],
        },
        "digest": _digest(tensors),
    }
    scratch = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, scratch, metadata={"format": FORMAT, "header": json.dumps(header)})
            os.replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArgumentError(
            f"path={str(target)!r} cannot be written ({one_line(error)}); name a file in a folder that you can write to"
        ) from error
    return target


def read_memory(path: str | os.PathLike[str], pipeline: Pipeline) -> ClipMemory:
    """Read a memory of the same model, method and version.

    Args:
        path: of a file from `write_memory`.
        pipeline: of the model, with the configuration of its method.

    Raises:
        ArgumentError: no such file, a file that is no memory or was changed, or one of another model, method or
            version; one line says which.
    """
    if not isinstance(path, (str, os.PathLike)) or not str(path):
        raise ArgumentError(f"memory={shown(path)}: must be the path of a file that remember wrote")
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise ArgumentError(f"memory={name!r}: no such file; pass one that qa.remember(video, path) wrote")
    try:
        with safe_open(name, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ArgumentError(
                    f"memory={name!r} is no memory of a clip; pass one that qa.remember(video, path) wrote"
                )
            if len(metadata.get("header", "")) > MAX_HEADER:
                raise ArgumentError(
                    f"memory={name!r} has a header of over {MAX_HEADER} characters; write it again"
                )
            header = json.loads(metadata["header"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        return _restored(name, header, tensors, pipeline)
    except (*DAMAGED, VidcompressError) as error:
        if str(error).startswith("memory="):
            raise
        raise ArgumentError(
            f"memory={name!r} is damaged or cut short ({one_line(error)}); pass one that remember wrote, whole"
        ) from error


def _restored(
    name: str, header: dict[str, Any], tensors: dict[str, Tensor], pipeline: Pipeline
) -> ClipMemory:
    if header["version"] != VERSION:
        raise ArgumentError(
            f"memory={name!r} has version {shown(header['version'])}, this release reads {VERSION}; write it again"
        )
    if header["digest"] != _digest(tensors):
        raise ArgumentError(f"memory={name!r} was changed after it was written; write it again with remember")
    if header["model"] != fingerprint(pipeline.model):
        raise ArgumentError(
            f"memory={name!r} is of another model ({shown(header['model_type'])}) than this "
            f"{pipeline.model.config.model_type!r}; ask the model that wrote it, or write it again"
        )
    own, theirs = pipeline.config.to_dict(), header["config"]
    for field in ("method", "options"):
        if own[field] != theirs[field]:
            raise ArgumentError(
                f"memory={name!r} was written by {shown(theirs['method'])} with {shown(theirs['options'], 200)}, and "
                f"this is {own['method']!r} with {shown(own['options'], 200)}; pass the same method and options"
            )
    size, clip = header["size"], header["clip"]
    grid = None if size["grid"] is None else tuple(map(int, size["grid"]))
    whole_number("most", size["most"], most=MOST_TOKENS)
    whole_number("rows", size["rows"] or 2, most=ROWS)
    limits = StreamSize(size["most"], size["hold"], grid, size["rows"])  # type: ignore[arg-type]
    stream = open_stream(pipeline.adapter, pipeline.config, limits)
    device = next(pipeline.model.parameters()).device
    newline = tensors.pop("newline")
    stream.restore(
        {key: value if key in ("numbers", "grid") else value.to(device) for key, value in tensors.items()}
    )
    height, width = (whole_number("size", side, most=LONGEST_SIDE) for side in clip["size"])
    channels, rows, cols = (whole_number("view", side, most=LONGEST_SIDE) for side in clip["view"])
    times = {int(number): float(time) for number, time in clip["times"]}
    held = stream.table["frame"].unique().tolist()
    if not set(held) <= set(times) or any(times[a] > times[b] for a, b in pairwise(held)):
        raise ArgumentError(f"memory={name!r} lacks times of frames, or they go back; write it again")
    if not all(
        math.isfinite(time) and time >= 0 for time in (*times.values(), clip["duration"], clip["fps"])
    ):
        raise ArgumentError(f"memory={name!r} has times that are no seconds; write it again")
    width_of_model = pipeline.model.config.get_text_config().hidden_size
    if newline.ndim != 2 or {newline.shape[1], stream.table["features"].shape[1]} != {width_of_model}:
        raise ArgumentError(f"memory={name!r} has features that do not fit the model; write it again")
    if _kinds(stream) != _kinds(_example(stream, pipeline, limits)):
        raise ArgumentError(f"memory={name!r} lacks parts of its stream, or has others; write it again")
    memory = ClipMemory(
        stream,
        newline.to(device),
        (channels, rows, cols),
        (height, width),
        pipeline.model.dtype,
        str(clip["source"]),
        float(clip["duration"]),
        float(clip["fps"]),
        times,
    )
    layout = memory.layout(pipeline.adapter)  # the stream is asked, so that tensors that do not fit fail here
    if layout.grid != stream.grid or len(newline) != min(1, layout.num_separators):
        raise ArgumentError(f"memory={name!r} has frames or separators of another shape; write it again")
    return memory


def _example(stream: Stream, pipeline: Pipeline, limits: StreamSize) -> Stream:
    """Return a small stream of the same method, which has dropped tokens where the given one has."""
    like = stream.table["features"]
    small = open_stream(pipeline.adapter, pipeline.config, StreamSize(1, 2, limits.grid, limits.rows))
    frames = 3 if stream.evictions else 1
    ramp = torch.arange(frames * stream.frame_size * like.shape[1], dtype=torch.float64, device=like.device)
    small.add(ramp.sin().to(like.dtype).view(frames, stream.frame_size, -1))
    return small


def _kinds(stream: Stream) -> dict[str, object]:
    """Return type and shape of what a stream holds, but for the lengths that frames and tokens decide."""
    return {
        name: (value.dtype, value.shape if name.startswith("own.") and value.ndim == 1 else value.shape[1:])
        for name, value in stream.state().items()
    }


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(
            value.contiguous().flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b""
        )
    return digest.hexdigest()

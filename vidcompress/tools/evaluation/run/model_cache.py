"""Cache of a sweep's models, one in memory at a time, and digests of their weights."""

from __future__ import annotations

import gc
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from vidcompress.adapters.base import adapter_for
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device
from vidcompress.errors import ArgumentError
from vidcompress.loading.load import resolve
from vidcompress.qa import VisualQA
from vidcompress.session.prompt import served_positions
from vidcompress.tools.evaluation.run.sweep import ModelSpec

_SAMPLE = 1024**2
Loaded = tuple[Any, Any]
"""A model and its processor."""


def load(spec: ModelSpec) -> Loaded:
    """Load a model as in `VisualQA.from_pretrained`.

    Raises:
        ArgumentError, UnsupportedModelError: as there.
    """
    qa = VisualQA.from_pretrained(spec.name, **spec.loading())
    return qa.model, qa.processor


class ModelCache:
    """Cache of one loaded model.

    Args:
        load: function that loads a model.
    """

    def __init__(self, load: Callable[[ModelSpec], Loaded] = load) -> None:
        self._load = load
        self._spec: ModelSpec | None = None
        self._held: Loaded | None = None
        self._refused: dict[ModelSpec, Exception] = {}
        self._weights: dict[ModelSpec, str] = {}

    def __call__(self, spec: ModelSpec) -> Loaded:
        """Model and processor, loaded if another model is held; a failed load is not tried again.

        Raises:
            Exception: whatever loading it raises.
        """
        if spec in self._refused:
            raise self._refused[spec]
        if self._held is None or spec != self._spec:
            self.release()
            try:
                self._held, self._spec = self._load(spec), spec
            except Exception as error:
                self._refused[spec] = error
                raise
        return self._held

    def release(self) -> None:
        """Release the model and its memory."""
        self._held = self._spec = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def weights(self, spec: ModelSpec) -> str:
        """Digest of the weights in a folder, or commit of a hub repository; loads the model where neither is known.

        Raises:
            Exception: whatever loading it raises.
        """
        if spec not in self._weights:
            weights = weights_of(spec)
            if weights is None:
                self(spec)
                weights = weights_of(spec)
            self._weights[spec] = weights or "unknown"
        return self._weights[spec]


def weights_of(spec: ModelSpec) -> str | None:
    """Return the identity of a checkpoint's weights without reading all of them; None for a hub id that is not cached.

    Raises:
        ArgumentError: it is neither a folder nor an embedded model nor a hub id.
    """
    source = resolve(spec.name)
    if os.path.isdir(source):
        return folder_digest(Path(source))
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source, "config.json", revision=spec.revision or "main")
    return Path(cached).parent.name if isinstance(cached, str) else None


def folder_digest(folder: Path) -> str:
    """SHA-256 over the small files of a checkpoint, and size, beginning and end of its weights.

    Raises:
        ArgumentError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        for path in _files(folder):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLE))
                file.seek(max(_SAMPLE, size - _SAMPLE))
                digest.update(file.read(_SAMPLE))
    except OSError as error:
        raise ArgumentError(f"model={str(folder)!r}: {error}; check its files") from error
    return digest.hexdigest()


def _files(folder: Path) -> Iterable[Path]:
    endings = (".json", ".jinja", ".safetensors", ".model", ".txt")
    names = {path.name: path for path in folder.iterdir() if path.suffix in endings and path.is_file()}
    return [names[name] for name in sorted(names) if name != "TRAINING.json"]


def run_metadata(
    spec: ModelSpec, model: Any, processor: Any, chosen: CompressionConfig, *, clips: bool
) -> dict[str, Any]:
    """Metadata of a loaded model as JSON values: `model` and `settings`.

    Args:
        spec: the requested model.
        model, processor: the loaded ones.
        chosen: configuration of the row; its positions are stated as the family serves them.
        clips: whether the task has clips; the checkpoint's number of frames, or its rate, is then the default.
    """
    config, rule = model.config, processor.frame_rule
    frames, fps, most = spec.num_frames, spec.fps, spec.max_frames
    stated = {}
    if clips and frames is None and fps is None:
        stated = {"frame_rule": repr(rule)}
        fps, usual = getattr(rule, "fps", None), rule.usual
        bounds = [bound for bound in (most, usual) if bound is not None]
        if fps is None:  # else they follow from the length of a clip
            frames = min(bounds, default=None)
        else:
            most = min(bounds, default=None)
    return {
        "model": {
            "name": spec.shown,
            "checkpoint": spec.name,
            "revision": getattr(config, "_commit_hash", None) or spec.revision,
            "family": str(config.model_type),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "settings": {
            "dtype": str(model.dtype).removeprefix("torch."),
            "attention": str(getattr(config, "_attn_implementation", "")),
            "device": str(input_device(model)),
            "num_frames": frames,
            **stated,
            "fps": fps,
            "max_frames": most,
            "positions": served_positions(adapter_for(model), chosen).resolved_positions,
        },
    }

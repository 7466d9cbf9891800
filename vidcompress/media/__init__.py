"""Media: decoding of clips, loading of pictures, model inputs of both. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "ImageSource": "vidcompress.media.images.image",
    "VideoSource": "vidcompress.media.video.read",
    "Family": "vidcompress.adapters.families",
    "Geometry": "vidcompress.adapters.families",
    "MediaError": "vidcompress.errors",
    "NativeRules": "vidcompress.adapters.families",
    "PixelBudget": "vidcompress.adapters.families",
    "MediaProcessor": "vidcompress.media.preprocessing.protocol",
    "Processor": "vidcompress.media.preprocessing.processor",
    "VideoFrames": "vidcompress.media.video.frames",
    "load_image": "vidcompress.media.images.image",
    "load_processor": "vidcompress.media.preprocessing.load_processor",
    "native_family": "vidcompress.adapters.families",
    "read_video": "vidcompress.media.video.read",
    "register_backend": "vidcompress.media.video.backends",
    "register_family": "vidcompress.adapters.families",
    "sample_indices": "vidcompress.media.video.sampling",
    "tiled_family": "vidcompress.adapters.families",
    "time_instruction": "vidcompress.adapters.families",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__

"""Media: decoding clips, loading pictures, turning both into what a model takes. Names load on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Family": "families",
    "Geometry": "families",
    "MediaError": "errors",
    "Processor": "processor",
    "VideoFrames": "video",
    "load_image": "image",
    "load_processor": "loading",
    "read_video": "video",
    "register_backend": "backends",
    "register_family": "families",
    "sample_indices": "sampling",
    "time_instruction": "families",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__

"""Configuration of compression, checked once: from keyword arguments, a dictionary or a small JSON file."""

from __future__ import annotations

from vidcompress.core.config.compression import (
    DEFAULT_METHOD,
    DEFAULT_RATIO,
    NO_SAVING,
    CompressionConfig,
    read_config,
    takes_seed,
)
from vidcompress.core.config.view_skipping import EncoderSaving, ViewSkipping, read_view_skipping

__all__ = [
    "DEFAULT_METHOD",
    "DEFAULT_RATIO",
    "NO_SAVING",
    "CompressionConfig",
    "EncoderSaving",
    "ViewSkipping",
    "read_config",
    "read_view_skipping",
    "takes_seed",
]

"""Compression methods, one short file each: tensors in, `Selection` out. Importing this registers them all."""

from . import (  # noqa: F401
    cdpruner,
    controls,
    divprune,
    dycoke,
    evs,
    fastvid,
    frames,
    globalcom2,
    pool,
    vidcom2,
)
from .base import Method

__all__ = ["Method"]

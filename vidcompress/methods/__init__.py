"""Compression methods, one short file each: tensors in, `Selection` out. Importing this registers them all."""

from . import (  # noqa: F401
    controls,
    fastervlm,
    frames,
    globalcom2,
    hired,
    pool,
    prumerge,
    prumerge_plus,
    vidcom2,
    visionzip,
)
from .base import Method

__all__ = ["Method"]

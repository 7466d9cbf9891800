"""Compression methods, one short file each: tensors in, `Selection` out. Importing this registers them all."""

from . import controls, fastv, frames, globalcom2, pdrop, pool, sparsevlm, vidcom2  # noqa: F401
from .base import Method

__all__ = ["Method"]

"""Compression methods, one short file each: tensors in, `Selection` out. Importing this registers them all."""

from ..discovery import import_modules
from .base import Method

__all__ = ["Method"]

import_modules(__name__, __path__)

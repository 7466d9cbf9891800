"""Compression methods, one short file each: tensors in, `Selection` out. Importing this registers them all."""

from vidcompress.core.method import Method
from vidcompress.registry.discovery import import_modules

__all__ = ["Method"]

import_modules(__name__, __path__)

"""Model families. Importing this package registers the in-tree adapters."""

from . import llava_next, llava_onevision  # noqa: F401
from .base import Adapter, Visual

__all__ = ["Adapter", "Visual"]

"""Model families. Importing this package registers the in-tree adapters."""

from . import llava_next, llava_next_video, llava_onevision, llava_video  # noqa: F401
from .base import Adapter, Visual

__all__ = ["Adapter", "Visual"]

"""Model families. Importing this package registers the in-tree adapters.

What an adapter of another package is made of: the contract `Adapter` with `Visual`, the layouts of images and clips,
and `EncoderProbe`, which runs a vision tower and reads evidence on the way.
"""

from ..discovery import import_modules
from .base import Adapter, Visual
from .evidence import EncoderProbe, encoder_layers
from .geometry import image_layout, video_layout

__all__ = ["Adapter", "EncoderProbe", "Visual", "encoder_layers", "image_layout", "video_layout"]

import_modules(__name__, __path__)

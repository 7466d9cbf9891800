"""Model families. Importing this package registers the in-tree adapters.

An adapter of another package uses the contract `Adapter` with `Visual`, its results (`VisualTokens` with a `Layout`),
the layouts of images and clips, `Preset`, and `EncoderProbe`, which runs a vision tower and reads evidence on the way.
`PackedAdapter` is the base of families whose encoder takes patches.
"""

from vidcompress.adapters.base import Adapter, Visual, adapter_for, register_adapter
from vidcompress.adapters.encoder_probe import EncoderProbe, encoder_layers
from vidcompress.adapters.layouts import image_layout, native_layout, tiled_layout, video_layout
from vidcompress.adapters.packed import PackedAdapter
from vidcompress.adapters.presets import Preset
from vidcompress.adapters.stock import stock_positions
from vidcompress.adapters.traits import Traits
from vidcompress.core.layout import Layout, View
from vidcompress.core.prompt import runs_of_visuals, text_between_runs
from vidcompress.core.tokens import Evidence, FrameSource, LazyTokens, VisualTokens
from vidcompress.registry import import_modules

__all__ = [
    "Adapter",
    "EncoderProbe",
    "Evidence",
    "FrameSource",
    "Layout",
    "LazyTokens",
    "PackedAdapter",
    "Preset",
    "Traits",
    "View",
    "Visual",
    "VisualTokens",
    "adapter_for",
    "encoder_layers",
    "image_layout",
    "native_layout",
    "register_adapter",
    "runs_of_visuals",
    "stock_positions",
    "text_between_runs",
    "tiled_layout",
    "video_layout",
]

import_modules(__name__, __path__)

"""Fewer visual tokens for stock Hugging Face vision-language models, without training.

    VisualQA             a model that answers questions about images and videos
    Answer               its answer: the text, what was kept, milliseconds
    Chat                 a conversation about the same images or video
    compress             a block in which a model of your own gets compressed inputs
    compress_inputs      processor outputs in, shorter model inputs out
    CompressedInputs     what `compress_inputs` returns: a mapping for `generate`
    load_processor       the processor of a checkpoint: prompts, images, videos to inputs
    CompressionConfig    how to compress, as one object
    Budget               a share of the visual tokens, or a number of them
    Report               what one call sent, per image, video and view
    draw_overlay         a picture of the tokens that were kept
    available_methods    names of the methods
    get_method           a method by its name, with options
    register_method      adds a method of your own
    register_adapter     adds a model family
    cost.estimate        what a method would save, computed from sizes

More names are for methods of your own (`Method`, `VisualTokens`, `Layout`, `View`, `Evidence`, `Selection`), for the
numbers of `encoder_saving` (`ViewSkipping`) and for `except` (`VidcompressError` is the base of all errors). They load
on first use; the import alone loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from logging import NullHandler, getLogger
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_PUBLIC = {
    "VisualQA": "qa",
    "Answer": "qa",
    "Chat": "qa",
    "compress": "session.block",
    "compress_inputs": "session.compress",
    "CompressedInputs": "session.inputs",
    "load_processor": "media.preprocessing.load_processor",
    "CompressionConfig": "core.config",
    "Budget": "core.budget",
    "Report": "core.report",
    "draw_overlay": "qa.overlay",
    "available_methods": "core.method_lookup",
    "get_method": "core.method_lookup",
    "register_method": "core.method",
    "register_adapter": "adapters.base",
    "Method": "core.method",
    "VisualTokens": "core.tokens",
    "Layout": "core.layout",
    "View": "core.layout",
    "Evidence": "core.tokens",
    "Selection": "core.selection",
    "ViewSkipping": "core.config",
    "VidcompressError": "errors",
    "ArgumentError": "errors",
    "BudgetError": "errors",
    "MediaError": "errors",
    "UnsupportedInputError": "errors",
    "UnsupportedModelError": "errors",
}
"""Public names and the modules that they are loaded from on first use: those that most users need come first."""

__all__ = [*_PUBLIC, "__version__"]

getLogger(__name__).addHandler(NullHandler())  # silent unless the application sets logging up

if TYPE_CHECKING:
    from vidcompress.adapters.base import register_adapter as register_adapter
    from vidcompress.core.budget import Budget as Budget
    from vidcompress.core.config import CompressionConfig as CompressionConfig
    from vidcompress.core.config import ViewSkipping as ViewSkipping
    from vidcompress.core.layout import Layout as Layout
    from vidcompress.core.layout import View as View
    from vidcompress.core.method import Method as Method
    from vidcompress.core.method import register_method as register_method
    from vidcompress.core.method_lookup import available_methods as available_methods
    from vidcompress.core.method_lookup import get_method as get_method
    from vidcompress.core.report import Report as Report
    from vidcompress.core.selection import Selection as Selection
    from vidcompress.core.tokens import Evidence as Evidence
    from vidcompress.core.tokens import VisualTokens as VisualTokens
    from vidcompress.errors import ArgumentError as ArgumentError
    from vidcompress.errors import BudgetError as BudgetError
    from vidcompress.errors import MediaError as MediaError
    from vidcompress.errors import UnsupportedInputError as UnsupportedInputError
    from vidcompress.errors import UnsupportedModelError as UnsupportedModelError
    from vidcompress.errors import VidcompressError as VidcompressError
    from vidcompress.media.preprocessing.load_processor import load_processor as load_processor
    from vidcompress.qa import Answer as Answer
    from vidcompress.qa import Chat as Chat
    from vidcompress.qa import VisualQA as VisualQA
    from vidcompress.qa.overlay import draw_overlay as draw_overlay
    from vidcompress.session.block import compress as compress
    from vidcompress.session.compress import compress_inputs as compress_inputs
    from vidcompress.session.inputs import CompressedInputs as CompressedInputs


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = globals()[name] = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
        return value
    if name == "cost":  # vidcompress.cost.estimate without an import of its own
        return import_module(".tools.cost", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "cost"]

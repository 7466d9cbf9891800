"""vidcompress: fewer visual tokens for stock Hugging Face vision-language models, without training.

The public names are loaded on first use; importing the package does nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Answer": "qa",
    "ArgumentError": "errors",
    "Budget": "core.budget",
    "BudgetError": "errors",
    "Chat": "qa",
    "CompressedInputs": "session.inputs",
    "CompressionConfig": "core.config",
    "Evidence": "core.tokens",
    "Layout": "core.layout",
    "MediaError": "errors",
    "Method": "core.method",
    "Report": "core.report",
    "Selection": "core.selection",
    "UnsupportedInputError": "errors",
    "UnsupportedModelError": "errors",
    "VidcompressError": "errors",
    "View": "core.layout",
    "VisualQA": "qa",
    "VisualTokens": "core.tokens",
    "available_methods": "core.method_lookup",
    "compress": "session.block",
    "compress_inputs": "session.compress",
    "draw_overlay": "qa.overlay",
    "get_method": "core.method_lookup",
    "load_processor": "media.preprocessing.load_processor",
    "register_adapter": "adapters.base",
    "register_method": "core.method",
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from vidcompress.adapters.base import register_adapter as register_adapter
    from vidcompress.core.budget import Budget as Budget
    from vidcompress.core.config import CompressionConfig as CompressionConfig
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
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    if name == "cost":  # vidcompress.cost.estimate without an import of its own
        return import_module(".tools.cost", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

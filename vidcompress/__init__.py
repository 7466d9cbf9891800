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
    "Budget": "budget",
    "BudgetError": "errors",
    "Chat": "qa",
    "CompressedInputs": "inputs",
    "Evidence": "views",
    "Layout": "views",
    "MediaError": "media.errors",
    "Method": "methods.base",
    "Report": "report",
    "Selection": "selection",
    "UnsupportedInputError": "errors",
    "UnsupportedModelError": "errors",
    "VidcompressError": "errors",
    "View": "views",
    "VisualQA": "qa",
    "VisualTokens": "views",
    "available_methods": "methods.lookup",
    "compress": "block",
    "compress_inputs": "session",
    "draw_overlay": "overlay",
    "get_method": "methods.lookup",
    "load_processor": "media.loading",
    "register_adapter": "adapters.base",
    "register_method": "methods.base",
}
__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from .adapters.base import register_adapter as register_adapter
    from .block import compress as compress
    from .budget import Budget as Budget
    from .errors import ArgumentError as ArgumentError
    from .errors import BudgetError as BudgetError
    from .errors import UnsupportedInputError as UnsupportedInputError
    from .errors import UnsupportedModelError as UnsupportedModelError
    from .errors import VidcompressError as VidcompressError
    from .inputs import CompressedInputs as CompressedInputs
    from .media.errors import MediaError as MediaError
    from .media.loading import load_processor as load_processor
    from .methods.base import Method as Method
    from .methods.base import register_method as register_method
    from .methods.lookup import available_methods as available_methods
    from .methods.lookup import get_method as get_method
    from .overlay import draw_overlay as draw_overlay
    from .qa import Answer as Answer
    from .qa import Chat as Chat
    from .qa import VisualQA as VisualQA
    from .report import Report as Report
    from .selection import Selection as Selection
    from .session import compress_inputs as compress_inputs
    from .views import Evidence as Evidence
    from .views import Layout as Layout
    from .views import View as View
    from .views import VisualTokens as VisualTokens


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    if name == "cost":  # vidcompress.cost.estimate without an import of its own
        return import_module(".cost", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

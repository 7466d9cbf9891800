"""Exceptions of the package. Each is also the built-in type a caller would expect to catch."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VidcompressError(Exception):
    """Base class of every error this package raises on purpose."""


class ArgumentError(VidcompressError, ValueError):
    """An argument has a value that is not allowed; the message names it, the value and what is allowed."""


class BudgetError(ArgumentError):
    """A token budget is malformed or out of reach for this input and method."""


class UnsupportedModelError(VidcompressError, TypeError):
    """No registered adapter serves this model, or the model lacks what a method asks of it."""


class UnsupportedInputError(VidcompressError, ValueError):
    """The method or the adapter cannot serve this kind of input."""


class CompressionStateError(VidcompressError, RuntimeError):
    """A call does not fit the present state, such as a second `compress` on one model."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause that lists the known names, nearest first, for use at the end of a message."""
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"known: {', '.join(names) if names else 'none'}{hint}"

"""Exceptions of the package. Each is also the built-in type a caller would expect to catch."""

from __future__ import annotations

import sys
import warnings
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


class MediaError(VidcompressError, ValueError):
    """A picture, a clip or a processor file that cannot be served.

    The message names the argument or file, says what was found, what would be accepted, and what to do next.
    """


class SamplingError(MediaError, ArgumentError):
    """A sampling argument that is not allowed, whatever the clip."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause that lists the known names, nearest first, for use at the end of a message."""
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.65)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"known: {', '.join(names) if names else 'none'}{hint}"


def shown(value: object, length: int = 80) -> str:
    """Return a value as a message shows it: its repr on one line, cut to `length`; of bytes and arrays the size."""
    if isinstance(value, (bytes, bytearray)) and len(value) > 20:
        return f"{len(value)} bytes"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        kind = getattr(value, "dtype", "")
        return f"{type(value).__name__} of shape {tuple(shape)}{kind and f', {kind}'}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001  (a stranger's __repr__ may raise anything)
        text = f"a {type(value).__name__}"
    return text if len(text) <= length else f"{text[: length - 3]}..."


def one_line(error: BaseException, length: int = 300) -> str:
    """Return what an error of another library says, on one line of at most `length`; its type where it says nothing."""
    text = " ".join(str(error).split()).rstrip(" .:")
    text = (
        text
        if isinstance(error, (OSError, ValueError)) and text
        else f"{type(error).__name__}: {text}".rstrip(": ")
    )
    return text if len(text) <= length else f"{text[: length - 3]}..."


_BETWEEN = (__name__.partition(".")[0], "torch", "contextlib", "importlib")
"""Packages whose frames stand between the line that warns and the caller's, this one first."""
_WARNED: set[str] = set()


def warn_caller(message: str) -> None:
    """Warning that names the line outside the package which led to it, however deep inside it is given.

    `stacklevel` would count frames, and `skip_file_prefixes` is of Python 3.12 and later.
    """
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    names = frame.f_globals
    warnings.warn_explicit(
        message,
        UserWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=str(names.get("__name__")),
        registry=names.setdefault("__warningregistry__", {}),
    )


def warn_once(message: str) -> None:
    """Warning that is given once per process: of a fallback, say, in place of weights that a method was not given."""
    if message not in _WARNED:
        _WARNED.add(message)
        warn_caller(message)

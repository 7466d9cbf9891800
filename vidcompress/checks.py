"""Checks of arguments, and the one form of what they say: the name, the value, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from vidcompress.errors import ArgumentError, VidcompressError, nearest, shown

MAX_FRAME_PIXELS = 64 * 1024 * 1024
"""Largest picture that is decoded, in pixels (height x width): 8192 x 8192."""

MAX_SIDE = 65_535
"""Longest side of a picture or frame, in pixels, JPEG's own limit. One of 1 x 60,000,000 has few pixels, but a resize
keeps a whole row of the encoder's width for each of its rows on the way."""

MAX_BUFFERED_BYTES = 256 * 1024**2
"""Most that is read from a picture stream that cannot seek."""

MAX_SOURCE_FRAMES = 2_000_000
"""Longest clip that is looked through, in frames: about 18 hours at 30 frames per second."""

MAX_DECODED_BYTES = 4 * 1024**3
"""Most memory that the kept frames of one clip may take as uint8 RGB."""

DEFAULT_NUM_FRAMES = 32
"""Frames taken from a clip when the caller asks neither for a count nor for a rate."""

DEFAULT_MAX_FRAMES = 300
"""Most frames returned unless the caller raises it, whether they were asked for by count or by rate."""

if TYPE_CHECKING:
    import torch

Error = type[VidcompressError]


def is_whole(value: object) -> bool:
    """Whether a value is an integer of Python or numpy, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a finite real number of Python or numpy, and no bool."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def whole_number(
    name: str, value: Any, *, least: int = 1, most: int | None = None, error: Error = ArgumentError
) -> int:
    """Return `value` as an int.

    Raises:
        error: it is no whole number from `least` to `most`.
    """
    if not is_whole(value) or value < least or (most is not None and value > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise error(f"{name}={shown(value)}: must be a whole number {allowed}")
    return int(value)


def positive(name: str, value: Any, unit: str = "", *, error: Error = ArgumentError) -> float:
    """Return `value` as a float.

    Args:
        name: of the argument.
        value: to check.
        unit: what is counted, such as "frames per second"; part of the message.
        error: class of what is raised.

    Raises:
        error: it is no finite number above 0.
    """
    if not is_number(value) or value <= 0:
        raise error(f"{name}={shown(value)}: must be a positive number{unit and ' of ' + unit}")
    return float(value)


def one_of(name: str, value: Any, allowed: Iterable[str], *, error: Error = ArgumentError) -> None:
    """Refuse what is not one of the words.

    Raises:
        error: with the nearest of the allowed words.
    """
    words = tuple(allowed)
    if not isinstance(value, str) or value not in words:
        _, _, hint = nearest(value, words).partition("; ") if isinstance(value, str) else ("", "", "")
        raise error(f"{name} must be one of {', '.join(words)}, got {shown(value)}{hint and '; ' + hint}")


def flag(name: str, value: Any, *, error: Error = ArgumentError) -> bool:
    """Return `value`.

    Raises:
        error: it is neither True nor False.
    """
    if not isinstance(value, bool):
        raise error(f"{name}={shown(value)}: must be True or False")
    return value


def word(name: str, value: Any, example: str, *, error: Error = ArgumentError) -> str:
    """Return `value`.

    Raises:
        error: it is no text, or an empty one.
    """
    if not isinstance(value, str) or not value.strip():
        raise error(f"{name}={shown(value)}: must be a text that is not empty, such as {example!r}")
    return value


def unicode_text(name: str, value: str, *, error: Error = ArgumentError) -> str:
    """Return `value`.

    Python keeps bytes that are no UTF-8, as the command line may hold them, and half surrogate pairs of JSON as
    characters that no tokenizer takes.

    Raises:
        error: it holds such a character.
    """
    try:
        value.encode()
    except UnicodeEncodeError as problem:
        found = value[problem.start]
        what = "a byte that is no UTF-8" if "\udc80" <= found <= "\udcff" else "half a surrogate pair"
        raise error(
            f"{name}={shown(value)}: character {problem.start} is {found!r}, {what}; pass Unicode text, such as "
            "value.encode('utf-8', 'replace').decode()"
        ) from problem
    return value


def check_source(revision: Any, local_files_only: Any, *, error: Error = ArgumentError) -> None:
    """Check what is said about a hub.

    Raises:
        error: `revision` is no text, or `local_files_only` neither True nor False.
    """
    if revision is not None:
        word("revision", revision, "main", error=error)
    flag("local_files_only", local_files_only, error=error)


def device(name: str, value: Any, *, error: Error = ArgumentError) -> torch.device:
    """Read a device and look whether this machine has it.

    Raises:
        error: it is no device, or a CUDA device that is not there.
    """
    import torch

    if not isinstance(value, (str, torch.device)):
        raise error(f"{name}={shown(value)} is not a device; pass 'cpu', 'cuda' or 'cuda:0'")
    try:
        target = torch.device(value)
    except (RuntimeError, ValueError) as problem:
        raise error(f"{name}={shown(value)} is not a device; pass 'cpu', 'cuda' or 'cuda:0'") from problem
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise error(
            f"{name}={shown(value)}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "pass 'cpu' or leave it out"
        )
    return target


def require_numbers(**options: object) -> None:
    """Refuse options that are not real numbers.

    Raises:
        ArgumentError: naming the option and its value.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ArgumentError(f"{name} must be a number, got {shown(value)}")


def require_one_of(allowed: tuple[str, ...], **options: object) -> None:
    """Refuse options that are not among the allowed names.

    Raises:
        ArgumentError: naming the option, its value and what is allowed.
    """
    for name, value in options.items():
        one_of(name, value, allowed)


def require_flags(**options: object) -> None:
    """Refuse options that are neither True nor False.

    Raises:
        ArgumentError: naming the option and its value.
    """
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ArgumentError(f"{name} must be true or false, got {shown(value)}")

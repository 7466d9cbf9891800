"""Method specs: a method with its options in one word, such as `globalcom2:tau=5`. Reading one needs no torch."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from vidcompress.errors import ArgumentError


def read_value(text: str) -> Any:
    """Read an option's value as JSON where it is JSON (5, 0.5, true), as text otherwise."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


_BUDGET = ("method", "retention_ratio", "max_tokens")


def parse_method_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a method spec.

    Args:
        spec: a method's name and, after a colon, any arguments of `compress_inputs` as key=value, joined by commas.

    Returns:
        The name and the arguments.

    Raises:
        ArgumentError: an argument without a key or a value, or a budget, which all methods share.
    """
    name, _, listed = spec.partition(":")
    options = {}
    for pair in filter(None, listed.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ArgumentError(f"methods: {spec!r} must list options as key=value, got {pair!r}")
        if key in _BUDGET:
            raise ArgumentError(
                f"methods: {spec!r} sets {key}, which is not an option of a method; pass it beside them"
            )
        options[key] = read_value(value)
    return name, options


def with_argument(spec: str, name: str, value: str) -> str:
    """Append an argument to a method spec; return the spec itself where it states that argument already.

    Args:
        spec: such as `globalcom2:tau=5`.
        name, value: of an argument of `compress_inputs`.

    Raises:
        ArgumentError: as `parse_method_spec`.
    """
    if name in parse_method_spec(spec)[1] or not spec.strip():
        return spec
    return f"{spec}{'' if spec.endswith((':', ',')) else ',' if ':' in spec else ':'}{name}={value}"


def split_method_specs(text: str) -> list[str]:
    """Split a comma-separated list of method specs; a comma before key=value belongs to the spec before it.

    Args:
        text: such as `random,globalcom2:tau=5,alpha=0.3,uniform`, which is three specs.
    """
    specs: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if specs and "=" in part and ":" not in part.partition("=")[0]:
            specs[-1] += ("," if ":" in specs[-1] else ":") + part
        else:
            specs.append(part)
    return specs


MAX_DIGITS = 1000


def fraction_text(value: Fraction) -> str:
    """Return a fraction as text for `read_fraction`: "1/3".

    Raises:
        ArgumentError: the numerator or the denominator has more than `MAX_DIGITS` digits.
    """
    if max(abs(value.numerator), value.denominator) >= 10**MAX_DIGITS:
        raise ArgumentError(
            f"a fraction near {float(value):.3g} has more than {MAX_DIGITS} digits; use a decimal number"
        )
    return f"{value.numerator}/{value.denominator}"


def read_fraction(value: Any) -> Any:
    """Return a text such as "1/3" as a fraction; anything else as it is."""
    if not isinstance(value, str):
        return value
    above, slash, below = value.partition("/")
    if not slash or not (above.isdecimal() and below.isdecimal()) or max(len(above), len(below)) > MAX_DIGITS:
        return value
    return Fraction(int(above), int(below)) if int(below) else value

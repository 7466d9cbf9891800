"""Methods by name: which are registered, one with its options, and both as one word: `globalcom2:tau=5`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from vidcompress.core.foreign_arguments import LOADING, refuse
from vidcompress.core.method import METHODS, Method
from vidcompress.core.pruning.composed import Composed
from vidcompress.errors import ArgumentError, nearest, shown

PARTS = ("before", "within")
"""Fields of a composition that hold its methods."""
BEFORE_RATIO = "before_ratio"
"""The option that belongs to the composition of two methods and to neither of them."""


def available_methods() -> list[str]:
    """Names of all registered methods, sorted."""
    return METHODS.names()


def get_method(method: Any, **options: Any) -> Method:
    """Return a `Method` from its name and options, or the given instance.

    Raises:
        ArgumentError: unknown name or option; options given with an instance.
    """
    if isinstance(method, Method):
        if options:
            refuse(options, LOADING)
            raise ArgumentError(
                f"options {sorted(options)} cannot go with a method instance; put them into {method!r}"
            )
        return method
    if not isinstance(method, str):
        raise ArgumentError(
            f"method must be a name or a Method, got {shown(method)}; {nearest('', METHODS.names())}"
        )
    if "+" in method:
        return _composed(method, options)
    try:
        cls = METHODS.get(method)
    except KeyError as error:
        raise ArgumentError(error.args[0]) from None
    _check_options(method, options, option_names(cls))
    return cls(**options)


def with_options(method: Method, options: Mapping[str, Any]) -> Method:
    """The same method with some options changed; of a composition, each goes to the method that has it.

    Args:
        method: a registered one or not.
        options: new values by name.

    Raises:
        ArgumentError: an option that the method does not have, or a value that it refuses.
    """
    if not options:
        return method
    if not isinstance(method, Composed):
        _check_options(method.name, options, option_names(type(method)))
        return dataclasses.replace(method, **options)
    parts: list[Method] = [getattr(method, place) for place in PARTS]
    own, shares = _share_out(method.name, options, [option_names(type(part)) for part in parts])
    for place, part, share in zip(PARTS, parts, shares, strict=True):
        own[place] = with_options(part, share)
    return dataclasses.replace(method, **own)


def option_names(method: type[Method]) -> set[str]:
    """Names of a method's options."""
    return {field.name for field in dataclasses.fields(method) if field.init}


def options_of(name: str) -> set[str]:
    """Names of the options of a registered method, or of both parts of a composition; none of an unknown name."""
    names = {BEFORE_RATIO} if "+" in name else set()
    for part in name.split("+"):
        if part in METHODS.names():
            names |= option_names(METHODS.get(part))
    return names


def _check_options(name: str, options: Mapping[str, Any], allowed: set[str]) -> None:
    refuse(options, LOADING, allowed)
    for option in options:
        if option not in allowed:
            raise ArgumentError(f"method {name!r} has no option {option!r}; {nearest(option, allowed)}")


def _composed(name: str, options: Mapping[str, Any]) -> Method:
    """Two methods by a name such as "globalcom2+fastv"; each option goes to the one that has it."""
    parts = name.split("+")
    if len(parts) != 2:
        raise ArgumentError(
            f"method={name!r}: two names, one before the language model and one inside it, as in 'globalcom2+fastv'"
        )
    names = []
    for part, where in zip(parts, ("before", "inside"), strict=True):
        if get_method(part).where != where:
            fitting = [other for other in METHODS.names() if METHODS.get(other).where == where]
            raise ArgumentError(
                f"method={name!r}: {part!r} stands where a method {where} the language model belongs; "
                f"{nearest(part, fitting)}"
            )
        names.append(option_names(METHODS.get(part)))
    own, shares = _share_out(name, options, names)
    both: list[Any] = [get_method(part, **share) for part, share in zip(parts, shares, strict=True)]
    return Composed(*both, **own)


def _share_out(
    name: str, options: Mapping[str, Any], names: list[set[str]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Options of a composition: its own, and those of each of its two methods, whose option names are given."""
    refuse(options, LOADING, {*names[0], *names[1]})
    own: dict[str, Any] = {}
    shares: list[dict[str, Any]] = [{}, {}]
    for option, value in options.items():
        owners = [share for share, allowed in zip(shares, names, strict=True) if option in allowed]
        if option == BEFORE_RATIO:
            owners = [own]
        if len(owners) > 1:
            raise ArgumentError(
                f"option {option!r} belongs to both parts of {name!r}; pass Composed(before=..., within=...) with "
                "methods that have it set"
            )
        if not owners:
            allowed = {*names[0], *names[1], BEFORE_RATIO}
            raise ArgumentError(f"method {name!r} has no option {option!r}; {nearest(option, allowed)}")
        owners[0][option] = value
    return own, shares


def read_value(text: str) -> Any:
    """Read an option's value as JSON where it is JSON (5, 0.5, true), as text otherwise."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


_BUDGET = ("method", "retention_ratio", "max_tokens")


def parse_method_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """Name and options of a method spec.

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


def split_method_specs(text: str) -> list[str]:
    """Method specs of a comma-separated list; a comma before key=value belongs to the spec before it.

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


def options_to_json(method: Method) -> dict[str, Any]:
    """All options of a registered method as plain JSON types; of a composition, `before` and `within` have their own.

    Raises:
        ArgumentError: a method that is not registered, or an option that JSON cannot hold exactly.
    """
    if isinstance(method, Composed):
        return {
            **{place: options_to_json(getattr(method, place)) for place in PARTS},
            BEFORE_RATIO: _to_json(method, BEFORE_RATIO, method.before_ratio),
        }
    if method.name not in METHODS.names() or METHODS.get(method.name) is not type(method):
        raise ArgumentError(
            f"method={shown(method)}: is not registered, so that no file can name it; put @register_method above its "
            "class"
        )
    return {
        name: _to_json(method, name, getattr(method, name)) for name in sorted(option_names(type(method)))
    }


def options_from_json(method: Method, options: Mapping[str, Any]) -> Method:
    """The method with options as `options_to_json` writes them.

    Raises:
        ArgumentError: an option that the method does not have, or a value that it refuses.
    """
    if not isinstance(options, Mapping):
        raise ArgumentError(f"options={shown(options)}: must be an object of option names and values")
    values = {name: _from_json(value) for name, value in options.items()}
    if isinstance(method, Composed):
        parts: dict[str, Any] = {
            place: options_from_json(getattr(method, place), values.pop(place))
            for place in PARTS
            if place in values
        }
        method = dataclasses.replace(method, **parts)
    return with_options(method, values)


def _to_json(method: Method, name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_to_json(method, name, entry) for entry in value]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Fraction):
        return fraction_text(value)
    if isinstance(value, Real) and math.isfinite(value) and float(value) == value:
        return float(value)
    raise ArgumentError(
        f"option {name}={shown(value)} of method {method.name!r} is of type {type(value).__name__}, which JSON cannot "
        "hold; use a number, a text, True, False, None or a list of these"
    )


def _from_json(value: Any) -> Any:
    """Lists as the tuples that options are; "1/3" as the fraction."""
    if isinstance(value, list):
        return tuple(_from_json(entry) for entry in value)
    return read_fraction(value)


MAX_DIGITS = 1000


def fraction_text(value: Fraction) -> str:
    """A fraction as `read_fraction` reads it: "1/3".

    Raises:
        ArgumentError: above or below the line stand more than `MAX_DIGITS` digits.
    """
    if max(abs(value.numerator), value.denominator) >= 10**MAX_DIGITS:
        raise ArgumentError(
            f"a fraction near {float(value):.3g} has more than {MAX_DIGITS} digits; use a decimal number"
        )
    return f"{value.numerator}/{value.denominator}"


def read_fraction(value: Any) -> Any:
    """A text such as "1/3" as a fraction; anything else as it is."""
    if not isinstance(value, str):
        return value
    above, slash, below = value.partition("/")
    if not slash or not (above.isdecimal() and below.isdecimal()) or max(len(above), len(below)) > MAX_DIGITS:
        return value
    return Fraction(int(above), int(below)) if int(below) else value

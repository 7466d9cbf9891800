"""Methods by name: list of the registered ones, a method with its options, and its options as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from vidcompress.core.foreign_arguments import LOADING, refuse
from vidcompress.core.method import METHODS, Method
from vidcompress.core.method_spec import fraction_text, read_fraction
from vidcompress.core.pruning.composed import Composed
from vidcompress.errors import ArgumentError, nearest, shown

PARTS = ("before", "within")
"""Fields of a composition that hold its methods."""
BEFORE_RATIO = "before_ratio"
"""Option of the composition of two methods that neither of them has."""


def available_methods() -> list[str]:
    """Names of all registered methods, sorted."""
    return METHODS.names()


def get_method(method: str | Method, **options: object) -> Method:
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
    """Return the method with some options changed; in a composition, each goes to the method that has it.

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
    """Names of the options of a registered method, or of both parts of a composition; empty for an unknown name."""
    names = {BEFORE_RATIO} if "+" in name else set()
    for part in name.split("+"):
        if part in METHODS.names():
            names |= option_names(METHODS.get(part))
    return names


def _check_options(name: str, options: Mapping[str, Any], allowed: set[str]) -> None:
    unknown = [option for option in options if option not in allowed]
    if unknown:
        refuse(options, LOADING, allowed)
        raise ArgumentError(f"method {name!r} has no option {unknown[0]!r}; {nearest(unknown[0], allowed)}")


def _composed(name: str, options: Mapping[str, Any]) -> Method:
    """Make two methods from a name such as "globalcom2+fastv"; each option goes to the one that has it."""
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
    """Split the options of a composition into its own and those of each of its two methods; `names` are theirs."""
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


def options_to_json(method: Method) -> dict[str, Any]:
    """Return all options of a registered method as JSON types; those of a composition under `before` and `within`.

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
    """Return the method with options as `options_to_json` writes them.

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

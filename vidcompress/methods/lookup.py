"""Methods by name: which there are, and one with its options."""

from __future__ import annotations

import dataclasses
from typing import Any

from vidcompress.core.config import CompressionConfig, make_settings
from vidcompress.core.foreign_arguments import LOADING, refuse
from vidcompress.core.method import METHODS, Method
from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.methods.composed import Composed


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
    allowed = {f.name for f in dataclasses.fields(cls) if f.init}
    refuse(options, LOADING, allowed)
    for name in options:
        if name not in allowed:
            raise ArgumentError(f"method {method!r} has no option {name!r}; {nearest(name, allowed)}")
    return cls(**options)


def read_settings(method: Any = "globalcom2", **arguments: Any) -> CompressionConfig:
    """CompressionConfig from a method's name or instance, the arguments of `compress_inputs` and the method's options.

    Args:
        method: as in `compress_inputs`.
        **arguments: those of `make_settings`; every other one is an option of the method.

    Raises:
        ArgumentError, BudgetError: as described in `compress_inputs`.
    """
    own = make_settings.__kwdefaults__ or {}
    options = {name: value for name, value in arguments.items() if name not in own}
    chosen = get_method(method, **options)
    return make_settings(chosen, **{name: value for name, value in arguments.items() if name in own})


def _composed(name: str, options: dict[str, Any]) -> Method:
    """Two methods by a name such as "globalcom2+fastv"; each option goes to the one that has it."""
    parts = name.split("+")
    if len(parts) != 2:
        raise ArgumentError(
            f"method={name!r}: two names, one before the language model and one inside it, as in 'globalcom2+fastv'"
        )
    chosen: list[dict[str, Any]] = [{}, {}]
    fields = []
    for part, where in zip(parts, ("before", "inside"), strict=True):
        if get_method(part).where != where:
            fitting = [other for other in METHODS.names() if METHODS.get(other).where == where]
            raise ArgumentError(
                f"method={name!r}: {part!r} stands where a method {where} the language model belongs; "
                f"{nearest(part, fitting)}"
            )
        fields.append({f.name for f in dataclasses.fields(METHODS.get(part)) if f.init})
    refuse(options, LOADING, {*fields[0], *fields[1]})
    own = {"before_ratio": options.pop("before_ratio")} if "before_ratio" in options else {}
    for option, value in options.items():
        owners = [number for number, names in enumerate(fields) if option in names]
        if len(owners) > 1:
            raise ArgumentError(
                f"option {option!r} belongs to both parts of {name!r}; pass Composed(before=..., within=...) with "
                "methods that have it set"
            )
        if not owners:
            allowed = {*fields[0], *fields[1], "before_ratio"}
            raise ArgumentError(f"method {name!r} has no option {option!r}; {nearest(option, allowed)}")
        chosen[owners[0]][option] = value
    both: list[Any] = [get_method(part, **given) for part, given in zip(parts, chosen, strict=True)]
    return Composed(*both, **own)

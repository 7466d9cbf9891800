"""Methods by name: which are registered, one with its options, and both as one word: `globalcom2:tau=5`."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from vidcompress.core.foreign_arguments import LOADING, refuse
from vidcompress.core.method import METHODS, Method
from vidcompress.core.pruning.composed import Composed
from vidcompress.errors import ArgumentError, nearest, shown


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


def read_value(text: str) -> Any:
    """Read an option's value as JSON where it is JSON (5, 0.5, true), as text otherwise."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


_BUDGET = ("method", "retention_ratio", "max_tokens")


def read_label(label: str) -> tuple[str, dict[str, Any]]:
    """Take a label apart.

    Args:
        label: a method's name and, after a colon, any arguments of `compress_inputs` as key=value, joined by commas.

    Returns:
        The name and the arguments.

    Raises:
        ArgumentError: an argument without a key or a value, or a budget, which all methods share.
    """
    name, _, listed = label.partition(":")
    options = {}
    for pair in filter(None, listed.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ArgumentError(f"methods: {label!r} must list options as key=value, got {pair!r}")
        if key in _BUDGET:
            raise ArgumentError(
                f"methods: {label!r} sets {key}, which is not an option of a method; pass it beside them"
            )
        options[key] = read_value(value)
    return name, options


def split_labels(text: str) -> list[str]:
    """Split a comma-separated list of labels; a comma before key=value belongs to the label before it.

    Args:
        text: such as `random,globalcom2:tau=5,alpha=0.3,uniform`, which is three labels.
    """
    labels: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if labels and "=" in part and ":" not in part.partition("=")[0]:
            labels[-1] += ("," if ":" in labels[-1] else ":") + part
        else:
            labels.append(part)
    return labels

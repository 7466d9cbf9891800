"""Where methods and adapters are found: in-tree ones by decorator, third-party ones by entry point.

Entry points of the groups `vidcompress.methods` and `vidcompress.adapters` are loaded once, on first use, in the
order of their packages' names. Names are given once: in-tree classes come first, and of two packages that claim one
name the second is refused. An entry point that fails leaves nothing behind and harms no other.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from .catalogue import Registry
from .errors import ArgumentError, UnsupportedModelError, nearest, shown
from .foreign import LOADING, refuse
from .signatures import check_adapter_class, check_method_class
from .wrappers import check_is_model, unwrap

T = TypeVar("T", bound=type[Any])


def register_method(cls: T) -> T:
    """Class decorator: make a `Method` subclass available under its `name`.

    Raises:
        ArgumentError: not a frozen dataclass deriving from `Method`; no name, summary or modalities; an abstract
            method that is missing, or one that cannot be called as the base class says; a name that is taken.
    """
    from .methods.base import Method

    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise ArgumentError(
            f"register_method takes a subclass of vidcompress.methods.base.Method, got {shown(cls)}"
        )
    check_method_class(cls, Method)
    METHODS.add([cls.name], cls)
    return cls


def register_adapter(cls: T) -> T:
    """Class decorator: serve the model types named in the class attribute `model_types`.

    Raises:
        ArgumentError: not a subclass of `Adapter`; no model types; an abstract method that is missing, or one that
            cannot be called as the base class says; a model type that is taken.
    """
    from .adapters.base import Adapter

    if not (isinstance(cls, type) and issubclass(cls, Adapter)):
        raise ArgumentError(
            f"register_adapter takes a subclass of vidcompress.adapters.base.Adapter, got {shown(cls)}"
        )
    check_adapter_class(cls)
    ADAPTERS.add(cls.model_types, cls)
    return cls


METHODS: Registry[type[Any]] = Registry(
    "method", "vidcompress.methods", "vidcompress.methods", register_method
)
ADAPTERS: Registry[type[Any]] = Registry(
    "adapter",
    "vidcompress.adapters",
    "vidcompress.adapters",
    register_adapter,
    "a package of yours can add a family, see 'Adding a model family' in CONTRIBUTING.md",
)


def available_methods() -> list[str]:
    """Names of all registered methods, sorted."""
    return METHODS.names()


def get_method(method: Any, **options: Any) -> Any:
    """Return a `Method` from its name and options, or the given instance.

    Raises:
        ArgumentError: unknown name or option; options given with an instance.
    """
    from .methods.base import Method

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
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    refuse(options, LOADING, known)
    for name in options:
        if name not in known:
            raise ArgumentError(f"method {method!r} has no option {name!r}; {nearest(name, known)}")
    return cls(**options)


def _composed(name: str, options: dict[str, Any]) -> Any:
    """Two methods by a name such as "globalcom2+fastv"; each option goes to the one that has it."""
    from .methods.composed import Composed

    parts = name.split("+")
    if len(parts) != 2:
        raise ArgumentError(
            f"method={name!r}: two names, one before the language model and one inside it, as in 'globalcom2+fastv'"
        )
    chosen: list[dict[str, Any]] = [{}, {}]
    fields = []
    for part, where in zip(parts, ("before", "inside"), strict=True):
        if get_method(part).where != where:
            fitting = [known for known in METHODS.names() if METHODS.get(known).where == where]
            raise ArgumentError(
                f"method={name!r}: {part!r} stands where a method {where} the language model belongs; "
                f"{nearest(part, fitting)}"
            )
        fields.append({f.name for f in dataclasses.fields(METHODS.get(part)) if f.init})
    refuse(options, LOADING, {*fields[0], *fields[1]})
    own = {"before_ratio": options.pop("before_ratio")} if "before_ratio" in options else {}
    for option, value in options.items():
        owners = [number for number, known in enumerate(fields) if option in known]
        if len(owners) > 1:
            raise ArgumentError(
                f"option {option!r} belongs to both parts of {name!r}; pass Composed(before=..., within=...) with "
                "methods that have it set"
            )
        if not owners:
            known = {*fields[0], *fields[1], "before_ratio"}
            raise ArgumentError(f"method {name!r} has no option {option!r}; {nearest(option, known)}")
        chosen[owners[0]][option] = value
    before, inside = (get_method(part, **given) for part, given in zip(parts, chosen, strict=True))
    return Composed(before, inside, **own)


def adapter_for(model: Any) -> Any:
    """Return a new adapter around a loaded model, chosen by `model.config.model_type`.

    Args:
        model: a transformers model, or a wrapper that `wrappers.unwrap` knows; the adapter is around the model in it.

    Raises:
        UnsupportedModelError: no adapter serves this model type, or a wrapper that is not served.
    """
    model = unwrap(model)
    config = getattr(model, "config", None)
    model_type = getattr(config, "model_type", None)
    if not isinstance(model_type, str):
        raise UnsupportedModelError(
            f"model must be a transformers model with a config, got {type(model).__name__}; pass one that "
            "from_pretrained returned"
        )
    try:
        cls = ADAPTERS.get(model_type)
    except KeyError as error:
        raise UnsupportedModelError(
            f"no adapter for {type(model).__name__} (model_type {model_type!r}): {error.args[0]}"
        ) from None
    check_is_model(model)
    return cls(model)

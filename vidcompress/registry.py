"""Where methods and adapters are found: in-tree ones by decorator, third-party ones by entry point.

Entry points of the groups `vidcompress.methods` and `vidcompress.adapters` are loaded once, on first use. One
that fails to load is remembered by name with its error and harms no other.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from importlib import import_module
from importlib.metadata import entry_points
from threading import RLock
from typing import Any, Generic, TypeVar

from .errors import ArgumentError, UnsupportedModelError, nearest, shown

T = TypeVar("T", bound=type[Any])


class Registry(Generic[T]):
    """Classes by name, with lazily imported built-ins and entry points.

    Args:
        what: the noun used in messages.
        group: entry-point group of third-party packages.
        builtin: package whose import registers the in-tree classes.
    """

    def __init__(self, what: str, group: str, builtin: str) -> None:
        self.what, self.group, self.builtin = what, group, builtin
        self.broken: dict[str, str] = {}
        self._classes: dict[str, T] = {}
        self._loaded = self._loading = False
        self._lock = RLock()

    def add(self, name: str, cls: T) -> None:
        """Register `cls`; refuses a name that is taken by another class.

        Raises:
            ArgumentError: empty, ill-formed or duplicate name.
        """
        if not isinstance(name, str) or name != name.lower() or not re.fullmatch(r"\w[\w-]*", name, re.ASCII):
            raise ArgumentError(
                f"{self.what} name must be lower-case letters, digits, underscores and hyphens, got {name!r}"
            )
        taken = self._classes.get(name)
        if taken is not None and taken is not cls:
            raise ArgumentError(
                f"{self.what} {name!r} is already registered by {taken.__module__}.{taken.__name__}; take another"
            )
        self._classes[name] = cls

    def get(self, name: str) -> T:
        """Return the class registered as `name`.

        Raises:
            KeyError: unknown name; the message lists the nearest known ones and what failed to load.
        """
        self._load()
        if name in self._classes:
            return self._classes[name]
        failed = f"; failed to load: {self.broken[name]}" if name in self.broken else ""
        raise KeyError(f"unknown {self.what} {name!r}; {nearest(name, self._classes)}{failed}")

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._load()
        return sorted(self._classes)

    def _load(self) -> None:
        if self._loaded:
            return
        with (
            self._lock
        ):  # a second thread waits until everything is there; the import below may come back here
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                self._load_all()
                self._loaded = True
            finally:
                self._loading = False

    def _load_all(self) -> None:
        import_module(self.builtin)
        for entry in entry_points(group=self.group):
            try:
                entry.load()
            except Exception as error:  # noqa: BLE001  (a third party's module may raise anything)
                self.broken[entry.name] = f"{type(error).__name__}: {error}"
                warnings.warn(
                    f"{self.what} {entry.name!r} of entry point {entry.value!r} failed to load "
                    f"({self.broken[entry.name]}); the others are not affected",
                    stacklevel=3,
                )


METHODS: Registry[type[Any]] = Registry("method", "vidcompress.methods", "vidcompress.methods")
ADAPTERS: Registry[type[Any]] = Registry("adapter", "vidcompress.adapters", "vidcompress.adapters")


def register_method(cls: T) -> T:
    """Class decorator: make a `Method` subclass available under its `name`.

    Raises:
        ArgumentError: not a frozen dataclass deriving from `Method`, no summary or modalities, duplicate name.
    """
    from .methods.base import Method

    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise ArgumentError(
            f"register_method takes a subclass of vidcompress.methods.base.Method, got {shown(cls)}"
        )
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ArgumentError(f"method {cls.__name__} must be a frozen dataclass: its fields are its options")
    for name in ("name", "summary", "modalities"):
        if not getattr(cls, name, None):
            raise ArgumentError(f"method {cls.__name__} must define the class attribute {name!r}")
    METHODS.add(cls.name, cls)
    return cls


def register_adapter(cls: T) -> T:
    """Class decorator: serve the model types named in the class attribute `model_types`.

    Raises:
        ArgumentError: not a subclass of `Adapter`, no model types, duplicate model type.
    """
    from .adapters.base import Adapter

    if not (isinstance(cls, type) and issubclass(cls, Adapter)):
        raise ArgumentError(
            f"register_adapter takes a subclass of vidcompress.adapters.base.Adapter, got {shown(cls)}"
        )
    if not cls.model_types:
        raise ArgumentError(f"adapter {cls.__name__} must define model_types, such as ('llava_next',)")
    for model_type in cls.model_types:
        ADAPTERS.add(model_type, cls)
    return cls


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
            raise ArgumentError(
                f"options {sorted(options)} cannot go with a method instance; put them into {method!r}"
            )
        return method
    if not isinstance(method, str):
        raise ArgumentError(
            f"method must be a name or a Method, got {shown(method)}; {nearest('', METHODS.names())}"
        )
    try:
        cls = METHODS.get(method)
    except KeyError as error:
        raise ArgumentError(error.args[0]) from None
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    for name in options:
        if name not in known:
            raise ArgumentError(f"method {method!r} has no option {name!r}; {nearest(name, known)}")
    return cls(**options)


def adapter_for(model: Any) -> Any:
    """Return a new adapter around a loaded model, chosen by `model.config.model_type`.

    Raises:
        UnsupportedModelError: no adapter serves this model type.
    """
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
    return cls(model)

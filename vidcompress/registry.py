"""Registry of classes by name: in-tree ones by import, third-party ones by entry point, each name once.

A package registers under one of two groups, by module or by class:

    [project.entry-points."vidcompress.methods"]
    my_method = "my_package.my_method"

Entry points are loaded once, on first use, after the in-tree classes and in the order of their packages' names; of two
packages that claim one name the second is refused. One that fails is reported with its reason and harms no other: what
was registered by a module that cannot be imported is removed, and what other modules registered stays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import getattr_static, isfunction
from pkgutil import iter_modules
from threading import RLock
from typing import Any, Generic, TypeVar

from vidcompress.errors import ArgumentError, nearest, warn_caller

T = TypeVar("T", bound=type[Any])

_LOCK = RLock()
"""One for all registries, since a package may register in several while any of them is being filled."""
_REGISTERED: list[tuple[dict[str, Any], str, str]] = []
"""The table, the name and the module of every registration, in order."""

CALL_ARGUMENTS = frozenset(
    "model inputs method config retention_ratio max_tokens separators positions policy max_views max_patches processor "
    "num_frames fps max_frames backend name_or_path device dtype torch_dtype attn_implementation device_map "
    "revision local_files_only resize_device time_instruction quantization quantization_config preset "
    "visual_tokens size images frames frame_size text_tokens new_tokens batch_size encoder_saving view_text "
    "hold mass mass_strength mass_cap compile".split()
)
"""Arguments of the public functions that also take a method's options; an option of such a name would never arrive."""


@dataclasses.dataclass(frozen=True)
class Plugin:
    """An entry point of another package, as it was loaded.

    Attributes:
        name: of the entry point.
        value: what it points to, `module` or `module:name`.
        package: name and version of its distribution.
        reason: one line that says why it could not be used; None where it could.
    """

    name: str
    value: str
    package: str
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.name!r} ({self.value}, from {self.package}): {self.reason or 'loaded'}"


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import the modules of a package, in the order of their names, except those that begin with an underscore.

    Args:
        package: its dotted name.
        path: its `__path__`.
    """
    for module in sorted(info.name for info in iter_modules(path)):
        if not module.startswith("_"):
            import_module(f"{package}.{module}")


def record(table: dict[str, Any], name: str, value: Any, module: str) -> None:
    """Put a value into a table; it is removed if an entry point fails because `module` cannot be imported."""
    table[name] = value
    _REGISTERED.append((table, name, module))


class Registry(Generic[T]):
    """Classes by name, with lazily imported built-ins and entry points.

    Args:
        what: the noun used in messages.
        group: entry-point group of third-party packages.
        builtin: package whose import registers the in-tree classes.
        register: the decorator, for a class that an entry point names and that did not register itself.
        adding: how a name is added, where callers do not choose names, so that the nearest name would mislead.

    Attributes:
        plugins: the entry points of the group, in the order in which they were loaded.
        otherwise: class for names that are not registered, for callers that ask for it.
    """

    def __init__(
        self, what: str, group: str, builtin: str, register: Callable[[Any], Any], adding: str = ""
    ) -> None:
        self.what, self.group, self.builtin, self.register = what, group, builtin, register
        self.adding = adding
        self.otherwise: T | None = None
        self.plugins: list[Plugin] = []
        self._classes: dict[str, T] = {}
        self._packages: dict[str, str] = {}
        self._loaded = self._loading = False

    @property
    def broken(self) -> list[Plugin]:
        """Entry points that could not be used."""
        return [plugin for plugin in self.plugins if plugin.reason is not None]

    def add(self, names: Sequence[str], cls: T) -> None:
        """Register `cls` under all of the names, or under none.

        Raises:
            ArgumentError: an ill-formed name, or one that is taken by another class.
        """
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", name):
                raise ArgumentError(
                    f"{self.what} name must be lower-case letters, digits, underscores and hyphens, got {name!r}"
                )
            taken = self._classes.get(name, cls)
            if taken is not cls:
                package = f" (package {self._packages[name]})" if name in self._packages else ""
                raise ArgumentError(
                    f"{self.what} {name!r} of {cls.__module__}.{cls.__qualname__} is already registered by "
                    f"{taken.__module__}.{taken.__qualname__}{package}; give it another name, or uninstall one"
                )
        for name in names:
            record(self._classes, name, cls, cls.__module__)

    def get(self, name: str, *, otherwise: bool = False) -> T:
        """Return the class registered as `name`.

        Args:
            name: of the class.
            otherwise: return `self.otherwise` for a name that is unknown.

        Raises:
            KeyError: unknown name; the message is that of `unknown`.
        """
        self._load()
        if name in self._classes:
            return self._classes[name]
        if otherwise and self.otherwise is not None:
            return self.otherwise
        raise KeyError(f"unknown {self.what} {name!r}; {self.unknown(name)}")

    def names(self) -> list[str]:
        """All registered names, sorted."""
        self._load()
        return sorted(self._classes)

    def package(self, name: str) -> str | None:
        """Name and version of the third-party package that registered `name`; None for others."""
        self._load()
        return self._packages.get(name)

    def unknown(self, name: str) -> str:
        """Message about a name that is not registered: the known ones, the nearest or how to add one."""
        self._load()
        failed = "".join(f"; failed to load: {plugin}" for plugin in self.broken)
        if self.adding:
            return f"supported: {', '.join(sorted(self._classes))}; {self.adding}{failed}"
        return nearest(name, self._classes) + failed

    def _load(self) -> None:
        if self._loaded:
            return
        with _LOCK:  # a second thread waits until everything is there; the imports below may come back here
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                import_module(self.builtin)
                entries = sorted(entry_points(group=self.group), key=lambda e: (_package(e).lower(), e.name))
                self.plugins = [self._load_plugin(entry) for entry in entries]
                self._loaded = True
            finally:
                self._loading = False
        for plugin in self.broken:
            warn_caller(f"{self.what} entry point {plugin} - it was left out, the others are not affected")

    def _load_plugin(self, entry: EntryPoint) -> Plugin:
        plugin, start = Plugin(entry.name, entry.value, _package(entry)), len(_REGISTERED)
        module = entry.value.partition(":")[0].strip()
        before, imported = set(self._classes), module in sys.modules
        try:
            if not entry.pattern.match(entry.value):
                raise ValueError(f"{entry.value!r} is not of the form 'module' or 'module:name'")
            with contextlib.redirect_stdout(sys.stderr):
                loaded = entry.load()
            if isinstance(loaded, type):
                self.register(loaded)
            if before == set(self._classes) and not (imported and self._names_of(module)):
                raise ArgumentError(
                    f"it registers no {self.what}; put @register_{self.what} above a class of that module"
                )
        except BaseException as error:  # a third party's module may raise anything, SystemExit too
            _remove_from(start)
            if isinstance(error, KeyboardInterrupt):
                raise
            text = " ".join(str(error).split())
            reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
            plugin = dataclasses.replace(plugin, reason=reason)
        for name in self._names_of(module):  # also what the package registered when the caller imported it
            self._packages.setdefault(name, plugin.package)
        return plugin

    def _names_of(self, module: str) -> list[str]:
        """Names of classes from the top-level package of a module."""
        top = module.partition(".")[0]
        return [name for name, cls in self._classes.items() if cls.__module__.partition(".")[0] == top]


def _package(entry: EntryPoint) -> str:
    """Name and version of the distribution that an entry point belongs to."""
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _remove_from(start: int) -> None:
    """Remove what modules registered that Python has dropped, because their import failed, or a parent's did."""
    for table, name, module in _REGISTERED[start:]:
        parts = module.split(".")
        if any(".".join(parts[:count]) not in sys.modules for count in range(1, len(parts) + 1)):
            table.pop(name, None)
    del _REGISTERED[start:]


def check_method_class(cls: type[Any], base: type[Any]) -> None:
    """Refuse a class that cannot be used as a compression method.

    Args:
        cls: anything that derives from `base`.
        base: `vidcompress.core.method.Method`.

    Raises:
        ArgumentError: naming the class, what is wrong with it and what to do.
    """
    who = f"method {cls.__name__}"
    if "__dataclass_params__" not in vars(cls):  # its base class is frozen, so a dataclass must be frozen too
        raise ArgumentError(
            f"{who} must be a frozen dataclass, because its fields are its options; put @dataclass(frozen=True) "
            "directly above the class, below @register_method"
        )
    for name in ("name", "summary", "modalities"):
        if not getattr(cls, name, None):
            raise ArgumentError(f"{who} must define the class attribute {name!r}")
    kinds = cls.modalities
    # Inside the language model every token comes with the prompt, so that there is no gap to scale.
    policies = ("contiguous", "original", *(() if cls.where == "inside" else ("scaled",)))
    for name, allowed, fits in (
        ("summary", "one line of text", isinstance(cls.summary, str) and "\n" not in cls.summary),
        (
            "modalities",
            "a frozenset of 'image' and 'video'",
            isinstance(kinds, frozenset) and kinds <= {"image", "video"},
        ),
        ("positions", f"one of {', '.join(policies)}", cls.positions in policies),
        ("exact", "True or False", isinstance(cls.exact, bool)),
        ("uses_budget", "True or False", isinstance(cls.uses_budget, bool)),
        ("mass", "one of on, off", cls.mass in ("on", "off")),
    ):
        if not fits:
            raise ArgumentError(f"{who}: {name} must be {allowed}, got {getattr(cls, name)!r}")
    for field in dataclasses.fields(cls):
        _check_option(field, base, who)
    _check_members(cls, base, who)
    try:
        hash(cls())
    except Exception as error:
        raise ArgumentError(
            f"{who} cannot be made with its own defaults ({type(error).__name__}: {error})"
        ) from error


def _check_option(field: dataclasses.Field[Any], base: type[Any], who: str) -> None:
    name = field.name
    if name in vars(base).get("__annotations__", {}):
        raise ArgumentError(
            f"{who} annotates {name!r}, which makes it an option; leave the annotation out or write "
            f"{name}: ClassVar[...] = ..."
        )
    if name in CALL_ARGUMENTS:
        raise ArgumentError(
            f"{who} has the option {name!r}, which is an argument of compress_inputs or VisualQA; call it otherwise"
        )
    if field.init and field.default is field.default_factory is dataclasses.MISSING:
        raise ArgumentError(f"{who}: option {name!r} has no default; give it one")


def check_adapter_class(cls: type[Any], base: type[Any]) -> None:
    """Refuse a class that cannot be used as an adapter.

    Args:
        cls: anything that derives from `base`.
        base: `vidcompress.adapters.Adapter`.

    Raises:
        ArgumentError: naming the class, what is wrong with it and what to do.
    """
    who = f"adapter {cls.__name__}"
    for name in ("model_types", "image_keys", "video_keys", "refused_keys"):
        value = getattr(cls, name)
        if not isinstance(value, tuple) or not all(isinstance(entry, str) and entry for entry in value):
            raise ArgumentError(
                f"{who}: {name} must be a tuple of names, such as ('llava_next',), got {value!r}"
            )
    if not cls.model_types:
        raise ArgumentError(f"{who} must define model_types, such as ('llava_next',)")
    if not (cls.image_keys or cls.video_keys):
        raise ArgumentError(
            f"{who} must name inputs with pixels in image_keys or video_keys, such as ('pixel_values',)"
        )
    _check_members(cls, base, who)


def _check_members(cls: type[Any], base: type[Any], who: str) -> None:
    """Refuse abstract methods that are missing, and functions where the base class has a property."""
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ArgumentError(f"{who} does not define {', '.join(missing)}, which its base class leaves to it")
    for name in dir(base):
        if isinstance(getattr_static(base, name), (property, cached_property)):
            own = getattr_static(cls, name)
            if isfunction(own) or isinstance(own, (staticmethod, classmethod)):
                raise ArgumentError(
                    f"{who}: {name} must be a property or a plain value; put @property above it"
                )

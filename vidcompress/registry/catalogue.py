"""Classes by name: in-tree ones by import, third-party ones by entry point, each name once.

Entry points of a group, such as `vidcompress.methods`, are loaded once, on first use, in the order of their packages'
names. In-tree classes come first, and of two packages that claim one name the second is refused. An entry point that
fails leaves nothing behind and harms no other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import RLock
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from vidcompress.errors import ArgumentError, nearest, warn_caller
from vidcompress.registry.entry_points import Broken, Plugin, installed

T = TypeVar("T", bound=type[Any])

_LOCK = RLock()
"""One for both registries, since a package may register in both while either is being filled."""


_REGISTRIES: WeakSet[Any] = WeakSet()
_TABLES: list[dict[Any, Any]] = []
_STATES: list[list[tuple[dict[Any, Any], dict[Any, Any]]]] = []
"""Of each package that is being loaded, the innermost last: the tables with what they held before."""


def roll_back(table: dict[Any, Any]) -> None:
    """Include a table in the roll-back: entries of a package that cannot be loaded are removed again.

    Args:
        table: filled by other packages' modules; what it holds at this call stays.
    """
    _TABLES.append(table)
    for states in _STATES:
        states.append((table, dict(table)))


class Registry(Generic[T]):
    """Classes by name, with lazily imported built-ins and entry points.

    Args:
        what: the noun used in messages.
        group: entry-point group of third-party packages.
        builtin: package whose import registers the in-tree classes.
        register: what to do with a class that an entry point names and that did not register itself.
        adding: how a name is added, where the names are no words of the caller's, so that a near one would mislead.

    Attributes:
        broken: entry points that could not be used.
    """

    loading: Plugin | None = None
    """The entry point that is being loaded, of whichever registry."""

    def __init__(
        self, what: str, group: str, builtin: str, register: Callable[[Any], Any], adding: str = ""
    ) -> None:
        self.what, self.group, self.builtin, self.register = what, group, builtin, register
        self.adding = adding
        self.broken: list[Broken] = []
        self._classes: dict[str, T] = {}
        self._packages: dict[str, str] = {}
        self._loaded = self._loading = False
        _REGISTRIES.add(self)

    def add(self, names: Sequence[str], cls: T) -> None:
        """Register `cls` under all of the names, or under none.

        Raises:
            ArgumentError: an ill-formed name, or one that is taken by another class.
        """
        for name in names:
            if (
                not isinstance(name, str)
                or name != name.lower()
                or not re.fullmatch(r"\w[\w-]*", name, re.ASCII)
            ):
                raise ArgumentError(
                    f"{self.what} name must be lower-case letters, digits, underscores and hyphens, got {name!r}"
                )
            taken = self._classes.get(name)
            if taken is not None and taken is not cls:
                raise ArgumentError(
                    f"{self.what} {name!r} of {self._owner(cls, Registry.loading)} is already registered by "
                    f"{self._owner(taken, None, self._packages.get(name))}; give it another name, or uninstall one"
                )
        for name in names:
            self._classes[name] = cls
            if Registry.loading is not None and _root(cls) == Registry.loading.root:
                self._packages.setdefault(name, Registry.loading.package)

    def get(self, name: str) -> T:
        """Return the class registered as `name`.

        Raises:
            KeyError: unknown name; the message is that of `unknown`.
        """
        self._load()
        if name in self._classes:
            return self._classes[name]
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
        failed = "".join(f"; failed to load: {entry}" for entry in self.broken)
        if self.adding:
            return f"supported: {', '.join(sorted(self._classes))}; {self.adding}{failed}"
        return nearest(name, self._classes) + failed

    def _owner(self, cls: Any, plugin: Plugin | None, package: str | None = None) -> str:
        package = plugin.package if plugin is not None else package
        return f"{cls.__module__}.{cls.__qualname__}" + (f" (package {package})" if package else "")

    def _load(self) -> None:
        if self._loaded:
            return
        with _LOCK:  # a second thread waits until everything is there; the imports below may come back here
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                import_module(self.builtin)
                self.broken = []
                for plugin in installed(self.group):
                    self._load_plugin(plugin)
                self._loaded = True
            finally:
                self._loading = False
        for entry in self.broken:
            warn_caller(f"{self.what} entry point {entry} - it was left out, the others are not affected")

    def _load_plugin(self, plugin: Plugin) -> None:
        outer, Registry.loading = Registry.loading, plugin
        try:
            with _all_or_nothing(plugin.root):
                before, imported = set(self._classes), plugin.module in sys.modules
                loaded = plugin.load()
                if isinstance(loaded, type):
                    self.register(loaded)
                mine = [name for name, cls in self._classes.items() if _root(cls) == plugin.root]
                for name in mine:  # also what the package registered when the caller imported it
                    self._packages.setdefault(name, plugin.package)
                if before == set(self._classes) and not (imported and mine):
                    raise ArgumentError(
                        f"it registers no {self.what}; put @register_{self.what} above a class of that module"
                    )
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  (a third party's module may raise anything, SystemExit too)
            self.broken.append(plugin.broken(error))
        finally:
            Registry.loading = outer


def _root(cls: type[Any]) -> str:
    """The top-level module that a class was written in."""
    return cls.__module__.partition(".")[0]


@contextmanager
def _all_or_nothing(root: str) -> Iterator[None]:
    """Take back what the top-level module `root` registered and imported in a block that fails.

    Its modules are imported anew by the package's next entry point, which may have nothing wrong with it.
    """
    modules = set(sys.modules)
    before = [(registry, dict(registry._classes)) for registry in _REGISTRIES]
    states = [(table, dict(table)) for table in _TABLES]
    _STATES.append(states)
    try:
        yield
    except BaseException:
        for table, entries in states:
            table.clear()
            table.update(entries)
        for registry, names in before:
            for name in [n for n, cls in registry._classes.items() if n not in names and _root(cls) == root]:
                del registry._classes[name]
                registry._packages.pop(name, None)
        for name in set(sys.modules) - modules:
            if name.partition(".")[0] == root:
                del sys.modules[name]
        raise
    finally:
        _STATES.pop()

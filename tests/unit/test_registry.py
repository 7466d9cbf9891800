"""Registries are explicit and refuse: one test per refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from vidcompress import registry
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.methods.base import Method
from vidcompress.registry import (
    METHODS,
    Registry,
    adapter_for,
    available_methods,
    get_method,
    register_method,
)
from vidcompress.selection import Selection


def make(frozen: bool = True, **attributes: Any) -> Any:
    def select(self: Any, tokens: Any, plan: Any) -> Selection:
        raise NotImplementedError

    body = {
        "name": "mine",
        "summary": "does it",
        "modalities": frozenset({"image"}),
        "select": select,
        **attributes,
    }
    cls = type("Mine", (Method,), body)
    return dataclass(frozen=True)(cls) if frozen else cls


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    """A registry that nothing else sees."""
    fresh: Registry[Any] = Registry("method", "vidcompress.no_such_group", "vidcompress.methods")
    monkeypatch.setattr(registry, "METHODS", fresh)
    return fresh


def test_registered_by_name(empty: Registry[Any]) -> None:
    cls = make()
    assert register_method(cls) is cls
    assert register_method(cls) is cls, "twice the same is no conflict"
    assert empty.get("mine") is cls
    assert "mine" in empty.names()


@pytest.mark.parametrize("name", ["", "Mine", "my method", "my.method", None, 3])
def test_bad_names(empty: Registry[Any], name: Any) -> None:
    with pytest.raises(ArgumentError, match="must (be lower-case letters|define the class attribute 'name')"):
        register_method(make(name=name))


def test_taken_names(empty: Registry[Any]) -> None:
    register_method(make())
    with pytest.raises(ArgumentError, match="method 'mine' is already registered by .*Mine"):
        register_method(make())


@pytest.mark.parametrize("what", [int, "globalcom2", None, lambda: None])
def test_only_methods(empty: Registry[Any], what: Any) -> None:
    with pytest.raises(ArgumentError, match="takes a subclass of vidcompress.methods.base.Method"):
        register_method(what)


@pytest.mark.parametrize("missing", ["summary", "modalities"])
def test_missing_attributes(empty: Registry[Any], missing: str) -> None:
    with pytest.raises(ArgumentError, match=f"must define the class attribute '{missing}'"):
        register_method(make(**{missing: None}))


def test_only_frozen_dataclasses(empty: Registry[Any]) -> None:
    @dataclass
    class Thawed:
        name: ClassVar[str] = "thawed"

    with pytest.raises(ArgumentError, match="takes a subclass"):
        register_method(Thawed)


def test_unknown_method_and_option_name_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="unknown method 'globalcom'; known: .*did you mean 'globalcom2'"):
        get_method("globalcom")
    with pytest.raises(
        ArgumentError, match="method 'globalcom2' has no option 'alhpa'; .*did you mean 'alpha'"
    ):
        get_method("globalcom2", alhpa=0.3)
    with pytest.raises(ArgumentError, match="method must be a name or a Method, got 3"):
        get_method(3)


def test_instances_pass_through_and_take_no_options() -> None:
    method = get_method("random", seed=4)
    assert get_method(method) is method
    assert method.seed == 4
    with pytest.raises(ArgumentError, match=r"options \['seed'\] cannot go with a method instance"):
        get_method(method, seed=5)


class _Entry:
    """Stands for an installed entry point."""

    def __init__(self, name: str, load: Any) -> None:
        self.name, self.value, self.load = name, f"package:{name}", load


def test_a_broken_entry_point_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh: Registry[Any] = Registry("method", "some.group", "vidcompress.methods")

    def broken() -> None:
        raise RuntimeError("no such library")

    good = make()
    entries = [_Entry("theirs", broken), _Entry("mine", lambda: fresh.add("mine", good))]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    with pytest.warns(UserWarning, match="method 'theirs' .* failed to load .*RuntimeError: no such library"):
        assert fresh.names() == ["mine"]
    with pytest.raises(
        KeyError, match="unknown method 'theirs'.*failed to load: RuntimeError: no such library"
    ):
        fresh.get("theirs")
    assert fresh.get("mine") is good


def test_the_real_registry_has_the_methods() -> None:
    names = available_methods()
    assert names == sorted(names)
    assert METHODS.get("vidcom2").name == "vidcom2"
    assert METHODS.broken == {}


def test_models_that_nobody_serves() -> None:
    class Config:
        model_type = "no_such_family"

    class Model:
        config = Config()

    with pytest.raises(UnsupportedModelError, match="no adapter for Model .*'no_such_family'.*known: "):
        adapter_for(Model())
    with pytest.raises(
        UnsupportedModelError, match="model must be a transformers model with a config, got int"
    ):
        adapter_for(3)

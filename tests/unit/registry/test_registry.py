"""Registries are explicit and refuse: one test per refusal."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

from vidcompress.adapters.base import Adapter, adapter_for, register_adapter
from vidcompress.core.method import METHODS, Method, ScoredMethod, register_method
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.selection import Selection
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.registry import CALL_ARGUMENTS, Registry, record

IMAGES = frozenset({"image"})


def make(decorated: bool = True, **attributes: Any) -> Any:
    def select(self: Any, batch: Any, budgets: Any) -> list[Selection]:
        raise NotImplementedError

    body = {
        "name": "mine",
        "summary": "does it",
        "modalities": frozenset({"image"}),
        "select": select,
        **attributes,
    }
    cls = type("Mine", (Method,), body)
    return dataclass(frozen=True)(cls) if decorated else cls


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    """A registry that nothing else sees; the methods of the package are in the other one already."""
    available_methods()
    fresh: Registry[Any] = Registry(
        "method", "vidcompress.no_such_group", "vidcompress.methods", register_method
    )
    monkeypatch.setattr("vidcompress.core.method.METHODS", fresh)
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
    with pytest.raises(
        ArgumentError, match="method 'mine' of .*Mine is already registered by .*Mine; give it another"
    ):
        register_method(make())


@pytest.mark.parametrize("what", [int, "globalcom2", None, lambda: None])
def test_only_methods(empty: Registry[Any], what: Any) -> None:
    with pytest.raises(ArgumentError, match="takes a subclass of vidcompress.core.method.Method"):
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


def test_the_real_registry_has_the_methods() -> None:
    names = available_methods()
    assert names == sorted(names)
    assert METHODS.get("vidcom2").name == "vidcom2"
    assert METHODS.broken == []
    assert METHODS.package("vidcom2") is None


BAD_METHODS: list[tuple[dict[str, Any], str]] = [
    ({"inside": lambda self: None}, "Mine: inside must be a property or a plain value; put @property above"),
    ({"modalities": "image"}, "modalities must be a frozenset of 'image' and 'video', got 'image'"),
    (
        {"modalities": frozenset({"sound"})},
        "modalities must be a frozenset of 'image' and 'video', got .*sound",
    ),
    ({"summary": "two\nlines"}, "summary must be one line of text"),
    ({"summary": 3}, "summary must be one line of text, got 3"),
    ({"positions": "renumbered"}, "positions must be one of contiguous, original, scaled, got 'renumbered'"),
    (
        {"positions": "scaled", "where": "inside"},
        "positions must be one of contiguous, original, got 'scaled'",
    ),
    (
        {"positions": "scaled", "where": "inside"},
        "positions must be one of contiguous, original, got 'scaled'",
    ),
    ({"exact": "yes"}, "exact must be True or False, got 'yes'"),
    (
        {"k": 3, "__annotations__": {"k": int}, "__post_init__": lambda self: 1 / 0},
        "cannot be made with its own defaults",
    ),
    ({"__annotations__": {"k": int}}, "option 'k' has no default; give it one"),
    ({"__annotations__": {"name": str}}, "annotates 'name', which makes it an option.*ClassVar"),
    ({"mass": "heavy"}, "mass must be one of on, off, got 'heavy'"),
    ({"mass": True}, "mass must be one of on, off, got True"),
    (
        {"mass_cap": 4, "__annotations__": {"mass_cap": int}},
        "option 'mass_cap', which is an argument of compress_inputs",
    ),
    (
        {"policy": "x", "__annotations__": {"policy": str}},
        "option 'policy', which is an argument of compress_inputs",
    ),
]


@pytest.mark.parametrize(("body", "message"), BAD_METHODS)
def test_methods_that_cannot_work_are_refused(
    empty: Registry[Any], body: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        register_method(make(**body))
    assert "mine" not in empty._classes


def test_abstract_methods_are_named(empty: Registry[Any]) -> None:
    cls = dataclass(frozen=True)(
        type("Mine", (ScoredMethod,), {"name": "mine", "summary": "s", "modalities": IMAGES})
    )
    with pytest.raises(
        ArgumentError, match="method Mine does not define scores, which its base class leaves to it"
    ):
        register_method(cls)


def test_the_decorators_in_the_wrong_order_are_refused(empty: Registry[Any]) -> None:
    with pytest.raises(ArgumentError, match=r"put @dataclass\(frozen=True\) directly above the class"):
        register_method(make(decorated=False))


def test_options_that_would_never_arrive_are_those_of_the_public_functions() -> None:
    import vidcompress
    from vidcompress.tools.cost import estimate

    takers = (
        vidcompress.compress_inputs,
        vidcompress.compress,
        vidcompress.VisualQA.__init__,
        estimate,
    )
    named: set[str] = set()
    for taker in (*takers, vidcompress.VisualQA.from_pretrained, vidcompress.VisualQA.using):
        kinds = inspect.signature(taker).parameters.values()
        named |= {p.name for p in kinds if p.kind is not inspect.Parameter.VAR_KEYWORD} - {"self"}
    assert named == CALL_ARGUMENTS


def adapter(**attributes: Any) -> Any:
    body = {
        "model_types": ("nobodys",),
        "has_cls": True,
        "visuals": lambda self, inputs: ([], []),
        "encode": lambda self, visuals, evidence=(), frames=None, max_views=16: [],
        **attributes,
    }
    return type("Theirs", (Adapter,), {key: value for key, value in body.items() if value is not None})


BAD_ADAPTERS: list[tuple[dict[str, Any], str]] = [
    (
        {"model_types": "llava"},
        r"model_types must be a tuple of names, such as \('llava_next',\), got 'llava'",
    ),
    ({"model_types": ()}, "must define model_types"),
    ({"model_types": (3,)}, "model_types must be a tuple of names"),
    ({"model_types": ("LLaVA",)}, "adapter name must be lower-case"),
    ({"image_keys": ["pixel_values"]}, "image_keys must be a tuple of names"),
    ({"image_keys": ()}, "must name inputs with pixels in image_keys or video_keys"),
    ({"has_cls": lambda self: True}, "has_cls must be a property or a plain value; put @property above it"),
    ({"has_cls": None}, "does not define has_cls, which its base class leaves to it"),
    ({"encode": None, "visuals": None}, "does not define encode, visuals"),
    ({"decoder": staticmethod(len)}, "decoder must be a property or a plain value; put @property above it"),
]


@pytest.mark.parametrize(("body", "message"), BAD_ADAPTERS)
def test_adapters_that_cannot_work_are_refused(
    monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], message: str
) -> None:
    fresh: Registry[Any] = Registry(
        "adapter", "vidcompress.no_such_group", "vidcompress.adapters", register_adapter
    )
    monkeypatch.setattr("vidcompress.adapters.base.ADAPTERS", fresh)
    assert register_adapter(adapter()).model_types == ("nobodys",)
    fresh._classes.clear()
    with pytest.raises(ArgumentError, match=message):
        register_adapter(adapter(**body))
    assert not fresh._classes


def test_of_two_model_types_of_which_one_is_taken_none_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh: Registry[Any] = Registry(
        "adapter", "vidcompress.no_such_group", "vidcompress.adapters", register_adapter
    )
    monkeypatch.setattr("vidcompress.adapters.base.ADAPTERS", fresh)
    register_adapter(adapter())
    with pytest.raises(
        ArgumentError, match="adapter 'nobodys' of .*Theirs is already registered by .*Theirs"
    ):
        register_adapter(adapter(model_types=("new", "nobodys")))
    assert set(fresh._classes) == {"nobodys"}


class FakeEntryPoint:
    """An entry point of the module `name`, whose loading runs `action`."""

    dist = None
    pattern = EntryPoint.pattern

    def __init__(self, name: str, action: Callable[[], Any]) -> None:
        self.name = self.value = name
        self.load = action


def load(monkeypatch: pytest.MonkeyPatch, **actions: Callable[[], Any]) -> Registry[Any]:
    """A registry that has loaded entry points of modules of these names."""
    entries = [FakeEntryPoint(name, action) for name, action in actions.items()]
    monkeypatch.setattr("vidcompress.registry.entry_points", lambda group: entries)
    fresh: Registry[Any] = Registry("method", "no.group", "vidcompress.methods", lambda cls: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh.names()
    return fresh


def test_what_modules_that_fail_put_into_a_table_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops a module whose import fails; `json.no_such` stands for one, `json.decoder` for one that loaded."""
    table, plain = {"ours": 1}, {"ours": 1}

    def fails() -> None:
        record(table, "loaded", 2, "json.decoder")
        for module in ("json.no_such", "no_such.decoder", "no_such"):
            record(table, module, 2, module)
        plain["theirs"] = 2
        raise SystemExit(3)

    registry = load(monkeypatch, first=fails, second=fails)
    assert [plugin.reason for plugin in registry.broken] == ["SystemExit: 3", "SystemExit: 3"]
    assert table == {"ours": 1, "loaded": 2}
    assert plain == {"ours": 1, "theirs": 2}


def test_what_a_package_that_works_puts_into_a_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    table: dict[str, int] = {}

    def works() -> type[Any]:
        record(table, "theirs", 1, "no_such_module")  # as of a file that runpy has run
        registry.add(["theirs"], FakeEntryPoint)
        return FakeEntryPoint

    def fails() -> None:
        record(table, "other", 2, "no_such_module")
        raise ValueError("no")

    registry: Registry[Any] = Registry("method", "no.group", "vidcompress.methods", lambda cls: None)
    entries = [FakeEntryPoint("a", works), FakeEntryPoint("b", fails)]
    monkeypatch.setattr("vidcompress.registry.entry_points", lambda group: entries)
    with pytest.warns(UserWarning, match="no"):
        assert registry.names() == ["theirs"]
    assert table == {"theirs": 1}


def test_an_interrupt_while_a_package_is_imported_leaves_nothing_half_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table: dict[str, int] = {}
    presses = [KeyboardInterrupt()]

    def action() -> type[Any]:
        record(table, "theirs", 1, "no_such_module")
        if presses:
            raise presses.pop()
        registry.add(["theirs"], FakeEntryPoint)
        return FakeEntryPoint

    registry: Registry[Any] = Registry("method", "no.group", "vidcompress.methods", lambda cls: None)
    monkeypatch.setattr("vidcompress.registry.entry_points", lambda group: [FakeEntryPoint("a", action)])
    with pytest.raises(KeyboardInterrupt):
        registry.names()
    assert table == {}
    assert registry.names() == ["theirs"]
    assert table == {"theirs": 1}


def test_models_that_nobody_serves() -> None:
    class Config:
        model_type = "no_such_family"

    class Model:
        config = Config()

    with pytest.raises(UnsupportedModelError, match="no adapter for Model .*'no_such_family'.*supported: "):
        adapter_for(Model())
    with pytest.raises(
        UnsupportedModelError, match="model must be a transformers model with a config, got int"
    ):
        adapter_for(3)

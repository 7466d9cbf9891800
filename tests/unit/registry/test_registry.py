"""Registries are explicit and refuse: one test per refusal."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from vidcompress.adapters.base import Adapter, adapter_for, register_adapter
from vidcompress.core.method import METHODS, Method, ScoredMethod, register_method
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.selection import Selection
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.registry import catalogue
from vidcompress.registry.catalogue import Registry
from vidcompress.registry.signatures import CALL_ARGUMENTS

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


def swapped(self: Any, budget: Any) -> Selection:
    raise NotImplementedError


def more(self: Any, tokens: Any, budget: Any, extra: Any) -> Selection:
    raise NotImplementedError


def by_keyword(self: Any, *, tokens: Any, budget: Any) -> Selection:
    raise NotImplementedError


def wider(self: Any, tokens: Any, budget: Any, verbose: bool = False, **rest: Any) -> Selection:
    raise NotImplementedError


BAD_METHODS: list[tuple[dict[str, Any], str]] = [
    (
        {"select": swapped},
        r"Mine: select\(self, budget\) cannot be called as select\(self, batch, budgets\) .*too many",
    ),
    (
        {"select": more},
        r"select\(self, tokens, budget, extra\) cannot be called.*missing a required argument: 'extra'",
    ),
    ({"select": by_keyword}, r"select\(self, \*, tokens, budget\) cannot be called.*too many positional"),
    ({"select": 3}, "Mine: select must be a method, got 3"),
    (
        {"needs": lambda self, modality: ()},
        r"needs\(self, modality\) cannot be called as needs\(self, modality, has_cls\)",
    ),
    ({"frames": lambda self: None}, r"frames\(self\) cannot be called as frames\(self, layout, budget\)"),
    ({"modalities": "image"}, "modalities must be a frozenset of 'image' and 'video', got 'image'"),
    (
        {"modalities": frozenset({"sound"})},
        "modalities must be a frozenset of 'image' and 'video', got .*sound",
    ),
    ({"summary": "two\nlines"}, "summary must be one line of text"),
    ({"summary": 3}, "summary must be one line of text, got 3"),
    ({"positions": "renumbered"}, "positions must be one of contiguous, original, got 'renumbered'"),
    ({"exact": "yes"}, "exact must be True or False, got 'yes'"),
    (
        {"k": 3, "__annotations__": {"k": int}, "__post_init__": lambda self: 1 / 0},
        "cannot be made with its own defaults",
    ),
    ({"__annotations__": {"k": int}}, "option 'k' has no default; give it one"),
    ({"__annotations__": {"name": str}}, "annotates 'name', which makes it an option.*ClassVar"),
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


def test_overrides_may_take_more(empty: Registry[Any]) -> None:
    register_method(make(select=wider))
    assert empty.get("mine").name == "mine"


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
    (
        {"encode": lambda self, visuals: []},
        r"encode\(self, visuals\) cannot be called as encode\(self, visuals, evidence=",
    ),
    (
        {"encode": lambda self, visuals, evidence, frames, max_views: []},
        "missing a required argument: 'evidence'",
    ),
    ({"visuals": lambda self: ([], [])}, r"visuals\(self\) cannot be called as visuals\(self, inputs\)"),
    (
        {"__init__": lambda self, model, path: None},
        r"__init__\(self, model, path\) cannot be called as __init__",
    ),
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


class FakePlugin:
    """An entry point whose loading runs `action`."""

    module = root = "no_such_module"
    package = "theirs 1.0"

    def __init__(self, action: Callable[[], Any]) -> None:
        self.load = action

    def broken(self, error: BaseException) -> BaseException:
        return error


def load(monkeypatch: pytest.MonkeyPatch, *actions: Callable[[], Any]) -> Registry[Any]:
    """A registry that has loaded entry points with these actions."""
    monkeypatch.setattr(catalogue, "installed", lambda group: [FakePlugin(action) for action in actions])
    fresh: Registry[Any] = Registry("method", "no.group", "vidcompress.methods", lambda cls: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh.names()
    return fresh


def test_tables_are_rolled_back_where_a_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_TABLES", [])
    early, late, plain = {"ours": 1}, {"ours": 1}, {"ours": 1}
    catalogue.roll_back(early)

    def fails() -> None:
        catalogue.roll_back(late)  # its module is imported by the package for the first time
        for table in (early, late, plain):
            table["theirs"] = 2
        early["ours"] = 3
        raise SystemExit(3)

    assert len(load(monkeypatch, fails, fails).broken) == 2
    assert early == late == {"ours": 1}
    assert plain == {"ours": 1, "theirs": 2}


def test_what_a_package_that_works_puts_into_a_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_TABLES", [])
    table: dict[str, int] = {}
    catalogue.roll_back(table)

    def works() -> type[Any]:
        table["theirs"] = 1
        fresh.add(["theirs"], FakePlugin)
        return FakePlugin

    def fails() -> None:
        table["other"] = 2
        raise ValueError("no")

    fresh: Registry[Any] = Registry("method", "no.group", "vidcompress.methods", lambda cls: None)
    monkeypatch.setattr(catalogue, "installed", lambda group: [FakePlugin(works), FakePlugin(fails)])
    with pytest.warns(UserWarning, match="no"):
        assert fresh.names() == ["theirs"]
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

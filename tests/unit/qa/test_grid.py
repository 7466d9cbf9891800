"""Experiment grid of a comparison: its variants, and the arguments that are refused before a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from vidcompress.core.method import METHODS, Method
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.errors import ArgumentError, BudgetError, UnsupportedInputError
from vidcompress.qa.compare.grid import plan_comparison
from vidcompress.qa.compare.run import agreement

IMAGE = {"question": "what?", "image": "a.png"}
VIDEO = {"question": "what?", "video": "a.mp4"}
BOTH = {**IMAGE, **VIDEO}


def plan(
    item: dict[str, Any] = IMAGE, methods: Any = None, **changes: Any
) -> tuple[list[Any], dict[str, str]]:
    arguments: dict[str, Any] = dict(
        retention_ratios=None, max_tokens=None, controls=True, repeats=3, seed=None, common={}
    )
    _, variants, skipped = plan_comparison(item, methods, **{**arguments, **changes})
    return variants, skipped


def rows(variants: list[Any]) -> list[tuple[str, float | int | None]]:
    budgets = [e.settings.budget for e in variants]
    return [
        (e.label, b.max_tokens if b.ratio is None else float(b.ratio))
        for e, b in zip(variants, budgets, strict=True)
    ]


@pytest.mark.parametrize("item", [IMAGE, VIDEO, BOTH])
def test_by_default_every_method_that_serves_the_input(item: dict[str, Any]) -> None:
    variants, skipped = plan(item)
    modalities = {"image", "video"} & set(item)
    serving = {name for name in available_methods() if modalities <= METHODS.get(name).modalities}
    assert {entry.label for entry in variants} == serving
    assert set(skipped) == set(available_methods()) - serving
    assert all("inputs only" in reason for reason in skipped.values())
    assert rows(variants)[0] == ("none", 1.0)
    assert rows(variants)[-6:] == [
        (name, ratio) for name in ("random", "uniform") for ratio in (0.5, 0.25, 0.1)
    ]


def test_controls_stand_beside_what_is_named_unless_left_out() -> None:
    both = [("random", 0.5), ("uniform", 0.5)]
    first = [("none", 1.0), ("globalcom2:tau=5", 0.5)]
    assert rows(plan(methods="globalcom2:tau=5", retention_ratios=0.5)[0]) == [*first, *both]
    assert rows(plan(methods=["globalcom2:tau=5"], retention_ratios=["0.5"], controls=False)[0]) == first
    assert rows(plan(methods="none", retention_ratios=0.5)[0]) == [first[0], *both]
    assert rows(plan(methods=["uniform", "uniform"], max_tokens=[9, 9, 8])[0]) == [
        ("none", 1.0),
        *(("uniform", 9), ("uniform", 8)),
        *(("random", 9), ("random", 8)),
    ]
    variants, _ = plan(controls=False)
    assert not {"random", "uniform"} & {entry.label for entry in variants}


def test_options_and_seeds_go_where_they_belong() -> None:
    variants, _ = plan(
        methods=[
            "globalcom2:tau=5,positions=original",
            "random:seed=7",
            get_method("random", seed=9),
            "random",
        ],
        retention_ratios=0.5,
        controls=False,
        seed=3,
        common={"separators": "drop"},
    )
    assert [entry.label for entry in variants] == [
        *("none", "globalcom2:tau=5,positions=original", "random:seed=7", "random:seed=9", "random")
    ]
    one = variants[1]
    assert (one.settings.method.tau, one.settings.resolved_positions, one.settings.separators) == (
        5,
        "original",
        "drop",
    )
    assert [entry.settings.method.seed for entry in variants[2:]] == [7, 9, 3]
    for entry in variants:
        assert entry.settings.resolved_separators == "drop"


def test_the_mass_is_that_of_all_rows_but_what_a_label_states() -> None:
    asked: dict[str, Any] = {"methods": "globalcom2,random:mass=off", "retention_ratios": 0.5}
    common = {"mass": "on", "mass_strength": 0.5, "mass_cap": 16}
    variants, _ = plan(**asked, common=common)
    weighs = {entry.label: entry.settings.weighs for entry in variants}
    assert weighs == {
        "none": False,
        "globalcom2": True,
        "random:mass=off": False,
        "random": True,
        "uniform": True,
    }
    assert {entry.settings.mass_strength for entry in variants} == {0.5}
    assert {entry.settings.mass_cap for entry in variants} == {16.0}
    assert not any(entry.settings.weighs for entry in plan(**asked)[0])


def test_what_does_not_serve_is_refused_by_name() -> None:
    message = "methods: 'vidcom2' serves video inputs only, and the question is about image; leave it out"
    with pytest.raises(UnsupportedInputError, match=message):
        plan(methods="globalcom2,vidcom2")
    with pytest.raises(
        UnsupportedInputError, match="'frames' serves video inputs only.* about image and video"
    ):
        plan(BOTH, methods=["frames"])
    assert plan(VIDEO, methods="vidcom2")[1] == {}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"item": {"question": "what?"}}, ArgumentError, "nothing to compress; pass image="),
        ({"item": {"question": ""}}, ArgumentError, "question=''"),
        ({"methods": "globalcom3"}, ArgumentError, "unknown method 'globalcom3'"),
        ({"methods": "globalcom2:tua=5"}, ArgumentError, "has no option 'tua'"),
        ({"methods": []}, ArgumentError, r"methods=\[\]: name at least one"),
        ({"methods": " , "}, ArgumentError, "methods=' , ': name at least one"),
        ({"methods": [5]}, ArgumentError, "methods: 5 is of type int; pass names"),
        ({"retention_ratios": [0.5, 2]}, BudgetError, "retention_ratio must be .* got 2"),
        ({"retention_ratios": "half"}, BudgetError, "got 'half'"),
        ({"retention_ratios": []}, ArgumentError, r"retention_ratios=\[\]: give at least one"),
        ({"max_tokens": 0}, BudgetError, "max_tokens must be an integer of at least 1, got 0"),
        ({"max_tokens": [8], "retention_ratios": [0.5]}, ArgumentError, "exclude each other"),
        (
            {"max_tokens": 8, "common": {"policy": "reference"}},
            ArgumentError,
            "cannot go with policy='reference'",
        ),
        ({"common": {"policy": "sloppy"}}, ArgumentError, "policy must be one of"),
        ({"repeats": 0}, ArgumentError, "repeats=0: must be a whole number of at least 1"),
        ({"repeats": True}, ArgumentError, "repeats=True"),
        ({"options": {"retention_ratio": 0.5}}, ArgumentError, r"retention_ratio=0.5: compare takes several"),
        ({"options": {"method": "pool"}}, ArgumentError, r"method='pool': .* pass methods=\[...\]"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(**changes)


@pytest.fixture
def strange() -> Iterator[str]:
    """A registered method that cannot even be made."""

    @dataclass(frozen=True)
    class Strange(Method):
        name = "strange"
        summary = "raises"
        modalities = frozenset({"image"})

        def __post_init__(self) -> None:
            raise RuntimeError("no luck")

        def select(self, batch: Any, plans: Any) -> Any: ...

    METHODS._classes["strange"] = Strange
    yield "strange"
    METHODS._classes.pop("strange")


def test_a_broken_method_harms_no_other_unless_named(strange: str) -> None:
    variants, skipped = plan()
    assert skipped[strange] == "RuntimeError: no luck"
    assert "globalcom2" in {entry.label for entry in variants}
    with pytest.raises(RuntimeError, match="no luck"):
        plan(methods=[strange])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", 1.0),
        ("a red circle", "A  RED circle", 1.0),
        ("a", "", 0.0),
        ("a b", "b c", 0.5),
        ("a a", "a", 2 / 3),
    ],
)
def test_agreement_is_the_f1_of_words(one: str, other: str, expected: float) -> None:
    assert agreement(one, other) == pytest.approx(expected)
    assert agreement(other, one) == pytest.approx(expected)

"""Sets of cells of the mass measurements: which methods, levers and ratios run on which columns, by priority.

A column is a model, a medium and a clip length. All sets of a column ask the same questions, so their cells can be
paired across result files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Final, Literal, get_args, get_origin, get_type_hints

from vidcompress.core.method import METHODS, Method
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.method_spec import with_argument
from vidcompress.errors import ArgumentError, nearest

from .accuracy import COMPOSITIONS, Medium, Sweep

FIRST_SEED: Final = 900_000
"""First seed of the questions that decide: held out, behind those of the published tables (from 0) and behind those on
which census was chosen and looked at (from 500,000, 600,000, 620,000, 700,000 and 800,000)."""

OURS: Final = "census"
"""The method that the measurements are about."""

COMPARED: Final = (OURS, "divprune", "globalcom2", "random", "uniform")
"""Methods of the ablations: ours, the best of the table, the namesake, and the controls."""

RATIOS: Final = (0.5, 0.25, 0.1, 0.05)
FEW: Final = (0.25, 0.1)
STRENGTHS: Final = (0.0, 0.5, 0.75)
"""Strengths beside 1, which every set with mass has."""
CAPS: Final = (8, 32)


@dataclass(frozen=True)
class Column:
    """One model and medium.

    Attributes:
        model: folder under models/.
        medium: `image` or `clip`.
        axes: whether positions have axes, so that `original` is the only policy.
        frames: frames per clip; of images 8, which nothing reads.
        questions: questions per cell.
    """

    model: str
    medium: Medium
    axes: bool = False
    frames: int = 8
    questions: int = 1000

    @property
    def name(self) -> str:
        """Name in files and on the command line."""
        return f"{self.model}-{self.medium}" + (f"-{self.frames}" if self.frames != 8 else "")

    @property
    def title(self) -> str:
        """Words for tables and figures."""
        frames = f" of {self.frames} frames" if self.frames != 8 else ""
        return f"{self.model}, {self.medium}s{frames}"


COLUMNS: Final = (
    Column("tiny-onevision", "clip"),
    Column("tiny-onevision", "image"),
    Column("tiny-next", "image"),
    Column("tiny-qwen", "clip", axes=True),
    Column("tiny-qwen", "image", axes=True),
)
LONG: Final = tuple(Column("tiny-onevision", "clip", frames=n, questions=400) for n in (32, 64))


@dataclass(frozen=True)
class CellSet:
    """Cells that are run together.

    Attributes:
        name: on the command line and in files.
        what: one line of plain words.
        ratios: retention ratios.
        methods: function of a column that lists the labels of the methods.
        columns: where it is run.
    """

    name: str
    what: str
    ratios: tuple[float, ...]
    methods: Callable[[Column], list[str]]
    columns: tuple[Column, ...] = COLUMNS

    def sweep(self, column: Column, questions: int | None = None, batch_size: int = 20) -> Sweep:
        """The sweep of one column.

        Args:
            column: one of `columns`.
            questions: number of questions; None is that of the column.
            batch_size: questions per batch; it decides which tokens `random` draws.
        """
        return Sweep(
            column.medium,
            column.questions if questions is None else questions,
            self.ratios,
            tuple(dict.fromkeys(self.methods(column))),
            batch_size,
            column.frames,
            first_seed=FIRST_SEED,
        )


def serving(medium: Medium) -> list[str]:
    """Names of the methods that serve a medium, `none` left out."""
    modality = "video" if medium == "clip" else "image"
    return [n for n in available_methods() if n != "none" and modality in METHODS.get(n).modalities]


def levers(label: str, column: Column, positions: str | None = "original", mass: str | None = "on") -> str:
    """A label with levers, without those that are the defaults of its methods.

    Args:
        label: a method, or a composition.
        column: a column whose positions have axes serves `original` only, which is left out.
        positions: policy on positions, or None. mass: `on`, `off` or None.
    """
    parts = [METHODS.get(name) for name in label.split("+")]
    policies = {_positions(part, column) for part in parts}
    if mass is not None and {part.mass for part in parts} != {mass}:
        label = with_argument(label, "mass", mass)
    if positions is not None and not column.axes and policies != {positions}:
        label = with_argument(label, "positions", positions)
    return label


def _positions(method: type[Method], column: Column) -> str:
    """Default policy of a method; pictures and clips of 8 frames are not scaled, so that it is `original` there."""
    return "original" if method.positions == "scaled" and column.frames <= 8 else method.positions


def _main(column: Column) -> list[str]:
    names = _ours_first(serving(column.medium))
    return [*names, *(levers(name, column) for name in names)]


def _compositions(column: Column) -> list[str]:
    return [*COMPOSITIONS, *(levers(label, column) for label in COMPOSITIONS)]


def _alone(column: Column) -> list[str]:
    if column.axes:  # there is one lever, which is in the main set
        return []
    names = _ours_first(serving(column.medium))
    mass = [levers(name, column, positions=None) for name in names]
    places = [levers(name, column, mass=None) for name in names]
    known = set(_main(column))
    off = [levers(OURS, column, positions=None, mass="off")] if OURS in names else []
    return [label for label in (*off, *places, *mass) if label not in known]


def _strength(column: Column) -> list[str]:
    both = [levers(name, column) for name in (OURS, "divprune") if name in serving(column.medium)]
    changes = [("mass_strength", f"{s:g}") for s in STRENGTHS] + [("mass_cap", f"{cap}") for cap in CAPS]
    return [with_argument(label, *change) for label in both for change in changes]


def _places(column: Column) -> list[str]:
    names = [name for name in COMPARED if name in serving(column.medium)]
    labels = [
        levers(name, column, positions=policy)
        for policy in ("contiguous", "original", "scaled")
        for name in names
    ]
    known = {*_main(column), *_alone(column), *_parts(column)} if column in COLUMNS else set()
    return [label for label in (*names, *labels) if label not in known]


def _lengths(column: Column) -> list[str]:
    """Every method before the language model that `_places` leaves out, with mass, under the three policies.

    Methods inside are sent every token, so that no gap can be scaled.
    """
    names = [n for n in serving(column.medium) if n not in COMPARED and get_method(n).inside is None]
    policies = ("contiguous", "original", "scaled")
    return [levers(name, column, positions=policy) for policy in policies for name in names]


def _parts(column: Column) -> list[str]:
    """Census with one part changed; a part that it does not have is left out."""
    if OURS not in serving(column.medium):
        return []
    method = METHODS.get(OURS)
    known = {field.name for field in fields(method)}
    numbers = [("place", "0"), ("floor", "1")] + ([("time", "0")] if column.medium == "clip" else [])
    words = list(_choices(method))
    changes = [(key, value) for key, value in (*numbers, *words) if key in known]
    labels = [with_argument(OURS, *change) for change in changes]
    # Elsewhere ours without mass is in the set of single levers.
    labels += [with_argument(OURS, *(("mass", "off") if column.axes else ("positions", "contiguous")))]
    # Engines without an attention bias have no mass; then the selection alone must keep the composition.
    return labels + [with_argument(with_argument(OURS, *change), "mass", "off") for change in words]


def _choices(method: type[Method]) -> Iterator[tuple[str, str]]:
    """Options of a method that are words, with each word that is not the default."""
    hints = get_type_hints(method)
    for field in fields(method):
        if get_origin(hints[field.name]) is Literal:
            yield from ((field.name, str(w)) for w in get_args(hints[field.name]) if w != field.default)


def _ours_first(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: name != OURS)


SETS: Final = {
    one.name: one
    for one in (
        CellSet("main", "every method as published and with both levers", RATIOS, _main),
        CellSet("levers", "every method with one lever alone; ours without mass", FEW, _alone),
        CellSet("parts", "census with one part changed", FEW, _parts),
        CellSet("strength", "strengths and caps of mass, census and divprune", FEW, _strength),
        CellSet(
            "positions",
            "positions contiguous, original and scaled by clip length, with mass",
            FEW,
            _places,
            (*LONG, COLUMNS[0]),
        ),
        CellSet(
            "lengths",
            "the same positions for every other method",
            (0.1,),
            _lengths,
            LONG,
        ),
        CellSet(
            "compositions", "two methods at once, as published and with both levers", RATIOS, _compositions
        ),
    )
}
"""Sets by name, the most important first."""


def chosen_sets(text: str) -> list[CellSet]:
    """Sets named in a list with commas, in that order; all where it is empty.

    Raises:
        ArgumentError: a set that does not exist.
    """
    return [SETS[name] for name in _named(text, "sets", list(SETS))]


def chosen_columns(text: str) -> list[Column]:
    """Columns named in a list with commas, in that order; all where it is empty.

    Raises:
        ArgumentError: a column that does not exist.
    """
    columns = {column.name: column for column in (*COLUMNS, *LONG)}
    return [columns[name] for name in _named(text, "columns", list(columns))]


def _named(text: str, argument: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ArgumentError(f"{argument}: {name!r} is not known; {nearest(name, known)}")
    return names or known


def plan(sets: list[CellSet], columns: list[Column]) -> list[tuple[CellSet, Column]]:
    """What is run, set by set in the order given, in each the columns in the order given."""
    return [
        (one, column) for one in sets for column in columns if column in one.columns and one.methods(column)
    ]

"""Tables of the mass measurements: accuracy with 95 % intervals, paired differences, question types."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vidcompress.core.method_spec import with_argument
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.statistics import paired_limits

from .overview import CONTROLS, Row
from .sets import CAPS, COLUMNS, COMPARED, FEW, LONG, OURS, RATIOS, STRENGTHS, Column, levers, serving

MARK: Final = re.compile(r"(<!-- mass:([\w/.-]+) -->\n).*?(<!-- /mass -->)", re.DOTALL)
NOT_YET: Final = "Not measured yet.\n"
STANDARD: Final = ("divprune", "random", "uniform")
"""Methods that stand beside ours in every comparison, with both levers."""
POINTS: Final = 0.02
COUNT_POINTS: Final = 0.08


MOST_APART = 0.005
"""Share of the answers with all tokens that may differ between two files: processors round differently, and an answer
that is nearly a tie then goes the other way."""


@dataclass
class Measured:
    """Everything measured on one column, from all sets.

    Attributes:
        column: model, medium and clip length.
        sweep: questions, batch size, frames and first seed, the same in all sets.
        types: type of each question.
        rows: by (method, ratio); `none` at 1.
        origins: provenance of each result file, by the file's name.
        apart: by the name of a file, how many questions the uncompressed model answered otherwise than in the first
            file, as it may on another processor; 0 is left out.
    """

    column: Column
    sweep: dict[str, Any]
    types: list[str]
    rows: dict[tuple[str, float], Row] = field(default_factory=dict)
    origins: dict[str, dict[str, Any]] = field(default_factory=dict)
    apart: dict[str, int] = field(default_factory=dict)

    @property
    def all_tokens(self) -> Row:
        """The uncompressed model."""
        return self.rows["none", 1.0]

    def row(self, label: str, ratio: float) -> Row | None:
        """A cell that has a figure; None where it was not run, or could not reach the budget."""
        found = self.rows.get((label, ratio))
        return found if found is not None and "accuracy" in found else None

    def both(self, name: str, ratio: float) -> Row | None:
        """A method with both levers."""
        return self.row(levers(name, self.column), ratio) if name in serving(self.column.medium) else None

    def best_published(self, ratio: float) -> tuple[str, Row] | None:
        """The best single method as published, controls included and ours left out; ties to the first by name."""
        rows = [
            (label, row)
            for (label, at), row in sorted(self.rows.items())
            if at == ratio and label in serving(self.column.medium) and label != OURS and "accuracy" in row
        ]
        return max(rows, key=lambda pair: pair[1]["accuracy"], default=None)


def read_results(folder: Path) -> dict[str, Measured]:
    """Read the result files of a folder, merged by column, in the order of the columns; those of the main set first.

    Raises:
        ArgumentError: two files of a column do not ask the same questions, or answer more than `MOST_APART` of them
            differently with all tokens.
    """
    columns = {(c.model, c.medium, c.frames if c.medium == "clip" else None): c for c in (*COLUMNS, *LONG)}
    found: dict[str, Measured] = {}
    for path in sorted(
        folder.glob("*.json"), key=lambda path: (not path.name.startswith("main-"), path.name)
    ):
        result = json.loads(path.read_text(encoding="utf-8"))
        column = columns.get(
            (result.get("model"), result.get("medium"), result.get("sweep", {}).get("frames"))
        )
        if column is None:
            continue
        one = found.setdefault(column.name, Measured(column, result["sweep"], result["types"]))
        rows = {(row["method"], row["retention_ratio"]): row for row in result["rows"]}
        whole = rows["none", 1.0]["correct"]
        first = one.rows.get(("none", 1.0), rows["none", 1.0])["correct"]
        apart = sum(a != b for a, b in zip(first, whole, strict=False))
        alike = len(first) == len(whole) and apart <= MOST_APART * len(whole)
        if one.sweep != result["sweep"] or one.types != result["types"] or not alike:
            raise ArgumentError(
                f"{path}: does not ask the questions of the other files of {column.name}, {', '.join(one.origins)}; "
                "measure them again with the same --questions"
            )
        if apart:
            one.apart[path.name] = apart
        one.rows = {**rows, **one.rows}
        one.origins[path.name] = result["provenance"]
    return {c.name: found[c.name] for c in (*COLUMNS, *LONG) if c.name in found}


def compared(row: Row, other: Row) -> tuple[float, float, float]:
    """Mean paired difference of two cells and the ends of its 95 % interval, as shares."""
    pairs = list(zip(row["correct"], other["correct"], strict=True))
    better, worse = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    low, high = paired_limits(better, worse, len(pairs))
    return (better - worse) / len(pairs), low, high


def both_levers(found: dict[str, Measured], ratio: float) -> str:
    """Every method: as published, with both levers, and the difference where its interval leaves out zero in bold."""
    shown = _short(found)

    def cell(one: Measured, name: str) -> str:
        before, after = one.row(name, ratio), one.both(name, ratio)
        if before is None or after is None:
            return _absent(one, name, ratio)
        if before is after:
            return _percent(after)
        return f"{_percent(before)} → {_percent(after)}, {_difference(after, before)}"

    return _by_method(shown, cell)


def one_lever(found: dict[str, Measured], ratio: float) -> str:
    """Every method: as published / original positions / mass / both."""
    shown = [one for one in _short(found) if not one.column.axes]

    def cell(one: Measured, name: str) -> str:
        column = one.column
        labels = [
            name,
            levers(name, column, mass=None),
            levers(name, column, positions=None),
            levers(name, column),
        ]
        if name == OURS:  # its defaults are both; a lever alone is the other one taken away
            labels[:3] = [
                "",
                levers(name, column, None, "off"),
                with_argument(name, "positions", "contiguous"),
            ]
        rows = [one.row(label, ratio) for label in labels]
        return " / ".join("–" if row is None else _percent(row) for row in rows) if any(rows) else ""

    return _by_method(shown, cell)


def ours(found: dict[str, Measured]) -> str | None:
    """Census against all tokens, the best published method, and others with both levers: paired differences."""
    others = [f"{OURS} - {name} with both levers" for name in STANDARD]
    head = [
        "",
        "kept",
        "all tokens",
        OURS,
        "best as published",
        f"{OURS} - best",
        f"{OURS} - all tokens",
        *others,
    ]
    lines = []
    for one in _short(found):
        for ratio in RATIOS:
            row, best = one.row(OURS, ratio), one.best_published(ratio)
            if row is None or best is None:
                continue
            lines.append(
                [
                    one.column.title,
                    f"{ratio:g}",
                    _percent(one.all_tokens),
                    _with_interval(row),
                    f"{best[0]} {_percent(best[1])}",
                    _difference(row, best[1]),
                    _difference(row, one.all_tokens),
                    *(_against(row, one.both(name, ratio)) for name in STANDARD),
                ]
            )
    return _table(head, lines) if lines else None


def by_type(found: dict[str, Measured], ratio: float) -> str | None:
    """Per question type: all tokens, ours, the best as published, and others with both levers, in per cent."""
    kinds = list(dict.fromkeys(kind for one in _short(found) for kind in one.types))
    lines = []
    for one in _short(found):
        best = one.best_published(ratio)
        rows: list[tuple[str, Row | None]] = [("all tokens", one.all_tokens), (OURS, one.row(OURS, ratio))]
        rows += [(f"{best[0]}, as published", best[1])] if best else []
        rows += [(f"{name}, both levers", one.both(name, ratio)) for name in STANDARD]
        lines += [
            [one.column.title, name, *(_of_type(row, kind) for kind in kinds)]
            for name, row in rows
            if row is not None
        ]
    return _table(["", "method", *kinds], lines) if lines else None


def strength(found: dict[str, Measured]) -> str | None:
    """Accuracy, and counting in brackets, by strength and cap of mass."""
    head = ["", "kept", "method", *(f"beta {s:g}" for s in STRENGTHS), "beta 1", *(f"cap {c}" for c in CAPS)]
    lines = []
    for one in _short(found):
        if not any("mass_" in label for label, _ in one.rows):
            continue
        for name in (OURS, *STANDARD):
            base = levers(name, one.column) if name in serving(one.column.medium) else ""
            labels = [
                *(with_argument(base, "mass_strength", f"{s:g}") for s in STRENGTHS),
                base,
                *(with_argument(base, "mass_cap", f"{cap}") for cap in CAPS),
            ]
            for ratio in FEW:
                rows = [one.row(label, ratio) for label in labels]
                if rows[0] is None:  # strength 0 is no mass
                    rows[0] = one.row(levers(name, one.column, mass="off"), ratio)
                if any(rows):
                    lines.append([one.column.title, f"{ratio:g}", name, *map(_with_count, rows)])
    return _table(head, lines) if lines else None


def positions(found: dict[str, Measured]) -> str | None:
    """Accuracy by clip length and policy on positions, with mass; as published and all tokens beside them."""
    head = ["frames", "kept", "method", "as published", "contiguous", "original", "scaled", "all tokens"]
    lines = []
    for one in found.values():
        if one.column.medium != "clip" or one.column.axes:
            continue
        for ratio in FEW:
            for name in dict.fromkeys((*COMPARED, *serving("clip"))):
                policies = ("contiguous", "original", "scaled")
                labels = (
                    [levers(name, one.column, policy) for policy in policies]
                    if name in serving("clip")
                    else []
                )
                rows = [one.row(label, ratio) for label in labels]
                if len([row for row in rows if row is not None]) > 1:
                    shown = [one.row(name, ratio), *rows, one.all_tokens]
                    lines.append([str(one.column.frames), f"{ratio:g}", name, *map(_percent_or_dash, shown)])
    return _table(head, lines) if lines else None


def parts(found: dict[str, Measured]) -> str | None:
    """Census with one part changed: accuracy and the paired difference from census itself."""
    shown = [(one, ratio) for one in _short(found) for ratio in FEW if one.row(OURS, ratio)]
    labels = sorted({label for one, _ in shown for label, _ in one.rows if label.startswith(f"{OURS}:")})
    labels = [label for label in labels if "mass_" not in label]
    lines = []
    for label in (OURS, *labels):
        cells = []
        for one, ratio in shown:
            row, whole = one.row(label, ratio), one.row(OURS, ratio)
            same = row is None or whole is None or row is whole
            cells.append(_percent_or_empty(row) if same else f"{_percent(row)}, {_difference(row, whole)}")
        lines.append([f"`{label}`", *cells])
    for name in STANDARD:
        pairs = [(one.both(name, ratio), one.row(OURS, ratio)) for one, ratio in shown]
        cells = [f"{_percent(r)}, {_difference(r, whole)}" if r and whole else "" for r, whole in pairs]
        lines.append([f"{name} with both levers", *cells])
    head = ["", *(f"{one.column.title}, {ratio:g}" for one, ratio in shown)]
    return _table(head, lines) if shown else None


def compositions(found: dict[str, Measured]) -> str | None:
    """Two methods at once: as published, with both levers, difference, for each ratio they reach."""
    lines = []
    for one in _short(found):
        names = [label for label, _ in one.rows if "+" in label and ":" not in label]
        for name in dict.fromkeys(names):
            cells = []
            for ratio in RATIOS:
                before, after = one.row(name, ratio), one.row(levers(name, one.column), ratio)
                cells.append(
                    "–"
                    if before is None or after is None
                    else f"{_percent(before)} → {_percent(after)}, {_difference(after, before)}"
                )
            lines.append([one.column.title, name, *cells])
    return _table(["", "methods", *(f"{ratio:g}" for ratio in RATIOS)], lines) if lines else None


def claims(found: dict[str, Measured]) -> str | None:
    """What issue 16 asks of census, cell by cell, and whether the figures bear it out."""
    lines: list[list[str]] = []

    def say(one: Measured, ratio: float, what: str, figure: str, holds: bool) -> None:
        lines.append([one.column.title, f"{ratio:g}", what, figure, "yes" if holds else "**no**"])

    for one in _short(found):
        if one.column.axes:
            continue
        for ratio in FEW:
            row, best = one.row(OURS, ratio), one.best_published(ratio)
            if row is None or best is None:
                continue
            if ratio == 0.1:
                mean = compared(row, one.all_tokens)[0]
                figure = _difference(row, one.all_tokens)
                say(one, ratio, "within 2 points of all tokens", figure, mean >= -POINTS)
                count = row["per_type"]["count"] - one.all_tokens["per_type"]["count"]
                say(
                    one,
                    ratio,
                    "counting within 8 points",
                    f"{100 * count:+.1f}",
                    round(count, 4) >= -COUNT_POINTS,
                )
            if one.column.medium == "image" or ratio == 0.1:
                low = compared(row, best[1])[1]
                say(
                    one,
                    ratio,
                    f"above {best[0]}, the best as published",
                    _difference(row, best[1]),
                    low > 0,
                )
    return _table(["", "kept", "what", "measured", "holds"], lines) if lines else None


def full(one: Measured) -> str:
    """Every cell of a column with interval, difference from all tokens, difference from as published, and types."""
    kinds = list(dict.fromkeys(one.types))
    head = ["kept", "method", "tokens", "accuracy %", "- all tokens", "- as published", *kinds]
    lines = []
    for (label, ratio), row in sorted(one.rows.items(), key=lambda item: (-item[0][1], item[0][0])):
        if "accuracy" not in row:
            lines.append([f"{ratio:g}", f"`{label}`", "–", *[""] * (len(head) - 3)])
            continue
        plain = one.row(label.partition(":")[0], ratio)
        lines.append(
            [
                f"{ratio:g}",
                f"`{label}`",
                f"{row['tokens']['kept']:g}",
                _with_interval(row),
                "" if label == "none" else _difference(row, one.all_tokens),
                "" if plain is None or plain is row else _difference(row, plain),
                *(_of_type(row, kind) for kind in kinds),
            ]
        )
    return _table(head, lines)


def origin(found: dict[str, Measured]) -> str:
    """Where the figures come from: questions, seeds, commands, commits and machines."""
    lines = []
    for one in found.values():
        sweep = one.sweep
        lines.append(
            f"- {one.column.title}: {len(one.types)} questions, seeds from {sweep['first_seed']:,} on, batches of "
            f"{sweep['batch_size']}"
        )
        for name, where in one.origins.items():
            commit = (where["commit"] or "unknown")[:10] + (" with local changes" if where["dirty"] else "")
            lines.append(
                f"  - `{name}`: commit {commit}, torch {where['versions']['torch']}, transformers "
                f"{where['versions']['transformers']}, {where['machine']}"
                + (
                    f"; answers with all tokens other than in the first file: {one.apart[name]}"
                    if name in one.apart
                    else ""
                )
            )
    return "\n".join(lines) + "\n"


def content(what: str, folder: Path) -> str:
    """The table that a mark names, or that it was not measured yet.

    Args:
        what: `both/RATIO`, `alone/RATIO`, `census`, `types/RATIO`, `strength`, `positions`, `parts`, `compositions`,
            `claims`, `full/COLUMN`, `origin` or `dose`.
        folder: of the result files.

    Raises:
        ArgumentError: a mark that names no table.
    """
    kind, _, of = what.partition("/")
    if kind == "dose":
        from .dose import dose_table  # which reads a file of its own

        return dose_table(folder) or NOT_YET
    found = read_results(folder)
    whole: dict[str, Callable[[dict[str, Measured]], str | None]] = {
        "census": ours,
        "strength": strength,
        "positions": positions,
        "parts": parts,
        "compositions": compositions,
        "claims": claims,
        "origin": origin,
    }
    by_ratio: dict[str, Callable[[dict[str, Measured], float], str | None]] = {
        "both": both_levers,
        "alone": one_lever,
        "types": by_type,
    }
    if not (what in whole or (kind in by_ratio and of) or kind == "full"):
        raise ArgumentError(
            f"mass:{what} names no table; known: {', '.join((*whole, *by_ratio, 'full', 'dose'))}"
        )
    if what in whole:
        text = whole[what](found) if found else None
    elif kind in by_ratio:
        text = by_ratio[kind](found, float(of)) if _short(found) else None
    else:
        text = full(found[of]) if of in found else None
    return text or NOT_YET


def fill(text: str, folder: Path) -> str:
    """Replace what stands between `<!-- mass:WHAT -->` and `<!-- /mass -->` in a document."""
    return MARK.sub(lambda match: match[1] + content(match[2], folder) + match[3], text)


def _short(found: dict[str, Measured]) -> list[Measured]:
    """Columns of pictures and of clips of the usual length."""
    return [one for one in found.values() if one.column in COLUMNS]


def _by_method(shown: Sequence[Measured], cell: Callable[[Measured, str], str]) -> str:
    """A line per method: ours, the others by name, controls last; a method without any cell is left out."""
    names = {name for one in shown for name in serving(one.column.medium)}
    order = [
        *(name for name in (OURS,) if name in names),
        *sorted(name for name in names if name not in (OURS, *CONTROLS)),
        *(name for name in CONTROLS if name in names),
    ]
    lines = [[name, *(cell(one, name) for one in shown)] for name in order]
    whole = ["all tokens", *(_percent(one.all_tokens) for one in shown)]
    head = ["method", *(one.column.title for one in shown)]
    return _table(head, [whole, *(line for line in lines if any(line[1:]))])


def _absent(one: Measured, name: str, ratio: float) -> str:
    """A dash where the method cannot reach the budget; nothing where it does not serve the medium or was not run."""
    return "–" if (name, ratio) in one.rows else ""


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows) + "\n"


def _against(row: Row, other: Row | None) -> str:
    return "" if other is None else _difference(row, other)


def _difference(row: Row, other: Row) -> str:
    mean, low, high = (100 * x for x in compared(row, other))
    bold = "**" if low > 0 or high < 0 else ""
    return f"{bold}{mean:+.1f}{bold} ({low:+.1f} to {high:+.1f})"


def _percent(row: Row) -> str:
    return f"{100 * row['accuracy']:.1f}"


def _percent_or_dash(row: Row | None) -> str:
    return "–" if row is None else _percent(row)


def _percent_or_empty(row: Row | None) -> str:
    return "" if row is None else _percent(row)


def _with_interval(row: Row) -> str:
    low, high = row["interval"]
    return f"{_percent(row)} ({100 * low:.1f} to {100 * high:.1f})"


def _with_count(row: Row | None) -> str:
    return "–" if row is None else f"{_percent(row)} ({_of_type(row, 'count')})"


def _of_type(row: Row, kind: str) -> str:
    return f"{100 * row['per_type'][kind]:.0f}" if kind in row["per_type"] else ""

"""What pages say about mass and census, by the measurements on new questions."""

from __future__ import annotations

from typing import Any

from .said import ROOT, holds, result, says

README, CARD = "README.md", "vidcompress/methods/cards/census.md"
OURS = "census"
LEVERS = "mass=on,positions=original"


def columns() -> list[dict[str, float | str]]:
    """Of each measured column at a tenth the scores in per cent, by method label."""
    folder = ROOT / "docs" / "results" / "mass"
    tables: list[dict[str, float | str]] = []
    for path in sorted(folder.glob("main-tiny-[no]*.json")):
        rows: list[dict[str, Any]] = result(f"mass/{path.stem}")["rows"]
        at_tenth = {
            row["method"]: 100 * row["accuracy"]
            for row in rows
            if row.get("accuracy") is not None and row["retention_ratio"] in (0.1, 1.0)
        }
        tables.append({**at_tenth, "column": path.stem})
    return tables


def score(table: dict[str, float | str], label: str) -> float:
    """Score of a label."""
    return float(table[label])


def published(table: dict[str, float | str]) -> dict[str, float]:
    """Scores of all other methods as their authors run them."""
    return {
        label: score(table, label)
        for label in table
        if ":" not in label and label not in (OURS, "none", "column")
    }


@says(README)
def a_tenth() -> str:
    tables = columns()
    holds(len(tables) == 3, "pictures and clips of both models")
    lost = max(score(table, "none") - score(table, OURS) for table in tables)
    above = min(score(table, OURS) - max(published(table).values()) for table in tables)
    return (
        f"| `census` | on our test models it loses at most {lost:.1f} points, and is {above:.1f} points or more above "
        "every method as its authors run it |"
    )


@says(CARD)
def level() -> str:
    tables = columns()
    gaps = sorted(score(table, OURS) - score(table, f"divprune:{LEVERS}") for table in tables)
    holds(gaps[0] > 0, "census is first")
    return f"With both levers `divprune` is {gaps[0]:.1f} to {gaps[-1]:.1f} points below census at a tenth"


@says(CARD)
def lost_at_a_tenth() -> str:
    tables = columns()
    ours = sorted(score(table, "none") - score(table, OURS) for table in tables)
    drawn = sorted(score(table, "none") - score(table, f"random:{LEVERS}") for table in tables)
    return (
        f"On 1,000 new questions a column census loses {ours[0]:.1f} to {ours[-1]:.1f} points at a tenth, and random "
        f"with both levers {drawn[0]:.1f} to {drawn[-1]:.1f}."
    )

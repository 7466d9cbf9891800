"""What pages say about mass and census, by the measurements on new questions."""

from __future__ import annotations

from typing import Any

from .said import ROOT, holds, result, says

README, CARD, PAGE = "README.md", "vidcompress/methods/cards/census.md", "docs/methods/mass.md"
OURS = "census"
LEVERS = "mass=on,positions=original"


def columns(models: str = "tiny-[no]*") -> list[dict[str, float | str]]:
    """Of each measured column at a tenth the scores in per cent, by method label.

    Args:
        models: pattern of the models; by default those whose positions have one axis.
    """
    folder = ROOT / "docs" / "results" / "mass"
    tables: list[dict[str, float | str]] = []
    for path in sorted(folder.glob(f"main-{models}.json")):
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


def native_losses() -> tuple[float, float]:
    """Points that census loses at a tenth on the model whose positions have axes: on clips, on pictures."""
    clips, pictures = columns("tiny-qwen*")
    holds(str(clips["column"]).endswith("clip"), "clips come first")
    return score(clips, "none") - score(clips, OURS), score(pictures, "none") - score(pictures, OURS)


@says(README)
def a_tenth() -> str:
    tables = columns()
    holds(len(tables) == 3, "pictures and clips of both models")
    lost = max(score(table, "none") - score(table, OURS) for table in tables)
    above = min(score(table, OURS) - max(published(table).values()) for table in tables)
    clips, pictures = native_losses()
    return (
        f"| `census` | on tiny-onevision and tiny-next it loses at most {lost:.1f} points, and is {above:.1f} points "
        f"or more above every method as its authors run it; on tiny-qwen it loses {clips:.1f} on clips and "
        f"{pictures:.1f} on pictures |"
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


@says(CARD)
def lost_with_axes() -> str:
    clips, pictures = native_losses()
    above = [score(one, OURS) - max(published(one).values()) for one in columns("tiny-qwen*")]
    holds(above[0] > above[1] > 0, "census is first on both")
    return (
        f"On tiny-qwen, whose positions have axes, it loses {clips:.1f} points on clips and {pictures:.1f} on pictures "
        f"at a tenth, {above[0]:.1f} and {above[1]:.1f} above the best method as published"
    )


@says(PAGE)
def cost() -> str:
    few, many = result("mass/cost")["rows"]
    holds(few["columns"] == 1300 and many["columns"] == 6000, "the sizes that the sentence names")
    steps = sorted((few["decode_ratio"], many["decode_ratio"]))
    return (
        f"took {few['prefill_ratio']:.2f} times as long to prefill 1,300 columns and {many['prefill_ratio']:.2f} times "
        f"for 6,000, and {steps[0]:.2f} to {steps[1]:.2f} times as long for a token"
    )

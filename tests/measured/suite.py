"""What docs/suite.md says about its tables."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from .said import RESULTS, holds, says, span

SUITE = "docs/suite.md"
Key = tuple[str, str, str, float]
"""(model, benchmark, method, retention ratio)."""


@lru_cache(maxsize=1)
def rows() -> dict[Key, Any]:
    """Every result file of the suite."""
    found = [json.loads(path.read_text("utf-8")) for path in (RESULTS / "suite").glob("*.json")]
    return {(r["model"]["name"], r["task"]["name"], r["method"], r["retention_ratio"]): r for r in found}


def right(key: Key, kind: str) -> float:
    """Right answers to one type of question, in per cent."""
    return float(100 * rows()[key]["per_kind"][kind]["value"])


def of(model: str, task: str) -> list[Key]:
    """Rows of one table."""
    return [key for key in rows() if key[:2] == (model, task)]


@says(SUITE)
def needle() -> str:
    ways: tuple[Key, Key] = (
        ("tiny-onevision", "needle", "none", 1.0),
        ("tiny-onevision", "needle", "globalcom2", 0.25),
    )
    frames = sorted(rows()[ways[0]]["per_kind"], key=lambda kind: int(kind.split()[0]))
    counts = [int(kind.split()[0]) for kind in frames]

    def read(way: Key) -> int:
        """The largest number of frames up to which nearly all is read."""
        return max(n for n, kind in zip(counts, frames, strict=True) if right(way, kind) > 90)

    whole = max(n for n in counts) * 16 + 1
    return (
        f"With all tokens ({whole:,} of {counts[-1]} frames) it reads the digit up to "
        f"{read(ways[0])} frames, then loses "
        "it, the early positions first; with a quarter of them chosen by `globalcom2` it reads all up to "
        f"{read(ways[1])} and {right(ways[1], frames[-1]):.0f} % at {counts[-1]}."
    )


@says(SUITE)
def small_digits_whole() -> str:
    key = ("tiny-onevision", "detail", "none", 1.0)
    found = {round(right(key, kind)) for kind in ("small 2x2", "small 3x3")}
    holds(len(found) == 1, f"both sizes alike, not {found}")
    return f"`tiny-onevision` reads {found.pop()} % from the crops"


@says(SUITE)
def small_digits_of_next() -> str:
    return (
        "gets these pictures reduced to 224 pixels, where it reads "
        f"{right(('tiny-next', 'detail', 'none', 1.0), 'small 3x3'):.0f} % of the small digits."
    )


@says(SUITE)
def small_digits_at_a_tenth() -> str:
    def small(method: str) -> list[float]:
        return [right(("tiny-onevision", "detail", method, 0.1), f"small {size}") for size in ("2x2", "3x3")]

    hidden = [
        right(key, kind)
        for model in ("tiny-onevision", "tiny-next")
        for key in of(model, "detail")
        for kind in ("hidden 2x2", "hidden 3x3")
    ]
    each = {rows()[key]["per_kind"]["hidden 2x2"]["questions"] for key in of("tiny-onevision", "detail")}
    holds(len({round(x) for x in small("random")}) == 1, "random reads as many of both")
    return (
        f"At a tenth of the tokens `globalcom2` still reads {span(small('globalcom2'))} % of the "
        "small digits on "
        f"`tiny-onevision`, `random` {small('random')[0]:.0f} and `uniform` "
        f"{span(small('uniform'))}. A small digit is easy "
        "for a method of outliers: black or white on a grey ground. The hidden ones stay between "
        f"{span(hidden, word='and')} % under every method, `none` included, with {each.pop()} "
        "questions each: chance."
    )


@says(SUITE)
def counting_over_pictures() -> str:
    fewer = [
        right(("tiny-onevision", "multi-image", "globalcom2", ratio), "count") for ratio in (0.5, 0.25, 0.1)
    ]
    key = ("tiny-onevision", "multi-image", "none", 1.0)
    whole = right(key, "count")
    holds(min(fewer) >= whole, "no worse with fewer")
    return (
        f"What it cannot do is count over pictures: {whole:.0f} % with all tokens. With "
        "`globalcom2` it counts no worse with "
        f"fewer ({span(fewer)} %, {rows()[key]['per_kind']['count']['questions']} questions: the "
        "difference is within chance)."
    )

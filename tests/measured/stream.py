"""What docs/long-video.md says about streams."""

from __future__ import annotations

from typing import Any

from .said import holds, result, says

PAGE = "docs/long-video.md"


def row(clip: str, budget: int, method: str, hold: int = 4) -> dict[str, Any]:
    """One row of the benchmark."""
    key = (clip, budget, method, hold)
    (only,) = [
        one
        for one in result("stream")["rows"]
        if (one["clip"], one["budget"], one["method"], one["hold"]) == key
    ]
    found: dict[str, Any] = only
    return found


def share(clip: str, budget: int, method: str, hold: int = 4) -> str:
    """Overlap with the whole clip's choice in percent."""
    return f"{100 * row(clip, budget, method, hold)['overlap']:.1f}"


@says(PAGE)
def needles() -> str:
    rows = result("stream")["rows"]
    exact = ("evs", "dycoke", "random", "uniform")
    holds(all(one["equal"] == 1 for one in rows if one["method"] in exact), "these are always equal")
    clips = row("needle", 64, "globalcom2")["clips"]
    return (
        f"On {clips} needle clips with hold 4, `globalcom2` keeps {share('needle', 64, 'globalcom2')} % of what it "
        f"keeps of the whole clip at 64 tokens and {share('needle', 409, 'globalcom2')} % at 409; `evs`, `dycoke`, "
        "`random` and `uniform` keep all of it, always. `vidcom2`, which is frozen on arrival, keeps "
        f"{share('needle', 64, 'vidcom2')} and {share('needle', 409, 'vidcom2')} %."
    )


@says(PAGE)
def census_covers() -> str:
    rows = [one for one in result("stream")["rows"] if one["method"] == "census" and one["hold"] == 4]
    radii = sorted(one["radius"] for one in rows)
    return (
        "`census` keeps other tokens, which cover about as well: with hold 4 the farthest token lies "
        f"{radii[0]:.2f} to {radii[-1]:.2f} times as far from its nearest kept one as it "
        "does when the whole clip is there."
    )


@says(PAGE)
def made_up() -> str:
    kinds = ("drift", "cuts", "two halves")
    of = {hold: [share(kind, 500, "globalcom2", hold) for kind in kinds] for hold in (2, 4, 8)}
    frozen = [share(kind, 500, "vidcom2") for kind in kinds]
    return (
        "Where the mean moves, less is alike. Of 500 tokens for 2,048 frames `globalcom2` keeps "
        f"{of[4][0]} % (drift), {of[4][1]} % (cuts) and {of[4][2]} % (two halves that share nothing) with hold 4, "
        f"{of[2][0]}, {of[2][1]} and {of[2][2]} % with hold 2, {of[8][0]}, {of[8][1]} and {of[8][2]} % with hold 8; "
        f"`vidcom2` keeps {frozen[0]}, {frozen[1]} and {frozen[2]} % with hold 4."
    )


@says(PAGE)
def time_is_touched() -> str:
    plain, spread = (row("drift", 500, name) for name in ("globalcom2", "globalcom2, coverage 0.5"))
    return (
        f"On the clip that drifts, 500 tokens of `globalcom2` touch {plain['stretches']:.0f} of 64 stretches, as of "
        f"the whole clip; with `coverage=0.5` they touch {spread['stretches']:.0f}."
    )


@says(PAGE)
def without_end() -> str:
    parts = result("stream_endless")["endless"]
    holds(all(len({m["live_bytes"] for m in marks}) == 1 for marks in parts.values()), "bytes are the same")
    spans = {
        name: (min(m["us_per_frame"] for m in marks), max(m["us_per_frame"] for m in marks))
        for name, marks in parts.items()
    }
    grown = max(marks[-1]["resident_mib"] - marks[0]["resident_mib"] for marks in parts.values())
    holds(grown < 5, "resident memory grows by less than 5 MiB")
    said = ", ".join(
        f"`{name}` {low / 1000:.3f} to {high / 1000:.3f} ms" for name, (low, high) in spans.items()
    )
    frames = parts["evs"][-1]["frames"]
    return (
        f"Over an endless stream of {frames:,} frames the bytes of tensors stay the same from the first part to "
        f"the last, resident memory grows by {grown:.1f} MiB at most, and a frame takes as long as before: {said}."
    )

"""What the documents say about the accuracy tables."""

from __future__ import annotations

import json
from typing import Any

from shapes_accuracy.overview import (
    CONTROLS,
    best_control,
    cells_of,
    compare_with_controls,
    methods_of,
    ratios_of,
)
from vidcompress.tools.evaluation.report.statistics import paired

from .said import ROOT, holds, result, says, span

NEXT, CLIP, IMAGE = (
    "shapes/tiny-next-image",
    "shapes/tiny-onevision-clip",
    "shapes/tiny-onevision-image",
)
COLUMNS = [(name, ratio) for name in (NEXT, CLIP, IMAGE) for ratio in (0.5, 0.25, 0.1)]
INSIDE = ("fastv", "pdrop", "sparsevlm", "sparsevlm2")
OVERVIEW, ALL = "docs/accuracy.md", "docs/results/accuracy.md"


def percent(name: str, method: str, ratio: float) -> float:
    """Right answers in per cent, to one place."""
    return round(100 * cells_of(result(name), ratio)[method]["accuracy"], 1)


def kind(name: str, method: str, ratio: float, of: str) -> float:
    """Likewise of one type of question."""
    return float(100 * cells_of(result(name), ratio)[method]["per_type"][of])


def row_of(name: str, method: str, ratio: float) -> dict[str, Any]:
    """A row of an ablation, whose methods have options."""
    return next(r for r in result(name)["rows"] if (r["method"], r["retention_ratio"]) == (method, ratio))


def singles(name: str, ratio: float) -> dict[str, float]:
    """Accuracy of single methods, controls left out, the best first."""
    found = {
        method: percent(name, method, ratio)
        for method in cells_of(result(name), ratio)
        if method != "none" and "+" not in method and method not in CONTROLS
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def behind(name: str, ratio: float, method: str) -> float:
    """Points between the best single method and this one."""
    found = singles(name, ratio)
    return round(max(found.values()) - found[method], 1)


def clear(name: str, ratio: float, one: str, other: str) -> int:
    """1 where one method is clearly better than another on the same questions, -1 where worse, else 0."""
    cells = cells_of(result(name), ratio)
    mean, half = paired(cells[one]["correct"], cells[other]["correct"])
    return (mean > half) - (mean < -half)


def gain(name: str, ratio: float, one: str, other: str) -> float:
    """Points between two methods."""
    return round(percent(name, one, ratio) - percent(name, other, ratio), 1)


def firsts(method: str) -> int:
    """In how many columns no other row is better."""
    return sum(
        all(
            percent(column[0], method, column[1]) >= percent(column[0], other, column[1])
            for other in cells_of(result(column[0]), column[1])
            if other != "none"
        )
        for column in COLUMNS
        if method in cells_of(result(column[0]), column[1])
    )


# -- docs/accuracy.md --------------------------------------------------------------------------------------------------


@says(OVERVIEW)
def the_best_single_method() -> str:
    few = [column for column in COLUMNS if column[1] < 0.5]
    holds(all(behind(*column, "divprune") < 1 for column in few), "divprune is within a point of the best")
    for other in methods_of([result(name) for name in (NEXT, CLIP, IMAGE)]):
        if "+" not in other and other not in CONTROLS and other != "divprune":
            holds(
                any(behind(*column, other) >= 1 for column in few if other in singles(*column))
                or any(other not in singles(*column) for column in few),
                f"{other} is not, everywhere",
            )
    return (
        "`divprune` is the only single method that is within a point of the best one at 0.25 and "
        "0.1 in every column "
        f"(of all rows it is first in {firsts('divprune')} of {len(COLUMNS)} columns)"
    )


@says(OVERVIEW)
def evs_and_dycoke() -> str:
    better = [
        compare_with_controls(result(CLIP), 0.25)["better"],
        compare_with_controls(result(CLIP), 0.1)["worse"],
    ]
    for method in ("evs", "dycoke"):
        holds(all(method in found for found in better), f"{method} beats a control at 0.25 and not at 0.1")
        holds(clear(CLIP, 0.1, method, "random") < 0, f"{method} is below random at 0.1")
    return "`evs` and `dycoke` beat the controls on clips at 0.25 and fall below `random` at 0.1"


@says(OVERVIEW)
def cls_attention_without_cls() -> str:
    of_cls = ("fastervlm", "prumerge", "prumerge_plus", "visionzip")
    holds(
        not set(of_cls) & set(compare_with_controls(result(CLIP), 0.25)["better"]),
        "none beats the controls at 0.25",
    )
    do = [method for method in of_cls if method in compare_with_controls(result(CLIP), 0.1)["better"]]
    by = {gain(CLIP, 0.1, method, best_control(result(CLIP), 0.1)) for method in do}
    holds(len(by) == 1, "they beat them by as much")
    return (
        "methods of CLS attention do not beat the controls on clips of a model without CLS at "
        "0.25, and at 0.1 "
        f"{' and '.join(f'`{method}`' for method in do)} do, by {by.pop()} points"
    )


@says(OVERVIEW)
def half_a_clip() -> str:
    holds(best_control(result(CLIP), 0.5) == "pool", "pool is the best control")
    holds(not compare_with_controls(result(CLIP), 0.5)["better"], "nothing is better")
    return "nothing is clearly better than `pool` on half a clip"


@says(OVERVIEW)
def in_front_of_an_inside_method() -> str:
    pairs = [(*column, inside) for column in COLUMNS for inside in INSIDE]
    won = sum(clear(name, ratio, f"globalcom2+{m}", f"random+{m}") > 0 for name, ratio, m in pairs)
    alone = {
        (name, m): clear(name, 0.5, f"globalcom2+{m}", m) for name in (NEXT, CLIP, IMAGE) for m in INSIDE
    }
    holds(not any(alone[NEXT, m] > 0 for m in INSIDE), "nothing is gained on tiny-next")
    holds(all(alone[name, "pdrop"] == 0 for name in (CLIP, IMAGE)), "nor with pdrop")
    holds(
        all(alone[CLIP, m] + alone[IMAGE, m] > 0 for m in INSIDE if m != "pdrop"), "but with the three others"
    )
    return (
        f"`globalcom2` in front of an inside method is clearly better than `random` in front in {won} of "
        f"{len(pairs)} cells, but better than the inside method alone on tiny-onevision only, and "
        "there not with "
        "`pdrop`"
    )


@says(OVERVIEW)
def floor_of_inside_methods() -> str:
    return (
        "of four decoder layers the first takes in everything, so methods inside the language model need "
        f"{span(floors())} % here"
    )


def floors() -> list[float]:
    """The floors that rows out of reach state, in per cent."""
    return [
        float(row["unreachable"].split("its floor is ")[1].split(" %")[0])
        for name in (NEXT, CLIP, IMAGE)
        for row in result(name)["rows"]
        if "its floor is" in row.get("unreachable", "")
    ]


@says(OVERVIEW)
def counting() -> str:
    for method in ("globalcom2", "vidcom2"):
        lost = {
            of: kind(CLIP, "none", 0.25, of) - kind(CLIP, method, 0.25, of)
            for of in cells_of(result(CLIP), 0.25)["none"]["per_type"]
        }
        holds(max(lost, key=lambda of: lost[of]) == "count", f"{method} loses most in counting")
    a, b, c, d = (kind(CLIP, m, 0.25, "count") for m in ("globalcom2", "vidcom2", "random", "frames"))
    return (
        "Counting is where `globalcom2` and `vidcom2` lose most: on clips at 0.25 they count "
        f"{a:.0f} and {b:.0f} % right, `random` {c:.0f} and `frames` {d:.0f}."
    )


@says(OVERVIEW)
def original_positions() -> str:
    a, b = (
        [
            100 * row_of(f"ablations/tiny-{name}-positions", method, 0.1)["accuracy"]
            for method in ("globalcom2", "globalcom2:positions=original")
        ]
        for name in ("next-image", "onevision-clip")
    )
    return (
        f'with `positions="original"` `globalcom2` goes from {a[0]:.1f} to {a[1]:.1f} on tiny-next '
        "at 0.1 and from "
        f"{b[0]:.1f} to {b[1]:.1f} on clips"
    )


@says(OVERVIEW)
def width_of_intervals() -> str:
    rows = [row for name in (NEXT, CLIP, IMAGE) for row in result(name)["rows"] if "interval" in row]
    half = [100 * (row["interval"][1] - row["interval"][0]) / 2 for row in rows]
    return f"A 95 % interval is {span(half)} points either way"


# -- the page of all results -------------------------------------------------------------------------------------------


@says(ALL)
def floors_in_full() -> str:
    return f"so methods inside them need at least {span(floors(), '{:.1f}')} % of the tokens"


@says(ALL)
def divprune_in_full() -> str:
    holds(behind(CLIP, 0.1, "divprune") == 0, "first on clips at 0.1")
    holds(list(singles(CLIP, 0.25))[:2] == ["evs", "divprune"], "second to evs at 0.25")
    images = [(name, ratio) for name in (NEXT, IMAGE) for ratio in (0.25, 0.1)]
    holds(all(behind(*column, "divprune") < 1 for column in images), "within a point on images")
    clips = [gain(CLIP, ratio, "divprune", "globalcom2") for ratio in (0.25, 0.1)]
    others = [gain(*column, "divprune", "globalcom2") for column in images]
    return (
        "on clips first at 0.1 and second to `evs` at 0.25, on images at 0.25 and 0.1 first or "
        "within a point of the "
        "first. Scenes of a few small things on a plain ground suit it: the tokens farthest from "
        "one another are the "
        f"things. `globalcom2` is behind it by {span(clips)} points on clips and by {span(others)} "
        "on images at "
        "these ratios."
    )


@says(ALL)
def evs_and_dycoke_in_full() -> str:
    evs_and_dycoke()
    a, b, c, d = (percent(CLIP, m, r) for m in ("evs", "dycoke") for r in (0.25, 0.1))
    return (
        f"**`evs` and `dycoke` win at 0.25 and collapse at 0.1** on clips ({a} to {b}, {c} to "
        f"{d} %), below `random`"
    )


@says(ALL)
def cls_attention_in_full() -> str:
    for ratio in (0.25, 0.1):
        holds(clear(CLIP, ratio, "prumerge_plus", "random") < 0, "prumerge_plus loses to random")
    made = ("fastervlm", "prumerge", "visionzip", "fastvid")
    holds(
        not set(made) & set(compare_with_controls(result(CLIP), 0.25)["better"]),
        "none beats the best control at 0.25",
    )
    do = [m for m in made if m in compare_with_controls(result(CLIP), 0.1)["better"]]
    by = [gain(CLIP, 0.1, m, best_control(result(CLIP), 0.1)) for m in do]
    for ratio in ratios_of(result(NEXT)):
        for method in ("fastervlm", "prumerge", "prumerge_plus", "visionzip", "hired"):
            holds(
                method in compare_with_controls(result(NEXT), ratio)["better"],
                f"{method} beats it on tiny-next",
            )
    names = " and ".join((", ".join(f"`{m}`" for m in do[:-1]), f"`{do[-1]}`"))
    return (
        "**`prumerge_plus` loses to `random` on clips** at 0.25 and 0.1. The methods made for CLS attention "
        "(`fastervlm`, `prumerge`, `visionzip`, and `fastvid` without its pooling head) fall back "
        "to the attention "
        "received on tiny-onevision, whose encoder has no CLS token; on clips at 0.25 none of them "
        "beats the best "
        f"control, at 0.1 {names} do, by {span(by, '{:.1f}')} points. Those that serve tiny-next, "
        "which has one, beat "
        "it at every ratio."
    )


@says(ALL)
def half_a_clip_in_full() -> str:
    half_a_clip()
    found = compare_with_controls(result(CLIP), 0.5)
    return (
        f"**On half a clip nothing is clearly better than `pool`** ({percent(CLIP, 'pool', 0.5)} %): "
        f"{NUMBERS[len(found['alike'])]} are level with it, all others below."
    )


NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight")


@says(ALL)
def inside_methods_at_half() -> str:
    for method in ("fastv", "sparsevlm", "sparsevlm2"):
        for name in (CLIP, IMAGE):
            holds(method in compare_with_controls(result(name), 0.5)["worse"], f"{method} loses")
        holds(method in compare_with_controls(result(NEXT), 0.5)["better"], f"{method} wins on tiny-next")
    for name in (NEXT, CLIP, IMAGE):
        holds("pdrop" not in compare_with_controls(result(name), 0.5)["worse"], "pdrop never loses")
    return (
        "**`fastv` and both `sparsevlm` lose to a control at 0.5 on tiny-onevision** and win on "
        "tiny-next. `pdrop` is "
        "good wherever it can go."
    )


@says(ALL)
def place_in_full() -> str:
    place = [
        kind(name, method, 0.1, "place")
        for name in (NEXT, IMAGE)
        for method in cells_of(result(name), 0.1)
        if method != "none" and "+" not in method
    ]
    whole = [kind(name, "none", 0.1, "place") for name in (NEXT, IMAGE)]
    return (
        f"On images at 0.1 every method before the language model answers {span(place)} % of the "
        "questions about "
        f"place, against {span(whole, word='and')} % with all tokens"
    )


@says(ALL)
def alone_or_in_front() -> str:
    for name, methods in ((CLIP, ("fastv", "sparsevlm2")), (IMAGE, ("fastv", "sparsevlm", "sparsevlm2"))):
        for m in INSIDE:
            won = clear(name, 0.5, f"globalcom2+{m}", m)
            holds(won == (1 if m in methods else 0), f"{m} on {name}")
    lost = {m: gain(NEXT, 0.5, m, f"globalcom2+{m}") for m in INSIDE}
    holds(all(points > 0 for points in lost.values()), "all four are better alone on tiny-next")
    clearly = [points for m, points in lost.items() if clear(NEXT, 0.5, m, f"globalcom2+{m}") > 0]
    return (
        "On tiny-onevision it holds for FastV and SparseVLM's second version, on images and clips, "
        "and for its first "
        "version on images; PDrop is no different with it or without. On tiny-next it fails: all "
        "four are better "
        f"alone, {NUMBERS[len(clearly)]} of them clearly, by {span(clearly, '{:.1f}')} points."
    )


@says(ALL)
def in_front_in_full() -> str:
    cells = [(name, ratio, m) for name, ratio in COLUMNS if ratio < 0.5 for m in INSIDE]
    won = [c for c in cells if clear(c[0], c[1], f"globalcom2+{c[2]}", f"random+{c[2]}") > 0]
    by = [gain(name, ratio, f"globalcom2+{m}", f"random+{m}") for name, ratio, m in won]
    holds(set(cells) - set(won) == {(CLIP, 0.1, "fastv")}, "all but one")
    return (
        f"there `globalcom2` in front is better than `random` in front in {len(won)} of "
        f"{len(cells)} cells, by "
        f"{span(by, '{:.1f}')} points; in the last, FastV on clips at 0.1, the difference is not clear."
    )


# -- the cards of the models -------------------------------------------------------------------------------------------


def positions(model: str, of: str) -> tuple[float, float]:
    """Right answers to one type of question at a tenth, positions renumbered and kept."""
    first, second = (
        100 * row_of(f"ablations/{model}-positions", method, 0.1)["per_type"][of]
        for method in ("globalcom2", "globalcom2:positions=original")
    )
    return first, second


@says("models/tiny-next/README.md")
def place_on_next() -> str:
    a, b = positions("tiny-next-image", "place")
    return f"questions about place go from {a:.0f} to {b:.0f} % at a tenth of the tokens"


@says("models/tiny-onevision/README.md")
def direction_on_onevision() -> str:
    a, b = positions("tiny-onevision-clip", "direction")
    return f"questions about direction go from {a:.0f} to {b:.0f} % at a tenth of the tokens"


@says("models/tiny-next/README.md")
def counting_on_next() -> str:
    _, kept = positions("tiny-next-image", "count")
    a, b = (kind(NEXT, "uniform", ratio, "count") for ratio in (0.5, 0.25))
    c, d = (kind(NEXT, "globalcom2", ratio, "count") for ratio in (0.5, 0.25))
    holds(a > c and b > d, "uniform counts better")
    return (
        f"counting is what is left to lose: {kept:.0f} % right at a tenth of the tokens, against "
        f"{kind(NEXT, 'none', 0.1, 'count'):.0f} % with all. At 0.5 and 0.25 `uniform` counts better than "
        f"`globalcom2` ({a:.0f} and {b:.0f} % against {c:.0f} and {d:.0f} %)."
    )


@says("models/tiny-next/README.md")
def ablations_on_next() -> str:
    name = "ablations/tiny-next-image"
    whole = row_of(name, "globalcom2", 0.1)
    lower = [
        row["method"].partition(":")[2]
        for row in result(name)["rows"]
        if row["retention_ratio"] == 0.1
        and paired(row["correct"], whole["correct"])[0] + paired(row["correct"], whole["correct"])[1] < 0
    ]
    holds(len(lower) == 3, f"three come out lower, not {lower}")
    return (
        f"On this model most of the differences are inside the intervals; `{lower[0]}`, "
        f"`{lower[1]}` and `{lower[2]}` "
        "come out lower at a tenth of the tokens."
    )


@says("models/tiny-onevision/README.md")
def counting_on_clips() -> str:
    for method in ("globalcom2", "vidcom2"):
        for ratio in ratios_of(result(CLIP)):
            holds(
                kind(CLIP, method, ratio, "count") < kind(CLIP, "random", ratio, "count"),
                f"{method} counts worse than random at {ratio}",
            )
    counted = [kind(CLIP, m, 0.25, "count") for m in ("globalcom2", "vidcom2", "random", "pool", "frames")]
    a, b, c, d, e = counted
    return (
        "Of clips `globalcom2` and `vidcom2` count worse than `random` at every ratio, and than "
        "`pool` and `frames` "
        f"wherever these are not at their own limit (at 0.25: {a:.0f} and {b:.0f} % right against "
        f"{c:.0f}, {d:.0f} and "
        f"{e:.0f} %)."
    )


@says("models/tiny-onevision/README.md")
def counting_on_images() -> str:
    best: dict[float, tuple[str, float, float]] = {}
    for ratio in ratios_of(result(IMAGE)):
        before = [m for m in cells_of(result(IMAGE), ratio) if m not in ("none", *INSIDE) and "+" not in m]
        counts = {m: kind(IMAGE, m, ratio, "count") for m in before}
        best[ratio] = max(counts, key=lambda m: counts[m]), max(counts.values()), counts["globalcom2"]
    name, most, other = best[0.25]
    holds(best[0.5][0] == "globalcom2", "at 0.5 it is globalcom2")
    return (
        "of still images, among methods before the language model, `globalcom2` counts best at 0.5, and "
        f"`{name}` at 0.25 ({most:.0f} %, `globalcom2` {other:.0f} %)."
    )


@says("models/tiny-qwen/README.md")
def held_out_of_qwen() -> str:
    training = json.loads((ROOT / "models" / "tiny-qwen" / "TRAINING.json").read_text(encoding="utf-8"))
    scores = training["held_out"]["all tokens"]
    holds(training["held_out"]["questions"] == 1000, "1,000 were asked of each medium")
    image, clip = (f"{100 * scores[medium]['all']:.1f} %" for medium in ("image", "clip"))
    return (
        f"With all tokens it answers {image} of 1,000 held-out questions about images and {clip} of 1,000 about clips, "
        f"as `TRAINING.json` states. It was trained on one CPU core in {training['seconds']:,} seconds."
    )


TILES = "ablations/tiny-qwen-image-tiles"


def with_tiles(count: int, ratio: float) -> float:
    """Right answers of tiny-qwen in per cent, to one place, the image cut into so many tiles."""
    return round(100 * row_of(TILES, f"globalcom2:tiles={count}", ratio)["accuracy"], 1)


@says("models/tiny-qwen/README.md")
def tiles_of_qwen() -> str:
    one, four, six = (f"{with_tiles(count, 0.1):.1f} %" for count in (1, 4, 6))
    half, quarter = (with_tiles(6, ratio) - with_tiles(4, ratio) for ratio in (0.5, 0.25))
    for ratio in (0.5, 0.25, 0.1):
        default = row_of("native/tiny-qwen-image", "globalcom2", ratio)
        holds(
            default["correct"] == row_of(TILES, "globalcom2:tiles=4", ratio)["correct"], "four is the default"
        )
        holds(with_tiles(4, ratio) > with_tiles(1, ratio), "four are better than one")
    holds(0 < half <= quarter, "six are better at more")
    return (
        f"At a tenth of the tokens one view is right in {one}, four tiles in {four} and six in {six}; at a quarter and "
        f"a half six are better by {quarter:.1f} and {half:.1f} points. The default is four"
    )


@says("vidcompress/methods/cards/globalcom2.md")
def tiles_by_default() -> str:
    most = max((1, 4, 6), key=lambda count: with_tiles(count, 0.1))
    behind = max(with_tiles(6, ratio) - with_tiles(most, ratio) for ratio in (0.5, 0.25))
    return (
        f"The default is {most}: of 1, 4 and 6 tiles it answers most on `tiny-qwen` at a tenth of the tokens, and at a "
        f"quarter and a half it is at most {behind:.1f} points behind 6 (`docs/results/{TILES}.json`)."
    )

"""What the README says about pictures and methods."""

from __future__ import annotations

import json
from typing import Any

from shapes_accuracy.overview import cells_of
from vidcompress.cli.listings import method_entries

from .accuracy import CLIP, IMAGE, NEXT, behind, clear, kind, row_of, singles
from .cost import layers_left
from .said import ROOT, holds, result, says

README = "README.md"


def picture(name: str) -> dict[str, Any]:
    """What scripts/make_pictures.py wrote down of one picture."""
    entries = json.loads((ROOT / "docs" / "pictures" / "pictures.json").read_text(encoding="utf-8"))[
        "pictures"
    ]
    found: dict[str, Any] = entries[name]
    return found


@says(README)
def hero() -> str:
    whole, tenth = picture("hero.png")["runs"]
    return (
        f"A picture; with all {whole['total']} tokens the answer is {whole['answer']}; with {tenth['kept']} tokens "
        f"the answer is {tenth['answer']} as well"
    )


@says(README)
def clip() -> str:
    run = picture("clip.gif")["runs"][1]
    holds(run["method"] == "vidcom2" and run["retention_ratio"] == 0.25, "vidcom2 keeps a quarter")
    kept = [int(view.partition("/")[0]) for view in run["per_view"]]
    holds(kept.count(max(kept)) == 1, "one frame keeps most")
    return f"keeps {max(kept)} tokens of the frame with the digit and {min(kept)} or {sorted(kept)[-2]} of the others"


@says(README)
def allocation() -> str:
    run = picture("allocation.png")["runs"][1]
    holds(run["method"] == "globalcom2", "by globalcom2")
    crops = sorted((int(view.partition("/")[0]) for view in run["per_view"][1:]), reverse=True)
    holds(len(set(crops[1:])) == 1, "the others keep as many as one another")
    return f"the crop with the content keeps {crops[0]} tokens, the empty ones {crops[1]}"


@says(README)
def how_many_methods() -> str:
    return f"The package has {len([m for m in method_entries() if m['package'] is None]) - 1} more methods"


@says(README)
def first_try() -> str:
    rows = [row for row in result("bench_select")["rows"] if row["method"] == "globalcom2"]
    holds(len(rows) == 2 and all(row["share_of_encoder"] < 0.001 for row in rows), "selection takes no time")
    return "| `globalcom2` | it adds almost no time, and needs no CLS token in the encoder |"


@says(README)
def a_quarter_of_a_clip() -> str:
    holds(next(iter(singles(CLIP, 0.25))) == "evs", "evs is first")
    holds(clear(CLIP, 0.1, "evs", "random") < 0, "and below random at a tenth")
    return "| `evs` | it keeps what changes; do not use it for a tenth |"


@says(README)
def half_of_the_tokens() -> str:
    holds(
        all(behind(name, 0.5, "pdrop") == 0 for name in (NEXT, CLIP, IMAGE)),
        "pdrop is the best single method",
    )
    return "| half of the tokens | `pdrop` |"


@says(README)
def what_suffers() -> str:
    for name, kinds in ((NEXT, ["count", "place"]), (IMAGE, ["count", "place"])):
        holds(sorted(losses(name)[:2]) == kinds, f"{name} loses {losses(name)}")
    holds(losses(CLIP)[:3] == ["count", "order", "direction"], f"clips lose {losses(CLIP)}")
    for ablation, of in (("tiny-next-image", "place"), ("tiny-onevision-clip", "direction")):
        moved, kept = (
            row_of(f"ablations/{ablation}-positions", method, 0.1)["per_type"][of]
            for method in ("globalcom2", "globalcom2:positions=original")
        )
        holds(kept > moved + 0.1, f"{of} gains")
    return (
        "At a tenth, counting suffers most, followed by place in pictures, and by order and direction in clips; "
        '`positions="original"` helps with place and direction.'
    )


def losses(name: str) -> list[str]:
    """Types of question by what globalcom2 loses of them at a tenth, most first."""
    kinds = cells_of(result(name), 0.1)["none"]["per_type"]
    lost = {of: kind(name, "none", 0.1, of) - kind(name, "globalcom2", 0.1, of) for of in kinds}
    return sorted(lost, key=lambda of: -lost[of])


@says(README)
def what_it_is_measured_on() -> str:
    for name in (CLIP, IMAGE):
        holds(result(name)["rows"][0]["questions"] == 1000, "1,000 questions")
    return "Answers are those of the test model, 1,000 questions for each figure."


@says(README)
def what_the_clock_was_read_on() -> str:
    plans = [result("bench_cpu")["cases"][case]["plan"] for case in ("image", "video")]
    holds({plan["geometry"] for plan in plans} == {"llava-onevision-0.5b"}, "the model")
    (size,), (frames,) = plans[0]["sizes"], plans[1]["frames"]
    return (
        f"on LLaVA-OneVision-0.5B cut to {layers_left()} with random weights (a picture of {size[0]} x {size[1]} "
        f"pixels, {frames} frames)."
    )

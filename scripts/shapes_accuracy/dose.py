"""Dose and response: every token on an object is kept, the background is thinned, with and without mass.

A scene knows where its objects are. A token is on an object where the object's box covers more than `COVERED` of its
cell. What changes between the cells of this experiment is only how much background there is beside the same objects.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import numpy as np
import numpy.typing as npt
import torch

from vidcompress.adapters.base import adapter_for
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.method import Mass, Method, Positions
from vidcompress.core.selection import Selection
from vidcompress.tools.evaluation.report.plots import Point, accuracy_plot
from vidcompress.tools.evaluation.report.statistics import paired_limits, wilson
from vidcompress.tools.evaluation.shapes import ClipExample, clip_example
from vidcompress.tools.runs.journal import RunJournal

from .accuracy import EncodeOnce, answer, check_seeds, fingerprint, prepare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST_SEED: Final = 950_000
"""First seed: held out, and behind those of the sets of cells."""

FILE: Final = "dose_response.json"
QUESTION: Final = "how many objects are there?"
COVERED: Final = 0.08
SHARES: Final = (1.0, 0.5, 0.25, 0.1, 0.05)
KINDS: Final = ("objects", "random", "uniform")
WORDS: Final = {
    "objects": "all objects, background thinned",
    "random": "as many tokens at random",
    "uniform": "as many tokens evenly",
}


@dataclass(frozen=True)
class Experiment:
    """What is asked.

    Attributes:
        clips: number of clips, each asked how many objects it shows.
        shares: of the background that stays; 1 is all tokens.
        batch_size: clips per batch.
        first_seed: seed of the first clip.
    """

    clips: int = 300
    shares: tuple[float, ...] = SHARES
    batch_size: int = 20
    first_seed: int = FIRST_SEED

    def cells(self) -> list[tuple[str, Mass, float]]:
        """(kind, mass, share), all tokens first; there every kind is the same."""
        thinned = [share for share in self.shares if share < 1]
        masses: tuple[Mass, ...] = ("off", "on")
        return [
            ("objects", "off", 1.0),
            *((k, mass, share) for k in KINDS for mass in masses for share in thinned),
        ]


@dataclass(frozen=True)
class Thinned(Method):
    """Tokens chosen with the truth at hand; of this experiment only, so it is not registered.

    Attributes:
        on_object: for each clip of the batch whether each of its tokens is on an object, in sequence order.
        share: of the background that stays, evenly spread over the sequence.
        kind: `objects` keeps the tokens on objects and the thinned background; `random` and `uniform` keep as many
            tokens, drawn or evenly spread over all.
        seed: of the draw.
    """

    name: ClassVar[str] = "thinned"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"video"})
    positions: ClassVar[Positions] = "original"
    exact: ClassVar[bool] = False

    on_object: tuple[tuple[bool, ...], ...] = ()
    share: float = 1.0
    kind: str = "objects"
    seed: int = 0

    def sent(self, budget: int, total: int) -> int:
        """Number of positions that may be sent: all, as the truth decides how many stay."""
        return total

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Keep what `kind` says, and every separator."""
        generator = np.random.default_rng(self.seed)
        return [
            self._one(one.layout, np.array(truth), generator)
            for one, truth in zip(batch.visuals, self.on_object, strict=True)
        ]

    def _one(self, layout: Layout, truth: npt.NDArray[np.bool_], generator: np.random.Generator) -> Selection:
        objects, background = np.flatnonzero(truth), np.flatnonzero(~truth)
        thin = evenly(background, self.share)
        kept = np.sort(np.concatenate((objects, thin)))
        if self.kind == "random":
            kept = np.sort(generator.permutation(len(truth))[: len(kept)])
        elif self.kind == "uniform":
            kept = np.arange(len(truth))[(2 * np.arange(len(kept)) + 1) * len(truth) // (2 * len(kept))]
        index = layout.token_index[torch.from_numpy(kept)]
        if self.kind != "objects":  # each dropped token counts for the nearest kept one
            return Selection(torch.cat((index, layout.separator_index)).sort().values)
        heavy = len(background) / max(1, len(thin))
        mass = torch.where(torch.from_numpy(truth[kept]), 1.0, heavy).float()
        index, order = torch.cat((index, layout.separator_index)).sort()
        return Selection(index, mass=torch.cat((mass, torch.ones(layout.num_separators)))[order])


def evenly(tokens: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    """A share of some tokens, at least one if there is any, spread evenly over their order."""
    count = min(len(tokens), max(1, round(share * len(tokens))))
    return tokens[(2 * np.arange(count) + 1) * len(tokens) // max(1, 2 * count)]


def on_objects(example: ClipExample, layout: Layout) -> tuple[bool, ...]:
    """Whether each token of a clip is on an object: its box covers more than `COVERED` of the token's cell.

    Args:
        example: a clip with its truth.
        layout: of the clip as the model encodes it; every frame is a view, in order, that shows the whole frame.

    Returns:
        One per token, in sequence order, separators left out.
    """
    rows, cols = layout.grid
    height, width = example.frames.shape[1] / rows, example.frames.shape[2] / cols
    where = layout.token_index
    frame, row, col = (
        cast("npt.NDArray[np.int64]", part[where].numpy()) for part in (layout.view, layout.row, layout.col)
    )
    covered = np.zeros(len(frame), dtype=bool)
    for number, boxes in enumerate(example.boxes):
        for box in boxes:
            if box is None:
                continue
            across = np.minimum(box[2], (col + 1) * width) - np.maximum(box[0], col * width)
            down = np.minimum(box[3], (row + 1) * height) - np.maximum(box[1], row * height)
            area = np.clip(across, 0, None) * np.clip(down, 0, None)
            covered |= (frame == number) & (area > COVERED * width * height)
    return tuple(bool(value) for value in covered)


def run(
    model: Any,
    processor: Any,
    experiment: Experiment,
    journal: Path,
    on_batch: Any = lambda done, of: None,
) -> list[dict[str, Any]]:
    """Ask every clip with every share, kind and mass; journalled batch by batch.

    Args:
        model: a loaded LLaVA-OneVision model of shapes. processor: from `load_processor`.
        experiment: what to ask.
        journal: a JSONL file that is appended to and read back on resumption.
        on_batch: called with (batches done, batches in all).

    Returns:
        A row per cell: kind, mass, share, and per clip the answer's error, None where it is no number.

    Raises:
        ArgumentError: the journal belongs to another experiment, or a seed is out of range.
    """
    check_seeds(experiment.first_seed, experiment.clips)
    head = {
        "experiment": repr(experiment),
        "model": str(model.config._name_or_path),
        "weights": fingerprint(model),
    }
    lines = RunJournal(journal, head, _is_whole)
    of = -(-experiment.clips // experiment.batch_size)
    on_batch(len(lines.done), of)
    for number, clips in enumerate(_clips(experiment)):
        if str(number) not in lines.done:
            lines.add([_ask(model, processor, experiment, number, clips)])
            on_batch(len(lines.done), of)
    lines.finish(map(str, range(of)))
    return [
        {
            "kind": kind,
            "mass": mass,
            "share": share,
            "errors": [e for line in lines.done.values() for e in line["errors"][_name(kind, mass, share)]],
            "kept": sum(line["kept"][_name(kind, mass, share)] for line in lines.done.values())
            / experiment.clips,
            "on_objects": sum(line["on_objects"] for line in lines.done.values()) / experiment.clips,
        }
        for kind, mass, share in experiment.cells()
    ]


def _ask(
    model: Any, processor: Any, experiment: Experiment, number: int, clips: list[ClipExample]
) -> dict[str, Any]:
    inputs = prepare(processor, clips, [QUESTION] * len(clips))
    once = EncodeOnce(adapter_for(model))
    layouts = [visual.layout for visual in once.visuals(inputs)[1]]
    truth = tuple(on_objects(clip, layout) for clip, layout in zip(clips, layouts, strict=True))
    right = [len(clip.scene.actors) for clip in clips]
    line: dict[str, Any] = {
        "id": str(number),
        "errors": {},
        "kept": {},
        "on_objects": sum(map(np.mean, truth)),
    }
    for kind, mass, share in experiment.cells():
        method = Thinned(truth, share, kind, number)
        # The ratio is a name only: the truth decides how many tokens stay.
        settings = CompressionConfig(method, retention_ratio=0.5, mass=mass)
        said, report = answer(once, processor, inputs, settings)
        name = _name(kind, mass, share)
        line["errors"][name] = [
            int(text) - true if text.isdecimal() else None for text, true in zip(said, right, strict=True)
        ]
        line["kept"][name] = report.mean_kept
    line["on_objects"] = float(line["on_objects"])
    return line


def _clips(experiment: Experiment) -> Iterator[list[ClipExample]]:
    seeds = iter(range(experiment.first_seed, experiment.first_seed + experiment.clips))
    while batch := [clip_example(seed) for seed in islice(seeds, experiment.batch_size)]:
        yield batch


def _name(kind: str, mass: Mass, share: float) -> str:
    return f"{kind}/{mass}/{share:g}"


def _is_whole(line: Any) -> bool:
    return all(isinstance(line.get(key), dict) for key in ("errors", "kept")) and "on_objects" in line


def marks(row: dict[str, Any]) -> str:
    """`1` per clip that was counted right, else `0`."""
    return "".join("01"[error == 0] for error in row["errors"])


def mean_error(row: dict[str, Any]) -> float:
    """Mean of predicted minus true, of the answers that are numbers."""
    return float(np.mean([error for error in row["errors"] if error is not None] or [np.nan]))


def dose_table(folder: Path) -> str | None:
    """The experiment as a Markdown table; None where it was not run."""
    path = folder / FILE
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = {(row["kind"], row["mass"], row["share"]): row for row in result["rows"]}
    whole = rows["objects", "off", 1.0]
    shares = result["experiment"]["shares"]
    head = ["background kept", *(f"{100 * share:g} %" for share in shares)]
    lines = [head, ["---", *["---:"] * len(shares)]]
    for kind in KINDS:
        for mass, words in (("off", ""), ("on", ", with mass")):
            found = [whole if share == 1 else rows[kind, mass, share] for share in shares]
            lines.append([WORDS[kind] + words, *map(_cell, found)])
    gain = []
    for share in shares:
        if share == 1:
            gain.append("")
            continue
        on, off = (marks(rows["objects", mass, share]) for mass in ("on", "off"))
        pairs = list(zip(on, off, strict=True))
        better, worse = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
        low, high = paired_limits(better, worse, len(pairs))
        gain.append(f"{100 * (better - worse) / len(pairs):+.0f} ({100 * low:+.0f} to {100 * high:+.0f})")
    lines.append(["what mass adds, objects kept", *gain])
    where = result["provenance"]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        + f"\n\nPer cent of {len(whole['errors'])} clips counted right, and the mean of predicted minus true; "
        f"{100 * whole['on_objects']:.0f} % of all tokens are on an object. `{where['command']}` at commit "
        f"{(where['commit'] or 'unknown')[:10]}{' with local changes' if where['dirty'] else ''}, "
        f"{where['machine']}.\n"
    )


def _cell(row: dict[str, Any]) -> str:
    counted = marks(row)
    return f"{100 * counted.count('1') / len(counted):.0f}, {mean_error(row):+.2f}"


def figure(result: dict[str, Any]) -> Figure:
    """Clips counted right against the share of the background that stays, a line per kind and mass."""
    series: dict[str, list[Point]] = {}
    for row in result["rows"]:
        if row["share"] == 1:
            continue
        label = WORDS[row["kind"]] + (", with mass" if row["mass"] == "on" else "")
        series.setdefault(label, []).append(_point(row))
    (whole,) = (row for row in result["rows"] if row["share"] == 1)
    return accuracy_plot(
        series,
        x_label="background tokens that stay, %",
        y_label="clips counted right, %",
        baseline=replace(_point(whole), low=None, high=None),
        controls=[label for label in series if not label.startswith(WORDS["objects"])],
        title=f"{QUESTION} All object tokens stay, only background is dropped",
    )


def _point(row: dict[str, Any]) -> Point:
    counted = marks(row)
    right = counted.count("1")
    low, high = wilson(right, len(counted))
    return Point(100 * row["share"], 100 * right / len(counted), 100 * low, 100 * high)

"""Census (ours): tokens that cover direction, place and time, each with the number of tokens that it stands for.

The formulas are in its card, `cards/census.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidcompress.checks import is_whole, one_of, require_numbers
from vidcompress.core.batch import VisualBatch, totals_of
from vidcompress.core.budget import VisualBudget
from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Layout, Modality, View, _first
from vidcompress.core.method import Mass, Method, Positions, register_method
from vidcompress.core.reductions import EPSILON, per_view, products_with, rows_per_block, working_dtype
from vidcompress.core.selection import Selection, best_first, with_separators
from vidcompress.core.stream.stream import Chosen, Stream, StreamSize, frames_layout, whole_clip
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, shown, warn_once
from vidcompress.methods.evs import strided
from vidcompress.ops.centres import apart
from vidcompress.ops.coverage import (
    FAR,
    ONE_BY_ONE,
    Cloud,
    covering,
    directions,
    dropped_by_heir,
    grid_step,
    heirs,
    masses,
    multiplications,
    rounded,
)
from vidcompress.ops.diversity import unit_rows

Weight = Literal["commander", "cls", "question"]
Choice = Literal["coverage", "proportional"]
CLS, QUESTION = Evidence("cls_logits", -1), Evidence("question")
MOST_FACTOR, MOST_WIDTH = 100, 4096
FIRST_RADIUS = 2.0**-10
"""Squared distance that centres of a stream lie apart at first: little more than copies have."""


class _Described(NamedTuple):
    """One visual without its separators.

    Attributes:
        points: (n, d + 2 or 3) rounded coordinates: direction, place, time.
        evidence: (n,) of CLS logits above the least of the view, or relevance to the question; None for neither.
    """

    points: Tensor
    evidence: Tensor | None


@register_method
@dataclass(frozen=True)
class Census(Method):
    """Commander-weighted farthest points in direction, place and time, with the mass of every token sent.

    Attributes:
        place: factor of squared distances of places, 0 to 100; a picture has sides of 1.
        time: factor of squared distances of times, 0 to 100; a clip has length 1.
        floor: weight of the token that is most like the mean, above 0 and at most 1; that of the least like is 1.
        width: numbers of a direction, 1 to 4096; longer features are projected at random.
        gamma: above 512 tokens, the part of the largest weighted distance that a token of the same round must have,
            0 to 1.
        weight: `commander` weighs by the distance to the mean; `cls` by CLS logits above the least of the view, of an
            encoder without a CLS token as `commander`; `question` by the commander's share times relevance to the
            question, 0 to 1.
        selection: `coverage`, or `proportional`, where half of the tokens cover and the other half are spread evenly
            over the tokens that each of them stands for; for engines without a bias of attention.

    Raises:
        ArgumentError: an option out of range.
    """

    name: ClassVar[str] = "census"
    summary: ClassVar[str] = "tokens that cover direction, place and time, each with the number it stands for"
    modalities: ClassVar[frozenset[Modality]] = frozenset({"image", "video"})
    positions: ClassVar[Positions] = "scaled"
    mass: ClassVar[Mass] = "on"
    compares: ClassVar = "kept"
    sequential: ClassVar[bool] = True

    place: float = 1.0
    time: float = 0.3
    floor: float = 0.2
    width: int = 128
    gamma: float = 0.5
    weight: Weight = "commander"
    selection: Choice = "coverage"

    def __post_init__(self) -> None:
        require_numbers(place=self.place, time=self.time, floor=self.floor, gamma=self.gamma)
        for option in ("place", "time"):
            value = getattr(self, option)
            if not 0 <= value <= MOST_FACTOR:
                raise ArgumentError(f"{option} must be a number from 0 to {MOST_FACTOR}, got {shown(value)}")
        if not 1e-6 <= self.floor <= 1:
            raise ArgumentError(
                f"floor must be above 0 (at least 1e-6) and at most 1, got {shown(self.floor)}; 1 is no weights"
            )
        if not is_whole(self.width) or not 1 <= self.width <= MOST_WIDTH:
            raise ArgumentError(f"width must be an integer from 1 to {MOST_WIDTH}, got {shown(self.width)}")
        if not 0 <= self.gamma <= 1:
            raise ArgumentError(f"gamma must be a number from 0 to 1, got {shown(self.gamma)}")
        one_of("weight", self.weight, get_args(Weight))
        one_of("selection", self.selection, get_args(Choice))

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """CLS logits or the question where weights are made of them, else nothing."""
        if self.weight == "cls" and not has_cls:
            warn_once(
                "method 'census' wants CLS logits as weights, which this encoder does not have: the distance to the "
                "mean weighs instead"
            )
        return {"cls": (CLS,) * has_cls, "question": (QUESTION,)}.get(self.weight, ())

    def multiplications(self, sizes: Sequence[int], sent: int, width: int) -> int:
        """Those of projection, choice and masses."""
        total, numbers = sum(sizes), min(width, self.width)
        projected = total * width * numbers if numbers < width else 0
        return projected + multiplications(total, self._covering(min(sent, total)), numbers)

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Select from visuals of similar size together; the choice of each is that alone."""
        kept: list[tuple[Tensor, Tensor | None]] = [
            (one.layout.token_index[:total], None)
            for one, total in zip(batch.visuals, totals_of(batch, budgets), strict=True)
        ]
        groups: dict[tuple[bool, int], list[int]] = {}
        for number, (one, (index, _)) in enumerate(zip(batch.visuals, kept, strict=True)):
            tokens = one.layout.num_tokens
            if 0 < len(index) < tokens:
                by_rounds = self._covering(len(index)) > ONE_BY_ONE
                groups.setdefault((by_rounds, tokens.bit_length()), []).append(number)
        with batch.full_precision():
            for members in groups.values():
                counts = [len(kept[number][0]) for number in members]
                for number, pair in zip(
                    members, self._of([batch.visuals[n] for n in members], counts), strict=True
                ):
                    kept[number] = pair
        return [
            _with_mass(one.layout, index, mass, budget.separators)
            for one, (index, mass), budget in zip(batch.visuals, kept, budgets, strict=True)
        ]

    def stream(self, size: StreamSize) -> Stream:
        """Return a stream of centres by the doubling algorithm, with masses that accumulate; see `CentreStream`.

        Raises:
            UnsupportedInputError: weights of other evidence, or tokens that are spread in proportion.
        """
        if self.weight != "commander" or self.selection != "coverage":
            whole_clip(
                f"'census' with weight={self.weight!r}, selection={self.selection!r}",
                "weight='commander' and selection='coverage'",
            )
        return CentreStream(self, size)

    def _covering(self, count: int) -> int:
        """Number of the tokens that are chosen by coverage."""
        return (count + 1) // 2 if self.selection == "proportional" else count

    def _of(self, visuals: Sequence[VisualTokens], counts: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return for each visual the positions of its tokens sent (K,), ascending, and their masses (K,)."""
        step = grid_step(self.place, self.time, working_dtype(visuals[0].features))
        described = [self._described(one, step) for one in visuals]
        numbers = min(self.width, visuals[0].features.shape[1])
        cloud = self._cloud(described, numbers, step)
        few = [self._covering(count) for count in counts]
        chosen, sent = covering(cloud, few, self.gamma), []
        for row, one, (points, _), covers, count in zip(chosen, visuals, described, few, counts, strict=True):
            unit, index = points[:, :numbers], _first(row[: len(points)], covers)
            heir = heirs(unit, index)
            if covers < count:
                dropped = dropped_by_heir(heir, index)
                more = strided(dropped, len(dropped), count - covers)
                index = torch.cat((index, more)).sort().values
                heir = heirs(unit, index)
            sent.append((one.layout.token_index[index], masses(heir, count)))
        return sent

    def _described(self, tokens: VisualTokens, step: float) -> _Described:
        """Return points and evidence of one visual; its features are read here and, for a question, once more."""
        layout, index = tokens.layout, tokens.layout.token_index
        unit = rounded(directions(tokens.features, index, int(self.width)), step)
        scale = torch.tensor([self.place, self.place, self.time], dtype=torch.float64).sqrt()
        where = rounded(places_of(layout)[index] * scale.to(index.device), step).to(unit.dtype)
        evidence = None
        if self.weight == "cls" and CLS in tokens.evidence:
            evidence = _above_the_least(tokens.evidence[CLS].to(unit.dtype), layout)[index]
        elif self.weight == "question" and QUESTION in tokens.evidence:
            evidence = relevance(tokens.features, tokens.evidence[QUESTION], index)
        if evidence is not None:  # a token without a number comes last
            unit = torch.where(evidence.isfinite()[:, None], unit, 0.0)
        return _Described(torch.cat((unit, where[:, : 2 + (layout.modality == "video")]), 1), evidence)

    def _cloud(
        self, described: Sequence[_Described], numbers: int, step: float, sums: Tensor | None = None
    ) -> Cloud:
        """Put visuals side by side and weigh their tokens, by the sums (B, d) of their directions, or of more."""
        sizes = [len(one.points) for one in described]
        length = max(sizes) + 1

        def padded(rows: Sequence[Tensor]) -> Tensor:
            ends = [(0, 0) * (row.ndim - 1) + (0, length - len(row)) for row in rows]
            return torch.stack([pad(row, end) for row, end in zip(rows, ends, strict=True)])

        points = padded([one.points for one in described])
        unit = points[..., :numbers]
        inside = (
            torch.arange(length, device=points.device) < torch.tensor(sizes, device=points.device)[:, None]
        )
        live = unit.square().sum(2) > 0.5  # rounded unit vectors, or zero
        mean = unit.sum(1, dtype=torch.float64) if sums is None else sums  # exact in any order
        mean = mean / torch.linalg.vector_norm(mean, dim=1, keepdim=True).clamp(min=EPSILON)
        likeness = torch.bmm(unit, rounded(mean, step).to(unit.dtype)[..., None])[..., 0]
        share = _from_least(1 - likeness, live)
        given = [one.evidence is not None for one in described]
        if any(given):
            flat = [
                torch.ones_like(one.points[:, 0]) if one.evidence is None else one.evidence
                for one in described
            ]
            evidence = _from_least(padded(flat), live)
            evidence = evidence if self.weight == "cls" else share * evidence
            share = torch.where(torch.tensor(given, device=points.device)[:, None], evidence, share)
        weight = self.floor + (1 - self.floor) * share
        first = torch.where(live, likeness, torch.where(inside, -2.0, -torch.inf)).argmax(1)
        return Cloud(points, weight, live, inside, first)


class CentreStream(Stream):
    """Census as frames come: the doubling algorithm for k-centre (Charikar et al., STOC 1997), with masses.

    Centres lie farther apart than a radius. An eviction keeps them, and new ones among the tokens that came since;
    where they are more than it may leave, the squared radius doubles until they are not. The room that is left goes to
    tokens that half the radius keeps apart, the farthest weighted ones first. Whatever is dropped lies within the
    radius of a centre, and its mass goes to the kept token of nearest direction. `keep` covers what is held, with
    weights by the mean of all tokens seen, and adds up the masses. Times are over the frames seen so far.
    """

    def __init__(self, method: Census, size: StreamSize) -> None:
        super().__init__(method.select, size)
        self.method = method
        self.own["radius"] = torch.tensor([FIRST_RADIUS], dtype=torch.float64)

    @property
    def radius(self) -> float:
        """Squared distance that centres lie apart."""
        return float(self.own["radius"])

    @property
    def _step(self) -> float:
        return grid_step(self.method.place, self.method.time, working_dtype(self.table["features"]))

    def _directions(self, features: Tensor) -> Tensor:
        rows = torch.arange(len(features), device=features.device)
        return rounded(directions(features, rows, int(self.method.width)), self._step)

    def _arrive(self, features: Tensor, row: int) -> None:
        unit = self._directions(features.flatten(0, 1))
        sums = unit.sum(0, dtype=torch.float64)  # exact
        self.own["sums"] = sums + self.own.get("sums", 0)
        new = torch.ones(len(unit), dtype=torch.int64, device=unit.device)
        self.table.write(row, mass=new, centre=new.bool() & False)

    def _described(self) -> tuple[_Described, Cloud]:
        """Return the tokens held as points, and weighed."""
        method, step, unit = self.method, self._step, self._directions(self.table["features"])
        middle = places_of(frames_layout(1, self.grid)).to(unit.device)[self.table["place"]]
        where = torch.cat((middle[:, :2], (self.table["frame"].double() / self.frames)[:, None]), 1)
        scale = torch.tensor([method.place, method.place, method.time], dtype=torch.float64).sqrt()
        where = rounded(where * scale.to(where.device), step).to(unit.dtype)
        described = _Described(torch.cat((unit, where), 1), None)
        return described, method._cloud([described], unit.shape[1], step, self.own["sums"][None])

    def _survivors(self, retained: int) -> Tensor:
        (points, _), cloud = self._described()
        live, weight = cloud.live[0, :-1], cloud.weight[0, :-1]
        # Centres of before come first, then the others in the order in which they came.
        order = (~self.table["centre"]).to(torch.int8).argsort(stable=True)
        centre, near, fits = apart(points, order, live, self.radius, retained)
        while not fits:
            self.own["radius"] *= 2
            centre, near, fits = apart(points, order, live, self.radius, retained)
        worth = torch.where(centre, torch.inf, torch.where(live, near * weight, -1.0))
        filled = apart(points, best_first(worth), live, self.radius / 2, retained)[0]
        worth = torch.where(filled & ~centre, FAR, worth)
        kept = best_first(worth)[:retained].sort().values
        heir = heirs(points[:, :-3], kept)
        mass = torch.zeros_like(kept).index_add_(0, heir, self.table["mass"])
        self.table["mass"].index_copy_(0, kept, mass)
        self.table["centre"].copy_(centre)
        return kept

    def _choose(self, count: int) -> Chosen:
        (points, _), cloud = self._described()
        kept = _first(covering(cloud, [count], self.method.gamma)[0, :-1], count)
        heir = heirs(points[:, :-3], kept)
        return Chosen(kept, masses(heir, count, self.table["mass"]))


def _with_mass(layout: Layout, kept: Tensor, mass: Tensor | None, separators: int) -> Selection:
    """Add separators, of mass 1, to kept tokens (K,); without masses (K,) every token stands for itself."""
    index = with_separators(layout, kept, separators)
    ones = torch.ones(len(layout), dtype=torch.float32, device=index.device)
    every = ones if mass is None else ones.index_copy_(0, kept, mass)
    return Selection(index, mass=every[index])


def _from_least(values: Tensor, live: Tensor) -> Tensor:
    """Scale the values (B, L) of live tokens to 0 for the least and 1 for the largest; 1 where all are equal."""
    low = values.masked_fill(~live, torch.inf).amin(1, keepdim=True)
    high = values.masked_fill(~live, -torch.inf).amax(1, keepdim=True)
    spread = high - low
    scaled = (values - low) / spread.clamp(min=EPSILON)
    return torch.where(live & (spread > EPSILON), scaled, 1.0)


def _above_the_least(values: Tensor, layout: Layout) -> Tensor:
    """Return (N,) the values minus the least finite one of their view."""
    least = per_view(values.masked_fill(~values.isfinite(), torch.inf), layout, torch.inf).amin(1)
    return values - torch.cat((least, least.new_zeros(1)))[layout.view]


def relevance(features: Tensor, question: Tensor, index: Tensor) -> Tensor | None:
    """Return the cosine of tokens to the mean of a question's L2-normalised embeddings.

    Args:
        features: (N, D). question: (T, D).
        index: (n,) int64, positions of the tokens.

    Returns:
        (n,) float32 or better, NaN where a token has no direction; None where the question is empty.
    """
    if len(question) == 0:
        return None
    dtype = working_dtype(features)
    mean = unit_rows(question).mean(0).to(features.device, dtype)
    blocks = features.split(rows_per_block(features, features.shape[1]))
    norm = torch.cat([torch.linalg.vector_norm(x.to(dtype), dim=1) for x in blocks])
    return (products_with(features, mean) / norm)[index]


@lru_cache(maxsize=64)
@outside_caller_modes
def places_of(layout: Layout) -> Tensor:
    """Return (N, 3) float64: the middle of each cell in the whole picture, down and across, and the time of its frame.

    Pictures and clips have sides of 1; padding counts to the edge. A crop whose canvas is not known lies where its box
    is, and without a box fills the picture. A frame's time is its number over the number of frames.
    """
    frames = len(layout.views) if layout.modality == "video" else math.inf
    rows = [(*_lines(view, layout), number / frames) for number, view in enumerate(layout.views)]
    table = torch.tensor([*rows, (0.0,) * 5], dtype=torch.float64, device=layout.view.device)[layout.view]
    start, size, time = table[:, 0:2], table[:, 2:4], table[:, 4:]
    middle = torch.stack((layout.row, layout.col), 1) + 0.5
    return torch.cat(((start + middle * size).clamp(0.0, 1.0), time), 1)


def _lines(view: View, layout: Layout) -> tuple[float, float, float, float]:
    """Return where row and column 0 begin, and the height and width of a cell, in the whole picture."""
    rows, cols = max(view.rows, 1), max(view.cols, 1)
    if view.kind not in ("crop", "tile"):
        return 0.0, 0.0, 1 / rows, 1 / cols
    if layout.canvas is not None:
        top, left, height, width = layout.picture or (0, 0, *layout.canvas)
        return -top / height, -left / width, 1 / height, 1 / width
    top_, left_, bottom, right = view.box or (0.0, 0.0, *layout.grid)
    down, across = max(layout.grid[0], 1), max(layout.grid[1], 1)
    return top_ / down, left_ / across, (bottom - top_) / down / rows, (right - left_) / across / cols

"""Reports of compression: positions sent and milliseconds spent in one call, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vidcompress.checks import flag, whole_number
from vidcompress.core.report.visual import ViewReport, VisualReport
from vidcompress.table import Table, paragraph

if TYPE_CHECKING:
    from vidcompress.core.pruning.report import PruningReport

LISTED_VIEWS = 144
"""Most views of one kind that the text of a report lists one by one."""
STRETCHES = 12
"""Most stretches of neighbouring views that it lists otherwise."""


@dataclass(eq=False)
class Report:
    """Report of one call: the positions sent to the language model and the time spent.

    Attributes:
        method: registered name of the method.
        policy: `exact` or `reference`.
        separators: `keep`, `thin` or `drop`.
        positions: `contiguous`, `original` or `scaled`.
        retention_ratio: the share that was asked for, 0 < R <= 1, or None.
        max_tokens: the tokens per prompt that were asked for, or None.
        visuals: one entry per image or video, in the order of the batch and of each prompt.
        timing_ms: milliseconds per phase, of those phases that were measured.
        notes: remarks on the whole call; `all_notes` adds those of its inputs.
        inside: visual tokens from layer to layer, where the method prunes inside the language model.
        view_text: `keep` or `drop`, for the text of views that keep nothing.
        mass: `on` where attention weighs tokens by their mass, else `off`.
        mass_strength: factor of the logarithm of the mass, at least 0.
        mass_cap: largest mass that counts, at least 1; None for no limit.
    """

    method: str
    policy: str = "exact"
    separators: str = "thin"
    positions: str = "contiguous"
    retention_ratio: float | None = None
    max_tokens: int | None = None
    visuals: list[VisualReport] = field(default_factory=list)
    timing_ms: MutableMapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    inside: PruningReport | None = None
    view_text: str = "keep"
    mass: str = "off"
    mass_strength: float = 1.0
    mass_cap: float | None = None

    @property
    def total(self) -> int:
        """Visual positions without compression, all inputs together."""
        return sum(visual.total for visual in self.visuals)

    @property
    def budget(self) -> int:
        """Visual positions that might be sent."""
        return sum(visual.budget for visual in self.visuals)

    @property
    def kept(self) -> int:
        """Visual positions that were sent."""
        return sum(visual.kept for visual in self.visuals)

    @property
    def view_text_total(self) -> int:
        """Tokens of text in the prompts that belong to views, such as the times of frames; no visual positions."""
        return sum(visual.view_text for visual in self.visuals)

    @property
    def view_text_dropped(self) -> int:
        """Tokens of such text that were left out, with views that keep nothing."""
        return sum(visual.view_text_dropped for visual in self.visuals)

    @property
    def mean_budget(self) -> float:
        """Visual positions that a layer of the language model might take in, on average over its layers.

        It is `budget`, except for methods that prune inside the language model too.
        """
        return self.budget if self.inside is None else self.inside.requested

    @property
    def mean_kept(self) -> float:
        """Visual positions that a layer of the language model takes in, on average over its layers; to 0.001.

        It is `kept`, except for methods that prune inside the language model too. Comparable with `mean_budget`.
        """
        return self.kept if self.inside is None else round(self.inside.mean, 3)

    @property
    def all_notes(self) -> list[str]:
        """Notes of the call, then those of its images and videos, numbered as in `visuals`."""
        named = [f"{v.modality} {number}: {v.note}" for number, v in enumerate(self.visuals) if v.note]
        return [*self.notes, *named]

    def for_row(self, row: int) -> Report:
        """Return the report of one prompt of a batch; timings stay those of the whole call.

        Args:
            row: index of the prompt, counted from 0; a prompt without images and videos has no `visuals`.

        Raises:
            ArgumentError: no whole number of at least 0.
        """
        row = whole_number("row", row, least=0)
        return Report(
            self.method,
            self.policy,
            self.separators,
            self.positions,
            self.retention_ratio,
            self.max_tokens,
            [visual for visual in self.visuals if visual.row == row],
            self.timing_ms,
            list(self.notes),
            None if self.inside is None else self.inside.for_row(row),
            self.view_text,
            self.mass,
            self.mass_strength,
            self.mass_cap,
        )

    def visual_tokens(self, *, masks: bool = False) -> dict[str, Any]:
        """Return `{total, budget, kept, per_view}`; `per_view` lists all views, each with its `visual`'s number.

        Args:
            masks: add to each view its place, mask, stages and masses (`ViewMap.to_dict`).
        """
        flag("masks", masks)
        per_view = []
        for number, visual in enumerate(self.visuals):
            maps = [one.to_dict() for one in visual.maps] if masks else [{}] * len(visual.views)
            for view, more in zip(visual.views, maps, strict=True):
                per_view.append({"visual": number, **view.to_dict(), **more})
        return {"total": self.total, "budget": self.budget, "kept": self.kept, "per_view": per_view}

    def explain(self, width: int | None = None) -> str:
        """Return a table for each image and video: the commander's importance of each view, and the tokens it got.

        A view that the method cut into tiles has a table of its tiles.

        `share` is the part of the budget that the method allotted to the view, `wanted` the same in tokens, and
        `kept` the tokens sent.

        Args:
            width: most columns of a line; None breaks no line.

        Raises:
            ArgumentError: the width is no whole number of at least 1.
        """
        if width is not None:
            whole_number("width", width, least=1)
        parts = [self._explained(number, width) for number in range(len(self.visuals))]
        if self.inside is not None:
            parts.append(f"inside, {self.inside}")
        return "\n".join(parts)

    def _explained(self, number: int, width: int | None) -> str:
        """Return the table of one visual input below a head line."""
        visual = self.visuals[number]
        sent = f"{_share(visual.kept, visual.total)} visual tokens{self._where}"
        lines = [f"{visual.modality} {number}: {sent}, {self.method}", f"  {_commander(visual)}"]
        views = visual.tiles or visual.views
        tokens = sum(view.kept for view in views)
        rows = []
        for name, view in zip(_view_names(views), views, strict=True):
            said = "" if view.importance is None else f"{view.importance:.4g}"
            share = "" if view.share is None else f"{100 * view.share:.1f} %"
            in_tokens = "" if view.share is None else f"{tokens * view.share:.1f}"
            stated = [said, share, in_tokens] if visual.allotment is not None else []
            rows.append([name, *stated, f"{view.kept}/{view.total}"])
        head = ["commander", "share", "wanted"] if visual.allotment is not None else []
        table = Table.of_lines(["view", *head, "kept"], rows).text(
            None if width is None else max(1, width - 2)
        )
        return "\n".join(
            [*(paragraph(line, width, hanging=4) for line in lines), textwrap.indent(table, "  ")]
        )

    @property
    def _where(self) -> str:
        """Suffix for counts of visual inputs, where a method prunes inside the language model too."""
        return "" if self.inside is None else " sent to the language model"

    def to_dict(self, *, masks: bool = False) -> dict[str, Any]:
        """Return counts, settings and timings as JSON types.

        Args:
            masks: add to each view its place, mask, stages and masses.
        """
        return {
            "method": self.method,
            "policy": self.policy,
            "separators": self.separators,
            "positions": self.positions,
            "retention_ratio": None if self.retention_ratio is None else float(self.retention_ratio),
            "max_tokens": self.max_tokens,
            "visual_tokens": self.visual_tokens(masks=masks),
            "visuals": [visual.to_dict() for visual in self.visuals],
            **self._view_text,
            **self._mass,
            **({} if self.inside is None else {"inside": self.inside.to_dict()}),
            "timing_ms": {phase: round(ms, 3) for phase, ms in self.timing_ms.items()},
            "notes": self.all_notes,
        }

    @property
    def _view_text(self) -> dict[str, Any]:
        """Entry of the text of views as JSON types; empty without such text."""
        total, dropped = self.view_text_total, self.view_text_dropped
        if not total:
            return {}
        return {"view_text": {"what": self.view_text, "total": total, "dropped": dropped}}

    @property
    def _mass(self) -> dict[str, Any]:
        """Entry of the mass as JSON types; empty where it is off."""
        if self.mass == "off":
            return {}
        return {"mass": {"strength": self.mass_strength, "cap": self.mass_cap}}

    def __repr__(self) -> str:
        asked: Mapping[str, object] = {"retention_ratio": self.retention_ratio, "max_tokens": self.max_tokens}
        budget = ", ".join(f"{name}={value}" for name, value in asked.items() if value is not None)
        return (
            f"Report({self.method!r}, {budget or 'no budget'}, visuals={len(self.visuals)}, "
            f"kept={self.kept} of {self.total}"
            + (f", view_text={self._text_kept})" if self.view_text_total else ")")
        )

    def __str__(self) -> str:
        return self.text()

    def text(self, width: int | None = None) -> str:
        """Report as text.

        Args:
            width: most columns of a line; None breaks a line only where a kind has more than 12 views.

        Raises:
            ArgumentError: the width is no whole number of at least 1.
        """
        if width is not None:
            whole_number("width", width, least=1)
        lines = [self._head()]
        for number, visual in enumerate(self.visuals):
            lines.append(f"  {visual.modality} {number}: {_share(visual.kept, visual.total)}{self._where}")
            lines += [f"    {line}" for line in _view_lines(visual, width)]
        if self.inside is not None:
            lines.append(f"  inside, {self.inside}")
        if self.visuals and self.mass == "on":
            cap = "" if self.mass_cap is None else f", cap {self.mass_cap:g}"
            lines.append(f"  mass on (strength {self.mass_strength:g}{cap})")
        if self.timing_ms:
            lines.append("  " + ", ".join(f"{phase} {ms:.1f} ms" for phase, ms in self.timing_ms.items()))
        lines += [f"  note: {note}" for note in self.all_notes]
        return "\n".join(paragraph(line, width, hanging=4) for line in lines)

    @property
    def _text_kept(self) -> str:
        """Tokens of the text of views that stay in the prompt, and their total."""
        return f"{self.view_text_total - self.view_text_dropped} of {self.view_text_total}"

    def _head(self) -> str:
        """First line; for a method inside the language model with the requested budget and the average over layers."""
        name = f"{self.method} ({self.policy})"
        if self.inside is None:
            text = f", view text {self._text_kept}" if self.view_text_total else ""
            return f"{name}: {_share(self.kept, self.total)} visual tokens, budget {self.budget}{text}"
        asked = f"{self.max_tokens} tokens asked for, "
        if self.retention_ratio is not None:
            asked = f"{100 * float(self.retention_ratio):g} % asked for, "
        elif self.max_tokens is None:
            asked = ""
        return f"{name}: {asked}{_share(self.mean_kept, self.total)} visual tokens on average over the layers"


def _share(kept: float, total: int) -> str:
    return (
        f"{kept:.1f}".removesuffix(".0")
        + f" of {total}"
        + (f" ({100 * kept / total:.1f} %)" if total else "")
    )


def _commander(visual: VisualReport) -> str:
    """Return the line about the commander, or that there is none."""
    if visual.importance_meaning:
        return f"commander: {visual.importance_meaning}"
    if visual.allotment is None:
        return "no commander: the method states no share for a view"
    if visual.is_even:
        return "no commander: the method allots evenly, every view keeps the same part of its tokens"
    return "no commander: the method weighs the views by a rule of its own"


def _view_names(views: Sequence[ViewReport]) -> list[str]:
    """Return the kind of each view, numbered where there are several, with the time of a frame."""
    names, of_kind = [], Counter(view.kind for view in views)
    counted: Counter[str] = Counter()
    for view in views:
        counted[view.kind] += 1
        name = view.kind if of_kind[view.kind] == 1 else f"{view.kind} {counted[view.kind]}"
        names.append(name if view.time is None else f"{name}, {view.time:.1f} s")
    return names


def _view_lines(visual: VisualReport, width: int | None) -> list[str]:
    """Return lines for each kind of view with the counts of its views, as many to a line as fit in `width` columns.

    Tiles stand for the view they were cut from, so that every token is listed once. Of more views than `LISTED_VIEWS`
    the counts are sums over stretches of neighbours.
    """
    lines: list[str] = []
    listed = visual.tiles or visual.views
    kinds = dict.fromkeys(view.kind for view in listed)
    for kind in kinds:
        of_kind = [view for view in listed if view.kind == kind]
        label = kind if len(of_kind) == 1 else f"{len(of_kind)} {kind}s"
        size = 1 if len(of_kind) <= LISTED_VIEWS else -(-len(of_kind) // STRETCHES)
        if size > 1:
            lines.append(f"{label:<12} in stretches of {size}:")
            label = ""
        parts = [of_kind[start : start + size] for start in range(0, len(of_kind), size)]
        counts = [f"{sum(v.kept for v in part)}/{sum(v.total for v in part)}" for part in parts]
        each = max(map(len, counts)) + 2
        across = 12 if width is None else max(1, (width - 15) // each)  # behind 4 spaces and a label of 12
        for start in range(0, len(counts), across):
            lines.append(f"{label if start == 0 else '':<12} {'  '.join(counts[start : start + across])}")
    if visual.separators_total:
        lines.append(f"{'separators':<12} {visual.separators_kept}/{visual.separators_total}")
    if visual.position_scale is not None:
        lines.append(f"{'positions':<12} x {visual.position_scale:.3g}")
    if visual.view_text:
        lines.append(f"{'view text':<12} {visual.view_text - visual.view_text_dropped}/{visual.view_text}")
    return lines

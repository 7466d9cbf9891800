"""Prompts of a batch without padding, and the columns of their visuals, parsed from ids and placeholders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vidcompress.core.devices import outside_caller_modes
from vidcompress.core.layout import Modality
from vidcompress.errors import UnsupportedInputError

ViewText = Literal["keep", "drop"]
VIEW_TEXT: tuple[ViewText, ...] = ("keep", "drop")


@dataclass(eq=False)
class Span:
    """Columns of one visual in a prompt row without padding.

    Attributes:
        runs: the runs of its placeholders, in order, as ranges of columns of the unpadded row. Text between two runs
            belongs to the visual; only `Prompt.without` cuts it.
        modality: `image` or `video`.
        number: index of the image, or of the video, in the batch.
        key: modality and number, which name the visual within the batch.
        start: column of the first placeholder.
        stop: column behind the last placeholder.
        length: N, number of placeholders.
    """

    runs: tuple[range, ...]
    modality: Modality
    number: int
    key: tuple[Modality, int] = field(init=False)
    start: int = field(init=False)
    stop: int = field(init=False)
    length: int = field(init=False)

    def __post_init__(self) -> None:
        """Compute the fields that follow from the runs."""
        self.key = self.modality, self.number
        self.start, self.stop = self.runs[0].start, self.runs[-1].stop
        self.length = sum(map(len, self.runs))

    @cached_property
    @outside_caller_modes
    def columns(self) -> Tensor:
        """(N,) int64 on the CPU, ascending: columns of the placeholders."""
        return torch.cat([torch.arange(run.start, run.stop, device="cpu") for run in self.runs])

    def moved(self, by: Sequence[int]) -> Span:
        """Return the span with each run moved left by its number of columns."""
        runs = [range(run.start - n, run.stop - n) for run, n in zip(self.runs, by, strict=True)]
        return Span(tuple(runs), self.modality, self.number)

    def short_columns(self, start: int, kept: Tensor) -> Tensor:
        """Columns of the surviving placeholders in the shortened row.

        Args:
            start: column of the visual's first token, placeholder or text, in the shortened row.
            kept: (K,) int64 source positions of the surviving tokens; ascending where there are several runs.

        Returns:
            (K,) int64, on the CPU for one run, else on the device of `kept`.
        """
        if len(self.runs) == 1:
            return torch.arange(start, start + kept.shape[0], device="cpu")
        between = self.columns - torch.arange(self.start, self.start + self.length, device="cpu")
        rank = torch.arange(start, start + kept.shape[0], device=kept.device)
        return rank + between.to(kept.device).index_select(0, kept)


@dataclass(frozen=True)
class Prompt:
    """The rows of a batch, padding removed.

    Attributes:
        rows: one int64 CPU tensor of token ids per row.
        columns: for each row the columns of its tokens in the padded tensor.
        spans: for each row its visuals in order.
        pad_right: whether the batch was padded on the right.
        padding: id that fills the padding; None without padding.
        dropped: for each row the columns of the padded tensor, ascending, of text that `without` left out; () for a
            whole prompt.
        dropped_until: columns of the padded tensor up to the last of these; 0 for a whole prompt.
    """

    rows: list[Tensor]
    columns: list[Tensor]
    spans: list[list[Span]]
    pad_right: bool
    padding: int | None = None
    dropped: tuple[tuple[int, ...], ...] = ()
    dropped_until: int = 0

    def places(self, row: int) -> Tensor:
        """(length,) int64 on the CPU: columns of a row's tokens in the whole row without padding, text that `without`
        left out included."""
        where = self.columns[row]
        if not self.dropped:
            return torch.arange(len(where), device="cpu")
        return where - min([int(where[0]), *self.dropped[row]])

    @outside_caller_modes
    def without(self, texts: Sequence[Sequence[range]]) -> Prompt:
        """Return the prompt without some of its text: rows and spans move up, columns still refer to the padded tensor.

        Args:
            texts: for each row ranges of columns of the unpadded row; no placeholder among them.
        """
        rows, columns, spans, dropped = [], [], [], []
        for row, where, placed, ranges in zip(self.rows, self.columns, self.spans, texts, strict=True):
            stays = torch.ones(len(row), dtype=torch.bool, device="cpu")
            for text in ranges:
                stays[text.start : text.stop] = False
            before = (
                (~stays).cumsum(0).tolist()
            )  # a run has no such column inside, so that it moves as a whole
            rows.append(row[stays])
            columns.append(where[stays])
            spans.append([span.moved([before[run.start] for run in span.runs]) for span in placed])
            dropped.append(tuple(where[~stays].tolist()))
        until = max((left[-1] + 1 for left in dropped if left), default=0)
        return Prompt(rows, columns, spans, self.pad_right, self.padding, tuple(dropped), until)


@outside_caller_modes
def parse_prompt(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    placeholders: Mapping[Modality, int | None],
    runs: Mapping[Modality, Sequence[tuple[int, ...]]],
    order: Sequence[tuple[str, int]] = (),
) -> Prompt:
    """Match placeholders with visuals.

    Args:
        input_ids: (row, column) int64.
        attention_mask: (row, column), 0 at padding; None for no padding.
        placeholders: token id of `image` and of `video`.
        runs: for `image` and `video` the lengths of the runs of placeholders of every visual of the batch, in order;
            they sum to the full length N of the visual.
        order: (modality, number) of all visuals in the order of the prompts; read where both modalities share one
            placeholder.

    Raises:
        UnsupportedInputError: placeholders and visuals do not match, padding inside a row, no real token.
    """
    ids = input_ids.detach().to("cpu", torch.int64)
    mask = torch.ones_like(ids) if attention_mask is None else attention_mask.detach().to("cpu", torch.int64)
    if mask.shape != ids.shape:
        raise UnsupportedInputError(
            f"attention_mask must have the shape of input_ids {tuple(ids.shape)}, got {tuple(mask.shape)}; pass a 2-D "
            "mask (4-D masks cannot be shortened)"
        )
    queues = _queues(placeholders, runs, order)
    rows, columns, spans = [], [], []
    for number, (row, real) in enumerate(zip(ids, mask.bool(), strict=True)):
        where = real.nonzero().flatten()
        if len(where) == 0 or int(where[-1] - where[0]) + 1 != len(where):
            raise UnsupportedInputError(
                f"attention_mask row {number} must be one run of ones, padded on one side; got {len(where)} ones "
                "with gaps, pass the processor's output unchanged"
                if len(where)
                else f"attention_mask row {number} has no ones; pass the processor's output unchanged"
            )
        rows.append(row[where])
        columns.append(where)
        spans.append(_row_spans(row[where], number, queues))
    for queue in queues:
        for kind in dict.fromkeys(visual.kind for visual in queue.due):
            rest = sum(visual.kind == kind for visual in queue.due)
            raise UnsupportedInputError(
                f"the inputs hold {len(runs[kind])} {kind}s, but the prompts have placeholders for only "
                f"{len(runs[kind]) - rest}; put one {kind} placeholder per {kind} into the text"
            )
    pads = ids[mask == 0]  # ids and mask are on the host here
    padding = int(pads[0]) if len(pads) else None
    return Prompt(rows, columns, spans, bool((mask[:, -1] == 0).any()), padding)


def text_between_runs(row: Tensor, runs: Sequence[range], after: int = 1) -> list[list[range]]:
    """Find the text of each run of a visual whose runs have text between them, such as `<1.5 seconds>` before a frame.

    Between two runs the first `after` tokens belong to the run before, the others to the run behind. The first run's
    text begins at the first token of the second run's text, if this token stands no further before the first run than
    the longest of the other texts; behind the last run it is the same text as behind the first. One run has no text.

    Args:
        row: (column,) int64 ids of the prompt, on the CPU.
        runs: columns of the runs, in order.
        after: tokens right behind a run that belong to it, such as an end of vision.

    Returns:
        For each run the ranges of columns of its text, as `Visual.view_text` gives them.
    """
    if len(runs) < 2:
        return [[] for _ in runs]
    gaps = [range(run.stop, following.start) for run, following in zip(runs, runs[1:], strict=False)]
    stop, usual = runs[-1].stop, row[gaps[0].start : gaps[0].stop][:after].tolist()
    pairs = zip(usual, row[stop : stop + after].tolist(), strict=False)
    alike = list(takewhile(lambda pair: pair[0] == pair[1], pairs))
    behind = [gap[:after] for gap in gaps] + [range(stop, stop + len(alike))]
    before = [gap[after:] for gap in gaps]
    longest, first = max(map(len, before)), runs[0].start
    window = row[max(first - longest, 0) : first].tolist()
    mark = int(row[before[0].start]) if before[0] else None
    places = [len(window) - n for n, token in enumerate(window) if token == mark]
    own = range(first - places[-1], first) if places else range(first, first)
    return [[text for text in pair if text] for pair in zip([own, *before], behind, strict=True)]


class _Due(NamedTuple):
    """Visual that has not been matched yet: its kind, its number and the lengths of its runs."""

    kind: Modality
    number: int
    runs: tuple[int, ...]


class _Queue(NamedTuple):
    """Visuals of one placeholder `token`: `due` has them in the order of the prompts; `kind` is that of the first."""

    kind: Modality
    token: int | None
    due: list[_Due]


def _queues(
    placeholders: Mapping[Modality, int | None],
    runs: Mapping[Modality, Sequence[tuple[int, ...]]],
    order: Sequence[tuple[str, int]],
) -> list[_Queue]:
    """Return one queue per placeholder."""
    queues: list[_Queue] = []
    for kind, token in placeholders.items():
        due = [_Due(kind, number, lengths) for number, lengths in enumerate(runs.get(kind, ()))]
        same = next((queue for queue in queues if token is not None and queue.token == token), None)
        if same is None:
            queues.append(_Queue(kind, token, due))
            continue
        place = {key: number for number, key in enumerate(order)}
        same.due.extend(due)
        same.due.sort(key=lambda visual: place[visual.kind, visual.number])
    return queues


def columns_of_runs(row: Tensor, token: int) -> list[range]:
    """Return the columns of every run of a placeholder in the ids (column,) of one prompt, on the CPU."""
    return [range(start, start + length) for start, length in _runs(row == token)]


def placeholder_runs(input_ids: Tensor, token: int) -> list[int]:
    """Return the lengths of all runs of a placeholder, row after row of ids (row, column)."""
    rows = input_ids.detach().to("cpu") == token
    return [length for row in rows for _, length in _runs(row)]


def runs_of_visuals(input_ids: Tensor, token: int, between: int = 1) -> list[tuple[int, ...]]:
    """Return the lengths of the runs of placeholders of each visual, for families that write several (`Visual.runs`).

    Args:
        input_ids: (row, column) int64.
        token: the placeholder.
        between: most tokens of text between two runs of one visual; between two visuals there are more.

    Returns:
        For each visual the lengths of its runs, row after row.
    """
    visuals: list[list[int]] = []
    for row in input_ids.detach().to("cpu") == token:
        stop = None
        for start, length in _runs(row):
            if stop is None or start - stop > between:
                visuals.append([])
            visuals[-1].append(length)
            stop = start + length
    return [tuple(runs) for runs in visuals]


def _row_spans(ids: Tensor, number: int, queues: Sequence[_Queue]) -> list[Span]:
    spans = []
    for first, token, rest in queues:
        if token is None:
            continue
        kind, index = first, 0  # of the visual whose runs are being read
        due: list[int] = []
        placed: list[range] = []
        for start, length in _runs(ids == token):
            while length > 0:
                if not due:
                    if not rest:
                        raise UnsupportedInputError(
                            f"prompt row {number} has {length} {kind} placeholders more than the inputs have {kind}s; "
                            f"pass one {kind} per placeholder, expanded by the processor"
                        )
                    kind, index, lengths = rest.pop(0)
                    due, placed = list(lengths), []
                full = due.pop(0)
                if full > length:
                    raise UnsupportedInputError(
                        f"prompt row {number} has a run of {length} {kind} placeholders where {kind} {index} has "
                        f"{full} tokens; let the processor expand the placeholders"
                    )
                placed.append(range(start, start + full))
                start, length = start + full, length - full
                if not due:
                    spans.append(Span(tuple(placed), kind, index))
        if due:
            raise UnsupportedInputError(
                f"prompt row {number} ends before {kind} {index} does: {len(placed)} of its {len(placed) + len(due)} "
                "runs of placeholders are there; pass the processor's output unchanged"
            )
    return sorted(spans, key=lambda span: span.start)


def _runs(mask: Tensor) -> list[tuple[int, int]]:
    """Return (start, length) of every run of true entries."""
    outside = torch.zeros(1, dtype=torch.int8)
    edges = torch.diff(mask.to(torch.int8), prepend=outside, append=outside)
    starts, stops = (edges == 1).nonzero().flatten().tolist(), (edges == -1).nonzero().flatten().tolist()
    return [(a, b - a) for a, b in zip(starts, stops, strict=True)]

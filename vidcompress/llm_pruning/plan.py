"""Pruning plan of a call from kept tokens and settings, by counts alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vidcompress.core.config import CompressionConfig
from vidcompress.core.prompt import Prompt
from vidcompress.core.pruning.method import InLLMMethod
from vidcompress.core.pruning.plan import PruningPlan
from vidcompress.errors import UnsupportedInputError


def plan_pruning(
    prompt: Prompt, kept: Mapping[tuple[str, int], Tensor], settings: CompressionConfig, layers: int
) -> PruningPlan:
    """Plan the pruning inside the language model from counts alone.

    Args:
        prompt: the parsed rows of the uncompressed prompt.
        kept: for each (modality, number) the (K,) positions that are sent.
        settings: how to compress.
        layers: of the decoder.

    Raises:
        BudgetError: a budget below the floor of the method's schedule.
        UnsupportedInputError: a batch that is padded on the right.
    """
    method: InLLMMethod = settings.method.inside
    if prompt.pad_right and len(prompt.rows) > 1:
        raise UnsupportedInputError(
            f"attention_mask ends with padding, and method {method.name!r} ranks by each prompt's last tokens; pad on "
            "the left"
        )
    counts = [[int(kept[s.key].shape[0]) for s in spans] for spans in prompt.spans]
    gone = [
        [s.length - count for s, count in zip(r, c, strict=True)]
        for r, c in zip(prompt.spans, counts, strict=True)
    ]
    lengths = [len(row) - sum(missing) for row, missing in zip(prompt.rows, gone, strict=True)]
    width = max(lengths)
    columns: list[list[Tensor]] = []
    ends, schedules, budgets = [], [], []
    for row, spans in enumerate(prompt.spans):
        at, placed = width - lengths[row], []
        for number, span in enumerate(spans):
            start = at + span.start - sum(gone[row][:number])
            placed.append(span.short_columns(start, kept[span.key]).cpu())
        columns.append(placed)
        ends.append(at + spans[-1].stop - sum(gone[row]) if spans else width)
        budget = sum(settings.budget.split([span.length for span in spans]))
        budgets.append(budget)
        schedules.append(
            method.plan_layers(
                sum(counts[row]),
                budget,
                layers,
                ratio=settings.budget.ratio,
                reference=settings.policy == "reference",
            )
        )
    return PruningPlan(
        method, lengths, columns, ends, schedules, budgets, settings.inside_positions == "contiguous"
    )

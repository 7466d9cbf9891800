"""Pruning plan of a call from kept tokens and settings, by counts alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vidcompress.core.config import CompressionConfig
from vidcompress.core.prompt import Prompt
from vidcompress.core.pruning.method import InLLMMethod
from vidcompress.core.pruning.plan import PruningPlan
from vidcompress.errors import UnsupportedInputError


def place_visuals(
    prompt: Prompt, kept: Mapping[tuple[str, int], Tensor]
) -> tuple[list[int], list[list[int]]]:
    """Place the visuals in the shortened, padded prompt, by counts alone.

    Args:
        prompt: the parsed rows of the uncompressed prompt.
        kept: for each (modality, number) the (K,) positions that are sent.

    Returns:
        For each row its number of tokens, and the column of the first placeholder of each of its visuals.
    """
    gone = [[span.length - int(kept[span.key].shape[0]) for span in spans] for spans in prompt.spans]
    lengths = [len(row) - sum(missing) for row, missing in zip(prompt.rows, gone, strict=True)]
    width = max(lengths)
    starts = []
    for length, spans, missing in zip(lengths, prompt.spans, gone, strict=True):
        at = 0 if prompt.pad_right else width - length
        starts.append([at + span.start - sum(missing[:number]) for number, span in enumerate(spans)])
    return lengths, starts


def plan_pruning(
    prompt: Prompt,
    kept: Mapping[tuple[str, int], Tensor],
    separators: Mapping[tuple[str, int], Tensor],
    settings: CompressionConfig,
    layers: int,
) -> PruningPlan:
    """Plan the pruning inside the language model from counts alone.

    Args:
        prompt: the parsed rows of the uncompressed prompt.
        kept: for each (modality, number) the (K,) positions that are sent.
        separators: for each of these a (K,) bool, separators among them.
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
    lengths, starts = place_visuals(prompt, kept)
    width = max(lengths)
    columns: list[list[Tensor]] = []
    ends, schedules, budgets = [], [], []
    for row, (spans, placed) in enumerate(zip(prompt.spans, starts, strict=True)):
        counts = [int(kept[span.key].shape[0]) for span in spans]
        columns.append(
            [span.short_columns(at, kept[span.key]).cpu() for span, at in zip(spans, placed, strict=True)]
        )
        behind = len(prompt.rows[row]) - spans[-1].stop if spans else 0
        ends.append(width - behind)
        budget = sum(settings.budget.split([span.length for span in spans]))
        budgets.append(budget)
        schedules.append(
            method.plan_layers(
                sum(counts),
                budget,
                layers,
                ratio=settings.budget.ratio,
                reference=settings.policy == "reference",
            )
        )
    contiguous = settings.inside_positions == "contiguous"
    apart = [[separators[span.key] for span in spans] for spans in prompt.spans]
    return PruningPlan(method, lengths, columns, ends, schedules, budgets, contiguous, apart)

"""Masses of a call: of the tokens that each visual sends, and of the columns of the shortened prompt."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vidcompress.adapters.base import Visual
from vidcompress.core.config import CompressionConfig
from vidcompress.core.prompt import Prompt
from vidcompress.core.pruning.plan import PruningPlan
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import VisualTokens
from vidcompress.llm_pruning.mass import MassPlan
from vidcompress.llm_pruning.plan import place_visuals
from vidcompress.ops.mass import masses_of


def visual_masses(
    tokens: Mapping[tuple[str, int], VisualTokens],
    selections: Mapping[tuple[str, int], Selection],
    visuals: Mapping[tuple[str, int], Visual],
) -> dict[tuple[str, int], Tensor]:
    """Return the masses (K,) float32 of the tokens that each visual sends; none of a visual that is sent whole."""
    masses = {}
    for key, selection in selections.items():
        layout = visuals[key].layout
        if len(selection) < layout.full_length or selection.features is not None:
            masses[key] = masses_of(tokens[key], selection, layout.num_tokens)
    return masses


def plan_masses(
    prompt: Prompt,
    kept: Mapping[tuple[str, int], Tensor],
    masses: Mapping[tuple[str, int], Tensor],
    settings: CompressionConfig,
    plan: PruningPlan | None,
) -> MassPlan | None:
    """Place the masses in the columns of the shortened prompt.

    Args:
        prompt: the parsed rows, as they are sent.
        kept: for each (modality, number) the (K,) positions that are sent.
        masses: for each of these that is not sent whole its masses (K,).
        settings: how to compress.
        plan: of a method inside the language model, or None.

    Returns:
        None where every column has mass 1 and stays.
    """
    if not (masses or (plan is not None and plan.layers)):
        return None
    lengths, starts = place_visuals(prompt, kept)
    device = next((mass.device for mass in masses.values()), torch.device("cpu"))
    columns = torch.ones((len(lengths), max(lengths)), device=device)
    for row, (spans, placed) in enumerate(zip(prompt.spans, starts, strict=True)):
        for span, start in zip(spans, placed, strict=True):
            mass = masses.get(span.key)
            if mass is None:
                continue
            if len(span.runs) == 1:
                columns[row, start : start + len(mass)] = mass.to(device)
            else:
                where = span.short_columns(start, kept[span.key]).to(device)
                columns[row].index_copy_(0, where, mass.to(device))
    return MassPlan(columns, settings.mass_strength, settings.mass_cap)

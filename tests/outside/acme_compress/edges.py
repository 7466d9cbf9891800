"""Edges: keep the tokens that differ from the one before them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vidcompress.methods import ScoredMethod, VisualBatch, VisualBudget, register_method, require_numbers


@register_method
@dataclass(frozen=True)
class Edges(ScoredMethod):
    """Scores a token by its distance to the one on its left; views share the budget by their size.

    Attributes:
        order: of the norm; 2.0 is Euclidean.

    Raises:
        ArgumentError: the order is not a number.
    """

    name = "edges"
    summary = "tokens unlike their left neighbour"
    modalities = frozenset({"image", "video"})

    order: float = 2.0

    def __post_init__(self) -> None:
        require_numbers(order=self.order)

    def scores(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        layout, features = batch.layout, batch.features.float()
        steps = torch.linalg.vector_norm(features[1:] - features[:-1], ord=self.order, dim=-1)
        same_row = (layout.view[1:] == layout.view[:-1]) & (layout.row[1:] == layout.row[:-1])
        scores = torch.cat((steps.new_zeros(1), steps * same_row))
        return scores, layout.sizes_tensor[:-1].double()

"""A method of your own: one frozen dataclass that turns tokens into scores and view weights.

python examples/own_method.py
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import vidcompress
from vidcompress.methods import ScoredMethod, VisualBatch, VisualBudget, register_method

HERE = Path(__file__).parent


@register_method
@dataclass(frozen=True)
class Loudest(ScoredMethod):
    """Keeps the tokens with the largest features; every view gets tokens in proportion to its size."""

    name = "loudest"
    summary = "tokens with the largest feature norm"
    modalities = frozenset({"image", "video"})

    power: float = 2.0

    def scores(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loudness = batch.features.float().norm(p=self.power, dim=-1)
        weights = batch.layout.sizes_tensor[:-1].double()
        return loudness, weights


def main() -> vidcompress.Answer:
    qa = vidcompress.VisualQA.from_pretrained(method="loudest", retention_ratio=0.25)
    answer = qa.ask("what shape is the red object?", image=HERE / "scene.png")
    print(answer.text)
    print(answer.report)
    return answer


if __name__ == "__main__":
    main()

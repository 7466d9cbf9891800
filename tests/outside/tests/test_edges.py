"""The contract of vidcompress on the method, and what is special to it."""

import torch

from vidcompress import get_method, testing
from vidcompress.adapters import image_layout
from vidcompress.methods import VisualTokens, visual_budget


def test_edges_keeps_the_contract() -> None:
    testing.check_method("edges")
    testing.check_method("edges", order=1.0)


def test_edges_finds_the_edge() -> None:
    layout = image_layout((4, 6))
    features = torch.where(layout.col < 3, 0.0, 1.0)[:, None].expand(-1, 8).contiguous()
    tokens = VisualTokens(features, layout)
    kept = testing.select_alone(get_method("edges"), tokens, visual_budget(layout, 5))
    assert kept.index.tolist() == [3, 9, 15, 21, 24]  # the third column of each row, and the newline

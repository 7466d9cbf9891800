"""Layouts and seeded tokens that many tests share: ordinary ones, odd ones and degenerate ones."""

from __future__ import annotations

import torch

from vidcompress.adapters.layouts import image_layout, native_layout, unpadded_box, video_layout
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import Evidence, VisualTokens

CLS = Evidence("cls_logits", -1)
QUESTION = Evidence("question")
RECEIVED = Evidence("attention_received", -1)
EVIDENCE = (
    Evidence("cls_attention", "features"),
    Evidence("cls_attention", 0),
    Evidence("cls_attention", -1),
    Evidence("cls_attention_whole", -1),
    Evidence("attention_received", "features"),
    Evidence("attention_received", 0),
    RECEIVED,
    Evidence("cls_logits", "features"),
    Evidence("cls_logits", 0),
    Evidence("keys", -1),
    Evidence("mean_keys", "features"),
    Evidence("hidden", "features"),
    Evidence("cls_hidden", "features"),
)
"""What methods ask for besides the logits."""
WIDTHS = {"keys": 8, "mean_keys": 5, "hidden": 10, "cls_hidden": 10}


def padded_image(grid: tuple[int, int], crops: tuple[int, int], size: tuple[int, int]) -> Layout:
    """Layout of an image of `size` (height, width) on a crop canvas that it may not fill."""
    return image_layout(grid, crops, unpadded=unpadded_box(size, (crops[0] * grid[0], crops[1] * grid[1])))


IMAGES: dict[str, Layout] = {
    "two by two": image_layout((6, 6), (2, 2)),
    "landscape": padded_image((6, 6), (2, 2), (480, 640)),
    "portrait": padded_image((6, 6), (3, 1), (1024, 400)),
    "one crop": image_layout((5, 7), (1, 1)),
    "one view": image_layout((4, 5)),
    "one token": image_layout((1, 1)),
    "native resolution": native_layout((5, 7)),
    "native resolution, one token": native_layout((1, 1)),
    "one row": image_layout((1, 9), (1, 3)),
    "one column": image_layout((9, 1), (3, 1)),
    "fully padded crops": padded_image((6, 6), (1, 3), (999, 333)),
    "shrunk canvas": image_layout((7, 7), (3, 3), unpadded=(1, 0, 19, 21), shrunk=(13, 15)),
    "padding kept, no newlines": image_layout((6, 6), (2, 2), picture=(2, 0, 7, 12), newline=False),
    "37 views": image_layout((3, 3), (6, 6)),
}
VIDEOS: dict[str, Layout] = {
    "one newline": video_layout(8, (4, 4), "end"),
    "newline per row": video_layout(8, (3, 5), "row"),
    "no newline": video_layout(5, (3, 3), "none"),
    "one frame": video_layout(1, (5, 5), "end"),
    "one frame, row newlines": video_layout(1, (5, 3), "row"),
    "one-token frames": video_layout(9, (1, 1), "row"),
    "one column": video_layout(6, (7, 1), "row"),
    "300 frames": video_layout(300, (3, 3), "end"),
}
LAYOUTS: dict[str, Layout] = {
    **{f"image, {name}": layout for name, layout in IMAGES.items()},
    **{f"video, {name}": layout for name, layout in VIDEOS.items()},
}


def make_tokens(
    layout: Layout, *, dim: int = 12, seed: int = 0, dtype: torch.dtype = torch.float32
) -> VisualTokens:
    """Seeded features, evidence of every kind and a question; separators all carry one and the same, outlying, row."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(layout), dim, generator=generator, dtype=torch.float64)
    features[layout.separator] = 50.0
    logits = torch.randn(len(layout), generator=generator, dtype=torch.float64)
    question = torch.randn(6, dim, generator=generator, dtype=torch.float64)
    evidence = {CLS: logits} | {key: _drawn(key, layout, generator) for key in EVIDENCE}
    evidence[QUESTION] = question
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    weight = torch.randn(WIDTHS["hidden"], dim, generator=generator, dtype=torch.float64).to(dtype)
    return VisualTokens(
        features.to(dtype),
        layout,
        {k: v.to(wide) for k, v in evidence.items()},
        lambda x: x @ weight.to(x.dtype),
    )


def _drawn(key: Evidence, layout: Layout, generator: torch.Generator) -> torch.Tensor:
    """Attention is positive and sums to about one per view, as after a softmax; everything else is normal."""
    rows = len(layout.views) if key.quantity == "cls_hidden" else len(layout)
    shape = (rows, WIDTHS[key.quantity]) if key.quantity in WIDTHS else (rows,)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    attention = key.quantity.startswith("cls_attention") or key.quantity == "attention_received"
    return values.exp() / max(1, max(layout.sizes)) if attention else values

"""Inputs of the selection benchmark: an image of LLaVA-NeXT and a clip of LLaVA-OneVision in real sizes, seeded.

A clip is eight scenes of alike frames, as clips are; of independent noise every frame would be a scene of its own.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vidcompress.adapters.layouts import image_layout, video_layout
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method
from vidcompress.core.tokens import AXES, Evidence, VisualTokens

WIDTH = {"image": 1024, "clip": 1152}
"""Channels of the encoder: CLIP-L, SigLIP-so400m."""
SCENES = 8


def image_tokens(dim: int = 4096) -> VisualTokens:
    """5 views of 576 tokens and 48 newlines."""
    layout = image_layout((24, 24), (2, 2))
    return VisualTokens(torch.randn(len(layout), dim, generator=torch.Generator().manual_seed(0)), layout)


def clip_tokens(frames: int = 64, dim: int = 3584) -> VisualTokens:
    """`frames` frames of 196 tokens in scenes of frames whose means have cosines above 0.9; no newlines."""
    generator, layout = torch.Generator().manual_seed(0), video_layout(frames, (14, 14), "none")
    scenes = torch.randn(min(SCENES, frames), 196, dim, generator=generator)
    noise = torch.randn(frames, 196, dim, generator=generator)
    number = torch.arange(frames) * len(scenes) // frames
    return VisualTokens((scenes[number] + noise.mul_(0.3)).flatten(0, 1), layout)


def with_evidence(tokens: VisualTokens, method: Method) -> VisualTokens:
    """The same tokens with what the method asks for: positive attention, everything else normal.

    The projector of an image only repeats channels, so that what is timed is selection and merging; that of a clip
    comes before pooling, so there is none.
    """
    layout, width = tokens.layout, WIDTH["clip" if tokens.layout.modality == "video" else "image"]
    generator = torch.Generator().manual_seed(1)
    found: dict[Evidence, Tensor] = {}
    for item in method.needs(layout.modality, layout.modality == "image"):
        if item.quantity == "hidden" and layout.modality == "video":
            continue
        found[item] = _drawn(item, layout, tokens.features.shape[1], width, generator)
    times = tokens.features.shape[1] // width
    project = None if layout.modality == "video" else lambda hidden: hidden.repeat(1, times)
    return replace(tokens, evidence=found, project=project)


def _drawn(item: Evidence, layout: Layout, dim: int, width: int, generator: torch.Generator) -> Tensor:
    sizes = {"N": len(layout), "V": len(layout.views), "T": 20, "D": dim, "C": width}
    sizes["C"] = 64 if item.quantity == "mean_keys" else width
    values = torch.randn([sizes[axis] for axis in AXES.get(item.quantity, "N")], generator=generator)
    return values.exp() / 577 if "attention" in item.quantity else values

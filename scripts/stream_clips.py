"""Made-up clips of features for streams: still ones with a needle, drift, cuts, two halves; seeded, of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["needle", "drift", "cuts", "two halves"]
KINDS: tuple[Kind, ...] = ("needle", "drift", "cuts", "two halves")
SCENE = 150
"""Frames of a scene of `cuts`."""


def clip(kind: Kind, frames: int, tokens: int = 16, channels: int = 64, seed: int = 0) -> Tensor:
    """Return features (frames, tokens, channels) in float32.

    Every clip has a background, an object that moves over it, and noise of a tenth.

    Args:
        kind: `needle` is a still background with another object in one place of one frame, in the middle; in `drift`
            the background turns into another one from the first frame to the last; `cuts` has another every 150 frames;
            `two halves` has two.
        frames: T. tokens: of a frame. channels: of a token.
        seed: of everything.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    common, time = drawn(channels), torch.arange(frames)
    scenes = common + drawn(2 + frames // SCENE, tokens, channels)
    if kind == "cuts":
        x = scenes[time // SCENE]
    elif kind == "two halves":
        x = scenes[(time >= frames // 2).long()]
    elif kind == "drift":
        part = (time / max(1, frames - 1))[:, None, None]
        x = (1 - part) * scenes[0] + part * scenes[1]
    else:
        x = scenes[0].expand(frames, -1, -1).clone()
        x[frames // 2, tokens // 3] = 2 * drawn(channels)
    x = x + 0.1 * drawn(frames, tokens, channels)
    x[time, (time // 4) % tokens] += drawn(channels)
    return x


def endless(chunk: int, tokens: int = 16, channels: int = 64, seed: int = 0) -> Iterator[Tensor]:
    """Yield chunks (chunk, tokens, channels) without end: slow drift, and a new scene every 1,000 frames."""
    generator = torch.Generator().manual_seed(seed)
    at, common = 0, torch.randn(channels, generator=generator)
    scene = common + torch.randn(tokens, channels, generator=generator)
    while True:
        noise = torch.randn(chunk, tokens, channels, generator=generator)
        if at // 1000 != (at + chunk) // 1000:
            scene = common + torch.randn(tokens, channels, generator=generator)
        scene = scene + 0.02 * torch.randn(tokens, channels, generator=generator)
        yield scene + 0.1 * noise
        at += chunk

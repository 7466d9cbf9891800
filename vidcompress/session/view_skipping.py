"""Fewer views through the encoder: frames that look like an earlier one take over its tokens.

The encoder is the next bottleneck once the language model reads a tenth of the tokens. View skipping needs no training:
two frames whose pixels hardly differ have tokens that hardly differ. It is off by default.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.core.budget import VisualBudget
from vidcompress.core.config import CompressionConfig, ViewSkipping
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method
from vidcompress.core.reductions import full_precision
from vidcompress.core.tokens import AXES, Evidence, FrameSource, VisualTokens
from vidcompress.errors import UnsupportedInputError

CELL = 8  # pixels: above sensor and coding noise, below anything that can be read
BLOCK = 1 << 24  # numbers compared at once
REMEMBERED = 128
"""Most new frames that a frame is compared with, the last ones (W); so the work grows with the length of a clip, not
with its square. A frame that looks like an older one is encoded again.
"""
TOGETHER = 64
"""Frames that are compared between two transfers from the device."""


def leaders(
    pixels: Tensor | FrameSource,
    saving: ViewSkipping,
    pictures: Callable[[Tensor], Tensor] | None = None,
) -> tuple[int, ...]:
    """Return for each frame the frame whose tokens it takes, itself if it is new.

    A frame follows the one of the last `REMEMBERED` new frames from which the smallest share of its cells has changed,
    where that share is at most `area`. It is compared with new frames only, so small changes cannot add up. Frames are
    read in order, so that a clip is compared as it is decoded. There is one transfer from the device per `TOGETHER`
    frames.

    Args:
        pixels: (frame, channel, height, width), as for the encoder.
        saving: threshold and area.
        pictures: turns patches of some frames into such pixels, where the encoder takes patches.

    Returns:
        One frame number per frame, at most its own.
    """
    count = pixels.shape[0]
    if count < 2:
        return tuple(range(count))
    new: list[int] = []  # the last ones
    held: Tensor | None = None  # their cells
    followed: list[int] = []
    for start in range(0, count, TOGETHER):
        part = pixels[start : start + TOGETHER]
        cells = _cells(part if pictures is None else pictures(part))
        others = cells if held is None else torch.cat((held, cells))
        column = {frame: place for place, frame in enumerate([*new, *range(start, start + len(cells))])}
        for number, row in enumerate(_changed(cells, others, saving.threshold).tolist(), start):
            likest = min(new[-REMEMBERED:], key=lambda other: row[column[other]], default=number)
            if likest == number or row[column[likest]] > saving.area:
                new.append(number)
                likest = number
            followed.append(likest)
        new = new[-REMEMBERED:]
        held = others[[column[frame] for frame in new]]
    return tuple(followed)


def _changed(cells: Tensor, others: Tensor, threshold: float) -> Tensor:
    """Return (frame, other) shares of cells that differ by more than the threshold; NaN differs from anything."""
    step = max(1, BLOCK // others.numel())
    return torch.cat(
        [
            (~((part[:, None] - others).abs().amax(2) <= threshold)).float().mean(-1)
            for part in cells.split(step)
        ]
    )


def _cells(pictures: Tensor) -> Tensor:
    """Return (frame, channel, cell) means over cells of pictures (frame, channel, height, width)."""
    size = min(CELL, *pictures.shape[-2:])
    return avg_pool2d(pictures.float(), size, ceil_mode=True).flatten(2)


def spread(tokens: VisualTokens, layout: Layout, follows: Sequence[int]) -> VisualTokens:
    """Return the tokens of a whole clip from those of its new frames.

    Args:
        tokens: of the new frames, in order.
        layout: of the whole clip.
        follows: F frame numbers from `leaders`.

    Returns:
        Tokens whose frames share the features and the evidence of the frame they follow.
    """
    device = tokens.layout.view.device
    layout = layout.to(device)
    order = {frame: rank for rank, frame in enumerate(sorted(set(follows)))}
    rank = torch.tensor([order[frame] for frame in follows], device=device)
    index = torch.empty(len(layout), dtype=torch.int64, device=device)
    index[layout.table] = tokens.layout.table[rank]
    index[layout.separator_index] = tokens.layout.separator_index
    by_axis = {"N": index, "V": rank}
    evidence = {
        item: value[by_axis[axis]] if (axis := AXES.get(item.quantity, "N")[0]) in by_axis else value
        for item, value in tokens.evidence.items()
    }
    deep = tuple(level[index] for level in tokens.deep)
    features = tokens.features[index]
    return tokens.replace(features=features, layout=layout, evidence=evidence, deep=deep)


def encode_new_frames(
    adapter: Adapter,
    visuals: Sequence[Visual],
    evidence: Sequence[Evidence],
    frames: Sequence[tuple[int, ...] | None],
    settings: CompressionConfig,
) -> tuple[list[VisualTokens], list[int]]:
    """Encode only the new frames of clips; return the clips' tokens and the number of frames not encoded in each.

    Raises:
        UnsupportedInputError: a family that encodes patches without `Visual.pictures`.
    """
    _check_pictures(visuals)
    asked, follows, layouts = [], [], []
    for visual, some in zip(visuals, frames, strict=True):
        every = tuple(range(len(visual.layout.views))) if some is None else some
        index = torch.tensor(every, device=visual.pixels.device)
        pixels = visual.pixels if some is None else visual.pixels[index]
        follows.append(leaders(pixels, settings.encoder_saving, visual.pictures))
        asked.append(tuple(every[frame] for frame in sorted(set(follows[-1]))))
        device = visual.layout.view.device
        layouts.append(
            visual.layout if some is None else visual.layout.restrict_to_frames(index.to(device), every)
        )
    encoded = adapter.encode(visuals, evidence, asked, settings.max_views)
    spared = [len(follow) - len(new) for follow, new in zip(follows, asked, strict=True)]
    whole = [
        spread(tokens, layout, follow) if less else tokens
        for tokens, layout, follow, less in zip(encoded, layouts, follows, spared, strict=True)
    ]
    return whole, spared


def encode_worthy_crops(
    adapter: Adapter,
    visuals: Sequence[Visual],
    plans: Sequence[VisualBudget],
    evidence: Sequence[Evidence],
    settings: CompressionConfig,
) -> tuple[list[VisualTokens], list[int]]:
    """Encode only the thumbnails of images and the crops that get tokens; return tokens and views not encoded."""

    def choose(number: int, thumbnail: VisualTokens) -> tuple[int, ...] | None:
        with full_precision(thumbnail.layout.view):
            method: Method = settings.method
            return method.crops(thumbnail, visuals[number].layout, plans[number])

    images = adapter.encode_chosen(visuals, evidence, choose, settings.max_views)
    return [tokens for tokens, _ in images], [
        len(v.layout.views) - n for v, (_, n) in zip(visuals, images, strict=True)
    ]


def _check_pictures(visuals: Sequence[Visual]) -> None:
    """Refuse frames that are no pictures."""
    patches = [visual for visual in visuals if visual.pixels.ndim != 4 and visual.pictures is None]
    if patches:
        raise UnsupportedInputError(
            "encoder_saving='frames' compares pictures (frame, channel, height, width), and this family encodes "
            f"patches {tuple(patches[0].pixels.shape)}; leave it out, or let its adapter state `Visual.pictures`"
        )

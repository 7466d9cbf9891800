"""Encoded views to tokens in place, chunk by chunk, so that nothing but the result grows with the length of a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..views import Layout

Encoded = tuple[Tensor, Tensor | None]
"""Features (view, token, D) and, where asked for, evidence (view, token, E) of some views."""


class Source(NamedTuple):
    """The views of one visual that are to be encoded.

    Attributes:
        pixels: (view, channel, height, width), the caller's.
        chosen: (F,) int64 on the device of the pixels, which of them; None for all.
    """

    pixels: Tensor
    chosen: Tensor | None

    @property
    def views(self) -> int:
        """How many views are encoded."""
        return int((self.pixels if self.chosen is None else self.chosen).shape[0])

    def part(self, start: int, stop: int) -> Tensor:
        """Pixels of the views [start, stop) of those to encode; a view of the caller's tensor where it can be."""
        return self.pixels[start:stop] if self.chosen is None else self.pixels[self.chosen[start:stop]]


def chunks(sources: Sequence[Source], size: int) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
    """Views of all visuals in order, `size` at a time, joined across visuals.

    Yields:
        Pixels (view, channel, height, width), and of which visual how many of these views are, in order.
    """
    held: list[Tensor] = []
    owners: list[tuple[int, int]] = []
    room = size
    for number, source in enumerate(sources):
        start = 0
        while start < source.views:
            part = source.part(start, min(start + room, source.views))
            held.append(part)
            owners.append((number, part.shape[0]))
            start, room = start + part.shape[0], room - part.shape[0]
            if room == 0:
                yield join(held), owners
                held, owners, room = [], [], size
    if held:
        yield join(held), owners


def join(parts: list[Tensor]) -> Tensor:
    """Parts one after the other along the first axis; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class ClipAssembly:
    """Writes the frames of one clip where the layout has them, and the newline where it has separators.

    A layout keeps the separators of frames that were left out, so it alone knows where they stand.

    Args:
        layout: of the frames to encode.
        newline: (D,) the separator's features.
        check: called with the number of positions that the frames will make, before anything is written.
    """

    def __init__(self, layout: Layout, newline: Tensor, check: Callable[[int, Layout], None]) -> None:
        self._layout, self._newline, self._check = layout, newline, check
        self._made: Encoded | None = None
        self._written = 0

    def add(self, features: Tensor, extras: Tensor | None) -> None:
        """Take the next frames, (frame, token, D) and (frame, token, E)."""
        if self._made is None:
            self._made = self._start(features, extras)
        count = features.shape[:2].numel()
        index = self._layout.token_index[self._written : self._written + count]
        self._written += count
        for target, values in zip(self._made, (features, extras), strict=True):
            if target is not None and values is not None:
                target.index_copy_(0, index, values.flatten(0, 1).to(target.device))

    def _start(self, features: Tensor, extras: Tensor | None) -> Encoded:
        layout = self._layout = self._layout.to(features.device)
        self._check(len(layout.views) * features.shape[1] + layout.num_separators, layout)
        made = features.new_empty((len(layout), features.shape[-1]))
        if layout.num_separators:
            rows = self._newline.to(features.device, features.dtype).expand(layout.num_separators, -1)
            made.index_copy_(0, layout.separator_index, rows)
        if extras is None:
            return made, None
        return made, extras.new_zeros((len(layout), extras.shape[-1]), device=features.device)

    def finish(self) -> tuple[Layout, Tensor, Tensor | None]:
        """The layout, features (N, D) and evidence (N, E), zero at separators."""
        features, extras = _complete(self._made)
        return self._layout, features, extras


class ImageAssembly:
    """Holds the views of one image until the last one is there, and packs them as the stock model does.

    Args:
        layout: of the image.
        views: how many there will be.
        newline: (D,) the separator's features.
        pack: (view, token, channel) and a newline (channel,) to (N, channel).
        check: called with the number of positions packed.
    """

    def __init__(
        self,
        layout: Layout,
        views: int,
        newline: Tensor,
        pack: Callable[[Tensor, Tensor], Tensor],
        check: Callable[[int, Layout], None],
    ) -> None:
        self._layout, self._missing, self._newline = layout, views, newline
        self._pack, self._check = pack, check
        self._held: list[Encoded] = []
        self._packed: Encoded | None = None

    def add(self, features: Tensor, extras: Tensor | None) -> None:
        """Take the next views, (view, token, D) and (view, token, E)."""
        self._held.append((features, extras))
        self._missing -= features.shape[0]
        if self._missing > 0:
            return
        packed = self._pack(join([part for part, _ in self._held]), self._newline)
        self._check(packed.shape[0], self._layout)
        parts = [extra for _, extra in self._held if extra is not None]
        extra = None
        if parts:
            joined = join(parts)
            extra = self._pack(joined, joined.new_zeros(joined.shape[-1])).to(packed.device)
        self._packed, self._held = (packed, extra), []

    def finish(self) -> tuple[Layout, Tensor, Tensor | None]:
        """The layout, features (N, D) and evidence (N, E), zero at separators."""
        features, extras = _complete(self._packed)
        return self._layout.to(features.device), features, extras


def hand_out(
    encoded: Encoded, owners: Sequence[tuple[int, int]], assemblies: Sequence[ClipAssembly | ImageAssembly]
) -> None:
    """Give the views of one chunk to the visuals they belong to.

    Args:
        encoded: the chunk.
        owners: as `chunks` yields them.
        assemblies: one per visual.
    """
    features, extras = encoded
    start = 0
    for number, count in owners:
        part = slice(start, start + count)
        assemblies[number].add(features[part], None if extras is None else extras[part])
        start += count


def _complete(made: Encoded | None) -> Encoded:
    if made is None:
        raise RuntimeError("a visual has views that were never encoded; this is a mistake, please report it")
    return made

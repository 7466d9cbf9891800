"""Packing of encoded views into tokens, chunk by chunk, so that only the result grows with the length of a clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vidcompress.core.layout import Layout
from vidcompress.core.tokens import AXES, Evidence, FrameSource

Values = dict[Evidence, Tensor]


class Encoded(NamedTuple):
    """Encoded views of one chunk.

    Attributes:
        features: (view, token, D).
        of_tokens: evidence with values at tokens, (view, token, E), E = 1 for plain numbers.
        of_views: evidence of whole views, (view, C).
    """

    features: Tensor
    of_tokens: Values
    of_views: Values

    def part(self, start: int, stop: int) -> Encoded:
        """Return the views [start, stop)."""

        def cut(values: Mapping[Evidence, Tensor]) -> Values:
            return {item: value[start:stop] for item, value in values.items()}

        return Encoded(self.features[start:stop], cut(self.of_tokens), cut(self.of_views))


def at_tokens(item: Evidence) -> bool:
    """Whether a quantity has values at tokens, which are packed like features."""
    return AXES.get(item.quantity, "N").startswith("N")


class Source(NamedTuple):
    """Views of one visual to encode.

    Attributes:
        pixels: (view, channel, height, width) of the caller, or frames that are waited for chunk by chunk.
        chosen: (F,) int64 on the device of the pixels, numbers of the views to encode; None for all.
    """

    pixels: Tensor | FrameSource
    chosen: Tensor | None

    @property
    def views(self) -> int:
        """Number of views to encode."""
        return int((self.pixels if self.chosen is None else self.chosen).shape[0])

    def part(self, start: int, stop: int) -> Tensor:
        """Return the pixels of the views [start, stop) of those to encode; without a copy where possible."""
        return self.pixels[start:stop] if self.chosen is None else self.pixels[self.chosen[start:stop]]


def chunks(sources: Sequence[Source], size: int) -> Iterator[tuple[Tensor, list[tuple[int, int]]]]:
    """Yield the views of all visuals in order, `size` at a time, joined across visuals.

    Yields:
        Pixels (view, channel, height, width), and pairs (visual, number of its views among these), in order.
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
    """Concatenate parts along the first axis; a single one is returned as it is."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class Taker(Protocol):
    """Receiver of encoded views in order."""

    def add(self, encoded: Encoded) -> None:
        """Take the next views."""


class ClipAssembly:
    """Assembly of one clip: writes the frames at their places in the layout, and the newline at the separators.

    A layout keeps the separators of frames that were left out, so it alone has their places.

    Args:
        layout: of the frames to encode.
        newline: (D,) the separator's features; None for zeros.
        check: called with the number of positions that the frames will make, before anything is written.
    """

    def __init__(self, layout: Layout, newline: Tensor | None, check: Callable[[int, Layout], None]) -> None:
        self._layout, self._newline, self._check = layout, newline, check
        self._features: Tensor | None = None
        self._values: Values = {}
        self._of_views: dict[Evidence, list[Tensor]] = {}
        self._written = 0

    def add(self, encoded: Encoded) -> None:
        """Take the next frames."""
        features = encoded.features
        if self._features is None:
            self._features = self._start(features)
        count = features.shape[:2].numel()
        index = self._layout.token_index[self._written : self._written + count]
        self._written += count
        self._features.index_copy_(0, index, features.flatten(0, 1))
        for item, value in encoded.of_tokens.items():
            if item not in self._values:
                shape = (len(self._layout), value.shape[-1])
                self._values[item] = value.new_zeros(shape, device=features.device)
            self._values[item].index_copy_(0, index, value.flatten(0, 1).to(features.device))
        for item, value in encoded.of_views.items():
            self._of_views.setdefault(item, []).append(value)

    def _start(self, features: Tensor) -> Tensor:
        layout = self._layout = self._layout.to(features.device)
        self._check(len(layout.views) * features.shape[1] + layout.num_separators, layout)
        whole = features.new_empty((len(layout), features.shape[-1]))
        if layout.num_separators:
            rows = _line(self._newline, features).expand(layout.num_separators, -1)
            whole.index_copy_(0, layout.separator_index, rows)
        return whole

    def finish(self) -> tuple[Layout, Tensor, Values]:
        """The layout, features (N, D) and evidence, (N, E) with zeros at separators or (V, C)."""
        of_views = {item: join(parts) for item, parts in self._of_views.items()}
        return self._layout, _there(self._features), {**self._values, **of_views}


class ImageAssembly:
    """Assembly of one image: holds its views until the last one has come, and packs them as the stock model does.

    Args:
        layout: of the image.
        views: number of views to come.
        newline: (D,) the separator's features; None for zeros.
        pack: (view, token, channel) and a newline (channel,) to (N, channel).
        check: called with the number of positions packed.
    """

    def __init__(
        self,
        layout: Layout,
        views: int,
        newline: Tensor | None,
        pack: Callable[[Tensor, Tensor], Tensor],
        check: Callable[[int, Layout], None],
    ) -> None:
        self._layout, self._missing, self._newline = layout, views, newline
        self._pack, self._check = pack, check
        self._held: list[Encoded] = []
        self._features: Tensor | None = None
        self._values: Values = {}

    def add(self, encoded: Encoded) -> None:
        """Take the next views."""
        self._held.append(encoded)
        self._missing -= encoded.features.shape[0]
        if self._missing > 0:
            return
        features = join([part.features for part in self._held])
        packed = self._pack(features, _line(self._newline, features))
        self._check(packed.shape[0], self._layout)
        for item in encoded.of_tokens:
            joined = join([part.of_tokens[item] for part in self._held]).float()  # resized in full precision
            self._values[item] = self._pack(joined, joined.new_zeros(joined.shape[-1])).to(packed.device)
        for item in encoded.of_views:
            self._values[item] = join([part.of_views[item] for part in self._held])
        self._features, self._held = packed, []

    def finish(self) -> tuple[Layout, Tensor, Values]:
        """The layout, features (N, D) and evidence, (N, E) with zeros at separators or (V, C)."""
        features = _there(self._features)
        return self._layout.to(features.device), features, self._values


class Collected:
    """Encoded views of one image with some crops left out, in the order of encoding."""

    def __init__(self) -> None:
        self._parts: list[Encoded] = []

    def add(self, encoded: Encoded) -> None:
        """Take the next views."""
        self._parts.append(encoded)

    @property
    def empty(self) -> bool:
        """Whether no view came."""
        return not self._parts

    @property
    def encoded(self) -> Encoded:
        """The views in order; at least one must have come."""
        first, parts = self._parts[0], self._parts
        return Encoded(
            join([part.features for part in parts]),
            {item: join([part.of_tokens[item] for part in parts]) for item in first.of_tokens},
            {item: join([part.of_views[item] for part in parts]) for item in first.of_views},
        )


def with_gaps(
    thumbnail: Encoded, place: int, crops: Collected, numbers: Sequence[int], views: int
) -> Encoded:
    """Put the thumbnail and some crops at their places among all views; the others are zeros, which no method keeps.

    Args:
        thumbnail: one view.
        place: view number of the thumbnail.
        crops: the crops that were encoded.
        numbers: their view numbers.
        views: number of all views, the thumbnail included.
    """
    encoded = None if crops.empty else crops.encoded

    def placed(first: Tensor, rest: Tensor | None) -> Tensor:
        whole = first.new_zeros((views, *first.shape[1:]))
        whole[place : place + 1] = first
        if rest is not None:
            whole[list(numbers)] = rest
        return whole

    return Encoded(
        placed(thumbnail.features, None if encoded is None else encoded.features),
        {
            i: placed(v, None if encoded is None else encoded.of_tokens[i])
            for i, v in thumbnail.of_tokens.items()
        },
        {
            i: placed(v, None if encoded is None else encoded.of_views[i])
            for i, v in thumbnail.of_views.items()
        },
    )


def on_canvas(features: Tensor, grid: tuple[int, int], crops: tuple[int, int]) -> Tensor:
    """Pack a thumbnail and crops as in a preset: the crops' rows side by side, nothing cut off, no newlines.

    Args:
        features: (view, patch, channel), the thumbnail first, then the crops row by row.
        grid: (rows, cols) of patches of a view.
        crops: (rows, cols) of crops.

    Returns:
        (N, channel), the thumbnail, then the canvas row by row.
    """
    canvas = features[1:].unflatten(1, grid).unflatten(0, crops)
    return torch.cat((features[0], canvas.transpose(1, 2).flatten(0, 3)))


def hand_out(encoded: Encoded, owners: Sequence[tuple[int, int]], assemblies: Sequence[Taker]) -> None:
    """Pass the views of one chunk to the assemblies of their visuals.

    Args:
        encoded: the chunk.
        owners: as `chunks` yields them.
        assemblies: one per visual.
    """
    start = 0
    for number, count in owners:
        assemblies[number].add(encoded.part(start, start + count))
        start += count


def _line(newline: Tensor | None, features: Tensor) -> Tensor:
    """Return the newline (channel,) on the device and in the dtype of the features."""
    if newline is None:
        return features.new_zeros(features.shape[-1])
    return newline.to(features.device, features.dtype)


def _there(features: Tensor | None) -> Tensor:
    if features is None:
        raise RuntimeError("a visual has views that were never encoded; this is a mistake, please report it")
    return features

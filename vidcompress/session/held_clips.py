"""Clips in bounded memory: encoded chunk by chunk, and chosen from by a method's stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.core.budget import VisualBudget, tokens_to_keep
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device
from vidcompress.core.layout import Layout
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.stream.source import TokenSource
from vidcompress.core.stream.stream import Kept, Stream, StreamSize, own_modes
from vidcompress.core.timing import Timings, phase
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError


class HeldTokens(VisualTokens):
    """Tokens of a clip that went through a method's stream: those that it kept have features, and are selected already.

    Args:
        layout: of the whole clip.
        selection: positions sent, with their features and masses.
        stream: that the clip went through; its counts are for the report.
        certified: as in `Kept`.
    """

    def __init__(
        self, layout: Layout, selection: Selection, stream: Stream, certified: Tensor | None
    ) -> None:
        features = selection.features
        assert features is not None  # noqa: S101  (for the type checker)
        super().__init__(features.new_zeros(()).expand(len(layout), features.shape[-1]), layout)
        self.selection, self.stream, self.certified = selection, stream, certified

    @property
    def note(self) -> str:
        """What the report says of the stream."""
        stream, frames, index = self.stream, self.stream.frames, self.selection.index
        views = self.layout.view[index][~self.layout.separator[index]]
        proven = "is not proven to be that from the whole clip"
        if self.certified is not None:
            parts, count = len(self.certified), int(self.certified.sum())
            kind = "frames" if parts == frames else "stretches"
            proven = f"is as from the whole clip{'' if count == parts else f' in {count} of {parts} {kind}'}"
        return (
            f"{frames} frames seen, {len(views.unique())} of them send tokens; at most {stream.largest} of "
            f"{stream.tokens} tokens were held, {stream.evictions} evictions; the choice {proven}"
        )


def encode_held(
    adapter: Adapter, visual: Visual, plan: VisualBudget, settings: CompressionConfig, timings: Timings
) -> HeldTokens:
    """Choose from a clip by the method's stream, which takes it chunk by chunk, or has taken it before.

    Raises:
        UnsupportedInputError: the method wants evidence of the encoder, or the model takes companions of tokens.
        ArgumentError: masses are wanted of a method that states none.
    """
    layout, device = visual.layout, input_device(adapter.model)
    if isinstance(visual.pixels, TokenSource):
        stream, kept, newline = visual.pixels.stream, visual.pixels.kept, visual.pixels.newline
    else:
        most = max(1, tokens_to_keep(layout, plan))  # separators may take the whole budget
        size = clip_size(layout, most, settings.hold or 0.0)
        stream, newline = open_stream(adapter, settings, size), None
        for features, separator in encode_frames(adapter, visual, settings, timings):
            newline = separator
            with phase(timings, "compress", device):
                stream.add(features)
        with phase(timings, "compress", device):
            kept = stream.keep(size.most)
    if kept.mass is None and settings.weighs:
        raise ArgumentError(
            f"mass='on' cannot go with hold={settings.hold:g} and method {settings.method.name!r}, which states no "
            "masses; use census, mass='off', or leave hold out"
        )
    with phase(timings, "compress", device):
        selection = _selection(kept, layout, plan, newline)
    return HeldTokens(layout.to(kept.frame.device), selection, stream, kept.certified)


def clip_size(layout: Layout, most: int, hold: float) -> StreamSize:
    """Return the limits of a stream for one clip: `hold`, but no room beyond the tokens of the clip.

    Raises:
        ArgumentError: a limit out of range.
    """
    size = StreamSize(most, hold, grid=layout.grid)
    return replace(size, hold=min(size.hold, max(2.0, (layout.num_tokens + 1) / most)))


def open_stream(adapter: Adapter, settings: CompressionConfig, size: StreamSize) -> Stream:
    """Open a stream of the method of a configuration, for clips of a model.

    Raises:
        UnsupportedInputError: the method has no stream, or wants evidence of the encoder.
    """
    method = settings.method
    if evidence := method.needs("video", adapter.has_cls):
        raise UnsupportedInputError(
            f"hold={size.hold:g} cannot go with method {method.name!r} here, which reads {tuple(evidence[0])} of the "
            "encoder; use a method that reads features only, such as evs, or leave hold out"
        )
    with own_modes():
        return method.stream(size)


def encode_frames(
    adapter: Adapter, visual: Visual, settings: CompressionConfig, timings: Timings
) -> Iterator[tuple[Tensor, Tensor]]:
    """Encode a clip in chunks of `max_views` frames; `encode` is timed.

    Yields:
        Features (frame, token, D) of a chunk, and those of a separator, (1, D), or (0, D) where the family has none.

    Raises:
        UnsupportedInputError: the model takes companions of tokens.
    """
    layout, device = visual.layout, input_device(adapter.model)
    windows: dict[int, Layout] = {}
    for start in range(0, len(layout.views), settings.max_views):
        stop = min(start + settings.max_views, len(layout.views))
        window = windows.get(stop - start) or _first_frames(layout, stop - start)
        windows[stop - start] = window
        with phase(timings, "encode", device):
            part = replace(visual, layout=window, pixels=visual.pixels[start:stop], runs=None, view_text=None)
            tokens = adapter.encode([part], (), None, settings.max_views)[0]
            if tokens.deep:
                raise UnsupportedInputError(
                    f"{type(adapter.model).__name__} adds companions of visual tokens in later layers, which a stream "
                    "does not hold; leave hold out"
                )
            own = tokens.layout
            yielded = tokens.features[own.table], tokens.features[own.separator_index]
        yield yielded


def _selection(kept: Kept, layout: Layout, plan: VisualBudget, newline: Tensor | None) -> Selection:
    """Return the selection of a clip from what its stream kept, with the separators of the fullest lines."""
    layout = layout.to(kept.frame.device)
    index = layout.table[kept.frame, kept.place][: tokens_to_keep(layout, plan)]
    sent = with_separators(layout, index, plan.separators)
    place = torch.searchsorted(index, sent).clamp(max=max(0, len(index) - 1))
    apart = layout.separator[sent]
    features = kept.features[place]
    if newline is not None and plan.separators:
        features = torch.where(apart[:, None], newline[:1].to(features.dtype), features)
    mass = None if kept.mass is None else torch.where(apart, 1.0, kept.mass[place])
    return Selection(sent, features, mass=mass)


def _first_frames(layout: Layout, frames: int) -> Layout:
    """Return the layout of the first frames of a clip, with one separator where it has any."""
    index = torch.cat((layout.table[:frames].flatten(), layout.separator_index[:1])).sort().values
    separators = min(1, layout.num_separators)
    apart = layout.separator[index]
    return replace(
        layout,
        views=layout.views[:frames],
        sizes=layout.sizes[:frames],
        view=torch.where(apart, frames, layout.view[index]),
        row=layout.row[index],
        col=layout.col[index],
        line=torch.zeros_like(index),
        separator=apart,
        num_separators=separators,
        num_lines=separators,
        source=torch.arange(len(index), device=index.device),
        full_length=len(index),
    )

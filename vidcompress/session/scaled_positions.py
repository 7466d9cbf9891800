"""Positions of the policy `scaled`: a clip longer than those of the training takes as much room as they did.

The checkpoint was trained on clips of L0 visual tokens, separators not counted. A longer clip of n tokens and N
positions, separators among them, shrinks to L = floor(N L0 / n): its position p stands floor(p L / N) behind the clip's
start, and always behind the token before it. Pictures, and clips of at most L0 tokens, have the positions of the policy
`original`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.checks import is_whole
from vidcompress.core.prompt import Prompt
from vidcompress.core.report import Report
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError, shown
from vidcompress.loading.home_tokens import known_home_tokens

Key = tuple[str, int]


def home_tokens(adapter: Adapter) -> int | None:
    """Return L0, the visual tokens of a clip that the checkpoint was trained on; None where nothing says it.

    Raises:
        UnsupportedModelError: the adapter, or the model's config, gives no whole number of at least 1.
    """
    home = adapter.home_tokens
    if home is None:
        return known_home_tokens(adapter.model)
    if not is_whole(home) or home < 1:
        raise UnsupportedModelError(
            f"home_tokens={shown(home)} of {type(adapter).__name__}: must be a whole number of at least 1, the visual "
            "tokens of a clip that the checkpoint was trained on; set model.config.home_tokens, or None where it is "
            "not known"
        )
    return int(home)


def homes_of_long_clips(adapter: Adapter, prompt: Prompt, visuals: Mapping[Key, Visual]) -> dict[Key, int]:
    """Return L, the length that a clip shrinks to under `scaled`, for each (modality, number) of more than L0 tokens.

    Raises:
        UnsupportedModelError: as `home_tokens`.
    """
    clips = [span for spans in prompt.spans for span in spans if span.modality == "video"]
    home = home_tokens(adapter) if clips else None
    if home is None:
        return {}
    tokens = {span: visuals[span.key].layout.num_tokens for span in clips}
    return {span.key: home * span.length // count for span, count in tokens.items() if count > home}


def check_no_positions(inputs: Mapping[str, Any], homes: Mapping[Key, int]) -> None:
    """Refuse positions of the caller beside clips whose positions shrink, since both say where a token stands.

    Raises:
        UnsupportedInputError: `position_ids` are among the inputs.
    """
    if homes and inputs.get("position_ids") is not None:
        raise UnsupportedInputError(
            f"position_ids={shown(inputs['position_ids'])} cannot go with positions='scaled' and a clip that "
            f"shrinks to {min(homes.values())} positions; leave them out, or use "
            "positions='original', which keeps them"
        )


def note_unknown_home(report: Report, adapter: Adapter) -> None:
    """Add a note to a report under `scaled` where a clip was cut and L0 is not known."""
    cut = any(visual.modality == "video" and visual.kept < visual.total for visual in report.visuals)
    if cut and home_tokens(adapter) is None:
        report.notes.append(
            "positions='scaled' left the gaps of clips as long as 'original' does, for nothing says how long the clips "
            "were that this checkpoint was trained on; set model.config.home_tokens to their number of visual tokens "
            "(frames x tokens of a frame), or use another policy"
        )


class LongClip(NamedTuple):
    """Clip of one prompt row whose positions shrink.

    Attributes:
        first, last: its tokens, and the text between them, are number `first` to `last` - 1 of the row that is sent.
        start: original position of its first token.
        before: (L,) int64 on the CPU, visual tokens of the clip before each of the L original positions from `start`
            to its last token; positions between them are those of text.
        total: N, positions of the uncompressed clip.
        home: L, the length that it shrinks to.
    """

    first: int
    last: int
    start: int
    before: Tensor
    total: int
    home: int


def long_clips(
    prompt: Prompt, row: int, kept: Mapping[Key, Tensor], homes: Mapping[Key, int]
) -> list[LongClip]:
    """Find the clips of a prompt row whose positions shrink; reads counts only.

    Args:
        prompt: the parsed rows.
        row: number of the row.
        kept: for each (modality, number) the (K,) source positions of its surviving tokens.
        homes: from `homes_of_long_clips`.
    """
    clips = []
    at = left = 0  # tokens sent before the span; column of the row behind the span before
    for span in prompt.spans[row]:
        first = at + span.start - left
        at = first + int(kept[span.key].shape[0]) + (span.stop - span.start - span.length)
        left = span.stop
        if span.key in homes:
            starts = [run.start for run in span.runs]
            if prompt.dropped:
                starts = prompt.places(row)[starts].tolist()
            start, stop = starts[0], starts[-1] + len(span.runs[-1])
            is_visual = torch.zeros(stop - start, dtype=torch.int64, device="cpu")
            for begin, run in zip(starts, span.runs, strict=True):
                is_visual[begin - start : begin - start + len(run)] = 1
            before = is_visual.cumsum(0) - is_visual
            clips.append(LongClip(first, at, start, before, span.length, homes[span.key]))
    return clips


def scaled_places(places: Tensor, clips: Sequence[LongClip]) -> Tensor:
    """Return positions under `scaled` of the tokens that a prompt row sends.

    With p visual positions and t tokens of text of its clip before it, a token stands floor(p L / N) + t behind the
    clip's start, and at least one behind the token before it. So text within a clip stays consecutive, and no position
    is larger than under `original`. What follows the clip begins L + T positions behind its start, with T tokens of
    text, and at least one behind its last token.

    Args:
        places: (k,) int64 positions under `original`, in the order sent.
        clips: of the row, in order.

    Returns:
        (k,) int64, on the device of `places`; it is asked for nothing.
    """
    pieces, at = [], 0
    shift: Tensor | int = 0
    for clip in clips:
        pieces.append(places[at : clip.first] + shift)
        inner = places[clip.first : clip.last] - clip.start
        end: Tensor | int = clip.home + len(clip.before) - clip.total
        if len(inner):
            shrunk = _shrunk(inner, clip)
            pieces.append(shrunk + (clip.start + shift))
            end = (shrunk.amax() + 1).clamp(min=end)
        shift = shift + end - len(clip.before)
        at = clip.last
    return torch.cat([*pieces, places[at:] + shift])


def _shrunk(inner: Tensor, clip: LongClip) -> Tensor:
    """Return (m,) positions from the clip's start of tokens at the original positions `inner` from it."""
    ordered, order = inner.sort(stable=True)  # the authors of some methods append tokens
    before = clip.before.to(inner.device).index_select(0, ordered)
    raw = before * clip.home // clip.total + (ordered - before)
    rank = torch.arange(len(inner), device=inner.device)
    rising = (raw - rank).cummax(0).values + rank
    return torch.empty_like(rising).scatter_(0, order, rising)

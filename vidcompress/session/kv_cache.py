"""Key-value cache of a continued conversation, in the caller's columns and in the shortened ones.

The caller's token ids are those of the uncompressed prompt; the cache holds fewer columns. Behind the last visual
token, and the text that may have left with it, the two differ by a constant number of columns, so later columns are
translated by a shift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vidcompress.errors import UnsupportedInputError
from vidcompress.llm_pruning.cache_names import cache_name
from vidcompress.llm_pruning.mass import MassPlan
from vidcompress.session.prompt import PER_TOKEN_KEYS

_SAMPLES = 4096


@dataclass(eq=False)
class Transcript:
    """A conversation that a cache holds.

    Attributes:
        sequences: (row, column) int64, the conversation in the caller's ids, answers included.
        mask: (row, L) the caller's attention mask of the first prompt, or ones.
        short: the first prompt as passed to the model: input_ids, attention_mask, maybe position_ids and type
            ids, each (row, C), positions of several axes (axis, row, C).
        placeholders: token ids that stand for visual tokens in the caller's prompt.
        samples: some values of each tensor of pixels, to recognise them.
        text_positions: (axis, row, 1) positions of the first text token behind `short`, where positions have axes
            and `short` was cut; None: the last positions + 1.
        text_end: columns of the first prompt up to the last text that left it with a view.
        mass: of the columns of `short`; they belong to the cache. None without any.
    """

    sequences: Tensor
    mask: Tensor
    short: dict[str, Tensor]
    placeholders: tuple[int, ...]
    samples: dict[str, list[Tensor]] = field(default_factory=dict)
    text_positions: Tensor | None = None
    text_end: int = 0
    mass: MassPlan | None = None

    @cached_property
    def settled(self) -> int:
        """Number of leading columns of the first prompt that hold all visual tokens, and all text that left with
        them."""
        columns = self._visual(self.sequences[:, : self.mask.shape[1]]).any(dim=0).nonzero()
        return max(int(columns[-1]) + 1 if len(columns) else 0, self.text_end)

    def brings_visuals(self, ids: Tensor) -> bool:
        """Whether any id in (row, column) `ids` stands for visual tokens."""
        return bool(self._visual(ids).any())

    def _visual(self, ids: Tensor) -> Tensor:
        return torch.isin(ids, torch.tensor(self.placeholders, dtype=ids.dtype, device=ids.device))

    def cut_behind_visuals(self) -> Transcript:
        """Return the transcript with the first prompt cut behind its last visual token, so that any text may follow."""
        cut = self.settled - self.shift
        short = {key: value[..., :cut] for key, value in self.short.items()}
        positions, text = self.short.get("position_ids"), None
        if positions is not None and positions.ndim == 3 and cut < positions.shape[-1]:
            text = positions[..., cut : cut + 1]  # behind a visual not the last position + 1
        return replace(self, mask=self.mask[:, : self.settled], short=short, text_positions=text)

    @property
    def shift(self) -> int:
        """Number of columns by which the caller's prompt is longer than the shortened one."""
        return int(self.mask.shape[1] - self.short["input_ids"].shape[1])

    def held(self, cached: int) -> int:
        """Return the number of columns of `sequences` that a cache of `cached` columns holds.

        Raises:
            UnsupportedInputError: the cache was cut within the visual tokens, or was filled outside this transcript.
        """
        held = cached + self.shift
        if held < self.settled:
            raise UnsupportedInputError(
                f"{cache_name()} was cut to {cached} tokens, within the visual tokens; cut it behind them, or pass "
                "the whole prompt with pixels and no cache"
            )
        if held > self.sequences.shape[1]:
            raise UnsupportedInputError(
                f"{cache_name()} holds {held - self.sequences.shape[1]} tokens more than this block put there; pass "
                "the whole prompt with pixels and no cache"
            )
        return held


def open_transcript(
    inputs: Mapping[str, Any],
    mask: Tensor | None,
    short: Mapping[str, Any],
    placeholders: Iterable[int | None],
) -> Transcript:
    """Begin a transcript with a first prompt.

    Args:
        inputs: inputs of the caller, with input_ids (row, L).
        mask: (row, L) as the prompt was read; None for no padding.
        short: the inputs that the model gets instead, with input_ids (row, C).
        placeholders: token ids that stand for visual tokens in the caller's prompt.
    """
    ids: Tensor = inputs["input_ids"]
    mask = torch.ones_like(ids) if mask is None else mask
    kept = {
        key: short[key]
        for key in ("input_ids", "attention_mask", *PER_TOKEN_KEYS)
        if short.get(key) is not None
    }
    kept.setdefault("attention_mask", mask)
    seen = tuple(token for token in placeholders if token is not None)
    call = getattr(short, "inside", None)
    return Transcript(
        ids,
        mask,
        kept,
        seen,
        text_end=getattr(short, "text_end", 0),
        mass=None if call is None else call.mass,
    )


def resume(
    transcript: Transcript,
    inputs: Mapping[str, Any],
    mask: Tensor | None,
    cached: int,
    *,
    caller_positions: bool,
) -> dict[str, Tensor]:
    """Translate a later prompt of the same conversation.

    Args:
        transcript: the conversation before.
        inputs: inputs of the caller, with the whole conversation in input_ids (row, L'), uncompressed.
        mask: (row, L') as the prompt is read, zeros allowed in earlier answers; None for no padding.
        cached: columns that the cache holds.
        caller_positions: whether position_ids that the caller passes are used.

    Returns:
        input_ids, attention_mask and the other per-token inputs of the first prompt, in shortened columns, whole.

    Raises:
        UnsupportedInputError: another conversation than the cache holds, or one without new tokens.
    """
    ids: Tensor = inputs["input_ids"]
    held = transcript.held(cached)
    first = transcript.mask.shape[1]
    mask = torch.ones_like(ids) if mask is None else mask
    _check_same(transcript, ids, mask, held)
    if transcript.brings_visuals(ids[:, held:]):
        raise UnsupportedInputError(
            f"input_ids has image or video placeholders behind what {cache_name()} holds: a later turn cannot bring "
            "new pictures or clips; pass the whole prompt with all pixels and no cache"
        )
    short = transcript.short
    out = {
        "input_ids": torch.cat((short["input_ids"], ids[:, first:].to(short["input_ids"].device)), dim=1),
        "attention_mask": torch.cat(
            (short["attention_mask"], mask[:, first:].to(short["attention_mask"])), dim=1
        ),
    }
    for key in PER_TOKEN_KEYS:
        if key in short:
            given = inputs.get(key) if key != "position_ids" or caller_positions else None
            tail = _tail(key, given, transcript, ids, mask[:, first:])
            out[key] = torch.cat((short[key], tail.to(short[key])), dim=-1)
    return out


def _check_same(transcript: Transcript, ids: Tensor, mask: Tensor, held: int) -> None:
    rows, held_rows = ids.shape[0], transcript.sequences.shape[0]
    if rows != held_rows or mask.shape != ids.shape:
        raise UnsupportedInputError(
            f"input_ids and attention_mask must have {held_rows} rows and equal shapes to go with {cache_name()}, got "
            f"{tuple(ids.shape)} and {tuple(mask.shape)}"
        )
    if ids.shape[1] <= held:
        raise UnsupportedInputError(
            f"input_ids has {ids.shape[1]} columns and {cache_name()} holds {held} of the uncompressed conversation; "
            "pass all of it, from the first prompt on, followed by the new turn"
        )
    same = (ids[:, :held] == transcript.sequences[:, :held].to(ids.device)).all(dim=0)
    if not bool(same.all()):
        raise UnsupportedInputError(
            f"input_ids differs in column {int((~same).nonzero()[0])} from what {cache_name()} holds; go on from the "
            f"ids that generate returned, or cut the cache ({cache_name()}.crop)"
        )
    first = transcript.mask.shape[1]
    if not torch.equal(mask[:, :first].bool(), transcript.mask.to(mask.device).bool()):
        raise UnsupportedInputError(
            f"attention_mask differs in the first prompt from the one that {cache_name()} was made with; pass the same"
        )


def _tail(key: str, given: Any, transcript: Transcript, ids: Tensor, mask: Tensor) -> Tensor:
    """Return (row, L' - L) values of a per-token input behind the first prompt; (axis, row, L' - L) for M-RoPE."""
    head = transcript.short[key]
    if given is not None:
        if not isinstance(given, Tensor) or given.shape != (*head.shape[:-2], *ids.shape):
            got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise UnsupportedInputError(
                f"{key} must have the shape of input_ids {tuple(ids.shape)}, got {got}"
            )
        return given[..., -mask.shape[1] :]
    if key == "position_ids" and head.ndim == 3:
        # Not from the largest position: the time of a clip may be ahead of the text behind it.
        text = transcript.text_positions
        return (head[..., -1:] + 1 if text is None else text) + mask.to(head).cumsum(dim=1) - 1
    if key == "position_ids":
        last = head.amax(dim=1, keepdim=True) if head.shape[1] else head.new_full((len(head), 1), -1)
        return last + mask.to(head).cumsum(dim=1)
    return torch.zeros_like(mask)


def sample_pixels(inputs: Mapping[str, Any], keys: Iterable[str]) -> dict[str, list[Tensor]]:
    """Sample a few thousand values of each tensor, evenly, to recognise the same pictures; no synchronisation."""
    taken = {}
    for key in keys:
        value = inputs.get(key)
        tensors = value if isinstance(value, (list, tuple)) else [value]
        pixels = [tensor for tensor in tensors if isinstance(tensor, Tensor)]
        if pixels:
            taken[key] = [_sample(tensor) for tensor in pixels]
    return taken


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.shape[0] // _SAMPLES)].clone()


def check_pixels(transcript: Transcript, inputs: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse pixels that are not those of the transcript; pixels may be missing.

    Raises:
        UnsupportedInputError: other pixels than those that the cache was made with.
    """
    for key, now in sample_pixels(inputs, keys).items():
        before = transcript.samples.get(key, [])
        alike = len(now) == len(before) and all(
            a.shape == b.shape and torch.equal(a, b.to(a)) for a, b in zip(now, before, strict=True)
        )
        if not alike:
            raise UnsupportedInputError(
                f"{key} differs from what {cache_name()} was made with; leave the pixels out in later turns, or begin "
                "again without a cache"
            )

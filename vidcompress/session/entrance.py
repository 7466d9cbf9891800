"""Entrance of the language model: what it gets for a compressed prompt is what it gets for the whole one, cut.

No decoder layer runs, so this judges any class, hybrids as well. `vidcompress.testing` has it as a contract, and a
model that only the generic adapter serves is judged on its first inputs.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import GenerationConfig

from vidcompress.adapters.base import Adapter
from vidcompress.adapters.stock import offset_restored, stock_positions
from vidcompress.adapters.traits import masks_tell
from vidcompress.core.config import CompressionConfig
from vidcompress.core.method import Positions
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError
from vidcompress.llm_pruning.cache_names import CACHE_NAMES
from vidcompress.session.inputs import CompressedInputs
from vidcompress.session.prompt import PER_TOKEN_KEYS, TEXT_AXIS_OF

_OWN_CHECK = ("attention_mask", "position_ids", "input_ids", *CACHE_NAMES)
"""Arguments of the language model that are not plain parts of those of the whole prompt."""

_HINTS = {
    "inputs_embeds": "; compare what encode() returns of each view with the model's own get_image_features or "
    "get_video_features: its layer, norms and projector, and the order of views in Visual.pixels"
}
"""What to look at, by the argument that differs."""


_JUDGED: WeakKeyDictionary[Any, set[tuple[frozenset[str], bool]]] = WeakKeyDictionary()
"""What a model was judged on: the names of its inputs, and whether there were several rows."""

_HERE = threading.local()
"""Whether this thread judges: `judging`."""


_STOCK_ERROR = "does not take the inputs themselves"
"""Difference where the class raises an error of its own for what it is given uncompressed."""


class _EntranceReached(Exception):
    """Stops a forward at the language model."""


def at_entrance(model: Any, decoder: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, by name, of a model's call of its language model; no decoder layer runs.

    Calls of other threads pass, and so does a `compress` block around the model: its hook is not on `forward`.

    Args:
        model: a loaded model. decoder: its language model. inputs: of its forward.
    """
    seen: dict[str, Any] = {}
    here = threading.get_ident()
    names = list(inspect.signature(type(decoder).forward).parameters)[1:]

    def stop(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() != here:
            return
        seen.update(zip(names, args, strict=False))
        seen.update(kwargs)
        raise _EntranceReached

    handle = decoder.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad(), offset_restored(model):
            model.forward(**inputs)
    except _EntranceReached:
        pass
    finally:
        handle.remove()
    return seen


@dataclass(frozen=True, eq=False)
class Cut:
    """Surviving columns of a prompt of L columns in one of L'.

    Attributes:
        width: L. short: L'. visuals: visual tokens of the whole batch.
        columns: for each row the (n,) surviving columns of the caller's prompt, ascending.
        places: for each row the (n,) columns of the shortened prompt that hold them.
        numbers: of the surviving visual tokens among all of the batch, row after row.
        tolerance: between numbers of floating point, relative to the largest, and of their means; 0 is equality to the
            bit.
    """

    width: int
    short: int
    visuals: int
    columns: Sequence[Tensor]
    places: Sequence[Tensor]
    numbers: Tensor
    tolerance: float

    def equal(self, a: Tensor, b: Tensor) -> bool:
        """Whether two tensors are equal, up to the tolerance."""
        if a.shape != b.shape:
            return False
        a, b = a.to(b.device), b
        if not self.tolerance or not a.is_floating_point() or not a.numel():
            return torch.equal(a, b)
        a, b = a.double().abs(), (a.double() - b.double()).abs()
        # The mean tells where a few large numbers hide what the others do.
        return all(float(f(b)) <= self.tolerance * float(f(a)) for f in (torch.max, torch.mean))

    def alike(self, whole: Any, short: Any) -> bool:
        """Whether an argument of the compressed prompt equals that of the whole one, or its surviving part.

        Per-token arguments are (row, column, ...), (axis, row, column) or (row, ..., column, column); those per visual
        token (token, ...). Sequences are compared entry by entry; values without tensors are not compared.
        """
        if isinstance(whole, Mapping) and isinstance(short, Mapping):
            return whole.keys() == short.keys() and all(self.alike(whole[key], short[key]) for key in whole)
        if isinstance(whole, (list, tuple)) and isinstance(short, (list, tuple)):
            return len(whole) == len(short) and all(map(self.alike, whole, short))
        if not isinstance(whole, Tensor) or not isinstance(short, Tensor):
            return not isinstance(whole, Tensor) and not isinstance(short, Tensor)
        return self.equal(whole, short) or self._cut(whole, short)

    def _cut(self, whole: Tensor, short: Tensor) -> bool:
        rows = len(self.columns)
        if len(whole) == self.visuals and self.equal(whole[self.numbers.to(whole.device)], short):
            return True
        if whole.shape[:2] == (rows, self.width) and short.shape[:2] == (rows, self.short):
            return all(self.equal(whole[r, c], short[r, p]) for r, c, p in self._rows())
        if whole.shape[-2:] == (rows, self.width) and short.shape[-2:] == (rows, self.short):
            return all(self.equal(whole[..., r, c], short[..., r, p]) for r, c, p in self._rows())
        if whole.shape[-2:] == (self.width,) * 2 and short.shape[-2:] == (self.short,) * 2:
            return len(whole) == len(short) == rows and all(
                self.equal(whole[r][..., c, :][..., c], short[r][..., p, :][..., p])
                for r, c, p in self._rows()
            )
        return False

    def _rows(self) -> list[tuple[int, Tensor, Tensor]]:
        return [(r, c, p) for r, (c, p) in enumerate(zip(self.columns, self.places, strict=True))]


def judge_once(
    adapter: Adapter, inputs: Mapping[str, Any], compress: Callable[..., CompressedInputs]
) -> None:
    """Judge a model on the first inputs of each kind: of the same names and switches, in one row or several.

    Args:
        adapter: of the model.
        inputs: of its processor.
        compress: `compress_with`.

    Raises:
        UnsupportedInputError: the class does not take the uncompressed inputs.
        UnsupportedModelError: the language model gets something else for the compressed prompt, or the model is in
            training mode, in which nothing can be compared.
    """
    model, who = adapter.model, type(adapter.model).__name__
    if getattr(_HERE, "judging", False):  # the call of `compress` below
        return
    inputs = _of_forward(model, inputs)
    if not any(name in inputs for name in (*adapter.image_keys[:1], *adapter.video_keys[:1])):
        return
    ids = inputs.get("input_ids")
    names = frozenset(f"{k}={v}" if isinstance(v, (bool, str)) else k for k, v in inputs.items())
    kind = (names, isinstance(ids, Tensor) and len(ids) > 1)
    kinds = _JUDGED.setdefault(model, set())
    if kind in kinds:
        return
    if model.training:
        raise UnsupportedModelError(
            f"{who} has no adapter of its own and must be judged in eval mode first; call model.eval() and compress "
            "inputs of this kind once"
        )
    _HERE.judging = True
    try:
        policy: Positions = "original" if adapter.traits.honours_positions else "contiguous"
        settings = CompressionConfig("uniform", retention_ratio=0.5, positions=policy)
        got = compress(adapter, inputs, settings, for_generate=False)
        # Both prompts have features of one function for the same pixels.
        difference = difference_at_entrance(adapter, inputs, got, max(1e-5, 4 * torch.finfo(model.dtype).eps))
    finally:
        _HERE.judging = False
    if difference is not None and _STOCK_ERROR in difference:
        raise UnsupportedInputError(f"{difference}; pass all that its processor returns, unchanged")
    if difference is not None:
        raise UnsupportedModelError(
            f"{who} has no adapter of its own, and the generic one would not give its language model what it needs: "
            f"{difference}; write an adapter, see docs/guide-family.md"
        )
    kinds.add(kind)


def _of_forward(model: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs without those that steer `generate` only, and without what is not given."""
    steering = {*vars(GenerationConfig()), *inspect.signature(type(model).generate).parameters}
    steering -= {*inspect.signature(type(model).forward).parameters}
    values = (Tensor, str, bool, int, float, list, tuple, Mapping)
    return {k: v for k, v in inputs.items() if isinstance(v, values) and k not in steering}


def difference_at_entrance(
    adapter: Adapter, inputs: Mapping[str, Any], got: CompressedInputs, tolerance: float
) -> str | None:
    """Say what the language model gets for a compressed prompt that is no part of what it gets for the whole one.

    Embeddings and companions of surviving tokens are equal, positions are those of the stock model at surviving columns
    (the text axis of four renumbered), and every other tensor is equal or cut likewise, but masks of layers with a
    sliding window in a prompt beyond it. No decoder layer runs.

    Args:
        adapter: of the model, in eval mode.
        inputs: of its processor.
        got: of `compress_inputs`, by a method that makes no features of its own.
        tolerance: as in `Cut`; in float32 on the CPU it is 0.

    Returns:
        The first difference in words, None without any.
    """
    return next(_differences(adapter, inputs, got, tolerance), None)


def _differences(
    adapter: Adapter, inputs: Mapping[str, Any], got: CompressedInputs, tolerance: float
) -> Iterator[str]:
    model = adapter.model
    cut = cut_of(adapter, inputs, got, tolerance)
    for key in PER_TOKEN_KEYS:
        if key != "position_ids" and inputs.get(key) is not None:
            if not (cut.alike(inputs[key], got.get(key)) and got[key].shape[-1] == cut.short):
                yield f"{key} of the caller is not cut like input_ids"
    decoder = language_model(adapter)
    try:
        whole = at_entrance(model, decoder, inputs)
    except Exception as error:  # noqa: BLE001  (the class's own error is the finding)
        yield f"{type(model).__name__} {_STOCK_ERROR}: {error!r}"
        return
    if not whole:
        yield f"{type(model).__name__} does not call its {type(decoder).__name__}, Adapter.decoder"
    try:
        short = at_entrance(model, decoder, got)
    except Exception as error:  # noqa: BLE001  (the class's own error is the finding)
        yield f"{type(model).__name__} does not take what {type(adapter).__name__} gives it: {error!r}"
        return
    encoded = {*adapter.image_keys, *adapter.video_keys}  # a stock model may pass these on unread
    whole = {name: value for name, value in whole.items() if name not in encoded}
    yield from _argument_differences(whole, short, cut)
    before, after = (_judged(call.get("attention_mask"), adapter, cut) for call in (whole, short))
    yield from _mask_differences(before, after, cut)
    yield from _place_differences(adapter, inputs, short.get("position_ids"), cut)


def language_model(adapter: Adapter) -> Any:
    """Return the language model; for a family that names none, the one that transformers finds."""
    try:
        return adapter.decoder
    except UnsupportedModelError:
        return adapter.model.get_decoder()


def _argument_differences(whole: Mapping[str, Any], short: Mapping[str, Any], cut: Cut) -> Iterator[str]:
    for name in [*whole, *(name for name in short if name not in whole)]:
        if name in _OWN_CHECK:
            continue
        a, b = whole.get(name), short.get(name)
        counted = [len(value) if isinstance(value, (list, tuple)) else None for value in (a, b)]
        if counted[0] != counted[1]:
            yield (
                f"{name} has {counted[0]} entries of the whole prompt and {counted[1]} of the compressed one; "
                "companions must come for every level"
            )
        if not cut.alike(a, b):
            yield f"{name} is neither that of the whole prompt nor that at surviving columns{_HINTS.get(name, '')}"


def _judged(masks: Any, adapter: Adapter, cut: Cut) -> Any:
    """Return the masks to compare: of masks by kind of layer those of a sliding window count columns beyond it."""
    if not isinstance(masks, Mapping) or masks_tell(adapter.traits, cut.width):
        return masks
    return {kind: mask for kind, mask in masks.items() if kind == "full_attention"}


def _mask_differences(whole: Any, short: Any, cut: Cut) -> Iterator[str]:
    """Compare masks to the bit; where one is missing, the other may state what none says."""
    if isinstance(whole, Mapping) and isinstance(short, Mapping) and whole.keys() == short.keys():
        for key in whole:
            yield from _mask_differences(whole[key], short[key], cut)
    elif whole is None or short is None:
        given, columns = (whole, cut.columns) if short is None else (short, cut.places)
        pads = short is None and whole is not None and any(len(row) != cut.short for row in cut.places)
        if given is not None and (pads or not _says_nothing(given, columns)):
            yield "attention_mask hides columns of one prompt only"
    elif not replace(cut, tolerance=0.0).alike(whole, short):
        yield "attention_mask is not that of surviving columns"


def _says_nothing(mask: Any, columns: Sequence[Tensor]) -> bool:
    """Whether a mask (row, column) has only ones at some columns, and one of (row, ..., column, column) is causal."""
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
        return False
    if mask.ndim == 2:
        return all(bool(row[some].all()) for row, some in zip(mask.bool(), columns, strict=True))
    seen = mask >= 0 if mask.is_floating_point() else mask.bool()
    rows = seen.expand(len(columns), *seen.shape[1:])
    parts = [row[..., some, :][..., some] for row, some in zip(rows, columns, strict=True)]
    return all(torch.equal(part, torch.ones_like(part).tril()) for part in parts)


def _place_differences(
    adapter: Adapter, inputs: Mapping[str, Any], short: Tensor | None, cut: Cut
) -> Iterator[str]:
    """Compare positions with those of the stock model at surviving columns."""
    if not adapter.traits.honours_positions:
        return
    ids, given_positions = inputs["input_ids"], inputs.get("position_ids")
    stock = (
        stock_positions(adapter.model, inputs, ids, inputs.get("attention_mask"))
        if given_positions is None
        else given_positions
        if given_positions.ndim == 3
        else given_positions[None]
    )
    axes = min(len(stock), 3)
    given = stock[:0] if short is None else short[None] if short.ndim == 2 else short
    if not (len(given) in (axes, len(stock)) and given.shape[-1] == cut.short):
        yield (
            f"position_ids of shape {None if short is None else tuple(short.shape)} where the stock model has "
            f"{len(stock)} axes; {type(adapter).__name__} must say them by `traits` and `positions`"
        )
        return
    rows = len(cut.columns)
    if not cut.alike(stock[-axes:].expand(-1, rows, -1), given[-axes:].expand(-1, rows, -1)):
        yield "position_ids are not those of the stock model at surviving columns"
    if len(given) == len(stock) == TEXT_AXIS_OF:
        texts = [given[0, row, places] for row, places in enumerate(cut.places)]
        if not all(torch.equal(text, torch.arange(len(text)).to(text)) for text in texts):
            yield "the text axis of position_ids has gaps, which are taken for packed sequences"


def cut_of(adapter: Adapter, inputs: Mapping[str, Any], got: CompressedInputs, tolerance: float) -> Cut:
    """Find the surviving columns from the report and the placeholders of the caller's prompt.

    Args:
        adapter: of the model.
        inputs: of the caller.
        got: what is left of them.
        tolerance: of comparisons with numbers that are not exact on this device.
    """
    ids = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()
    tokens = [token for token in (adapter.image_token_id, adapter.video_token_id) if token is not None]
    visual = torch.isin(ids, torch.tensor(tokens, device=ids.device))
    stays = real & ~visual
    behind: dict[int, list[str]] = {}  # one placeholder may stand for both
    for modality, token in (("image", adapter.image_token_id), ("video", adapter.video_token_id)):
        if token is not None:
            behind.setdefault(token, []).append(modality)
    for token, modalities in behind.items():
        for row in range(len(ids)):
            before = 0
            where = (ids[row] == token).nonzero().flatten()
            for one in got.report.visuals:
                if one.row == row and one.modality in modalities:
                    stays[row, where[before + one.kept_positions.to(where.device)]] = True
                    before += one.total
    number = (visual.flatten().cumsum(0) - 1).view(ids.shape)
    exact = adapter.model.dtype == torch.float32 and ids.device.type == "cpu"
    return Cut(
        width=ids.shape[1],
        short=got["input_ids"].shape[1],
        visuals=int(visual.sum()),
        columns=[row.nonzero().flatten() for row in stays],
        places=[row.bool().nonzero().flatten() for row in got["attention_mask"]],
        numbers=number[stays & visual],
        tolerance=0.0 if exact else tolerance,
    )

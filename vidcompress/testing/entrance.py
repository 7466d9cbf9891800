"""Contract at the entrance of the language model: its inputs for a compressed prompt are a part of the whole ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, adapter_for
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import UnsupportedModelError
from vidcompress.llm_pruning.cache_names import CACHE_NAMES
from vidcompress.session.inputs import CompressedInputs
from vidcompress.session.prompt import PER_TOKEN_KEYS, TEXT_AXIS_OF
from vidcompress.testing.expect import (
    ContractError,
    compressed,
    name_of,
    placeholder_mask,
    positions_of,
    precision,
    require,
)
from vidcompress.testing.positions import stock_axes

_OWN_CHECK = ("attention_mask", "position_ids", "input_ids", *CACHE_NAMES)
"""Arguments of the language model that are not plain parts of those of the whole prompt."""

_HINTS = {
    "inputs_embeds": "; compare what encode() returns of each view with the model's own get_image_features or "
    "get_video_features: its layer, norms and projector, and the order of views in Visual.pixels"
}
"""What to look at, by the argument that differs."""


class _EntranceReached(Exception):
    """Stops a forward at the language model."""


def at_entrance(model: Any, decoder: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, by name, of a model's call of its language model; no decoder layer runs.

    Args:
        model: a loaded model. decoder: its language model. inputs: of its forward.
    """
    seen: dict[str, Any] = {}
    names = list(inspect.signature(type(decoder).forward).parameters)[1:]

    def stop(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.update(zip(names, args, strict=False))
        seen.update(kwargs)
        raise _EntranceReached

    handle = decoder.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad():
            model(**inputs)
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
        tolerance: between numbers of floating point, relative to the largest; 0 is equality to the bit.
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
        scale = max(1.0, float(a.double().abs().max()))
        return float((a.double() - b.double()).abs().max()) <= self.tolerance * scale

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


def check_entrance(
    model: Any, inputs: Mapping[str, Any], method: str | Method = "uniform", *, ratio: str = "0.5"
) -> None:
    """Check that the language model's inputs for a compressed prompt are the stock model's, cut to surviving tokens.

    Embeddings and companions of surviving tokens are equal, positions are those of the stock model at surviving columns
    (the text axis of four renumbered), and every other tensor is equal or cut likewise. No decoder layer runs.

    Args:
        model: a model that an adapter serves, in eval mode.
        inputs: output of its processor.
        method: a name or a `Method` that makes no features of its own.
        ratio: the retention ratio.

    Raises:
        ContractError: an input that differs.
    """
    model = unwrap(model)
    adapter = adapter_for(model)
    what = f"{name_of(method)} at {ratio}, at the entrance of the language model"
    settings: dict[str, Any] = {"retention_ratio": ratio, "positions": positions_of(model)[-1], "mass": "off"}
    got = compressed(model, inputs, get_method(method), **settings)
    if got is None:
        return
    cut = cut_of(adapter, inputs, got, precision(model))
    for key in PER_TOKEN_KEYS:
        if key != "position_ids" and inputs.get(key) is not None:
            fits = cut.alike(inputs[key], got.get(key)) and got[key].shape[-1] == cut.short
            require(fits, f"{what}: {key} of the caller is not cut like input_ids")
    decoder = language_model(adapter)
    whole = at_entrance(model, decoder, inputs)
    require(
        bool(whole), f"{type(model).__name__} does not call its {type(decoder).__name__}, Adapter.decoder"
    )
    try:
        short = at_entrance(model, decoder, got)
    except Exception as error:
        raise ContractError(
            f"{what}: {type(model).__name__} does not take what {type(adapter).__name__} gives it: {error!r}"
        ) from error
    encoded = {*adapter.image_keys, *adapter.video_keys}  # a stock model may pass these on unread
    whole = {name: value for name, value in whole.items() if name not in encoded}
    _check_arguments(whole, short, cut, what)
    _check_mask(whole.get("attention_mask"), short.get("attention_mask"), cut, what)
    _check_places(model, adapter, inputs, got, short.get("position_ids"), cut, what)


def language_model(adapter: Adapter) -> Any:
    """Return the language model; for a family that names none, the one that transformers finds."""
    try:
        return adapter.decoder
    except UnsupportedModelError:
        return adapter.model.get_decoder()


def _check_arguments(whole: Mapping[str, Any], short: Mapping[str, Any], cut: Cut, what: str) -> None:
    for name in [*whole, *(name for name in short if name not in whole)]:
        if name in _OWN_CHECK:
            continue
        a, b = whole.get(name), short.get(name)
        counted = [len(value) if isinstance(value, (list, tuple)) else None for value in (a, b)]
        require(
            counted[0] == counted[1],
            f"{what}: {name} has {counted[0]} entries of the whole prompt and {counted[1]} of the compressed one; "
            "companions must come for every level",
        )
        require(
            cut.alike(a, b),
            f"{what}: {name} is neither that of the whole prompt nor that at surviving columns{_HINTS.get(name, '')}",
        )


def _check_mask(whole: Any, short: Any, cut: Cut, what: str) -> None:
    """Check that masks are cut likewise; where one is missing, the other may state that all columns are real."""
    if whole is None or short is None:
        given = whole if short is None else short
        plain = isinstance(given, Tensor) and given.ndim == 2
        require(
            not plain or bool(given.bool().all()), f"{what}: attention_mask hides columns of one prompt only"
        )
        return
    require(cut.alike(whole, short), f"{what}: attention_mask is not that of surviving columns")


def _check_places(
    model: Any,
    adapter: Adapter,
    inputs: Mapping[str, Any],
    got: CompressedInputs,
    short: Tensor | None,
    cut: Cut,
    what: str,
) -> None:
    """Check that positions are those of the stock model at surviving columns."""
    if positions_of(model)[-1] != "original":
        return
    stock = stock_axes(model, inputs, inputs.get("attention_mask"))
    axes = min(len(stock), 3)
    given = stock[:0] if short is None else short[None] if short.ndim == 2 else short
    require(
        len(given) in (axes, len(stock)) and given.shape[-1] == cut.short,
        f"{what}: position_ids of shape {None if short is None else tuple(short.shape)} where the stock model has "
        f"{len(stock)} axes; {type(adapter).__name__} must say them by `traits` and `positions`",
    )
    rows = len(cut.columns)
    require(
        cut.alike(stock[-axes:].expand(-1, rows, -1), given[-axes:].expand(-1, rows, -1)),
        f"{what}: position_ids are not those of the stock model at surviving columns",
    )
    if len(given) == len(stock) == TEXT_AXIS_OF:
        texts = [given[0, row, places] for row, places in enumerate(cut.places)]
        require(
            all(torch.equal(text, torch.arange(len(text)).to(text)) for text in texts),
            f"{what}: the text axis of position_ids has gaps, which are taken for packed sequences",
        )


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
    visual = placeholder_mask(adapter.model, ids)
    stays = real & ~visual
    behind: dict[int, list[str]] = {}
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

"""Evidence of packed encoders: from the fused projection of a block, its rotary embedding and its segments.

An encoder of this kind takes the patches of many pictures as one sequence. A segment attends to itself only: a picture
or a temporal patch, in some blocks of Qwen2.5-VL a window of it. The model returns no attention maps: queries and keys
are rotated here, and the maps are made and averaged a block of queries at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidcompress.adapters.encoder_probe import resolve_layer
from vidcompress.core.reductions import DEVICE_BLOCK, full_precision
from vidcompress.core.tokens import OF_QUESTION, Evidence
from vidcompress.errors import UnsupportedModelError

Grid = tuple[int, int, int]
"""(views, rows, cols) of patches: one or several views of one shape side by side."""

OF_BLOCKS = ("attention_received", "keys", "mean_keys")


class PackedPass(NamedTuple):
    """Tokens of one pass through a packed encoder.

    Attributes:
        features: (token, D).
        deep: companions (token, D) of each level.
        values: requested evidence, (token,) or (token, C) float32, in the order of `PackedProbe.evidence`.
    """

    features: Tensor
    deep: tuple[Tensor, ...]
    values: list[Tensor]


class PackedProbe:
    """Run a packed encoder and read evidence of its blocks on the way.

    Attention received is that of a token's patches, from all patches of its view: mean over heads, queries and the
    patches of the token. Keys are the key projection before rotation, mean over the patches. `hidden` is the input of
    the merger, the patches of a token side by side.

    Args:
        encoder: called with pixels (patch, value) and `grid_thw` (entry, 3); its `blocks` have `attn.qkv`, its `merger`
            makes one token of `spatial_merge_size` squared patches.
        evidence: quantities wanted; those of the encoder are read, and are in `.evidence` of the probe. The layers -1
            and "features" are the last block that attends over whole views.
        rows: rows that the merger reads for one token; None for a row per patch.

    Raises:
        UnsupportedModelError: a quantity that such an encoder does not have, or a layer out of range.
    """

    def __init__(self, encoder: Any, evidence: Sequence[Evidence], rows: int | None = None) -> None:
        self.encoder = encoder
        self.patches = int(self.encoder.spatial_merge_size) ** 2
        self.rows = self.patches if rows is None else rows
        self.evidence = [item for item in evidence if item.quantity not in OF_QUESTION]
        self._blocks = {item: self._block(item) for item in self.evidence if item.quantity != "hidden"}
        for item in self.evidence:
            if item.quantity == "hidden" and item.layer != "features":
                raise UnsupportedModelError(
                    f"evidence {tuple(item)} is known of the layer that the projector reads only; use layer 'features'"
                )

    @property
    def full(self) -> Sequence[int] | None:
        """Numbers of the blocks that attend over whole views; None where all do."""
        numbers: Sequence[int] | None = getattr(self.encoder, "fullatt_block_indexes", None)
        return numbers

    def _block(self, item: Evidence) -> int:
        who = type(self.encoder).__name__
        if item.quantity.startswith("cls"):
            raise UnsupportedModelError(
                f"evidence {tuple(item)} needs a CLS token and {who} has none; use evidence='distance' or "
                "'attention_received'"
            )
        if item.quantity not in OF_BLOCKS:
            raise UnsupportedModelError(
                f"evidence {tuple(item)} goes with CLIP or SigLIP encoders, and this model's is {who}; leave auxiliary "
                "out"
            )
        count = len(self.encoder.blocks)
        if item.layer in ("features", -1):
            return int(max(self.full or (count - 1,)))
        return resolve_layer(int(item.layer), count, f"evidence {tuple(item)}: layer")

    def __call__(self, pixels: Tensor, grids: Sequence[Grid]) -> PackedPass:
        """Encode the views of one pass.

        Args:
            pixels: (patch, value), view after view.
            grids: of the views, in order.
        """
        seen: dict[tuple[str, int], Any] = {}
        thw = torch.tensor(grids, dtype=torch.int64)
        with self._hooks(seen):
            out = self.encoder(pixels, grid_thw=thw.to(pixels.device))
        features: Tensor = out.pooler_output
        deep = tuple(getattr(out, "deepstack_features", None) or ())
        if not self.evidence:
            return PackedPass(features, deep, [])
        order, windows = self._windows(thw)
        with full_precision(features):
            values = [self._compute(item, seen, grids, windows) for item in self.evidence]
        if order is not None:
            back = order.argsort().to(features.device)
            values = [value.index_select(0, back.to(value.device)) for value in values]
        return PackedPass(features, deep, values)

    @contextmanager
    def _hooks(self, seen: dict[tuple[str, int], Any]) -> Iterator[None]:
        caller = get_ident()

        def own(note: Callable[..., None]) -> Callable[..., None]:
            """Make a hook that ignores the forwards of other threads through the same encoder."""

            def hook(*given: Any) -> None:
                if get_ident() == caller:
                    note(*given)

            return hook

        def rotary(number: int) -> Callable[..., None]:
            def note(module: Any, args: Any, kwargs: Any) -> None:
                seen["rotary", number] = kwargs["position_embeddings"]

            return own(note)

        def projection(number: int) -> Callable[..., None]:
            def note(module: Any, args: Any, output: Any) -> None:
                seen["qkv", number] = output

            return own(note)

        def merged(module: Any, args: Any) -> None:
            seen["hidden", 0] = args[0]

        handles = []
        try:
            for number in set(self._blocks.values()):
                attention = self.encoder.blocks[number].attn
                handles.append(attention.register_forward_pre_hook(rotary(number), with_kwargs=True))
                handles.append(attention.qkv.register_forward_hook(projection(number)))
            if len(self._blocks) < len(self.evidence):
                handles.append(self.encoder.merger.register_forward_pre_hook(own(merged)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _windows(self, thw: Tensor) -> tuple[Tensor | None, list[int]]:
        """Return the order of tokens inside an encoder with windows, and window lengths in patches; on the host."""
        if self.full is None:
            return None, []
        from transformers.vision_utils import get_vision_window_index

        encoder = self.encoder
        order, edges = get_vision_window_index(
            thw,
            spatial_merge_size=encoder.spatial_merge_size,
            window_size=encoder.window_size,
            patch_size=encoder.patch_size,
        )
        return order, edges.diff().tolist()

    def _compute(
        self,
        item: Evidence,
        seen: dict[tuple[str, int], Any],
        grids: Sequence[Grid],
        windows: list[int],
    ) -> Tensor:
        """Compute values (token,) or (token, C) in the encoder's own order."""
        if item.quantity == "hidden":
            return _grouped(seen["hidden", 0].float(), self.rows).flatten(1)
        number = self._blocks[item]
        attention = self.encoder.blocks[number].attn
        qkv: Tensor = seen["qkv", number].unflatten(-1, (3, int(attention.num_heads), -1))
        query, key = qkv[:, 0].float(), qkv[:, 1].float()
        if item.quantity == "attention_received":
            cos, sin = (part[:, None].float() for part in seen["rotary", number])
            query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
            scale = float(getattr(attention, "scaling", query.shape[-1] ** -0.5))
            views = [rows * cols for count, rows, cols in grids for _ in range(count)]
            whole = self.full is None or number in self.full
            sums = received(query, key, scale, views if whole else windows)
            sizes = torch.tensor(views)
            queries = sizes.repeat_interleave(sizes, output_size=len(sums)).to(sums.device)
            return _grouped(sums / queries, self.patches).mean(1)
        keys = key.mean(1) if item.quantity == "mean_keys" else key.flatten(1)
        return _grouped(keys, self.patches).mean(1)


def _grouped(values: Tensor, count: int) -> Tensor:
    """Reshape values (row, ...) to (token, row, ...), with `count` rows per token."""
    return values.reshape(-1, count, *values.shape[1:])


def received(query: Tensor, key: Tensor, scale: float, lengths: Sequence[int]) -> Tensor:
    """Return (patch,) attention that each patch receives: summed over the queries of its segment, mean over heads.

    Segments of one length share a block; longer ones are computed a block of queries at a time.

    Args:
        query, key: (patch, head, channel), rotated.
        scale: of their products.
        lengths: of the segments, in order.
    """
    patches, heads = query.shape[:2]
    sums = query.new_empty(patches)
    starts = [0, *accumulate(lengths)][:-1]
    for length in sorted(set(lengths)):
        first = torch.tensor([at for at, size in zip(starts, lengths, strict=True) if size == length])
        index = (first[:, None] + torch.arange(length)).to(query.device)  # (segment, patch)
        row = heads * length * query.element_size()  # bytes of the maps of one query
        for some in index.split(max(1, DEVICE_BLOCK // (row * length))):
            keys = key[some]
            of_queries = [
                (torch.einsum("sqhc,skhc->shqk", part, keys) * scale).softmax(-1).sum((1, 2))
                for part in query[some].split(max(1, DEVICE_BLOCK // row), dim=1)
            ]
            sums.index_copy_(0, some.flatten(), torch.stack(of_queries).sum(0).flatten() / heads)
    return sums


def _rotated(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply the rotary embedding in its half-split form."""
    first, second = values.chunk(2, dim=-1)
    return values * cos + torch.cat((-second, first), dim=-1) * sin

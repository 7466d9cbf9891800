"""Evidence of a Pixtral encoder: from the query and key projections of a layer and its rotary embedding.

The patches of several pictures are one sequence, and a patch attends to those of its own picture only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.encoder_probe import resolve_layer
from vidcompress.adapters.layouts import Size
from vidcompress.adapters.packed.probe import OF_BLOCKS, received
from vidcompress.core.reductions import full_precision
from vidcompress.core.tokens import OF_QUESTION, Evidence
from vidcompress.errors import UnsupportedModelError
from vidcompress.llm_pruning.attention import rotate


class PixtralProbe:
    """Run a model's `get_image_features` and read evidence of its Pixtral encoder on the way.

    Attention received is that of a token's patches, from all patches of its picture: mean over heads, queries and the
    patches of the token. Keys are the key projection before rotation, mean over the patches. `hidden` is the input of
    the projector, the patches of a token side by side, row by row.

    Args:
        core: the model without its language-modelling head.
        merge: patches along one side of a token.
        layer: index of the hidden state that the projector reads, as in `output_hidden_states`.
        evidence: quantities wanted; those of the encoder are read, and are in `.evidence` of the probe. The layer
            "features" is the one whose output the projector reads.

    Raises:
        UnsupportedModelError: a quantity that such an encoder does not have, or a layer out of range.
    """

    def __init__(self, core: Any, merge: int, layer: int, evidence: Sequence[Evidence]) -> None:
        self.core, self.merge = core, merge
        self.layers = core.vision_tower.transformer.layers
        self.evidence = [item for item in evidence if item.quantity not in OF_QUESTION]
        count = len(self.layers)
        self._last = resolve_layer(layer, count + 1, "vision_feature_layer") - 1
        self._numbers = {
            item: self._number(item, count) for item in self.evidence if item.quantity != "hidden"
        }
        for item in self.evidence:
            if item.quantity == "hidden" and item.layer != "features":
                raise UnsupportedModelError(
                    f"evidence {tuple(item)} is known of the layer that the projector reads only; use layer 'features'"
                )

    def _number(self, item: Evidence, count: int) -> int:
        if item.quantity.startswith("cls"):
            raise UnsupportedModelError(
                f"evidence {tuple(item)} needs a CLS token and Pixtral's encoder has none; use evidence='distance' or "
                "'attention_received'"
            )
        if item.quantity not in OF_BLOCKS:
            raise UnsupportedModelError(
                f"evidence {tuple(item)} goes with CLIP or SigLIP encoders, and this model's is Pixtral's; leave "
                "auxiliary out"
            )
        layer = self._last if item.layer == "features" else int(item.layer)
        return resolve_layer(layer, count, f"evidence {tuple(item)}: layer")

    def __call__(self, pixels: Tensor, sizes: Sequence[Size]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Encode some pictures.

        Args:
            pixels: (picture, channel, height, width), smaller ones filled at the bottom and the right.
            sizes: (height, width) of each in pixels, whole tokens.

        Returns:
            Per picture the features (token, D), and the evidence, each (token,) or (token, C) float32, in the order of
            `evidence`.
        """
        seen: dict[tuple[str, int], Any] = {}
        with self._hooks(seen):
            features = self.core.get_image_features(pixels, [tuple(size) for size in sizes]).pooler_output
        if not self.evidence:
            return list(features), [[] for _ in sizes]
        patch = self.core.vision_tower.patch_size
        grids = [(height // patch, width // patch) for height, width in sizes]
        lengths = [rows * cols for rows, cols in grids]
        with full_precision(features[0]):
            values = [self._compute(item, seen, lengths).split(lengths) for item in self.evidence]
        of_tokens = [
            [self._joined(item, part[number], grid) for item, part in zip(self.evidence, values, strict=True)]
            for number, grid in enumerate(grids)
        ]
        return list(features), of_tokens

    @contextmanager
    def _hooks(self, seen: dict[tuple[str, int], Any]) -> Iterator[None]:
        caller = get_ident()

        def own(note: Callable[..., Any]) -> Callable[..., None]:
            """Make a hook that ignores the forwards of other threads through the same encoder."""

            def hook(*given: Any) -> None:
                if get_ident() == caller:
                    note(*given)

            return hook

        def output_of(key: tuple[str, int]) -> Callable[..., None]:
            return own(lambda module, args, output: seen.update({key: output}))

        def rotary_of(number: int) -> Callable[..., None]:
            return own(
                lambda module, args, kwargs: seen.update({("rotary", number): kwargs["position_embeddings"]})
            )

        handles = []
        try:
            for number in set(self._numbers.values()):
                attention = self.layers[number].attention
                handles.append(attention.register_forward_pre_hook(rotary_of(number), with_kwargs=True))
                handles.append(attention.q_proj.register_forward_hook(output_of(("q", number))))
                handles.append(attention.k_proj.register_forward_hook(output_of(("k", number))))
            if len(self._numbers) < len(self.evidence):
                note = own(lambda module, args: seen.update({("hidden", 0): args[0]}))
                handles.append(self.core.multi_modal_projector.register_forward_pre_hook(note))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _compute(self, item: Evidence, seen: dict[tuple[str, int], Any], lengths: Sequence[int]) -> Tensor:
        """Compute values (patch,) or (patch, C)."""
        if item.quantity == "hidden":
            hidden: Tensor = seen["hidden", 0].float()
            return hidden
        number = self._numbers[item]
        attention = self.layers[number].attention
        heads = (int(attention.num_heads), -1)
        key: Tensor = seen["k", number][0].unflatten(-1, heads).float()
        if item.quantity != "attention_received":
            return key.mean(1) if item.quantity == "mean_keys" else key.flatten(1)
        query: Tensor = seen["q", number][0].unflatten(-1, heads).float()
        cos, sin = (part[None].float() for part in seen["rotary", number])
        query, key = (
            rotate(part.transpose(0, 1)[None], cos, sin)[0].transpose(0, 1) for part in (query, key)
        )
        sums = received(query, key, float(attention.scaling), lengths)
        sizes = torch.tensor(lengths)
        return sums / sizes.repeat_interleave(sizes, output_size=len(sums)).to(sums.device)

    def _joined(self, item: Evidence, values: Tensor, grid: Size) -> Tensor:
        """Join the values of patches (patch, ...), row by row, to those of tokens: side by side, or their mean."""
        rows, cols = grid[0] // self.merge, grid[1] // self.merge
        blocks = values.unflatten(0, (rows, self.merge, cols, self.merge)).transpose(1, 2)
        patches: Tensor = blocks.reshape(rows * cols, self.merge**2, *values.shape[1:])
        return patches.flatten(1) if item.quantity == "hidden" else patches.mean(1)

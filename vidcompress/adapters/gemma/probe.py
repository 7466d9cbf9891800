"""Evidence of Gemma 4's encoder: from the normalised queries and keys of a layer and its rotary embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.encoder_probe import resolve_layer
from vidcompress.adapters.family.numbering import numbered
from vidcompress.adapters.layouts import Size
from vidcompress.adapters.packed.probe import OF_BLOCKS, received
from vidcompress.core.reductions import full_precision
from vidcompress.core.tokens import OF_QUESTION, Evidence
from vidcompress.errors import UnsupportedModelError
from vidcompress.llm_pruning.attention import rotate


class Gemma4Probe:
    """Run a model's `get_image_features` on pictures or frames and read evidence of its encoder on the way.

    Attention received is that of a token's patches, from all patches of its view: mean over heads, queries and the
    patches of the token. Keys are normalised and not rotated, mean over the patches. `hidden` is the input of the
    projector, which averages have made.

    Args:
        core: the model without its language-modelling head.
        merge: patches along one side of a token.
        evidence: quantities wanted; those of the encoder are read, and are in `.evidence` of the probe. The layer
            "features" is the last.

    Raises:
        UnsupportedModelError: a quantity that this encoder does not have, or a layer out of range.
    """

    def __init__(self, core: Any, merge: int, evidence: Sequence[Evidence]) -> None:
        self.core, self.merge = core, merge
        self.layers = core.vision_tower.encoder.layers
        self.evidence = [item for item in evidence if item.quantity not in OF_QUESTION]
        self._numbers = {item: self._number(item) for item in self.evidence if item.quantity != "hidden"}
        for item in self.evidence:
            if item.quantity == "hidden" and item.layer != "features":
                raise UnsupportedModelError(
                    f"evidence {tuple(item)} is known of the layer that the projector reads only; use layer 'features'"
                )

    def _number(self, item: Evidence) -> int:
        if item.quantity.startswith("cls"):
            raise UnsupportedModelError(
                f"evidence {tuple(item)} needs a CLS token and Gemma 4's encoder has none; use evidence='distance' or "
                "'attention_received'"
            )
        if item.quantity not in OF_BLOCKS:
            raise UnsupportedModelError(
                f"evidence {tuple(item)} goes with CLIP or SigLIP encoders, and this model's is Gemma 4's; leave "
                "auxiliary out"
            )
        layer = -1 if item.layer == "features" else int(item.layer)
        return resolve_layer(layer, len(self.layers), f"evidence {tuple(item)}: layer")

    def __call__(self, pixels: Tensor, grids: Sequence[Size]) -> list[list[Tensor]]:
        """Encode some views.

        Args:
            pixels: (view, patch, value), filled to one number of patches.
            grids: (rows, cols) of tokens of each.

        Returns:
            The features, then the evidence in the order of `evidence`: of each for every view (token, D), (token,) or
            (token, C); evidence is float32.
        """
        sides = [(rows * self.merge, cols * self.merge) for rows, cols in grids]
        rows, cols = torch.tensor(sides, dtype=torch.int64).to(pixels.device).unbind(1)
        seen: dict[tuple[str, int], Any] = {}
        with self._hooks(seen):
            out = self.core.get_image_features(pixels, numbered(rows, cols, pixels.shape[1]))
        features: Sequence[Tensor] = out.pooler_output
        with full_precision(features[0]):
            return [list(features), *(self._compute(item, seen, sides) for item in self.evidence)]

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

        def argument_of(key: tuple[str, int], name: str) -> Callable[..., None]:
            return own(lambda module, args, kwargs: seen.update({key: kwargs[name] if not args else args[0]}))

        handles = []
        try:
            for number in set(self._numbers.values()):
                attention = self.layers[number].self_attn
                rotary = own(
                    lambda module, args, kwargs, number=number: seen.update(
                        {("rotary", number): kwargs["position_embeddings"]}
                    )
                )
                handles.append(attention.register_forward_pre_hook(rotary, with_kwargs=True))
                handles.append(attention.q_norm.register_forward_hook(output_of(("q", number))))
                handles.append(attention.k_norm.register_forward_hook(output_of(("k", number))))
            if len(self._numbers) < len(self.evidence):
                note = argument_of(("hidden", 0), "inputs_embeds")
                handles.append(self.core.embed_vision.register_forward_pre_hook(note, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _compute(
        self, item: Evidence, seen: dict[tuple[str, int], Any], sides: Sequence[Size]
    ) -> list[Tensor]:
        """Compute values of every view, (token,) or (token, C)."""
        lengths = [rows * cols for rows, cols in sides]
        if item.quantity == "hidden":
            hidden: Tensor = seen["hidden", 0].float()
            return list(hidden.split([length // self.merge**2 for length in lengths]))
        number = self._numbers[item]
        keys = _without_filling(seen["k", number], lengths)
        if item.quantity != "attention_received":
            values = keys.mean(1) if item.quantity == "mean_keys" else keys.flatten(1)
        else:
            queries = _without_filling(seen["q", number], lengths)
            keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
            cos, sin = (_without_filling(part, lengths) for part in seen["rotary", number])
            attention = self.layers[number].self_attn
            queries, keys = _rotated(queries, cos, sin), _rotated(keys, cos, sin)
            sums = received(queries, keys, float(attention.scaling), lengths)
            counts = torch.tensor(lengths)
            values = sums / counts.repeat_interleave(counts, output_size=len(sums)).to(sums.device)
        return [self._averaged(part, side) for part, side in zip(values.split(lengths), sides, strict=True)]

    def _averaged(self, values: Tensor, side: Size) -> Tensor:
        """Average the values of patches (patch, ...), row by row, to those of tokens."""
        merge = self.merge
        blocks: Tensor = values.unflatten(0, (side[0] // merge, merge, side[1] // merge, merge))
        return blocks.mean((1, 3)).flatten(0, 1)


def _without_filling(states: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return states (view, patch, ...) as (patches of all views, ...) float32, without the filling of each view."""
    return torch.cat([one[:length] for one, length in zip(states, lengths, strict=True)]).float()


def _rotated(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate (patch, head, channel): the first half of the channels by the column, the second by the row."""
    halves = zip(states.chunk(2, -1), cos.chunk(2, -1), sin.chunk(2, -1), strict=True)
    parts = [rotate(part.transpose(0, 1)[None], c[None], s[None])[0] for part, c, s in halves]
    return torch.cat(parts, dim=-1).transpose(0, 1)

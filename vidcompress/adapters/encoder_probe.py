"""Probe of a vision encoder: reads one layer while it runs, and computes only the rows that a method names.

Attention evidence needs no attention maps from the model. The query and key projections of one layer are
hooked, and from them the CLS row (one row per head and view) or the column means are computed. The result does not
depend on the encoder's attention kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from vidcompress.core.reductions import DEVICE_BLOCK
from vidcompress.core.tokens import Evidence, Quantity
from vidcompress.errors import UnsupportedModelError

PROBED: tuple[Quantity, ...] = (
    "cls_logits",
    "cls_attention",
    "cls_attention_whole",
    "attention_received",
    "keys",
    "mean_keys",
)
"""Quantities that are read from an encoder layer while it runs."""


class _EncoderDone(Exception):
    """Raised inside the encoder once all evidence was read; never leaves this module."""


def encoder_layers(tower: nn.Module) -> nn.ModuleList:
    """Return the transformer layers of a vision tower.

    Raises:
        UnsupportedModelError: if the tower has no `encoder.layers` and no `encoder.layer`.
    """
    for root in (tower, getattr(tower, "vision_model", None)):
        for name in ("layers", "layer"):
            layers = getattr(getattr(root, "encoder", None), name, None)
            if isinstance(layers, nn.ModuleList):
                return layers
    raise UnsupportedModelError(
        f"vision tower {type(tower).__name__} has no encoder.layers to read; register an adapter that overrides "
        "vision_layers()"
    )


class EncoderProbe:
    """Run a vision tower and return hidden states and evidence of chosen layers.

    Args:
        tower: the vision tower, called with pixels (view, channel, height, width).
        layers: its transformer layers.
        hidden: indices of the hidden states wanted, as in `output_hidden_states` (0 is the embedding output,
            -1 the output of the last layer).
        evidence: quantities wanted; those of the encoder's attention are read, and are in `.evidence` of the probe. The
            layer "features" is the last one whose output is among the hidden states.
        has_cls: whether token 0 is a CLS token.
    """

    def __init__(
        self,
        tower: nn.Module,
        layers: nn.ModuleList,
        hidden: Sequence[int],
        evidence: Sequence[Evidence],
        has_cls: bool,
    ) -> None:
        self.tower, self.layers, self.has_cls = tower, layers, has_cls
        self.hidden = [resolve_layer(i, len(layers) + 1, "vision_feature_layer") for i in hidden]
        self.evidence = [item for item in evidence if item.quantity in PROBED]
        self._numbers: dict[Evidence, int] = {}
        self._attention: dict[int, Any] = {}
        for item in self.evidence:
            layer = max(self.hidden) - 1 if item.layer == "features" else item.layer
            layer = resolve_layer(layer, len(layers), f"evidence {tuple(item)}: layer")
            self._attention[layer] = self._projections(item, layer)
            self._numbers[item] = layer
        # An early stop would skip the hooks that accelerate puts around offloaded modules.
        self._may_stop = not any(hasattr(m, "_hf_hook") for m in tower.modules())

    def _projections(self, item: Evidence, number: int) -> Any:
        if item.quantity.startswith("cls") and not self.has_cls:
            raise UnsupportedModelError(
                f"evidence {tuple(item)} needs a CLS token and {type(self.tower).__name__} has none; use "
                "evidence='distance' or 'attention_received'"
            )
        layer = self.layers[number]
        attention = getattr(layer, "self_attn", None) or getattr(layer, "attention", None)
        if attention is None or not hasattr(attention, "q_proj") or not hasattr(attention, "k_proj"):
            raise UnsupportedModelError(
                f"evidence {tuple(item)} needs self_attn.q_proj and k_proj, which {type(layer).__name__} lacks"
            )
        return attention

    def __call__(self, pixels: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Encode one chunk of views.

        Args:
            pixels: (view, channel, height, width).

        Returns:
            The hidden states asked for, each (view, token, channel) with CLS if there is one, and the evidence,
            each (view, patch) or (view, patch, C) float32 without CLS, both in the order asked.
        """
        seen: dict[tuple[str, int], Tensor] = {}
        with self._hooks(seen):
            try:
                self.tower(pixels)
            except _EncoderDone:
                pass
        hidden = [seen["hidden", i] for i in self.hidden]
        with torch.autocast(
            pixels.device.type, enabled=False
        ):  # scores are float32 whatever the caller's autocast
            return hidden, [self._compute(item, seen) for item in self.evidence]

    @contextmanager
    def _hooks(self, seen: dict[tuple[str, int], Tensor]) -> Iterator[None]:
        keys = {("hidden", i) for i in self.hidden}
        keys |= {(kind, layer) for layer in self._attention for kind in ("q", "k")}

        caller = get_ident()

        def note(key: tuple[str, int]) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any = None) -> None:
                if get_ident() != caller:  # another thread's forward through the same tower
                    return
                value: Any = (args[0] if args else None) if output is None else output
                seen[key] = value[0] if isinstance(value, tuple) else value
                if self._may_stop and len(seen) == len(keys):
                    raise _EncoderDone

            return hook

        handles = []
        try:
            for i in set(self.hidden):
                if i == 0:
                    handles.append(self.layers[0].register_forward_pre_hook(note(("hidden", 0))))
                else:
                    handles.append(self.layers[i - 1].register_forward_hook(note(("hidden", i))))
            for layer, attention in self._attention.items():
                for name in ("q", "k"):  # in some encoders normalised over their whole width
                    last = getattr(attention, f"{name}_norm", None) or getattr(attention, f"{name}_proj")
                    handles.append(last.register_forward_hook(note((name, layer))))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _compute(self, item: Evidence, seen: dict[tuple[str, int], Tensor]) -> Tensor:
        quantity, layer = item.quantity, self._numbers[item]
        attention = self._attention[layer]
        # "Whole" is one head of the whole width, with the scale of that width.
        whole = quantity == "cls_attention_whole"
        heads = 1 if whole else int(attention.num_heads)
        scale = getattr(attention, "scale", None) or getattr(attention, "scaling", None)
        query: Tensor = seen["q", layer].unflatten(-1, (heads, -1)).float()
        key: Tensor = seen["k", layer].unflatten(-1, (heads, -1)).float()
        scale = float(scale) if scale is not None and not whole else query.shape[-1] ** -0.5
        first = int(self.has_cls)
        if quantity == "keys":
            return key.flatten(2)[:, first:]
        if quantity == "mean_keys":
            return key.mean(2)[:, first:]
        if quantity == "attention_received":
            return _received(query, key, scale)[:, first:]
        logits = torch.einsum("vhd,vkhd->vhk", query[:, 0], key) * scale
        row = logits if quantity == "cls_logits" else logits.softmax(-1)
        return row.mean(1)[:, 1:]


def _received(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Return column means of the attention maps, (view, token), a few views at a time: maps are large."""
    views, tokens, heads = query.shape[:3]
    step = max(1, DEVICE_BLOCK // (heads * tokens * tokens * query.element_size()))
    parts = []
    for q, k in zip(query.split(step), key.split(step), strict=True):
        logits = torch.einsum("vqhd,vkhd->vhqk", q, k) * scale
        parts.append(logits.softmax(-1).mean((1, 2)))
    return torch.cat(parts) if views > step else parts[0]


def resolve_layer(index: int, length: int, name: str) -> int:
    """Return a layer number from 0, below `length`; `index` may count from the end.

    Raises:
        UnsupportedModelError: there is no such layer; the message begins with `name`.
    """
    if not -length <= index < length:
        raise UnsupportedModelError(
            f"{name} {index} is out of range for {length} entries; use {-length} to {length - 1}"
        )
    return index % length

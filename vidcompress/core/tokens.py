"""Visual tokens as the language model would receive them, and the encoder's evidence that methods ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vidcompress.checks import is_whole, one_of, word
from vidcompress.core.devices import under_this_autocast
from vidcompress.core.layout import Layout
from vidcompress.errors import ArgumentError, shown

Quantity = Literal[
    "cls_logits",
    "cls_attention",
    "cls_attention_whole",
    "attention_received",
    "keys",
    "mean_keys",
    "hidden",
    "cls_hidden",
    "question",
    "pooling_attention",
    "pooled",
    "patch_embedding",
    "text_embedding",
]
OF_QUESTION: frozenset[Quantity] = frozenset({"question", "text_embedding"})
AXES: dict[Quantity, str] = {
    "keys": "NC",
    "mean_keys": "NC",
    "hidden": "NC",
    "cls_hidden": "VC",
    "question": "TD",
    "pooled": "VC",
    "patch_embedding": "NE",
    "text_embedding": "SE",
}
"""Axes of the quantities that are not one number per position (N,): see `Evidence`."""


class _Wanted(NamedTuple):
    quantity: Quantity
    layer: int | Literal["features"] = -1
    auxiliary: str | None = None


class Evidence(_Wanted):
    """Evidence: a quantity that a method reads beside the features.

    Of an encoder layer, one number per position (N,): `cls_logits` (head-mean of q_cls . k / sqrt(head size), before
    softmax), `cls_attention` (head-mean of its softmax over all encoder tokens), `cls_attention_whole` (the same with
    the heads not split: softmax of q_cls . k / sqrt(width)) and `attention_received` (mean over heads and queries of
    the attention that each token receives).

    Of an encoder layer, one vector per position (N, C): `keys` (the key projection, heads side by side), `mean_keys`
    (its mean over heads) and `hidden` (what the projector reads; only of the layer "features"). Of the CLS token of
    each view, (V, C): `cls_hidden` (likewise).

    Of the prompt: `question` (T, D), the language model's embeddings of the text that follows the visual in its row
    (of the text before it where none follows).

    With weights that the checkpoint lacks, from the folder `auxiliary`: `pooling_attention` (N,) and `pooled` (V, C),
    the attention of the encoder's own pooling head and its output for each view; `patch_embedding` (N, E) and
    `text_embedding` (S, E), the patches and the S segments of the question in the space that encoder and text tower
    share.

    Attributes:
        quantity: its name.
        layer: index into the encoder's layers, for the first two kinds; negative counts from the last layer; "features"
            is the layer whose output the projector reads.
        auxiliary: folder of a checkpoint, for the last kind.

    Raises:
        ArgumentError: unknown quantity, a layer that is not a whole number, or a folder that is not text.
    """

    __slots__ = ()

    def __new__(
        cls, quantity: Quantity, layer: int | Literal["features"] = -1, auxiliary: str | None = None
    ) -> Evidence:
        """Check the three arguments."""
        one_of("quantity", quantity, get_args(Quantity))
        if not is_whole(layer) and not (isinstance(layer, str) and layer == "features"):
            raise ArgumentError(
                f"layer={shown(layer)}: must be a whole number, such as -1 for the last layer, or 'features'"
            )
        if auxiliary is not None:
            word("auxiliary", auxiliary, "clip-text")
        return super().__new__(cls, quantity, layer, auxiliary)


@dataclass(eq=False)
class VisualTokens:
    """Visual tokens: one image or one video as the language model would receive it.

    Attributes:
        features: (N, D) in sequence order, separators included, in the model's dtype.
        layout: the geometry of those N positions, on the same device.
        evidence: for each `Evidence` asked for its values in float32, mostly (N,); those at separators mean nothing.
        project: the model's projector, (n, C) -> (n, D) in the dtype of the features, where it makes them position by
            position out of the evidence `hidden`; None where pooling or resizing comes after it.
        deep: companion features (N, D) of the same positions, one tensor per decoder layer that they are added behind.
    """

    features: Tensor
    layout: Layout
    evidence: Mapping[Evidence, Tensor] = field(default_factory=dict)
    project: Callable[[Tensor], Tensor] | None = None
    deep: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        self._check(self.features)

    def hold_autocast(self) -> None:
        """Let the projector run under the autocast block that is open now, also where `select` asks for it."""
        if self.project is not None and torch.is_autocast_enabled(self.layout.view.device.type):
            self.project = under_this_autocast(self.project, self.layout.view.device)

    def _check(self, features: Any) -> None:
        if not isinstance(self.layout, Layout):
            raise ArgumentError(f"layout={shown(self.layout)}: must be a Layout")
        got = tuple(features.shape) if isinstance(features, Tensor) else shown(features)
        if len(got) != 2 or got[0] != len(self.layout):
            raise ArgumentError(
                f"features must have shape (N, D) with N = {len(self.layout)} positions of the layout, "
                f"got {got}; pass separators and all, in sequence order"
            )
        if self.project is not None and not callable(self.project):
            raise ArgumentError(f"project={shown(self.project)}: must be a function of features, or None")
        if not isinstance(self.deep, tuple):
            raise ArgumentError(
                f"deep={shown(self.deep)}: must be a tuple of tensors (N, D), one per decoder layer; () for none"
            )
        for level in self.deep:
            if not isinstance(level, Tensor) or level.ndim != 2 or level.shape[0] != len(self.layout):
                raise ArgumentError(
                    f"deep has {shown(level)}: each level must be a tensor (N, D) with N = {len(self.layout)} "
                    "positions of the layout"
                )
        if not isinstance(self.evidence, Mapping) or not all(isinstance(key, tuple) for key in self.evidence):
            raise ArgumentError(f"evidence={shown(self.evidence)}: must be a dict of Evidence to tensors")
        for key, value in self.evidence.items():
            axes, sizes = AXES.get(key[0], "N"), {"N": len(self), "V": len(self.layout.views)}
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            right = len(shape) == len(axes) and all(
                sizes.get(axis, size) == size for axis, size in zip(axes, shape, strict=True)
            )
            if not right:
                expected = ", ".join(f"{axis} = {sizes[axis]}" if axis in sizes else axis for axis in axes)
                raise ArgumentError(
                    f"evidence[{key}] must have shape ({expected}), got {shown(value)}; values belong to "
                    "positions in sequence order, or to views in order"
                )

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the features."""
        return self.features.dtype

    def rows(self, index: Tensor) -> Tensor:
        """Return the features (K, D) at positions (K,); a method reads tokens that it only sends by this alone."""
        return self.features.index_select(0, index)

    def replace(self, **changes: Any) -> VisualTokens:
        """Tokens that differ in the named attributes; lazy ones become plain (`dataclasses.replace` refuses them)."""
        rest = [entry.name for entry in fields(self) if entry.name not in changes]
        return VisualTokens(**{name: getattr(self, name) for name in rest}, **changes)

    def __len__(self) -> int:
        return len(self.layout)

    def __repr__(self) -> str:
        return f"VisualTokens(features={tuple(self.features.shape)}, {self.layout!r}, evidence={list(self.evidence)})"


class LazyTokens(VisualTokens):
    """Lazily projected tokens: the projector runs when features are read, and on those alone.

    `rows` projects the positions it is given. `features` projects them all, once, for code that reads all features; a
    method that reads them should say so in `Method.reads_features`, or the projector is timed in the wrong phase.

    Args:
        hidden: (N, C) input of the projector, in sequence order; values at separators are not used.
        layout: of those N positions, on the same device.
        evidence: as in `VisualTokens`.
        project: (n, C) -> (n, D).
        newline: (D,) the feature of every separator; None where there is none.
    """

    def __init__(
        self,
        hidden: Tensor,
        layout: Layout,
        evidence: Mapping[Evidence, Tensor],
        project: Callable[[Tensor], Tensor],
        newline: Tensor | None,
    ) -> None:
        self.hidden, self.newline, self._projector = hidden, newline, project
        self.layout, self.evidence, self.project = layout, evidence, project
        self._check(hidden)

    def hold_autocast(self) -> None:
        """Let the projector run under the autocast block that is open now, as in `VisualTokens`."""
        super().hold_autocast()
        self._projector = under_this_autocast(self._projector, self.hidden.device)

    @cached_property
    def features(self) -> Tensor:  # type: ignore[override]
        """(N, D) in sequence order, separators included."""
        return self._projected(self.hidden, self.layout.separator)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the features: that of the projector's input."""
        return self.hidden.dtype

    def rows(self, index: Tensor) -> Tensor:
        """Return the features (K, D) at positions (K,); project them unless all features are projected already."""
        if not self.waits:
            return super().rows(index)
        return self._projected(
            self.hidden.index_select(0, index), self.layout.separator.index_select(0, index)
        )

    def _projected(self, hidden: Tensor, separator: Tensor) -> Tensor:
        features = self._projector(hidden)
        if self.newline is None:
            return features
        newline = self.newline.to(features.device, features.dtype)
        return torch.where(separator.to(features.device)[:, None], newline, features)

    @property
    def waits(self) -> bool:
        """Whether the projector has not run on all positions."""
        return "features" not in vars(self)

    @staticmethod
    def rows_of(tokens: Sequence[LazyTokens], indices: Sequence[Tensor]) -> list[Tensor]:
        """Return the `rows` of several visuals of one model, projected together.

        Args:
            tokens: at least one visual.
            indices: for each the positions (K,).

        Returns:
            For each the features (K, D).
        """
        pairs = list(zip(tokens, indices, strict=True))
        hidden = torch.cat([one.hidden.index_select(0, index) for one, index in pairs])
        separator = torch.cat([one.layout.separator.index_select(0, index) for one, index in pairs])
        features = tokens[0]._projected(hidden, separator)
        return list(features.split([len(index) for index in indices]))

    def __repr__(self) -> str:
        return (
            f"LazyTokens(hidden={tuple(self.hidden.shape)}, {self.layout!r}, evidence={list(self.evidence)})"
        )


class FrameSource(ABC):
    """Encoder input of a clip whose frames become ready in order, while earlier ones are encoded.

    It is indexed like the tensor (frame, channel, height, width) that it becomes; indexing waits for what it returns.

    Attributes:
        shape, ndim, device, dtype: of the whole tensor.
    """

    shape: torch.Size
    ndim: int
    device: torch.device
    dtype: torch.dtype

    @abstractmethod
    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Return the frames of a slice, or of the numbers in a tensor: (frame, channel, height, width)."""

    @abstractmethod
    def __len__(self) -> int: ...

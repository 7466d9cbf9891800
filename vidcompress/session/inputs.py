"""What a compression hands to the model: a mapping that can be unpacked as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter
from vidcompress.checks import device as check_device
from vidcompress.checks import flag, is_whole
from vidcompress.core.report import Report
from vidcompress.errors import ArgumentError, CompressionStateError, shown
from vidcompress.llm_pruning.hooks import Pruning


@dataclass(frozen=True, eq=False)
class SentFeatures:
    """Features of the surviving tokens, as prompts have them.

    Attributes:
        rows: by key of `mm_encoder_outputs`, one (k, D) tensor per prompt row that has visuals of it, in order.
        deep: by the same key, companions of the same tokens: per level one (k, D) tensor per prompt row.
    """

    rows: dict[str, list[Tensor]]
    deep: dict[str, list[list[Tensor]]] = field(default_factory=dict)


class CompressedInputs(Mapping[str, Any]):
    """Model inputs whose visual tokens are encoded and selected already.

    A read-only mapping: `model.generate(**inputs)` or `model(**inputs)`. Every unpacking hands out fresh
    encoder outputs, because `generate` writes into the ones it is given. The answer is
    `out[:, inputs["input_ids"].shape[1]:]`. Keys are attributes too, as those of transformers' inputs.

    Attributes:
        report: what was kept, where, and what it cost.
        inside: what is pruned inside the language model, or None.
        features: of the tokens that are sent, before they are handed over.
    """

    def __init__(
        self,
        values: dict[str, Any],
        features: SentFeatures,
        report: Report,
        adapter: Adapter,
        inside: Pruning | None = None,
    ) -> None:
        self._values, self.features, self.report, self.inside = values, features, report, inside
        self._hand_over = adapter.hand_over

    def pruning(self) -> AbstractContextManager[None]:
        """The block in which the model is called: `with inputs.pruning(): model.generate(**inputs)`.

        A method inside the language model prunes there; for any other the block does nothing.
        """
        return nullcontext() if self.inside is None else self.inside.run()

    @property
    def data(self) -> dict[str, Any]:
        """All of it as a dict, as in transformers' inputs."""
        return dict(self)

    def to(self, device: Any = None, dtype: Any = None, *, non_blocking: bool = False) -> CompressedInputs:
        """Move the tensors and features, and return itself, as transformers' `BatchFeature.to` does.

        Args:
            device: where to; None leaves them. A dtype may stand in its place.
            dtype: a floating-point dtype for features and pixels; ids and masks keep theirs. None leaves all.
            non_blocking: as in `torch.Tensor.to`.

        Raises:
            ArgumentError: no device, one that is not there, or a dtype that is not of floating point.
        """
        if isinstance(device, torch.dtype) and dtype is None:
            device, dtype = None, device
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ArgumentError(
                f"dtype={shown(dtype)}: must be a floating-point torch.dtype, such as torch.bfloat16"
            )
        flag("non_blocking", non_blocking)
        place = (
            None
            if device is None
            else check_device("device", f"cuda:{device}" if is_whole(device) else device)
        )

        def moved(value: Any) -> Any:
            if isinstance(value, list):
                return [moved(entry) for entry in value]
            if isinstance(value, dict):
                return {key: moved(entry) for key, entry in value.items()}
            if not isinstance(value, Tensor):
                return value
            return value.to(place, dtype if value.is_floating_point() else None, non_blocking=non_blocking)

        self._values = {key: moved(value) for key, value in self._values.items()}
        self.features = SentFeatures(moved(self.features.rows), moved(self.features.deep))
        return self

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self:
            return self[name]
        keys = "" if name.startswith("_") else f"; it has the keys {', '.join(self)}"
        raise AttributeError(f"CompressedInputs has no attribute {name!r}{keys}")

    def __getitem__(self, key: str) -> Any:
        if key == "mm_encoder_outputs" and self.features.rows:
            if self.inside is not None and not self.inside.hand_out():
                raise CompressionStateError(
                    f"method {self.report.method!r} prunes inside the language model: call it within "
                    "`with inputs.pruning():` of the same thread, or use the vidcompress.compress block"
                )
            return self._hand_over(self.features.rows, self.features.deep)
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._values
        if self.features.rows:
            yield "mm_encoder_outputs"

    def __len__(self) -> int:
        return len(self._values) + bool(self.features.rows)

    def __repr__(self) -> str:
        shapes = {
            k: tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for k, v in self._values.items()
        }
        features = [tuple(row.shape) for rows in self.features.rows.values() for row in rows]
        return f"CompressedInputs({shapes}, features={features}, {self.report!r})"

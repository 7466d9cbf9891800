"""What a compression hands to the model: a mapping that can be unpacked as often as one likes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .report import Report


class EncodedVisuals(BaseModelOutputWithPooling):  # type: ignore[misc]
    """Encoder outputs that this package made, so that a `compress` block knows its own."""


class CompressedInputs(Mapping[str, Any]):
    """Model inputs whose visual tokens are encoded and selected already.

    A read-only mapping: `model.generate(**inputs)` or `model(**inputs)`. Every unpacking hands out fresh
    encoder outputs, because `generate` writes into the ones it is given. The answer is
    `out[:, inputs["input_ids"].shape[1]:]`.

    Attributes:
        report: what was kept, where, and what it cost.
    """

    def __init__(self, values: dict[str, Any], features: list[Tensor], report: Report) -> None:
        self._values, self._features, self.report = values, features, report

    def __getitem__(self, key: str) -> Any:
        if key == "mm_encoder_outputs" and self._features:
            return {"image": EncodedVisuals(pooler_output=list(self._features))}
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._values
        if self._features:
            yield "mm_encoder_outputs"

    def __len__(self) -> int:
        return len(self._values) + bool(self._features)

    def __repr__(self) -> str:
        shapes = {
            k: tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for k, v in self._values.items()
        }
        return f"CompressedInputs({shapes}, features={[tuple(f.shape) for f in self._features]}, {self.report!r})"

"""Operations of a model: floating-point operations, bytes moved, and roofline time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

from vidcompress.tools.cost.devices import Device

PRECISIONS = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one number by dtype."""


@dataclass(frozen=True)
class Operation:
    """Operation: a matrix product, an attention, a norm, or a sum of them.

    Attributes:
        name: of the operation.
        flops: operations, by its convention.
        load_weight: bytes of weights read.
        load_act: bytes of activations read. store_act: bytes written.
        load_kv: bytes of keys and values read. store_kv: bytes written.
    """

    name: str
    flops: float = 0
    load_weight: float = 0
    load_act: float = 0
    store_act: float = 0
    load_kv: float = 0
    store_kv: float = 0

    @property
    def moved(self) -> float:
        """Bytes moved between the device's memory and its cores."""
        return self.load_weight + self.load_act + self.store_act + self.load_kv + self.store_kv

    def seconds(self, device: Device, dtype: str) -> float:
        """Return the roofline time in seconds: that of computing or of moving, whichever is longer."""
        return max(self.flops / device.flops_per_s(dtype), self.moved / device.bytes_per_s)

    def times(self, count: float) -> Operation:
        """Return the operation repeated `count` times."""
        return replace(self, **{key: getattr(self, key) * count for key in _NUMBERS})


_NUMBERS = tuple(field.name for field in fields(Operation) if field.name != "name")


def total(operations: Iterable[Operation], key: str = "flops") -> float:
    """Return the sum of one of the numbers of `Operation`, or of `moved`."""
    return sum(float(getattr(operation, key)) for operation in operations)


def total_seconds(operations: Iterable[Operation], device: Device, dtype: str) -> float:
    """Return the roofline time in seconds of operations one after another."""
    return sum(operation.seconds(device, dtype) for operation in operations)

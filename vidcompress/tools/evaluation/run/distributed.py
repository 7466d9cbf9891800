"""Several processes that share one run: who they are, and what they tell one another."""

from __future__ import annotations

import os
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from vidcompress.errors import VidcompressError, one_line

Value = TypeVar("Value")


class RankError(VidcompressError, RuntimeError):
    """Another process of the same run has ended before its time."""


_PATIENCE = timedelta(days=7)
"""A rank may wait this long for a slower one; one that has died is noticed at once, by its closed connection."""


class Ranks:
    """The processes that torchrun or `accelerate launch` started, or this one alone.

    They talk over gloo, on the CPU, whatever the model runs on. Use it as a context manager.

    Attributes:
        rank: number of this process, 0 to size - 1.
        size: how many there are.
        local: number of this process on its machine; which of its GPUs it takes.
        here: how many of them are on this machine.
    """

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.size > 1 else 0
        self.local = int(os.environ.get("LOCAL_RANK", "0")) if self.size > 1 else 0
        self.here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size)) if self.size > 1 else 1

    def __enter__(self) -> Ranks:
        if self.size > 1:
            import torch.distributed as dist

            dist.init_process_group("gloo", timeout=_PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes the results."""
        return self.rank == 0

    def gather(self, value: Value) -> list[Value]:
        """Everybody's value, in order of rank, for everybody; waits for all.

        Raises:
            RankError: another process is gone.
        """
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise RankError(
                f"process {self.rank} of {self.size}: another one has ended ({one_line(error, 120)}); run the same "
                "command again to go on from the answers that are there"
            ) from error
        return values

    def from_first(self, value: Value) -> Value:
        """What the first process has, for everybody; waits for all."""
        return self.gather(value)[0]

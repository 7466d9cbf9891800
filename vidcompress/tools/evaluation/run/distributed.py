"""Processes (ranks) of a distributed run, and the exchange of values between them."""

from __future__ import annotations

import os
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from vidcompress.errors import VidcompressError, one_line

Value = TypeVar("Value")


class RankError(VidcompressError, RuntimeError):
    """Another process of the same run has ended early."""


_PATIENCE = timedelta(days=7)
"""Longest wait for a slower rank; a dead one is noticed at once, by its closed connection."""


class Ranks:
    """The processes that torchrun or `accelerate launch` started, or this one alone.

    Values are exchanged over gloo on the CPU, on any device of the model. Use it as a context manager.

    Attributes:
        rank: number of this process, 0 to size - 1.
        size: number of processes.
        local: number of this process on its machine; which of its GPUs it takes.
        here: number of processes on this machine.
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
        """Gather the values of all processes on every process, in order of rank; waits for all.

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
        """Broadcast the value of the first process; waits for all."""
        return self.gather(value)[0]

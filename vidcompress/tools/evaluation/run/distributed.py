"""Processes (ranks) of a distributed run, and the exchange of values between them."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import TypeVar

from vidcompress.errors import VidcompressError, one_line

Value = TypeVar("Value")


class RankError(VidcompressError, RuntimeError):
    """Another process of the same run has ended early."""


_PATIENCE = timedelta(days=7)
"""Longest wait for a slower rank; a dead one is noticed at once, by its closed connection."""


class Ranks:
    """Processes that torchrun or `accelerate launch` started, as a context manager; before entry only this one.

    accelerate's `PartialState` finds and connects them. Values are exchanged over gloo on the CPU, on any device of the
    model: NCCL would wait for a dead process until its time limit.

    Attributes:
        rank: number of this process, 0 to size - 1.
        size: number of processes.
        local: number of this process on its machine, and of its GPU.
        here: number of processes on this machine.
    """

    def __init__(self) -> None:
        self.rank, self.size, self.local, self.here = 0, 1, 0, 1
        self._own_state = False

    def __enter__(self) -> Ranks:
        from accelerate import PartialState
        from accelerate.utils import get_cpu_distributed_information

        self._own_state = not PartialState._shared_state
        state = PartialState(cpu=True, timeout=_PATIENCE)
        self.rank, self.size = state.process_index, state.num_processes
        self.local, self.here = state.local_process_index, get_cpu_distributed_information().local_world_size
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from accelerate import PartialState

        if self._own_state:
            PartialState().destroy_process_group()
            PartialState._reset_state()  # later uses of accelerate are not bound to the CPU

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
        from accelerate.utils import gather_object

        try:
            values: list[Value] = gather_object([value])
        except RuntimeError as error:
            raise RankError(
                f"process {self.rank} of {self.size}: another one has ended ({one_line(error, 120)}); run the same "
                "command again to go on from the answers that are there"
            ) from error
        return values

    def from_first(self, value: Value) -> Value:
        """Broadcast the value of the first process; waits for all."""
        return self.gather(value)[0]

"""Phase timings that never make the device wait: events on CUDA, the clock elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch


class Timings(MutableMapping[str, float]):
    """Milliseconds per phase. A phase timed by CUDA events is read from them when it is looked at."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        self._events: dict[str, list[tuple[Any, Any]]] = {}

    def pending(self, name: str, start: Any, stop: Any) -> None:
        """Note two recorded events whose distance is part of the phase's time."""
        self._known.setdefault(name, 0.0)
        self._events.setdefault(name, []).append((start, stop))

    def add(self, name: str, ms: float) -> None:
        """Note part of the phase's time."""
        self._known[name] = self._known.get(name, 0.0) + ms

    def __getitem__(self, name: str) -> float:
        for start, stop in self._events.pop(name, ()):
            stop.synchronize()
            self.add(name, float(start.elapsed_time(stop)))
        return self._known[name]

    def __setitem__(self, name: str, value: float) -> None:
        self._events.pop(name, None)
        self._known[name] = value

    def __delitem__(self, name: str) -> None:
        self._events.pop(name, None)
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"Timings({dict(self)})"


_watcher: ContextVar[Callable[[str], None] | None] = ContextVar("_watcher", default=None)


@contextmanager
def watched(begins: Callable[[str], None]) -> Iterator[None]:
    """Have `begins(name)` called when a phase begins in this block, in this thread: for meters of something else."""
    token = _watcher.set(begins)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def phase(into: Timings, name: str, device: torch.device) -> Iterator[None]:
    """Add the time of the block to `into[name]`, in milliseconds, on the device's own clock where it has one."""
    begins = _watcher.get()
    if begins is not None:
        begins(name)
    if device.type == "cuda":
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(torch.cuda.current_stream(device))
        yield
        stop.record(torch.cuda.current_stream(device))
        into.pending(name, start, stop)
        return
    begin = time.perf_counter()
    yield
    into.add(name, (time.perf_counter() - begin) * 1e3)

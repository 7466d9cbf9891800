"""Timings in milliseconds: phases without waiting for the device, and one answer cut into phases that sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch


class Timings(MutableMapping[str, float]):
    """Milliseconds per phase. A phase timed by CUDA events is read from them on first access."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        self._events: dict[str, list[tuple[Any, Any]]] = {}

    def pending(self, name: str, start: Any, stop: Any) -> None:
        """Add two recorded events whose distance is part of the phase's time."""
        self._known.setdefault(name, 0.0)
        self._events.setdefault(name, []).append((start, stop))

    def add(self, name: str, ms: float) -> None:
        """Add milliseconds to a phase."""
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
    """Call `begins(name)` when a phase begins in this block, in this thread; for meters of other quantities."""
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


PHASES = ("decode", "preprocess", "encode", "compress", "prefill", "generate")
"""Phases of an answer in their order; `generate` is the decoding after the first token.

Where a clip is read in a thread while it is encoded, `decode` is the time for which the model waited for decoding or
preprocessing of frames. The thread's other work is in no phase: nothing counts twice.
"""


def now(device: torch.device | str) -> float:
    """Return milliseconds on a monotonic clock, after the device has finished its queued work."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
    return time.perf_counter() * 1e3


class Phases:
    """Stopwatch that cuts the time since it was made into named phases without gaps.

    Args:
        device: its queued work is waited for at every cut.

    Attributes:
        ms: milliseconds per phase so far; 0.0 for phases that did not occur.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = device
        self.ms = dict.fromkeys(PHASES, 0.0)
        self._last = now(device)

    def cut(self, phase: str, *, at: float | None = None, within: Mapping[str, float] | None = None) -> None:
        """Give the time since the last cut to `phase`.

        Args:
            phase: one of `PHASES`.
            at: time of the cut on the clock of `now`; None is the present.
            within: milliseconds of that time that belong to other phases, by phase; their sum is at most that time.
        """
        moment = now(self.device) if at is None else at
        left, self._last = moment - self._last, moment
        for other, ms in (within or {}).items():
            share = min(max(ms, 0.0), left)
            self.ms[other] += share
            left -= share
        self.ms[phase] += left

    def resume(self, device: torch.device | str) -> None:
        """Continue now with the clock of a device; the time since the last cut is in no phase."""
        self.device, self._last = device, now(device)

    def with_total(self) -> dict[str, float]:
        """Return the phases and their sum as `total`."""
        return {**self.ms, "total": sum(self.ms.values())}


class FirstToken:
    """Logits processor that changes nothing and records the time of the first token's scores.

    Attributes:
        at: that time on the clock of `now`; None before it.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = device
        self.at: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` (row, vocabulary) as they are."""
        if self.at is None:
            self.at = now(self.device)
        return scores

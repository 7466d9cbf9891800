"""Clocks and memory meters that add no device synchronisation to the measured code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vidcompress.core.timing import watched
from vidcompress.tools.benchmark.live_bytes import LiveBytes


class TimeStamp:
    """Time stamp: an event in the device's stream, or the clock's time.

    Args:
        device: its work up to here counts.

    Attributes:
        cpu: seconds of processor time of this process, in all its threads.
    """

    def __init__(self, device: torch.device) -> None:
        self._event: Any = None
        self._at = 0.0
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record(torch.cuda.current_stream(device))
        else:
            self._at = time.perf_counter()
        self.cpu = time.process_time()

    def since(self, earlier: TimeStamp) -> float:
        """Return the milliseconds since an earlier time stamp; waits until the device has reached this one."""
        if self._event is None:
            return (self._at - earlier._at) * 1e3
        self._event.synchronize()
        return float(earlier._event.elapsed_time(self._event))


class TokenClock:
    """Logits processor that changes nothing and records a time stamp per token.

    Args:
        device: of the scores.
        first: called at the first token.

    Attributes:
        stamps: one time stamp per token.
    """

    def __init__(self, device: torch.device, first: Callable[[], None] | None = None) -> None:
        self.device, self.stamps = device, list[TimeStamp]()
        self._first = first

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` (row, vocabulary) as they are."""
        self.stamps.append(TimeStamp(self.device))
        if self._first is not None:
            first, self._first = self._first, None
            first()
        return scores


class PeakMeter:
    """Peak memory per phase, in bytes.

    On CUDA it is the allocator's peak (`max_memory_allocated`), weights and inputs included, at no cost in time.
    Elsewhere it is the bytes of live tensors made since the start (`LiveBytes`); counting them slows the run, so its
    times are not valid.

    Args:
        device: of the model.

    Attributes:
        peaks: by phase, in order.
        counts_weights: whether weights and inputs are among the bytes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.peaks = device, dict[str, int]()
        self.counts_weights = device.type == "cuda"
        self._live: LiveBytes | None = None
        self._phase = ""

    @contextmanager
    def on(self) -> Iterator[PeakMeter]:
        """Measure inside the block; the phases that vidcompress times begin automatically."""
        with watched(self.begin):
            if self.counts_weights:
                yield self
            else:
                with LiveBytes() as self._live:
                    yield self
            self.begin("")

    def begin(self, phase: str) -> None:
        """End the previous phase and begin this one."""
        peak = self._restart()
        if self._phase:
            self.peaks[self._phase] = max(peak, self.peaks.get(self._phase, 0))
        self._phase = phase

    def _restart(self) -> int:
        if self._live is not None:
            return self._live.restart()
        peak = int(torch.cuda.max_memory_allocated(self.device))
        torch.cuda.reset_peak_memory_stats(self.device)
        return peak


def wait_for(device: torch.device) -> None:
    """Synchronise with the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

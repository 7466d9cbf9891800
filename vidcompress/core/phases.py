"""The time of one answer cut into phases that follow one another, in milliseconds, so that they sum to the total."""

from __future__ import annotations

import time

import torch

PHASES = ("decode", "preprocess", "encode", "compress", "prefill", "generate")
"""In the order in which they happen; `generate` is the decoding after the first token.

Where a clip is read in a thread while it is encoded, `decode` is the time for which the model waited for frames, be it
for decoding or preprocessing, and what the thread did while nobody waited is in no phase: still nothing counts twice.
"""


def now(device: torch.device | str) -> float:
    """Milliseconds on a monotonic clock, once the device has done what it was asked to do."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
    return time.perf_counter() * 1e3


class Phases:
    """Cuts the time since its making into named phases without gaps.

    Args:
        device: whose work counts; waited for at every cut.

    Attributes:
        ms: milliseconds per phase so far; 0.0 for phases that did not occur.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = device
        self.ms = dict.fromkeys(PHASES, 0.0)
        self._last = now(device)

    def cut(self, phase: str, *, at: float | None = None) -> None:
        """Give the time since the last cut to `phase`.

        Args:
            phase: one of `PHASES`.
            at: the moment of the cut on the clock of `now`; None is this moment.
        """
        moment = now(self.device) if at is None else at
        self.ms[phase] += moment - self._last
        self._last = moment

    def resume(self, device: torch.device | str) -> None:
        """Go on from this moment with the clock of a device; the time since the last cut belongs to nobody."""
        self.device, self._last = device, now(device)

    def move(self, ms: float, source: str, target: str) -> None:
        """Give part of one phase to another: at most what it has."""
        ms = min(max(ms, 0.0), self.ms[source])
        self.ms[source] -= ms
        self.ms[target] += ms

    def with_total(self) -> dict[str, float]:
        """Return the phases and their sum as `total`."""
        return {**self.ms, "total": sum(self.ms.values())}


class FirstToken:
    """A logits processor that changes nothing and notes when the first token's scores were there.

    Attributes:
        at: that moment on the clock of `now`; None before it.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = device
        self.at: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` (row, vocabulary) as they are."""
        if self.at is None:
            self.at = now(self.device)
        return scores

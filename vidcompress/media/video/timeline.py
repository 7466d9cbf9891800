"""Timelines: the time of each frame of a clip. All backends sample from them and return the same frames and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidcompress.errors import MediaError
from vidcompress.media.video.backends import Request
from vidcompress.media.video.clock_resets import AHEAD_IN, join
from vidcompress.media.video.packets import PacketIndex
from vidcompress.media.video.sampling import choose_indices

if TYPE_CHECKING:
    from vidcompress.media.video.container import ClipFacts

MAX_TICKS = 2**53
"""Longest clip in ticks of its clock; beyond it floats skip whole ticks, and no real clip comes near."""

_CREDIBLE = 2.0
"""Factor by which a stated frame rate may differ from the frames' own times before these are believed."""


@dataclass(frozen=True)
class Timeline:
    """The shown frames of a clip, in order.

    Attributes:
        times: float64 (frame,), seconds from the first frame, not decreasing.
        duration: seconds from the first frame to the end of the last one.
        fps: average frame rate, the stated one unless the times contradict it; 0.0 when it is not known.
        parts: how many clocks the file has; more than one where clips were joined end to end.
    """

    times: np.ndarray[Any, np.dtype[np.float64]]
    duration: float
    fps: float
    parts: int = 1

    @classmethod
    def from_index(cls, index: PacketIndex, facts: ClipFacts, name: str) -> Timeline:
        """Timeline of a clip whose packets tell its frames."""
        return cls.from_stamps([int(stamp) for stamp in index.pts[index.shown]], facts, name)

    @classmethod
    def from_stamps(cls, stamps: Sequence[int | None], facts: ClipFacts, name: str) -> Timeline:
        """Timeline of presentation times in ticks; frames without one are taken as evenly spaced.

        Where the clock starts again, the frames after it follow those before.

        Raises:
            MediaError: the times span more than `MAX_TICKS`.
        """
        stated = [stamp for stamp in stamps if stamp is not None]
        if stated and max(stated) - min(stated) > MAX_TICKS:
            raise MediaError(
                f"video={name!r} is damaged: its time stamps run from {min(stated)} to {max(stated)}; convert it again"
            )
        parts = 1
        if len(stated) == len(stamps):
            # Python integers: a difference of two 64-bit stamps may not fit 64 bits.
            times = np.array([stamp - stated[0] for stamp in stated], dtype=np.float64) * facts.tick
            times, parts = join(times, facts.last_duration, ahead=facts.container in AHEAD_IN)
        else:
            times = np.arange(len(stamps), dtype=np.float64) / (facts.fps if facts.fps > 0 else 1.0)
        return cls(times, float(times[-1]) + facts.last_duration, _credible(facts.fps, times), parts)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the times."""
        if self.parts == 1:
            return ()
        return (
            f"the file holds {self.parts} parts with time stamps of their own; each part follows the one before it",
        )

    def choose(self, request: Request) -> list[int]:
        """Indices of the frames to return; see `choose_indices`."""
        return choose_indices(
            len(self), self.fps, num_frames=request.num_frames, fps=request.fps, max_frames=request.max_frames
        )

    def at(self, chosen: list[int]) -> tuple[float, ...]:
        """Times of the chosen frames, in seconds."""
        return tuple(float(self.times[i]) for i in chosen)


def _credible(stated: float, times: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    span = float(times[-1])
    if len(times) < 2 or span <= 0:
        return stated
    measured = (len(times) - 1) / span
    agree = stated > 0 and 1 / _CREDIBLE <= measured / stated <= _CREDIBLE
    return stated if agree else measured

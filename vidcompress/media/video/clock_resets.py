"""Clock resets in the middle of a file, as in recordings joined end to end: detection and removal."""

from __future__ import annotations

from typing import Any

import numpy as np

BACK = 0.1
"""Seconds by which time stamps of a damaged file may step back without a new clock, as in FFmpeg's tools."""

AHEAD = 10.0
"""Seconds without frames that count as a new clock in containers whose clock does not begin at 0, as in FFmpeg's
tools. FFmpeg also adds 26.5 hours to a part whose stamps are lower than those of the first part."""

AHEAD_IN = ("mpegts", "mpeg")
"""FFmpeg's names of those containers: transport and program streams (TS, M2TS, MPG, VOB)."""

_SLOW = 20.0
"""A pause is a gap when it is this many times the usual step around it; a slide show has no gaps."""

_AROUND = 25
"""Steps on either side of a pause from which the usual step is taken."""

Times = np.ndarray[Any, np.dtype[np.float64]]


def goes_back(stamp: float, last: float, first: float) -> bool:
    """Whether a time belongs to a new clock: it lies clearly before the last one, or at the start of the part.

    Args:
        stamp: of a frame or packet, in seconds.
        last: time of the one before.
        first: time of the first one of the same part.
    """
    return stamp < last and (stamp <= first or last - stamp > BACK)


def join(times: Times, last_duration: float, *, ahead: bool) -> tuple[Times, int]:
    """Put the times of all parts on one clock: every part follows the one before it.

    Args:
        times: float64 (frame,), seconds, in order of presentation.
        last_duration: seconds that a frame is shown where its part has no other.
        ahead: whether a long pause is a new clock too.

    Returns:
        The joined times, not decreasing, from 0; and the number of parts.
    """
    starts = _starts(times, last_duration, ahead)
    joined = times - times[0]
    for number, start in enumerate(starts[1:], start=1):
        before = joined[starts[number - 1] : start]
        end = float(before.max()) + _step(np.diff(before), last_duration)
        stop = starts[number + 1] if number + 1 < len(starts) else len(times)
        joined[start:stop] = times[start:stop] - times[start] + end
    return np.maximum.accumulate(joined), len(starts)


def _starts(times: Times, last_duration: float, ahead: bool) -> list[int]:
    """Return the number of the first frame of each part."""
    steps = np.diff(times)
    starts = [0]
    for place in np.flatnonzero((steps < 0) | (steps > AHEAD if ahead else False)):
        last, stamp = float(times[place]), float(times[place + 1])
        if stamp < last:
            new = goes_back(stamp, last, float(times[starts[-1]]))
        else:
            around = np.concatenate([steps[max(0, place - _AROUND) : place], steps[place + 1 :][:_AROUND]])
            new = stamp - last > _SLOW * _step(around, last_duration)
        if new:
            starts.append(int(place) + 1)
    return starts


def _step(steps: Times, otherwise: float) -> float:
    """Return the usual time from one frame to the next."""
    forward = steps[steps > 0]
    return float(np.median(forward)) if len(forward) else otherwise

"""Frame sampling of GLM-4.1V and GLM-4.6V: the frames that follow even points in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidcompress.checks import DEFAULT_MAX_FRAMES, is_number
from vidcompress.errors import MediaError, shown
from vidcompress.media.video.paced_rule import UNKNOWN_FPS
from vidcompress.media.video.sampling import SamplingRule, check_request, check_source_fps, choose_indices


@dataclass(frozen=True)
class SecondsRule(SamplingRule):
    """Sampling rule of transformers' `Glm4vVideoProcessor.sample_frames`: a rate, for clips up to a length.

    Attributes:
        fps: frames per second of clip time where the caller states none.
        max_duration: seconds of the longest clip at that rate; a longer one gives as many frames, further apart.
    """

    fps: float = 2.0
    max_duration: float = 300.0

    def __post_init__(self) -> None:
        for name in ("fps", "max_duration"):
            value = getattr(self, name)
            if not is_number(value) or value <= 0:
                raise MediaError(f"{name}={shown(value)}: must be a number above 0")

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Choose frames as `SamplingRule.choose`.

        Raises:
            MediaError: an invalid request, or `fps` for a clip whose own rate is not known.
        """
        check_request(num_frames=num_frames, fps=fps, max_frames=max_frames)
        if num_frames is not None:
            return choose_indices(total, source_fps, num_frames=num_frames, fps=None, max_frames=max_frames)
        if fps is not None:
            source_fps = check_source_fps(fps, source_fps)
        rate = source_fps if source_fps > 0 else UNKNOWN_FPS
        return thinned(self.places(total, rate, self.fps if fps is None else fps), max_frames)

    def places(self, total: int, rate: float, pace: float) -> Sequence[int]:
        """Return the frames of a clip of `total` frames at `rate` per second, of which `pace` per second are wanted."""
        duration, last = total / rate, total - 1
        if pace > 4 * rate:  # then these points reach every frame, however many there are
            return range(total)
        if duration <= self.max_duration:
            count = max(math.floor(duration * pace), 1)
            return [min(last, math.ceil(number * rate / pace)) for number in range(count)]
        count = int(self.max_duration * pace)
        if count >= total:
            return range(total)
        return [min(last, math.ceil(second * rate)) for second in np.linspace(0, duration, count)]

    @property
    def usual(self) -> int | None:
        """None: the number of frames follows from the length of a clip."""
        return None


LENGTHS = ((30, 3.0), (300, 1.0), (2400, 0.5))
"""Lengths of clips in seconds, and pairs of frames per second up to that length."""
MOST_BY_LENGTH = 640


@dataclass(frozen=True)
class LengthsRule(SecondsRule):
    """Sampling rule of transformers' `Glm46VVideoProcessor.sample_frames`: the rate follows from a clip's length.

    A caller's `fps` is a rate as in `SecondsRule`.
    """

    def choose(
        self,
        total: int,
        source_fps: float,
        *,
        num_frames: int | None = None,
        fps: float | None = None,
        max_frames: int = DEFAULT_MAX_FRAMES,
    ) -> list[int]:
        """Choose frames as `SecondsRule.choose`."""
        if num_frames is not None or fps is not None:
            return super().choose(total, source_fps, num_frames=num_frames, fps=fps, max_frames=max_frames)
        check_request(num_frames=None, fps=None, max_frames=max_frames)
        rate = source_fps if source_fps > 0 else UNKNOWN_FPS
        duration = total / rate
        seconds = min(duration, LENGTHS[-1][0])
        pace = 2 * next(pace for length, pace in LENGTHS if seconds <= length)
        count = min(int(seconds * pace), MOST_BY_LENGTH)
        if total < count:
            return thinned(np.linspace(0, total - 1, count, dtype=int).tolist(), max_frames)
        places, due = [], 0.0
        for place in range(total):
            if place / rate >= due:
                due += 1 / pace
                places.append(place)
                if due >= int(duration):
                    break
        if len(places) < count:
            places = np.linspace(
                places[0] if places else 0, places[-1] if places else total - 1, count, dtype=int
            ).tolist()
        elif len(places) > count:
            places = np.linspace(0, total - 1, count, dtype=int).tolist()
        return thinned(places or [0], max_frames)


def glm_rule(sampling: str, **stated: float) -> SecondsRule:
    """Return the rule of `NativeRules.sampling`, "seconds" or "lengths", with numbers of the checkpoint's files."""
    return SecondsRule(**stated) if sampling == "seconds" else LengthsRule(**stated)  # type: ignore[arg-type]


def thinned(places: Sequence[int], most: int) -> list[int]:
    """Return places without repetitions, and at most so many of them, evenly spread."""
    single = list(dict.fromkeys(int(place) for place in places))
    if len(single) <= most:
        return single
    return [single[number] for number in np.linspace(0, len(single) - 1, most).round().astype(int)]

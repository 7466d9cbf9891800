"""Packet index of a clip, and the cheapest seeks to some of its frames. Nothing is decoded here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SEEK_GAP = 12
"""Fewest packets that a seek must skip: it empties the decoder's pipeline, which costs about as many frames."""

IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class PacketIndex:
    """Index of the coded frames of a container, in the order of the file (decode order).

    Attributes:
        pts: presentation time of each packet, in ticks of the stream's time base; all different.
        dts: decode time of each packet, or its pts where the container does not store one. Only used to seek.
        key: True where decoding can start.
        by_time: positions of all packets in order of pts.
        shown: the same without packets that are decoded but never shown: frame i of the clip is packet shown[i].
    """

    pts: IntArray
    dts: IntArray
    key: BoolArray
    by_time: IntArray
    shown: IntArray

    @classmethod
    def build(cls, pts: IntArray, dts: IntArray, key: BoolArray, hidden: BoolArray) -> PacketIndex | None:
        """Make an index of packets in file order; None when their times do not identify them.

        Args:
            pts: int64 (packet,).
            dts: int64 (packet,).
            key: bool (packet,).
            hidden: bool (packet,), True for packets that are decoded but never shown.
        """
        by_time = np.argsort(pts, kind="stable")
        shown = by_time[~hidden[by_time]]
        ordered = pts[by_time]
        usable = len(shown) > 0 and bool(key[0]) and bool(np.all(ordered[1:] > ordered[:-1]))
        return cls(pts, dts, key, by_time, shown) if usable else None

    def position(self, pts: int | None) -> int | None:
        """Return the position in the file of the packet with this presentation time; None without one."""
        if pts is None:
            return None
        place = int(np.searchsorted(self.pts[self.by_time], pts))
        exact = place < len(self.pts) and int(self.pts[self.by_time[place]]) == pts
        return int(self.by_time[place]) if exact else None

    def __len__(self) -> int:
        """Number of frames that are shown."""
        return len(self.shown)


@dataclass(frozen=True)
class Segment:
    """Segment of decoding: from a key packet until every target was seen.

    Attributes:
        start: position of the key packet in decode order; 0 is the start of the file.
        targets: presentation times of the frames to return, ascending.
    """

    start: int
    targets: tuple[int, ...]


def plan_segments(index: PacketIndex, frames: list[int], *, seek_gap: int = SEEK_GAP) -> list[Segment]:
    """Plan where to seek and where to read on.

    A frame is decodable from any key packet that is shown no later than the frame. (A frame shown before the
    key packet but stored after it may depend on the group before: an open group of pictures.) The last such packet is
    the nearest start; it is used when it lies more than `seek_gap` packets behind the last packet read.

    Args:
        index: the clip's packets.
        frames: ascending frame numbers in presentation order.
        seek_gap: packets that a seek must save.

    Returns:
        Segments in ascending order; their targets together are the requested frames.
    """
    key_positions = np.flatnonzero(index.key)
    key_pts = index.pts[key_positions]
    # Latest key shown at or before a time. Keys are shown in file order in every codec read here; with the running
    # maximum an out-of-order key gives a start that is too early rather than too late.
    key_pts = np.maximum.accumulate(key_pts)
    segments: list[tuple[int, list[int]]] = []
    read_to = 0
    for frame in frames:
        position = int(index.shown[frame])
        pts = int(index.pts[position])
        behind = int(np.searchsorted(key_pts, pts, side="right")) - 1
        start = int(key_positions[behind]) if behind >= 0 else 0
        if not segments or start - read_to > seek_gap:
            segments.append((start if start > seek_gap or segments else 0, []))
        segments[-1][1].append(pts)
        read_to = max(read_to, position)
    return [Segment(start, tuple(targets)) for start, targets in segments]

"""Containers of clips: opened under limits, their packets listed. Only the search for streams decodes frames."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidcompress.errors import MediaError
from vidcompress.media.files import Clip, can_go_back
from vidcompress.media.sniff import instead_of_video
from vidcompress.media.video.clock_resets import goes_back
from vidcompress.media.video.mp4_guard import check_tables
from vidcompress.media.video.packets import PacketIndex
from vidcompress.media.video.sampling import Request

# Containers that hold one clip in one file. Play lists (HLS, DASH, concat) are left out: they make the reader open
# other files and addresses of the sender's choosing.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,ogg,gif,apng,asf,h264,hevc,obu,ivf,m4v,"
    "mjpeg,nut,mxf,dv,rm,yuv4mpegpipe"
)
_STATE = ("palette", "new_extradata")
_ATTACHED_PICTURE = 0x400
_DEFAULT = 0x1


class ClipFacts:
    """Facts of a clip that its container states.

    Attributes:
        codec: name of the video codec, for example "h264".
        container: FFmpeg's name of the container, for example "mpegts".
        stream: number of the video stream among all streams of the file.
        others: whether there are further video streams.
        height: of the coded frames, in pixels.
        width: of the coded frames, in pixels.
        fps: average frames per second, 0.0 when it is not known.
        tick: seconds per unit of a time stamp.
        last_duration: time that the last frame is shown, in seconds.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        # The decoder may have another name: "libdav1d" reads "av1".
        self.codec = str(stream.codec_context.codec.canonical_name)
        self.container = str(container.format.name)
        self.stream = int(stream.index)
        self.others = len(_videos(container)) > 1
        self.height, self.width = int(stream.codec_context.height), int(stream.codec_context.width)
        self.fps = float(stream.average_rate or stream.guessed_rate or 0.0)
        self.tick = float(stream.time_base or 0.0)
        self.last_duration = 1.0 / self.fps if self.fps > 0 else 0.0


@contextmanager
def open_clip(clip: Clip, request: Request) -> Iterator[tuple[Any, Any]]:
    """Open a clip and yield (container, video stream); every FFmpeg error becomes a MediaError.

    The stream is the first one marked as default, else the first; attached cover pictures do not count.

    Raises:
        MediaError: no known container, no video in it, frames over `request.max_pixels`, or damage found while reading.
    """
    import av

    if clip.stream is not None and can_go_back(clip.stream):
        clip.stream.seek(0)
    # The prefix keeps FFmpeg from reading a protocol into a file name such as "concat:a|b".
    source: Any = clip.stream if clip.path is None else f"file:{clip.path}"
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    limits = {
        "max_pixels": str(request.max_pixels)
    }  # also for the frames that are decoded to find the streams
    opened = sized = False
    try:
        with av.open(
            source, options=limits, container_options=options, metadata_errors="replace", buffer_size=1 << 18
        ) as container:
            opened = True
            stream = _pick(container, clip)
            sized = stream.codec_context.height * stream.codec_context.width > 0
            request.check_picture(clip.name, stream.codec_context.height, stream.codec_context.width)
            stream.codec_context.options = limits
            stream.thread_type = "AUTO"
            yield container, stream
    except av.FFmpegError as error:
        reason = (
            f"is not a video in a known format, or is damaged or cut short ({error.strerror}); "
            "play it once to check, fetch it again, or convert it to H.264 in MP4"
        )
        if opened and not sized:  # FFmpeg forgets a size that it refuses
            reason = f"has frames of more than max_pixels={request.max_pixels}, or none that can be read; scale it down"
        elif not opened:
            reason = instead_of_video(clip.head()) or reason
        raise MediaError(f"video={clip.name!r} {reason}") from error
    except (IndexError, OverflowError) as error:  # PyAV's own: a stream that turns up late, a huge number
        raise MediaError(
            f"video={clip.name!r} is damaged: its packets belong to no stream, or hold numbers beyond all bounds "
            f"({error}); fetch it again"
        ) from error


def _videos(container: Any) -> list[Any]:
    return [s for s in container.streams.video if not int(s.disposition) & _ATTACHED_PICTURE]


def _pick(container: Any, clip: Clip) -> Any:
    streams = _videos(container)
    if not streams:
        raise MediaError(
            f"video={clip.name!r} holds no video, only sound or pictures; pass a file with video"
        )
    if (
        "mov" in container.format.name
    ):  # the stills of HEIF come first and have no duration, unlike its tracks
        streams = [s for s in streams if s.duration is not None] or streams
    stream = next((s for s in streams if int(s.disposition) & _DEFAULT), streams[0])
    if stream.codec_context is None:
        raise MediaError(f"video={clip.name!r}: its codec is not known to this build; convert it to H.264")
    return stream


def read_index(clip: Clip, request: Request) -> tuple[PacketIndex | None, ClipFacts]:
    """List the packets of a clip without decoding any.

    Returns:
        The index, or None when packets do not identify their frames (time stamps missing or repeated, or a clock
        that starts again; VP8), and the clip's facts. Where a seek would lose the state that a packet carries for all
        later ones, decoding can start at the first packet only.

    Raises:
        MediaError: as `open_clip`; also when the clip has no frames, has more than `request.max_source_frames`, or
            is cut short.
    """
    with clip.opened() as stream:
        check_tables(stream, clip.name)
    pts, dts, flags = array("q"), array("q"), array("B")  # 17 bytes per frame: a clip may have two million
    timed, coded, end = True, 0, 0.0
    first = last = float("-inf")  # decode times of this part's first packet and of the last one, in seconds
    with open_clip(clip, request) as (container, stream):
        facts = ClipFacts(container, stream)
        carried = stream.codec_context.pix_fmt == "pal8"
        stated = _stated_length(container, stream)
        for packet in container.demux() if stated.all_streams else container.demux(stream):
            if packet.dts is None and packet.size == 0:
                continue  # the marker at the end of a stream
            end = max(end, _end(packet))
            if packet.stream_index != stream.index:
                continue
            coded += 1
            request.check_length(clip.name, coded)
            timed = timed and packet.pts is not None and packet.size > 0
            carried = carried or _carries_state(packet)
            if packet.dts is not None:
                stamp = float(packet.dts) * facts.tick
                timed = timed and (stamp >= last or not goes_back(stamp, last, first))
                first, last = stamp if last == float("-inf") else first, stamp
            if timed:
                pts.append(packet.pts)
                dts.append(packet.pts if packet.dts is None else packet.dts)
                flags.append(packet.is_keyframe + 2 * packet.is_discard)
            if packet.duration:
                facts.last_duration = float(packet.duration) * facts.tick
        stated.check(clip.name, coded, end)
    # VP8 stores frames that are never shown as packets of their own, so its packets cannot be counted as frames.
    if not timed or facts.codec == "vp8":
        return None, facts
    marks = np.array(flags)
    key = marks % 2 == 1
    key[1:] &= not carried
    return PacketIndex.build(np.array(pts), np.array(dts), key, marks >= 2), facts


def _carries_state(packet: Any) -> bool:
    """Whether a packet has a palette or a new header, which hold for all later ones. False on older PyAV."""
    return hasattr(packet, "has_sidedata") and any(packet.has_sidedata(kind) for kind in _STATE)


@dataclass(frozen=True)
class _Stated:
    """Length of a clip as its container's header states it.

    Attributes:
        frames: packets of the video stream, 0 when not stated.
        seconds: time at which the last stream ends, or the video stream in MP4; 0.0 when not stated.
        all_streams: whether `seconds` is about all streams together.
    """

    frames: int
    seconds: float
    all_streams: bool

    def check(self, name: str, coded: int, end: float) -> None:
        """Raise MediaError when the clip is shorter than stated."""
        if coded == 0:
            raise MediaError(f"video={name!r} holds no frame; it is empty or cut short, fetch it again")
        if coded < self.frames:
            raise MediaError(
                f"video={name!r} is cut short: it announces {self.frames} frames and holds {coded}; fetch it again"
            )
        if end < self.seconds - max(1.0, 0.05 * self.seconds):
            raise MediaError(
                f"video={name!r} is cut short: it announces {self.seconds:.1f} s and ends at {end:.1f}; fetch it again"
            )


def _stated_length(container: Any, stream: Any) -> _Stated:
    """Read the stated length; containers without one (transport streams, raw streams) estimate it from the file."""
    kind = str(container.format.name)
    if "mov" in kind:
        # The demuxer's own list: `stream.frames` would count frames that an edit list leaves out. Not in older PyAV.
        frames = len(getattr(stream, "index_entries", ()))
        return _Stated(frames, float((stream.duration or 0) * stream.time_base), all_streams=False)
    if "matroska" in kind or kind == "flv":
        return _Stated(0, (container.duration or 0) / 1_000_000, all_streams=True)
    if kind == "avi":  # often off by a few
        return _Stated(int(stream.frames * 0.9), 0.0, all_streams=False)
    return _Stated(0, 0.0, all_streams=False)


def _end(packet: Any) -> float:
    stamp = packet.pts if packet.pts is not None else packet.dts
    if stamp is None or packet.time_base is None:
        return 0.0
    return float((stamp + (packet.duration or 0)) * packet.time_base)

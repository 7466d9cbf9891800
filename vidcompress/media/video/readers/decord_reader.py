"""Reader of clips with decord, for comparisons with results that were made with it."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from vidcompress.errors import MediaError
from vidcompress.media.files import Clip
from vidcompress.media.orientation import IDENTITY, PICTURES, is_mirrored
from vidcompress.media.video.backends import register_backend
from vidcompress.media.video.frame_decoder import Look
from vidcompress.media.video.frames import VideoFrames
from vidcompress.media.video.readers.decord_process import PROCESS
from vidcompress.media.video.readers.pyav_reader import Survey, stream_notes, survey
from vidcompress.media.video.sampling import Request

UNREADABLE = ("av1",)
"""Codecs that decord's bundled FFmpeg has no decoder for; it aborts or hangs on some of them instead of raising."""

WHOLE = ("yuv444p", "yuvj444p", "yuv444p10le", "yuv444p12le", "gbrp", "rgb24", "bgr24", "bgr0", "gray", "gray10le",
         "gray16le")  # fmt: skip
"""Pixel formats without a reduced colour plane that decord converts to the same RGB as PyAV."""

DEEP_GREY = ("gray10le", "gray16le")
"""Pixel formats whose limited range decord stretches, and PyAV does not."""

EVEN = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")
"""Pixel formats of 8 bits that decord converts to PyAV's RGB where the height is even. For odd heights or more bits,
a filter that differs between FFmpeg versions spreads colour between the rows; decord filters each field alone."""


@register_backend("decord")
class DecordBackend:
    """Reader of decord: local files only; no AV1, no transport streams, no mirrored clips, no animations.

    It takes the pixel formats of `WHOLE` and `EVEN`, for which its colours equal PyAV's; PyAV decodes the requested
    frames too, to find their formats. It decodes every frame up to the last requested one, so it is slow on long
    clips. On damaged files decord may abort, hang or take all memory, so it runs in a process of its own, which is
    started at the first clip (about a quarter of a second) and again after its death.
    """

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Decode the requested frames.

        Raises:
            MediaError: decord is not installed, cannot serve the clip (use "pyav"), or as the "pyav" backend.
        """
        if clip.path is None:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' reads local files only; use backend='pyav'"
            )
        if find_spec("decord") is None:
            raise MediaError("backend='decord': decord is not installed; pip install decord, or use 'pyav'")
        # decord's FFmpeg is old and takes any URL or play list: check the file with the careful reader first.
        surveyed = survey(clip, request)
        timeline, facts = surveyed.timeline, surveyed.facts
        reason = _cannot(surveyed)
        if reason:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' cannot read {reason}; use backend='pyav'"
            )
        chosen = timeline.choose(request)
        request.check_memory(clip.name, len(chosen), facts.height, facts.width)
        with PROCESS.lock:
            count = PROCESS.open(clip.path)
            if count != len(timeline):
                raise MediaError(
                    f"video={clip.name!r}: backend='decord' finds {count} frames where {len(timeline)} are shown; "
                    "use backend='pyav'"
                )
            frames = torch.from_numpy(PROCESS.take(clip.path, chosen))
        if frames.shape[-1] != 3:
            raise MediaError(
                f"video={clip.name!r}: backend='decord' garbles clips of this width; use backend='pyav'"
            )
        return VideoFrames.on(timeline, chosen, frames, "decord", clip.name, stream_notes(facts))


def _cannot(surveyed: Survey) -> str | None:
    facts = surveyed.facts
    if facts.codec in UNREADABLE:
        return facts.codec
    if facts.container == "mpegts":
        return "transport streams (it returns other frames than were asked for)"
    if facts.others:
        return "files with several video streams (it chooses one by itself)"
    if surveyed.timeline.parts > 1:
        return "files of several parts whose time stamps start again (it mixes their frames)"
    if is_mirrored(surveyed.matrix):
        return "mirrored clips (it shows them as stored)"
    if surveyed.matrix != IDENTITY and facts.codec in PICTURES:
        return "clips that their pictures' EXIF turns (it shows them as stored)"
    return _wrong_colours(surveyed.looks)


def _wrong_colours(looks: tuple[Look, ...]) -> str | None:
    """Return the reason why decord's colours would be wrong, if there is one."""
    if len({(look.pixels, look.height, look.width) for look in looks}) > 1:
        return "clips whose frames change their size or pixel format"
    look = looks[0]
    if look.pixels in DEEP_GREY and any(each.limited_range for each in looks):
        return f"the pixel format {look.pixels} of limited range (its levels differ)"
    if look.pixels in WHOLE or (look.pixels in EVEN and look.height % 2 == 0):
        fields = look.pixels in EVEN and any(look.interlaced for look in looks)
        return "fields of interlaced video (its colours differ)" if fields else None
    size = f" of {look.height} rows" if look.pixels in EVEN else ""
    return f"the pixel format {look.pixels}{size} (its colours differ)"

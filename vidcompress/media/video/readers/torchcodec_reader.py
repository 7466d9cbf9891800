"""Reader of clips with torchcodec, PyTorch's decoder on the system's FFmpeg."""

from __future__ import annotations

from typing import Any

import torch

from vidcompress.errors import MediaError
from vidcompress.media.files import Clip
from vidcompress.media.orientation import IDENTITY, PICTURES, is_mirrored
from vidcompress.media.video.backends import register_backend
from vidcompress.media.video.frames import Timeline, VideoFrames
from vidcompress.media.video.readers.pyav_reader import Survey, stream_notes, survey
from vidcompress.media.video.sampling import Request

MAX_SLIP = 2e-3
"""Seconds by which a returned frame's time may differ from the requested one: slightly over Matroska's tick of 1 ms."""


@register_backend("torchcodec")
class TorchCodecBackend:
    """Reader of torchcodec's `VideoDecoder` in exact seek mode, on the CPU; needs torchcodec 0.11, FFmpeg's libraries.

    It shows mirrored clips as stored and returns wrong frames of transport streams: both are refused. So are
    transparency, palettes, clocks that start again, and full-range colours, which it takes for limited ones in some
    pixel formats (yuv420p and 10 bits in versions 0.11 to 0.13, up to 12 grey levels too contrasty).
    """

    def read(self, clip: Clip, request: Request) -> VideoFrames:
        """Decode the requested frames.

        Raises:
            MediaError: torchcodec does not import, cannot serve the clip (use "pyav"), or as the "pyav" backend.
        """
        decoder_class = _import_decoder()
        # torchcodec takes any URL or play list: check the file with the careful reader first.
        surveyed = survey(clip, request, first_only=True)
        timeline, facts = surveyed.timeline, surveyed.facts
        reason = _cannot(surveyed)
        if reason:
            raise MediaError(f"video={clip.name!r}: backend='torchcodec' {reason}; use backend='pyav'")
        chosen = timeline.choose(request)
        request.check_memory(clip.name, len(chosen), facts.height, facts.width)
        if clip.stream is not None:
            clip.stream.seek(0)
        try:
            decoder = decoder_class(
                clip.stream if clip.path is None else clip.path,
                stream_index=facts.stream,
                dimension_order="NHWC",
                num_ffmpeg_threads=0,
                device="cpu",
                seek_mode="exact",
            )
            batch = decoder.get_frames_at(indices=chosen)
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise MediaError(
                f"video={clip.name!r}: torchcodec failed ({reason}); use backend='pyav'"
            ) from error
        _check(decoder, batch, timeline, chosen, clip.name)
        return VideoFrames.on(timeline, chosen, batch.data, "torchcodec", clip.name, stream_notes(facts))


def _cannot(surveyed: Survey) -> str | None:
    if is_mirrored(surveyed.matrix):
        return "shows mirrored clips as stored"
    if surveyed.matrix != IDENTITY and surveyed.facts.codec in PICTURES:
        return "does not turn clips as their pictures' EXIF says"
    if surveyed.timeline.parts > 1:
        return "mixes the frames of files whose time stamps start again"
    look = surveyed.looks[0]
    if look.alpha:
        return f"does not lay transparency over white, which the pixel format {look.pixels} may hold"
    if look.full_range and not look.pixels.startswith("yuvj"):
        return f"takes full-range colours of {look.pixels} for limited ones"
    return None


def _check(decoder: Any, batch: Any, timeline: Timeline, chosen: list[int], name: str) -> None:
    """Refuse frames other than the requested ones, which transport streams can give."""
    start = float(decoder.metadata.begin_stream_seconds or 0.0)
    expected = torch.tensor(timeline.at(chosen), dtype=torch.float64)
    slip = float((batch.pts_seconds.cpu().double() - start - expected).abs().max())
    if len(decoder) != len(timeline) or slip > MAX_SLIP:
        raise MediaError(
            f"video={name!r}: torchcodec finds {len(decoder)} frames where {len(timeline)} are shown, or returned one "
            f"{slip:.3f} s from the one asked for; use backend='pyav'"
        )


def _import_decoder() -> Any:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MediaError(
            f"backend='torchcodec': torchcodec does not import ({reason}); pip install 'torchcodec>=0.11' built for "
            "this torch, with FFmpeg's shared libraries on the system, or use 'pyav'"
        ) from error
    return VideoDecoder

"""What a file says once, with one packet: a palette or a new header. A seek must not lose it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from odd_media import SIDE, colours, write_paletted
from vidcompress.media import MediaError, read_video
from vidcompress.media.files import Clip
from vidcompress.media.video.container import read_index
from vidcompress.media.video.packets import plan_segments
from vidcompress.media.video.sampling import Request

COUNT = 40
PALETTED = {
    "raw.avi": "rawvideo",
    "raw.mov": "rawvideo",
    "graphics.mov": "smc",
    "runs.avi": "msrle",
    "png.mov": "png",
    "zipped.avi": "zmbv",
}
"""File name -> codec. The palette stands in the header of the first four, in the frames of the others."""


@pytest.mark.parametrize("name", PALETTED)
@pytest.mark.parametrize("wanted", [[0], [0, 20, 39], [0, 1, 2, 39]])
def test_palettes_outlast_a_seek(name: str, wanted: list[int], tmp_path: Path, decode_all: Any) -> None:
    path = write_paletted(tmp_path / name, PALETTED[name], colours(), COUNT)
    everything = decode_all(path)
    chosen = np.linspace(0, COUNT - 1, len(wanted)).astype(int)
    made = read_video(path, num_frames=len(wanted)).frames.numpy()
    assert np.array_equal(made, everything[chosen])
    assert everything[0].max() == 255 and not np.array_equal(everything[0], everything[-1]), "not black"
    pytest.importorskip("decord")
    with pytest.raises(MediaError, match="cannot read the pixel format pal8.*use backend='pyav'"):
        read_video(path, num_frames=len(wanted), backend="decord")


@pytest.mark.parametrize(
    "name, codec", [("raw.avi", "rawvideo"), ("runs.avi", "msrle"), ("zipped.avi", "zmbv")]
)
def test_palettes_that_change_on_the_way(name: str, codec: str, tmp_path: Path, decode_all: Any) -> None:
    """AVI stores a new palette before the frame from which on it holds; a seek beyond that frame would miss it."""
    red, green = colours(), colours()
    red[:, 2], green[:, 1] = 255, 200
    path = write_paletted(tmp_path / name, codec, colours(), COUNT, later={10: red, 20: green})
    everything = decode_all(path)
    made = read_video(path, num_frames=3).frames.numpy()
    assert np.array_equal(made, everything[[0, 19, 39]])
    assert made[:, 0, 0, :2].tolist() == [[128, 255], [255, 255 - 19 * 6], [128, 200]]


def test_grey_animation_keeps_its_implied_palette(tmp_path: Path, decode_all: Any) -> None:
    path = tmp_path / "grey.mov"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("qtrle", rate=8, options={"g": "10"})
        stream.height = stream.width = SIDE
        stream.pix_fmt = "gray"
        for number in range(COUNT):
            picture = np.full((SIDE, SIDE), 10 + number * 6, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode())
    assert np.array_equal(read_video(path, num_frames=COUNT).frames.numpy(), decode_all(path))
    assert read_video(path, num_frames=3).frames[:, 0, 0, 0].tolist() == [10, 10 + 19 * 6, 10 + 39 * 6]


def test_a_new_header_on_the_way_outlasts_a_seek(write_clip: Any, tmp_path: Path) -> None:
    """A live recording whose encoder was set anew: FFmpeg hands the header over with the packet at the change only."""
    first = write_clip("small_picture.flv", 20, height=48, width=64, g="5", bf="0")
    second = write_clip("large_picture.flv", 60, height=96, width=128, g="5", bf="0")
    path = tmp_path / "changed.flv"
    path.write_bytes(first.read_bytes() + shifted_tags(second.read_bytes(), 1000))
    with av.open(str(path)) as container:
        everything = [
            frame.to_ndarray(format="rgb24", width=64, height=48) for frame in container.decode(video=0)
        ]
    assert len(everything) == 80
    made = read_video(path, num_frames=3)
    assert made.notes == ("frames of other sizes were scaled to that of the first",)
    for frame, number in zip(made.frames.numpy(), (0, 39, 79), strict=True):
        assert np.array_equal(frame, everything[number])
    assert starts(path) == [0]


def shifted_tags(content: bytes, milliseconds: int) -> bytes:
    """The video tags of an FLV file, later."""
    place, tags = 9 + 4, bytearray()
    while place + 15 <= len(content):
        size = int.from_bytes(content[place + 1 : place + 4], "big")
        tag = bytearray(content[place : place + 15 + size])
        stamp = int.from_bytes(tag[4:7], "big") + milliseconds
        tag[4:7] = stamp.to_bytes(3, "big")
        tags += tag if tag[0] == 9 else b""
        place += 15 + size
    return bytes(tags)


def starts(path: Path) -> list[int]:
    """Where decoding starts when the last frame is wanted."""
    index, _ = read_index(Clip(str(path), str(path)), Request(None, None, 300))
    assert index is not None
    return [segment.start for segment in plan_segments(index, [len(index) - 1])]


def test_only_such_files_are_decoded_from_their_start(
    tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    assert starts(write_paletted(tmp_path / "raw.avi", "rawvideo", colours(), COUNT)) == [0]
    assert starts(write_clip("seekable.avi", 40, codec="mpeg4", g="10", bf="0")) == [30]
    assert starts(write_clip("seekable.ts", 40, g="10", bf="0")) == [30], "its packets bring other side data"


def test_palettes_whose_fourth_byte_is_unused_are_opaque(tmp_path: Path) -> None:
    """Some containers store colours with an alpha of 0 throughout; one transparent colour among others is meant."""
    palette = colours(alpha=0)
    path = write_paletted(tmp_path / "unused.nut", "rawvideo", palette, COUNT)
    assert read_video(path, num_frames=2).frames[0, 0, 0].tolist() == [128, 255, 0]
    palette[1:, 3] = 255
    path = write_paletted(tmp_path / "one.nut", "rawvideo", palette, COUNT)
    frames = read_video(path, num_frames=2).frames
    assert frames[0, 0, 0].tolist() == [255, 255, 255], "colour 0 shows the ground"
    assert frames[0, 10, 10].tolist() == [128, 5, 250]

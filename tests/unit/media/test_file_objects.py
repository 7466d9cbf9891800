"""File objects of every library: read, and only read; what cannot be read gets one clear error."""

from __future__ import annotations

import asyncio
import gzip
import io
import mmap
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidcompress.errors import MediaError
from vidcompress.media.images.image import load_image
from vidcompress.media.video.read import read_video


def picture(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), (level, 40, 90)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module", params=["image", "video", "animation"])
def medium(request: Any, write_clip: Any) -> tuple[Callable[[Any], Any], bytes, bytes]:
    """A reader of sources to pixels, and the content of two files that differ."""
    if request.param == "image":
        return lambda source: np.array(load_image(source)), picture(200), picture(10)
    if request.param == "video":
        clips = [write_clip(f"file_object_{n}.mp4", n, g="4").read_bytes() for n in (12, 9)]
        return lambda source: read_video(source, num_frames=3).frames.numpy(), clips[0], clips[1]
    made = []
    for levels in ((10, 100), (100, 10)):
        stream = io.BytesIO()
        first, second = (Image.new("RGB", (16, 12), (level, 40, 90)) for level in levels)
        first.save(stream, "WEBP", save_all=True, append_images=[second], duration=100)
        made.append(stream.getvalue())
    return lambda source: read_video(source).frames.numpy(), made[0], made[1]


class ReadSeekTell:
    """Three methods, and reads that are cut short, as those of sockets and of object stores are."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._stream.read(min(size, 7777))

    def seek(self, offset: int, whence: int = 0) -> None:
        self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class Numbered(io.BytesIO):
    """The mode of `gzip.GzipFile`, and a name that is a file descriptor."""

    mode, name = 1, 7


class Upload:
    """Passes on what it lacks to the stream inside, as werkzeug's and starlette's uploads do."""

    filename, name, content_type = "clip.mp4", None, "video/mp4"

    def __init__(self, content: bytes) -> None:
        self.stream = io.BytesIO(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def spooled(content: bytes, size: int) -> Any:
    stream = tempfile.SpooledTemporaryFile(max_size=size)
    stream.write(content)
    stream.seek(0)
    return stream


def opened(mode: str) -> Callable[[bytes, Path], Any]:
    def make(content: bytes, path: Path) -> Any:
        path.write_bytes(content)
        return open(path, mode)

    return make


def zip_member(content: bytes, path: Path) -> Any:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("member", content)
    return zipfile.ZipFile(path).open("member")


def tar_member(content: bytes, path: Path) -> Any:
    (path.parent / "member").write_bytes(content)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(path.parent / "member", "member")
    return tarfile.open(path).extractfile("member")


def mapped(content: bytes, path: Path) -> Any:
    path.write_bytes(content)
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def of_fsspec(content: bytes, path: Path) -> Any:
    fsspec = pytest.importorskip("fsspec")
    path.write_bytes(gzip.compress(content))
    return fsspec.open(str(path), "rb", compression="gzip").open()


OBJECTS: dict[str, Callable[[bytes, Path], Any]] = {
    "small upload (w+b)": lambda content, _: spooled(content, 1 << 30),
    "large upload (rb+)": lambda content, _: spooled(content, 1),
    "a+b": opened("a+b"),
    "r+b": opened("r+b"),
    "unbuffered": lambda content, path: path.write_bytes(content) and open(path, "rb", buffering=0),
    "gzip": lambda content, _: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(content))),
    "zip member": zip_member,
    "tar member": tar_member,
    "numbers": lambda content, _: Numbered(content),
    "upload": lambda content, _: Upload(content),
    "three methods": lambda content, _: ReadSeekTell(content),
    "memory map": mapped,
    "fsspec": of_fsspec,
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_whatever_can_be_read_and_sought_is_read(kind: str, medium: Any, tmp_path: Path) -> None:
    read, content, other = medium
    source, expected = OBJECTS[kind](content, tmp_path / "a"), read(content)
    for _ in range(2):
        source.seek(5)
        assert np.array_equal(read(source), expected)
        assert source.tell() == 5, "put back to where it was"
    assert not getattr(source, "closed", False)
    made = read(OBJECTS[kind](other, tmp_path / "b"))
    assert made.shape != expected.shape or not np.array_equal(made, expected)


class ReadOnly(io.BytesIO):
    """Says that it is open for writing, and names a file; fails when it is taken at its word."""

    mode = "w+b"

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name

    def __fspath__(self) -> str:
        return self.name

    def forbidden(self, *args: Any) -> Any:
        pytest.fail("something else than read, seek and tell was called")

    write = truncate = close = flush = fileno = getbuffer = getvalue = readinto = detach = forbidden

    def __del__(self) -> None:
        """Nothing: the one of the base class calls `close`."""


def test_a_file_object_is_only_read(medium: Any, tmp_path: Path) -> None:
    read, content, other = medium
    path = tmp_path / "named.bin"
    path.write_bytes(other)
    assert np.array_equal(read(ReadOnly(content, str(path))), read(content)), "not what lies under its name"
    assert path.read_bytes() == other
    missing = tmp_path / "missing.mp4"
    assert np.array_equal(read(ReadOnly(content, str(missing))), read(content))
    assert not missing.exists()


class Awaited(io.BytesIO):
    async def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        await asyncio.sleep(0)
        return b""


class Returning(ReadSeekTell):
    """Whose `read` returns something of its own."""

    def __init__(self, value: Any) -> None:
        super().__init__(b"content")
        self.value = value

    def read(self, size: int) -> Any:
        return self.value


class Unnameable(io.BytesIO):
    @property
    def name(self) -> str:
        raise RuntimeError("no name")


def closed() -> Any:
    stream = io.BytesIO(b"content")
    stream.close()
    return stream


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda _: io.StringIO("text"), "'<StringIO>' was opened as text; open it with mode 'rb'"),
    "text file": (lambda path: path.write_bytes(b"x") and open(path), "was opened as text; open it with mode 'rb'"),
    "closed": (lambda _: closed(), r"cannot be read \(I/O operation on closed file\); pass an open binary file"),
    "for writing": (lambda path: open(path, "wb"), r"cannot be read \(.*\); pass an open binary file, bytes or a path"),
    "empty": (lambda _: spooled(b"", 9), r"'<SpooledTemporaryFile>' is empty \(0 bytes\)"),
    "empty gzip": (lambda _: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b""))), r"is empty \(0 bytes\)"),
    "no name": (lambda _: Unnameable(b""), r"'<Unnameable>' is empty \(0 bytes\)"),
    "no gzip": (lambda _: gzip.GzipFile(fileobj=io.BytesIO(b"plain")), r"cannot be read \(Not a gzipped file"),
    "coroutine": (lambda _: Awaited(b"x"), "has a read.. that returns coroutine in place of bytes; pass an open"),
    "nothing yet": (lambda _: Returning(None), "has a read.. that returns NoneType in place of bytes"),
    "too much": (lambda _: Returning(b"too much"), "has a read.. that returns more bytes than it is asked for"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_named(kind: str, medium: Any, tmp_path: Path) -> None:
    make, message = REFUSED[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a coroutine that is never awaited
        source = make(tmp_path / "a")
        with pytest.raises(MediaError, match=f"^(image|video)=.*{message}") as caught:
            medium[0](source)
        assert len(str(caught.value).splitlines()) == 1


def test_a_failure_on_the_way_is_told_as_such(medium: Any) -> None:
    """What a compressed file lacks is found in the midst of decoding, where it may look like the end of the file."""
    read, content, _ = medium
    compressed = gzip.compress(content)
    assert np.array_equal(read(gzip.GzipFile(fileobj=io.BytesIO(compressed))), read(content))
    source = gzip.GzipFile(fileobj=io.BytesIO(compressed[: len(compressed) // 2]))
    with pytest.raises(MediaError, match=r"cannot be read \(EOFError: Compressed file ended before"):
        read(source)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size and self.tell() + size > len(content) // 2:
                raise RuntimeError("the connection is gone")
            return super().read(size)

    with pytest.raises(MediaError, match=r"cannot be read \(RuntimeError: the connection is gone\)"):
        read(Failing(content))


def test_all_of_a_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """WebP is read at once; a compressed file may hold a thousand times its size."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(stream, "WEBP")
    load_image(stream)
    monkeypatch.setattr("vidcompress.media.files.MAX_BUFFERED_BYTES", 99)
    with pytest.raises(MediaError, match="holds more than 99 bytes, and its format needs all of it at once"):
        load_image(stream)


def test_every_second_byte_of_a_buffer_is_read() -> None:
    """A memoryview may be strided; its bytes count, not those between them."""
    out = io.BytesIO()
    Image.new("RGB", (8, 6), (10, 200, 30)).save(out, "PNG")
    spread = bytes(byte for value in out.getvalue() for byte in (value, 0))
    assert load_image(memoryview(spread)[::2]).getpixel((0, 0)) == (10, 200, 30)
    with pytest.raises(MediaError, match="not a picture"):
        load_image(memoryview(spread))

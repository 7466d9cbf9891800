"""Pictures: every form gives the same upright RGB image, and bad ones give one clear error."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vidcompress.errors import MediaError
from vidcompress.media.images.image import load_image
from vidcompress.media.preprocessing.transforms import center_crop, normalise, resize

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_every_form_is_the_same_picture(file: Path) -> None:
    forms: list[Any] = [
        file,
        str(file),
        file.read_bytes(),
        io.BytesIO(file.read_bytes()),
        Image.open(file),
        PIXELS,
    ]
    forms += [torch.from_numpy(PIXELS), PIXELS.transpose(2, 0, 1), torch.from_numpy(PIXELS).permute(2, 0, 1)]
    for form in forms:
        made = load_image(form)
        assert made.mode == "RGB"
        assert np.array_equal(np.array(made), PIXELS), type(form)


def test_files_are_turned_upright_and_pictures_are_not(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter, clockwise
    Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    made = load_image(tmp_path / "turned.png")
    assert np.array_equal(np.array(made), np.rot90(PIXELS, k=-1))
    assert load_image(Image.open(tmp_path / "turned.png")).size == (11, 7)


def test_transparency_lies_over_white() -> None:
    see_through = np.dstack([PIXELS, np.zeros((7, 11), np.uint8)])
    assert (np.array(load_image(see_through)) == 255).all()
    solid = np.dstack([PIXELS, np.full((7, 11), 255, np.uint8)])
    assert np.array_equal(np.array(load_image(solid)), PIXELS)
    palette = Image.new("P", (3, 3), 0)
    palette.putpalette([10, 20, 30] * 256)
    palette.info["transparency"] = 0
    assert (np.array(load_image(palette)) == 255).all()


@pytest.mark.parametrize("array", [PIXELS[..., 0], PIXELS[..., :1], PIXELS[..., :1].transpose(2, 0, 1)])
def test_grey_becomes_rgb(array: Any) -> None:
    assert np.array_equal(np.array(load_image(array)), PIXELS[..., :1].repeat(3, axis=-1))


def test_bad_pictures(tmp_path: Path, file: Path) -> None:
    for name, content in {"empty.png": b"", "words.png": b"words", "cut.png": file.read_bytes()[:80]}.items():
        (tmp_path / name).write_bytes(content)
    table: list[tuple[Any, str]] = [
        (tmp_path / "none.png", "none.png': no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / "empty.png", r"is empty \(0 bytes\)"),
        (tmp_path / "words.png", "words.png' is not a picture"),
        (tmp_path / "cut.png", "cut.png' is damaged or cut short"),
        ("https://example.org/a.png", "URLs are not opened"),
        ("data:image/png;base64,AAAA", "URLs are not opened"),
        (b"", r"is empty \(0 bytes\)"),
        (7, "image: got int"),
        (PIXELS / 255, "float64; pass uint8"),
        (PIXELS[..., :2], r"shape \(7, 11, 2\)"),
        (PIXELS[:0], r"shape \(0, 11, 3\) holds no pixel"),
    ]
    for source, message in table:
        with pytest.raises(MediaError, match=message) as caught:
            load_image(source)
        assert len(str(caught.value).splitlines()) == 1


def test_a_bomb_is_refused_on_its_header(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded before its size was checked"))
    with pytest.raises(MediaError, match="7 x 11 is 77 pixels, more than max_pixels=76"):
        load_image(file, max_pixels=76)
    monkeypatch.undo()
    assert load_image(file, max_pixels=77).size == (11, 7)


def test_resize_refuses_and_passes_through() -> None:
    pictures = torch.from_numpy(PIXELS).permute(2, 0, 1)[None]
    assert resize(pictures, (7, 11)) is pictures
    with pytest.raises(MediaError, match="torch.float32 of shape"):
        resize(pictures.float(), (3, 3))
    with pytest.raises(MediaError, match=r"size=\(0, 3\)"):
        resize(pictures, (0, 3))


def test_normalise_and_crop() -> None:
    pictures = torch.from_numpy(PIXELS).permute(2, 0, 1)[None]
    made = normalise(pictures, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    expected = (PIXELS / 255 - [0.1, 0.2, 0.3]) / [0.5, 1.0, 2.0]
    np.testing.assert_allclose(made[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    floats = pictures.float()
    normalise(floats, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert torch.equal(floats, pictures.float()), "the input is left alone"
    assert torch.equal(center_crop(pictures, (4, 4)), pictures[..., 1:5, 3:7])
    padded = center_crop(pictures, (10, 4))
    assert torch.equal(padded[..., 1:8, :], pictures[..., 3:7])
    assert padded[..., 0, :].sum() == padded[..., 8:, :].sum() == 0
    assert torch.equal(center_crop(pictures, (7, 14))[..., 1:12], pictures), (
        "the odd column goes to the right"
    )


@pytest.mark.gpu
def test_the_accelerator_is_close_to_the_cpu() -> None:
    pictures = torch.from_numpy(PIXELS).permute(2, 0, 1)[None]
    for size in ((5, 5), (20, 30)):
        there = resize(pictures.cuda(), size)
        assert there.dtype == torch.uint8
        assert float((there.cpu().float() - resize(pictures, size).float()).abs().mean()) < 2

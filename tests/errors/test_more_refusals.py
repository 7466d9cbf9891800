"""Refusals that take more than one wrong argument to reach."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from layouts import LAYOUTS, make_tokens
from tiny_models import tiny_model
from vidcompress import Report, VisualQA, draw_overlay
from vidcompress.adapters.families import read_geometry
from vidcompress.cli import main
from vidcompress.core.batch import VisualBatch
from vidcompress.core.report.visual import VisualReport
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.media import MediaError, register_backend

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_nothing_to_answer_with() -> None:
    with pytest.raises(
        ArgumentError, match="model=None: nothing to answer with; use VisualQA.from_pretrained"
    ):
        VisualQA(None, None).ask("what?")
    with pytest.raises(ArgumentError, match="processor=None: nothing to answer with"):
        VisualQA(tiny_model("llava_onevision"), None).ask("what?")


@pytest.mark.parametrize("picture", [5, None, {}])
def test_frames_to_draw_over_are_a_list(picture: Any) -> None:
    layout = LAYOUTS["video, newline per row"]
    visual = VisualReport.from_selection(layout, torch.arange(4), budget=4)
    with pytest.raises(ArgumentError, match=r"picture=.*: pass the list of \d+ sampled frames"):
        draw_overlay(Report("uniform", visuals=[visual]), picture)


def test_a_reader_has_a_method_read() -> None:
    for cls in (5, dict):
        with pytest.raises(MediaError, match=r"register_backend takes a class with a method read"):
            register_backend("mine")(cls)  # type: ignore[arg-type]


def test_a_patch_is_no_larger_than_the_picture() -> None:
    vision = SimpleNamespace(model_type="siglip_vision_model", image_size=14, patch_size=28)
    with pytest.raises(MediaError, match="patch_size=28 in vision_config .*: must be at most image_size=14"):
        read_geometry(SimpleNamespace(vision_config=vision))


def test_a_folder_that_may_not_be_written_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    words = ("--image", str(EXAMPLES / "scene.png"), "--overlay", str(tmp_path / "kept.png"))
    with pytest.raises(SystemExit, match="^2$"):
        main(["ask", "--question", "what?", *words])
    assert "its folder may not be written to; name another" in capsys.readouterr().err


PICTURE, CLIP = (make_tokens(LAYOUTS[name]) for name in ("image, two by two", "video, newline per row"))


@pytest.mark.parametrize(
    ("visuals", "message"),
    [
        ((), r"visuals=\(\): must be a list of at least one VisualTokens"),
        (PICTURE, "visuals=.*: must be a list of at least one VisualTokens"),
        ([PICTURE, PICTURE.features], "visuals has .*: each must be a VisualTokens"),
        ([PICTURE, CLIP], "visuals has images on cpu and videos on cpu: all must be of one modality"),
        (
            [PICTURE, VisualTokens(PICTURE.features.to("meta"), PICTURE.layout.to("meta"))],
            "visuals has images on cpu and images on meta: .* on one device; make one batch of each",
        ),
    ],
)
def test_a_batch_is_of_one_modality_and_device(visuals: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        VisualBatch(visuals)
    assert VisualBatch([PICTURE, PICTURE]).visuals == (PICTURE, PICTURE)
    assert VisualBatch((CLIP,)).visuals == (CLIP,)

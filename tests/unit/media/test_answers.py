"""From media to an answer: what the report says about how they were read, and what LLaVA-Video is told."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vidcompress
from vidcompress.errors import ArgumentError
from vidcompress.media.images.image import NOTE


@pytest.fixture
def clip(write_clip: Callable[..., Path]) -> Path:
    return write_clip("answers.mp4", 6)


def told(qa: Any, monkeypatch: pytest.MonkeyPatch, **media: Any) -> str:
    """The prompt of a question."""
    prompts = []
    original = type(qa.processor).__call__

    def listen(self: Any, text: Any, **inputs: Any) -> Any:
        prompts.extend(text)
        return original(self, text, **inputs)

    monkeypatch.setattr(type(qa.processor), "__call__", listen)
    qa.ask("what is this ?", max_new_tokens=1, **media)
    monkeypatch.undo()
    return "".join(prompts)


def test_the_time_instruction_can_be_left_out(
    asked: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qa = asked("llava_video")
    silent = vidcompress.VisualQA(qa.model, qa.processor, time_instruction=False)
    assert "The video lasts for 0.20 seconds, and 6 frames" in told(qa, monkeypatch, video=clip)
    assert "The video lasts" not in told(silent, monkeypatch, video=clip)
    assert "The video lasts" not in told(silent.using(method="uniform"), monkeypatch, video=clip)
    assert "The video lasts" not in told(asked("llava_onevision"), monkeypatch, video=clip)
    with pytest.raises(ArgumentError, match="time_instruction='no': must be True or False"):
        vidcompress.VisualQA(None, None, time_instruction="no")  # type: ignore[arg-type]


def test_reports_say_how_media_were_read(asked: Any, clip: Path) -> None:
    qa = asked("llava_onevision")
    stream = io.BytesIO()
    frames = [Image.new("RGB", (30, 20), (i * 50, 0, 0)) for i in range(3)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    fast = vidcompress.VisualQA(qa.model, qa.processor, fps=30, max_frames=4)
    plain, moving = fast.ask_batch(
        [
            {"question": "what is this ?", "image": np.zeros((20, 30, 3), np.uint8)},
            {"question": "what is this ?", "images": [frames[0], stream], "video": clip},
        ],
        max_new_tokens=1,
    )
    assert plain.report.notes == []
    assert moving.report.notes == [
        "image 1: the first frame of several was taken; pass the file as video= to show them all",
        "video: fps=30 makes 6 frames of this clip; max_frames=4 of them were taken, spread over all",
    ]
    assert len(moving.report.visuals) == 3
    assert moving.report.notes[0] in str(moving.report)
    assert NOTE not in frames[0].info, "the caller's picture is left alone"


def test_a_longer_clip_than_the_processor_would_take(asked: Any) -> None:
    """`max_frames` of the caller holds all the way: what was sampled is not sampled again."""
    qa = asked("llava_onevision")
    many = vidcompress.VisualQA(qa.model, qa.processor, method="none", max_frames=310)
    answer = many.ask("what ?", video=np.zeros((310, 2, 2, 3), np.uint8), max_new_tokens=1)
    assert len(answer.report.visuals[0].views) == 310
    assert answer.report.notes == []


def test_the_error_is_public() -> None:
    from vidcompress.media import MediaError

    assert vidcompress.MediaError is MediaError
    assert issubclass(MediaError, vidcompress.VidcompressError)

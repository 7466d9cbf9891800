"""A question about a clip that is read while it is encoded: the same to the bit, and nothing is left behind."""

from __future__ import annotations

import gc
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from tiny_models import VIDEO_FAMILIES
from vidcompress import VisualQA
from vidcompress.adapters.llava import LlavaAdapter
from vidcompress.core.config import read_config
from vidcompress.errors import UnsupportedInputError
from vidcompress.media import MediaError, read_video
from vidcompress.media.video import streaming
from vidcompress.media.video.frames import Reread
from vidcompress.media.video.readers import pyav_reader
from vidcompress.media.video.streaming import FrameViews
from vidcompress.qa.question import Question

LONG = 30.0

STREAMED = tuple(family for family in VIDEO_FAMILIES if family != "internvl")
"""Families whose frames are encoded while the clip is decoded; InternVL's lie among tiles of pictures."""


pytestmark = pytest.mark.usefixtures("running")


@pytest.fixture
def path(write_clip: Any) -> Path:
    return write_clip("alone.mp4", 60, height=48, width=64, g="10", bf="2")


def compressed(
    qa: Any, video: Any, *, pictures: tuple[Any, ...] = (), frames: int = 21, **options: Any
) -> Any:
    """Media, inputs and what they are compressed to."""
    config = read_config({"retention_ratio": 0.4, **options})
    pipeline = replace(qa.pipeline, config=config, sampling={**qa.sampling, "num_frames": frames})
    with pipeline.preprocess([Question("what is this ?", pictures, video)], stream=True) as batch:
        made = pipeline.compress(batch)
    return batch.media[0], batch.inputs, made


def both(monkeypatch: pytest.MonkeyPatch, qa: Any, video: Any, **options: Any) -> Any:
    """What arrives must be what is read whole: clip, chunks in the encoder, features, ids, report."""
    runs = []
    for ahead in (True, False):
        chunks: list[torch.Tensor] = []
        monkeypatch.setattr(LlavaAdapter, "reads_ahead", ahead)
        tower = qa.model.model.vision_tower
        hook = tower.register_forward_pre_hook(
            lambda _, args, kwargs, chunks=chunks: chunks.append([*args, *kwargs.values()][0].clone()),
            with_kwargs=True,
        )
        (pictures, clip), inputs, made = compressed(qa, video, **options)
        hook.remove()
        assert isinstance(inputs["pixel_values_videos"], torch.Tensor) != ahead
        values = dict(made)
        features = values.pop("mm_encoder_outputs")["image"].pooler_output
        report = {**made.report.to_dict(), "timing_ms": None}
        tensors = [clip.frames, *chunks, *features, *(values[key] for key in sorted(values))]
        runs.append((tensors, (type(clip), clip.times, clip.notes, len(pictures), report, len(chunks)), made))
    (arrived, told, made), (read, expected, _) = runs
    assert told == expected
    for one, two in zip(arrived, read, strict=True):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
    return made


@pytest.mark.parametrize("family", STREAMED)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "none", "retention_ratio": 1.0, "max_views": 5},
        {"method": "vidcom2", "max_views": 7},
        {"method": "frames", "frames": 30},
        {"method": "random", "seed": 3, "frames": 1},
        {"encoder_saving": "frames:threshold=2.0,area=0.9", "frames": 9},
        {"method": "visionzip", "frames": 8},
    ],
    ids=lambda options: options.get("method", options.get("encoder_saving", "globalcom2")),
)
def test_the_same_to_the_bit(
    family: str, options: dict[str, Any], asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = both(monkeypatch, asked(family), path, **options)
    if "encoder_saving" in options:
        assert made.report.notes or any(visual.note for visual in made.report.visuals), "frames were spared"


@pytest.mark.parametrize("backend", ["pyav", "decord"])
@pytest.mark.parametrize("family", STREAMED)
def test_with_every_backend_and_beside_pictures(
    family: str, backend: str, asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("decord")
    qa = VisualQA(asked(family).model, asked(family).processor, backend=backend)
    both(monkeypatch, qa, path, pictures=(np.zeros((20, 30, 3), np.uint8),))


@pytest.mark.parametrize("dtype", [torch.bfloat16])
def test_in_the_models_dtype(
    dtype: torch.dtype, asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qa = asked("llava_onevision")
    try:
        both(monkeypatch, VisualQA(qa.model.to(dtype), qa.processor), path)
    finally:
        qa.model.float()


def test_the_encoder_begins_before_the_last_frame_is_read(
    asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qa, seen = asked("llava_onevision"), Event()
    read = streaming.read_parts

    def gated(*args: Any, **kwargs: Any) -> Any:
        for part in read(*args, **kwargs):
            if part.ready == 24:
                assert seen.wait(LONG), "frame 24 is not wanted before the encoder has seen 16"
            yield part

    monkeypatch.setattr(streaming, "read_parts", gated)
    hook = qa.model.model.vision_tower.register_forward_pre_hook(lambda *_: seen.set())
    answer = qa.using(method="uniform").ask("what is this ?", video=path, max_new_tokens=1)
    hook.remove()
    assert seen.is_set() and len(answer.media[-1]) == 32


def test_waiting_for_frames_counts_as_decoding(
    asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qa, read = asked("llava_onevision"), streaming.read_parts

    def slow(*args: Any, **kwargs: Any) -> Any:
        for part in read(*args, **kwargs):
            time.sleep(0.2 if part.ready in (1, 17) else 0)
            yield part
        time.sleep(0.2)  # after the last frame, before its notes are there

    monkeypatch.setattr(streaming, "read_parts", slow)
    begun = time.perf_counter()
    timing = qa.ask("what is this ?", video=path, max_new_tokens=1).timing_ms
    took = (time.perf_counter() - begun) * 1e3
    assert timing["decode"] > 550 and timing["encode"] < timing["decode"]
    phases = [ms for phase, ms in timing.items() if phase != "total"]
    assert timing["total"] == pytest.approx(sum(phases)) and timing["total"] <= took


def test_packets_that_mislead_midway(asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qa, decode, given = asked("llava_video"), pyav_reader._decode_segment, []

    def misled(*args: Any) -> Any:
        for frame in decode(*args):
            if len(given) >= 19:
                raise Reread
            given.append(frame.pts)
            yield frame

    expected = compressed(qa, path)
    monkeypatch.setattr(pyav_reader, "_decode_segment", misled)
    found = compressed(qa, path)
    assert len(given) == 19 and isinstance(found[1]["pixel_values_videos"], torch.Tensor)
    assert torch.equal(found[0][1].frames, expected[0][1].frames)
    features = [run[2]["mm_encoder_outputs"]["image"].pooler_output[0] for run in (found, expected)]
    assert torch.equal(*features)


def test_damage_is_told_as_ever(asked: Any, damaged_clip: Path) -> None:
    qa = asked("llava_onevision")
    with pytest.raises(MediaError, match="is damaged") as expected:
        read_video(damaged_clip, num_frames=40)
    with pytest.raises(MediaError, match="is damaged") as found:
        compressed(qa, damaged_clip, frames=40)
    assert str(found.value) == str(expected.value)
    few = VisualQA(qa.model, qa.processor, num_frames=40, method="frames", max_tokens=30)
    for ask in (few.ask, few.chat(video=damaged_clip).ask):
        with pytest.raises(MediaError, match="is damaged") as found:
            ask("what is this ?", **({"video": damaged_clip} if ask == few.ask else {}))
        assert str(found.value) == str(expected.value)


def endless(*args: Any, **kwargs: Any) -> Any:
    """A clip that does not come to an end."""
    for part in READ(*args, **kwargs):
        while part.ready > 24:
            time.sleep(0.001)
            yield part._replace(ready=24)
        yield part


READ = streaming.read_parts


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_nothing_is_left_when_the_encoder_is_interrupted(
    running: Any, error: type[BaseException], asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "read_parts", endless)
    qa, seen = asked("llava_next_video"), []

    def fail(*_: Any) -> None:
        seen.append(running())
        raise error("stop")

    hook = qa.model.model.vision_tower.register_forward_pre_hook(fail)
    with pytest.raises(error, match="stop"):
        compressed(qa, path, frames=60)
    hook.remove()
    assert seen == [["vidcompress-frames"]] and running() == []
    with pytest.raises(UnsupportedInputError, match="hired"):  # refused before anything is encoded
        compressed(qa, path, frames=60, method="hired")
    assert running() == []
    gc.collect()
    assert not [item for item in gc.get_objects() if type(item) is FrameViews]


def test_whoever_waits_for_frames_can_be_interrupted(
    running: Any, asked: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "read_parts", endless)
    qa, me = asked("llava_onevision"), threading.get_ident()
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a process in the background ignores it
    timer = threading.Timer(0.5, signal.pthread_kill, (me, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            compressed(qa, path, frames=60)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert running() == []

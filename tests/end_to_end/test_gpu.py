"""The same questions on a GPU; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

import vidcompress

pytestmark = pytest.mark.gpu
QUESTION = "how many objects are there?"


@pytest.fixture(scope="module")
def on_gpu() -> vidcompress.VisualQA:
    """tiny-onevision in float32 on the GPU, with the pixels that the CPU makes."""
    return vidcompress.VisualQA.from_pretrained(device="cuda", dtype="float32", resize_device="cpu")


def test_answers_and_counts_are_those_of_the_cpu(
    qa: vidcompress.VisualQA, on_gpu: vidcompress.VisualQA, image: Path, clip: Path
) -> None:
    for media in ({"image": image}, {"video": clip}):
        here, there = (model.ask(QUESTION, **media, max_new_tokens=4) for model in (qa, on_gpu))  # type: ignore[arg-type]
        assert there.text == here.text
        assert there.report.visual_tokens() == here.report.visual_tokens()
        assert there.report.visuals[0].kept_positions.device.type == "cpu"


def test_phases_are_measured_on_the_device(on_gpu: vidcompress.VisualQA, image: Path) -> None:
    on_gpu.ask(QUESTION, image=image)
    timing = on_gpu.ask(QUESTION, image=image).timing_ms
    parts = [ms for phase, ms in timing.items() if phase != "total"]
    assert sum(parts) == pytest.approx(timing["total"])
    for phase in ("encode", "compress", "prefill", "generate"):
        assert timing[phase] > 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_and_pixels_made_on_the_device(dtype: str, image: Path, clip: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(device="cuda", dtype=dtype)
    assert qa.processor.resize_device.type == "cuda"
    answers = qa.ask_batch([{"question": QUESTION, "image": image}, {"question": QUESTION, "video": clip}])
    assert all(answer.report.kept == answer.report.budget for answer in answers)


def test_overlay_of_what_was_selected_on_the_device(on_gpu: vidcompress.VisualQA, image: Path) -> None:
    assert on_gpu.ask(QUESTION, image=image, max_new_tokens=2).overlay().width > 1000


def test_batches_read_ahead_are_answered_as_alone(image: Path, clip: Path) -> None:
    """Pixels made on the thread's own stream are there when the model reads them."""
    qa = vidcompress.VisualQA.from_pretrained(device="cuda", dtype="float32")
    items = [{"question": QUESTION, "image": image}, {"question": QUESTION, "video": clip}] * 3
    alone = [qa.ask(**item, max_new_tokens=4) for item in items]  # type: ignore[arg-type]
    together = qa.ask_batch(items, batch_size=1, max_new_tokens=4)
    assert [one.text for one in together] == [one.text for one in alone]

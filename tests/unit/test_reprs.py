"""The repr of what a user gets back: what it is, in a line, and never a tensor or an address."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import vidcompress
from vidcompress import Budget, CompressionConfig, VisualQA, media
from vidcompress.core.config import ViewSkipping
from vidcompress.core.method_lookup import get_method
from vidcompress.methods.controls import Random
from vidcompress.tools.doctor import Check, Diagnosis
from vidcompress.tools.evaluation.run.outcome import RowOutcome
from vidcompress.tools.evaluation.run.sweep import ModelSpec, SweepRow, TaskSpec

ROOT = Path(__file__).parents[2]
SCENE, CLIP = str(ROOT / "examples" / "scene.png"), str(ROOT / "examples" / "clip.mp4")
CONFIG = r"CompressionConfig\('globalcom2', retention_ratio=0\.25\)"
REPORT = r"Report\('globalcom2', retention_ratio=0\.25, visuals=1, kept=116 of 464\)"


@pytest.fixture(scope="module")
def things() -> dict[str, Any]:
    qa = VisualQA.from_pretrained(local_files_only=True)
    answer = qa.ask("what digit is shown?", image=SCENE, max_new_tokens=2)
    comparison = qa.compare(
        "what digit?", image=SCENE, methods="random", retention_ratios=0.5, repeats=2, max_new_tokens=1
    )
    prompt = qa.processor.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}])
    inputs = qa.processor(text=prompt, images=SCENE)
    with vidcompress.compress(qa.model, retention_ratio=0.25) as session:
        qa.model.generate(**inputs, max_new_tokens=1)
        assert "Generation, open, CompressionConfig(" in repr(session)
    row = SweepRow(
        ModelSpec("tiny-onevision"),
        TaskSpec("shapes:image"),
        "random",
        {"retention_ratio": 0.5},
        8,
        0,
        qa.config,
    )
    return {
        "VisualQA": qa,
        "Answer": answer,
        "Report": answer.report,
        "VisualReport": answer.report.visuals[0],
        "Comparison": comparison,
        "ComparisonRow": comparison.rows[1],
        "ComparisonRow without an answer": type(comparison.rows[1])("random", 0.5, None, note="out of reach"),
        "Chat": qa.chat(image=SCENE),
        "CompressSession": session,
        "CompressedInputs": vidcompress.compress_inputs(qa.model, inputs, retention_ratio=0.25),
        "Processor": qa.processor,
        "Family": qa.processor.family,
        "ImagePart": qa.processor.image_processor,
        "CompressionConfig": qa.config,
        "Budget": Budget(max_tokens=64),
        "VideoFrames": media.read_video(CLIP, num_frames=4),
        "Selection": vidcompress.Selection(torch.arange(300)),
        "Estimate": vidcompress.cost.estimate(
            "llava-next-7b", method="globalcom2", retention_ratio=0.1, size=(672, 672)
        ),
        "Diagnosis": Diagnosis([Check("models", "tiny", "ok", "fine")]),
        "RowOutcome": RowOutcome(row, {"main": "accuracy", "scores": {"accuracy": 0.5}, "failed": []}, resumed=3),
        "RowOutcome of an error": RowOutcome(row, error="no such folder"),
    }  # fmt: skip


EXPECTED = {
    "VisualQA": rf"VisualQA\('tiny-onevision', llava_onevision, (cpu|cuda:\d), \w+, {CONFIG}\)",
    "Answer": r"Answer\('.*', question='what digit is shown\?', kept=116 of 464, \d+\.\d ms\)",
    "Report": REPORT,
    "VisualReport": r"VisualReport\(image, kept=116, budget=116, total=464\)",
    "Comparison": r"Comparison\('what digit\?', model='tiny-onevision', rows=3, methods=\[none, random, uniform\]\)",
    "ComparisonRow": r"ComparisonRow\('random', 0\.5, '.*', kept=232 of 464, first_token=\d+\.\d ms\)",
    "ComparisonRow without an answer": r"ComparisonRow\('random', 0\.5, no answer: 'out of reach'\)",
    "Chat": rf"Chat\(1 images, 0 clips, 0 answers, history=True, {CONFIG}\)",
    "CompressSession": rf"CompressSession\(LlavaOnevisionForConditionalGeneration, left, {CONFIG}, {REPORT}\)",
    "CompressedInputs": rf"CompressedInputs\(\{{'input_ids': \(1, \d+\), 'attention_mask': \(1, \d+\)\}}, "
    rf"features=\[\(116, \d+\)\], {REPORT}\)",
    "Processor": r"Processor\(llava_onevision, '<image>', '<video>', \w+, 112 px views, up to 9 canvases, "
    r"resize_device='\w+(:\d)?'\)",
    "Family": r"Family\('llava_onevision', images and videos, crops=True, presets=\[\]\)",
    "ImagePart": r"ImagePart\(Processor\(.*\)\)",
    "CompressionConfig": CONFIG,
    "Budget": r"Budget\(retention_ratio=None, max_tokens=64\)",
    "VideoFrames": r"VideoFrames\('.*', 4 of 8 frames, 112 x 112, 0\.00 to 3\.50 of 4\.00 s, 2 fps, pyav\)",
    "Selection": r"Selection\(300 tokens, features gathered\)",
    "Estimate": r"Estimate\('llava-next-7b', 'globalcom2', retention_ratio=0\.1, 293 of 2928 tokens, "
    r"prefill \d+\.\d+ TFLOP, peak \d+\.\d+ GB\)",
    "Diagnosis": r"Diagnosis\(1 checks, 0 problems\)",
    "RowOutcome": r"RowOutcome\('.*', accuracy=0\.5, failed=0, resumed=3\)",
    "RowOutcome of an error": r"RowOutcome\('.*', no score, failed=0, resumed=0, error='no such folder'\)",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_returned_says_what_it_is(name: str, things: dict[str, Any]) -> None:
    text = repr(things[name])
    assert re.fullmatch(EXPECTED[name], text), text
    assert len(text) <= 300 and "\n" not in text
    assert " object at 0x" not in text and "tensor(" not in text


def test_a_visual_qa_without_a_model_has_a_repr() -> None:
    assert (
        repr(VisualQA(None, None))
        == "VisualQA(no model, CompressionConfig('globalcom2', retention_ratio=0.25))"
    )


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (CompressionConfig(max_tokens=64), "CompressionConfig('globalcom2', max_tokens=64)"),
        (CompressionConfig("none"), "CompressionConfig('none', retention_ratio=1.0)"),
        (
            CompressionConfig(
                "globalcom2:alpha=0.3,allocation=gated", retention_ratio="0.1", policy="reference"
            ),
            "CompressionConfig('globalcom2:alpha=0.3,allocation=gated', retention_ratio=0.1, policy='reference')",
        ),
        (
            CompressionConfig(
                "random:seed=3", Fraction(1, 3), separators="drop", encoder_saving="frames:threshold=0.2"
            ),
            "CompressionConfig('random:seed=3', retention_ratio=Fraction(1, 3), separators='drop', "
            "encoder_saving='frames:threshold=0.2')",
        ),
        (CompressionConfig("globalcom2+fastv", 0.5), None),
        (CompressionConfig("globalcom2+fastv:tau=5", 0.5, max_views=4, positions="original"), None),
        (CompressionConfig(Random(seed=2), 0.5, encoder_saving=ViewSkipping(crops=False, frames=True)), None),
    ],
    ids=str,
)
def test_the_repr_of_a_configuration_makes_an_equal_one(config: CompressionConfig, text: str | None) -> None:
    assert text is None or repr(config) == text
    names = {
        type(method).__name__: type(method)
        for name in vidcompress.available_methods()
        for method in [get_method(name)]
    }
    names["Composed"] = type(get_method("globalcom2+fastv"))
    again = eval(repr(config), {"CompressionConfig": CompressionConfig, "Fraction": Fraction, **names})
    assert again == config
    assert again != config.replace(max_views=config.max_views + 1)

"""InternVL's rule of frames against transformers' own function, and against the code of the model cards."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vidcompress.adapters.families import FAMILIES
from vidcompress.errors import ArgumentError, MediaError
from vidcompress.media import read_video
from vidcompress.media.preprocessing.protocol import AdoptedProcessor, even_rule
from vidcompress.media.video.sampling import SamplingRule
from vidcompress.media.video.segment_rule import SegmentRule

pytestmark = pytest.mark.transformers


@pytest.fixture(scope="module")
def stock() -> Any:
    """`InternVLVideoProcessor.sample_frames` of the installed transformers; its module asks for torchvision."""
    spec = find_spec("transformers")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "models" / "internvl" / "video_processing_internvl.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (found,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "sample_frames"]
    for argument in found.args.args:
        argument.annotation = None
    space: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module([found], []), str(path), "exec"), space)

    def sample(total: int, rate: float = 30.0, **request: Any) -> list[int]:
        asked = SimpleNamespace(num_frames=None, fps=None, initial_shift=True)
        metadata = SimpleNamespace(total_num_frames=total, fps=rate)
        indices: list[int] = space["sample_frames"](asked, metadata, **request).tolist()
        return indices

    return sample


def test_frames_are_those_of_the_stock_function(stock: Any) -> None:
    rule = SegmentRule()
    differ = 0
    for total in (*range(1, 130), 250, 719, 999, 1000, 1001, 4096, 5397, 86400):
        for count in (1, 2, 3, 5, 7, 8, 11, 16, 24, 32, 48, 96):
            if count > total:
                continue
            made = rule.choose(total, 30.0, num_frames=count)
            assert made == stock(total, num_frames=count), (total, count)
            differ += made != SamplingRule().choose(total, 30.0, num_frames=count)
    assert differ > 1000, "the LLaVA families' rule takes other frames"


@pytest.mark.parametrize(("rate", "fps"), [(30.0, 1.0), (29.97, 2.0), (25.0, 0.5), (12.0, 12.0)])
def test_frames_of_a_rate_are_those_of_the_stock_function(stock: Any, rate: float, fps: float) -> None:
    for total in (61, 100, 301, 749):
        made = SegmentRule().choose(total, rate, fps=fps, max_frames=1000)
        assert made == stock(total, rate, fps=fps), total


def test_the_model_cards_take_nearly_the_same_frames() -> None:
    """OpenGVLab's `get_index` cuts up to the last index and rounds starts: two frames apart at most."""
    for total in (64, 100, 257, 1000):
        for count in (8, 16, 32):
            length = (total - 1) / count
            card = [int(length / 2 + np.round(length * number)) for number in range(count)]
            apart = [
                max(abs(a - b) for a, b in zip(rule.choose(total, 30.0, num_frames=count), card, strict=True))
                for rule in (SegmentRule(), SamplingRule())
            ]
            assert apart[0] <= 2, (total, count)
            assert apart[1] >= 1 and apart[1] >= length // 2 - 1, (
                "from the first to the last frame is another rule"
            )


def test_what_a_clip_gives_where_the_stock_function_fails() -> None:
    rule = SegmentRule()
    assert rule.choose(5, 30.0) == [0, 1, 2, 3, 4]  # fewer frames than segments
    assert rule.choose(100, 30.0, fps=0.1) == [50]  # none, says the rate
    assert len(rule.choose(1000, 30.0, fps=30.0, max_frames=20)) == 20
    assert rule.choose(800, 30.0) == [50 + 100 * number for number in range(8)]
    assert rule.choose(800, 30.0, max_frames=2) == [200, 600]
    with pytest.raises(MediaError, match="does not state its own frame rate"):
        rule.choose(100, 0.0, fps=1.0)
    with pytest.raises(ArgumentError, match="num_frames=0: must be a whole number of at least 1"):
        SegmentRule(0)


def test_notes() -> None:
    rule = SegmentRule()
    assert rule.note(1000, 30.0, fps=None) == rule.note(1000, 30.0, fps=1.0) == ()
    (said,) = rule.note(1000, 30.0, fps=30.0, max_frames=20)
    assert said == "fps=30 makes 1000 frames of this clip; max_frames=20 of them were taken, spread over all"
    (said,) = rule.note(100, 10.0, fps=20.0)
    assert said == "fps=20 is more than the clip's own 10; every frame was taken"


def test_internvl_has_it_and_its_checkpoint_s_number(monkeypatch: pytest.MonkeyPatch) -> None:
    internvl, onevision = FAMILIES["internvl"], FAMILIES["llava_onevision"]
    assert even_rule(internvl, None) == SegmentRule(8)
    assert even_rule(internvl, 16) == SegmentRule(16)
    assert even_rule(onevision, None) == even_rule(None, None) == SamplingRule(None)

    class Stock:
        tokenizer, video_processor = None, SimpleNamespace(num_frames=12)

    assert AdoptedProcessor(Stock(), "internvl").frame_rule == SegmentRule(12)
    assert AdoptedProcessor(Stock(), "llava_onevision").frame_rule == SamplingRule(12)
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    clip = read_video(frames, num_frames=4, rule=SegmentRule())
    assert clip.frames[:, 0, 0, 0].tolist() == [5, 15, 25, 35]

"""Qwen-VL in vLLM with tokens left out: positions with axes, companions, clips with times between their frames."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="needs vLLM, which has an environment of its own: make serve-test")

import qwen_folder
from serving_answers import Answer, clip, from_engine, from_transformers, picture
from serving_qwen import ENGINE, IMAGE, KINDS, SHORT, WIDE, Clip, for_engine, text_of
from vidcompress.serving.plugin import hf_overrides

pytestmark = [pytest.mark.serving, pytest.mark.slow]
RATIOS = (1, 0.5, 0.1)
CLOSE = 1e-4
STOCK = {"qwen3_vl": "Qwen3VLForConditionalGeneration", "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}


@pytest.fixture(scope="module", params=list(STOCK))
def family(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: Any) -> str:
    if family == "qwen3_vl":
        return "models/tiny-qwen"
    return str(qwen_folder.save_folder(tmp_path_factory.mktemp(family), family, served=True))


@pytest.fixture(scope="module")
def llm(engine: Any, folder: str, family: str) -> Any:
    return engine(folder, hf_overrides=hf_overrides(STOCK[family], retention_ratio=0.25), **ENGINE)


@pytest.fixture(scope="module")
def reference(folder: str, family: str) -> Any:
    import transformers
    from transformers import AutoProcessor
    from transformers.video_utils import VideoMetadata

    model = getattr(transformers, STOCK[family]).from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)

    def answer(items: list[Any], method: str = "globalcom2", **arguments: Any) -> Answer:
        images = [item for item in items if not isinstance(item, Clip)]
        clips = [item for item in items if isinstance(item, Clip)]
        named: dict[str, Any] = {"images": images} if images else {}
        if clips:
            named |= {
                "videos": [item.frames for item in clips],
                "video_metadata": [VideoMetadata(**item.metadata) for item in clips],
                "do_sample_frames": False,
            }
        inputs = dict(processor(text=[text_of(items)], return_tensors="pt", **named))
        return from_transformers(model, inputs, method, positions_rule=POSITIONS[family], **arguments)

    return answer


def engines_rule(model: Any, inputs: dict[str, Any], compressed: dict[str, Any]) -> dict[str, Any]:
    """Positions of Qwen2.5-VL by vLLM's rule: text behind a clip starts behind its last frame's time.

    transformers starts it behind the larger of its rows and columns.
    """
    if inputs.get("video_grid_thw") is None:
        return compressed
    config, positions = model.config, compressed["position_ids"].clone()
    grids, seconds = inputs["video_grid_thw"].tolist(), inputs["second_per_grid_ts"]
    ids, whole = compressed["input_ids"][0], inputs["input_ids"][0]
    starts = (whole == config.vision_start_token_id).nonzero().flatten()
    clips = [place for place in starts.tolist() if whole[place + 1] == config.video_token_id]
    numbers = [(whole[: place + 1] == config.vision_start_token_id).sum() for place in clips]
    for (frames, height, width), pace, number in zip(grids, seconds, numbers, strict=True):
        last = int((frames - 1) * float(pace) * config.vision_config.tokens_per_second)
        side = max(height, width) // 2
        begin = (ids == config.vision_start_token_id).nonzero().flatten()[number - 1]
        end = begin + (ids[begin:] == config.vision_end_token_id).nonzero().flatten()[0]
        positions[1:, :, end:] += max(last + 1, side) - side
    return {**compressed, "position_ids": positions}


POSITIONS = {"qwen3_vl": None, "qwen2_5_vl": engines_rule}


@pytest.fixture(scope="module")
def expected(reference: Any) -> dict[tuple[str, float], Answer]:
    return {(kind, r): reference(KINDS[kind], retention_ratio=r) for kind in KINDS for r in RATIOS}


def ask(llm: Any, kind: str, **values: Any) -> Answer:
    (answer,) = from_engine(llm, [(text_of(KINDS[kind]), for_engine(KINDS[kind]), values)])
    return answer


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_equal_those_of_transformers(llm: Any, expected: Any, kind: str, ratio: float) -> None:
    assert ask(llm, kind, retention_ratio=ratio).differs(expected[kind, ratio]) < CLOSE


def test_all_in_one_batch_with_ratios_mixed_and_again_from_the_cache(llm: Any, expected: Any) -> None:
    prompts = [
        (text_of(KINDS[kind]), for_engine(KINDS[kind]), {"retention_ratio": r}) for kind, r in expected
    ]
    for turn in (0, 1):
        answers = from_engine(llm, prompts)
        differences = {key: one.differs(expected[key]) for key, one in zip(expected, answers, strict=True)}
        assert max(differences.values()) < CLOSE, differences
        assert turn == 0 or any(answer.cached > 0 for answer in answers)


def test_other_tokens_at_another_ratio_with_another_method_and_other_positions(
    llm: Any, expected: Any, reference: Any, family: str, monkeypatch: Any
) -> None:
    """Negative controls of the comparisons above."""
    half = ask(llm, "clips", retention_ratio=0.5)
    assert half.differs(expected["clips", 0.1]) == float("inf")
    assert half.differs(reference(KINDS["clips"], "uniform", retention_ratio=0.5)) > 10 * CLOSE

    def moved(model: Any, inputs: Any, compressed: Any) -> Any:
        positions = compressed["position_ids"].clone()
        visual = compressed["input_ids"][0] == model.config.video_token_id
        positions[1:, :, visual] = positions[1:, :, visual].flip(-1)
        return {**compressed, "position_ids": positions}

    monkeypatch.setitem(POSITIONS, family, moved)
    assert half.differs(reference(KINDS["clips"], retention_ratio=0.5)) > 10 * CLOSE
    if family == "qwen2_5_vl":  # the rule for text behind a clip is one that shows
        monkeypatch.setitem(POSITIONS, family, None)
        assert half.differs(reference(KINDS["clips"], retention_ratio=0.5)) > 10 * CLOSE


def test_counts_equal_placeholders_over_sizes_and_frames(llm: Any, family: str) -> None:
    """The model raises where it chose another number than the prompt has placeholders, and the engine dies."""
    sides = (3, 14, 28, 37, 112, 200, 300, 500)
    sizes = [(h, w) for h in sides for w in sides] + [(10, 1000), (1000, 10), (700, 30), (944, 1153)]
    assert len(sizes) == 68
    prompts: list[Any] = [
        (text_of([IMAGE]), for_engine([picture(*size)]), {"retention_ratio": 0.05 + 0.9 * (i % 7) / 7})
        for i, size in enumerate(sizes)
    ]
    prompts += [
        (
            text_of([SHORT]),
            for_engine([Clip(clip(frames, 30, 40), 4.0)]),
            {"retention_ratio": 0.1 + 0.9 * (frames % 5) / 5},
        )
        for frames in range(2, 65)
    ]
    assert len(from_engine(llm, prompts)) == 68 + 63
    alone = (text_of([SHORT]), for_engine([Clip(clip(1, 30, 40), 4.0)]), {})
    if family == "qwen3_vl":  # whose stock processor takes no such clip
        with pytest.raises(ValueError, match="Failed to apply Qwen3VLProcessor"):
            from_engine(llm, [alone])
    else:
        assert from_engine(llm, [alone])


def test_a_request_has_a_budget_of_its_own(llm: Any) -> None:
    bare = from_engine(llm, [(text_of([IMAGE]), for_engine([IMAGE]), {"max_tokens": n}) for n in (3, 7)])
    assert bare[1].length - bare[0].length == 4
    with pytest.raises(ValueError, match="retention_ratio"):
        ask(llm, "image", retention_ratio=1.5)
    with pytest.raises(ValueError, match="max_tokens cannot be split over a clip"):
        ask(llm, "clips", max_tokens=20)
    both = from_engine(
        llm, [(text_of([IMAGE, WIDE]), for_engine([IMAGE, WIDE]), {"max_tokens": n}) for n in (6, 16)]
    )
    assert 9 <= both[1].length - both[0].length <= 11


def test_chunked_prefill(engine: Any, folder: str, family: str, expected: Any) -> None:
    arguments = {**ENGINE, "max_num_batched_tokens": 32}
    llm = engine(folder, hf_overrides=hf_overrides(STOCK[family], retention_ratio=0.25), **arguments)
    for (kind, ratio), answer in expected.items():
        assert ask(llm, kind, retention_ratio=ratio).differs(answer) < CLOSE


@pytest.mark.parametrize("method", ["pool", "census:selection=proportional", "frames"])
def test_other_methods(engine: Any, folder: str, family: str, reference: Any, method: str) -> None:
    llm = engine(
        folder, hf_overrides=hf_overrides(STOCK[family], method=method, retention_ratio=0.5), **ENGINE
    )
    for kind in ("clip",) if method == "frames" else ("image", "clips"):
        expected = reference(KINDS[kind], method, retention_ratio=0.5, positions="original", mass="off")
        assert ask(llm, kind).differs(expected) < CLOSE


def test_at_one_it_is_the_stock_model(engine: Any, folder: str, expected: Any) -> None:
    llm = engine(folder, **ENGINE)
    for kind in KINDS:
        assert ask(llm, kind).differs(expected[kind, 1]) < CLOSE


def test_a_prompt_whose_positions_leave_the_table_costs_itself(engine: Any, folder: str, family: str) -> None:
    if family == "qwen2_5_vl":
        pytest.skip("vLLM's table of positions is four times as long there")
    overrides = hf_overrides(STOCK[family], retention_ratio=0.25)
    llm = engine(folder, hf_overrides=overrides, max_model_len=4096, max_num_batched_tokens=4096)
    with pytest.raises(ValueError, match="positions of this prompt could reach"):
        ask(llm, "clips", retention_ratio=0.01)
    assert ask(llm, "clips", retention_ratio=1).length > 0


def test_pipelines_and_drafters_are_refused() -> None:
    from types import SimpleNamespace

    from vidcompress.errors import ArgumentError
    from vidcompress.serving.engine.qwen import CompressingQwen

    for size, drafter, word in ((2, None, "pipeline_parallel_size"), (1, "eagle", "speculative_config")):
        config: Any = SimpleNamespace(
            parallel_config=SimpleNamespace(pipeline_parallel_size=size), speculative_config=drafter
        )
        with pytest.raises(ArgumentError, match=word):
            CompressingQwen(vllm_config=config)


def test_digits_of_positions_survive_bfloat16() -> None:
    from vidcompress.serving.engine.positions import from_columns, to_columns

    positions = torch.tensor([[0, 1, 255, 256, 257, 1001, 70000], [9] * 7, [65535, 65536, 3, 2, 1, 0, 12345]])
    assert torch.equal(from_columns(to_columns(positions, torch.bfloat16)), positions)
    assert not torch.equal(positions.bfloat16().long(), positions)  # which is why they are digits

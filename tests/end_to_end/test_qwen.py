"""Questions to small Qwen-VL models in folders: every way in, pictures and clips of their own size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import processor_cases as cases
import vidcompress
from qwen_folder import FAMILIES, save_folder
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.preprocessing.protocol import AdoptedProcessor, MediaProcessor

PICTURE = Image.fromarray(cases.picture(1, 120, 170))
WIDE = Image.fromarray(cases.picture(2, 60, 300))
METHODS = ("globalcom2", "random", "uniform", "vidcom2", "none")


@pytest.fixture(scope="session", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def qwen(folder: Path) -> vidcompress.VisualQA:
    return vidcompress.VisualQA.from_pretrained(folder, retention_ratio=0.5, device="cpu")


def frames(count: int = 5) -> Any:
    return cases.clip(count)


def test_a_folder_loads_with_its_own_processor(folder: Path, qwen: vidcompress.VisualQA) -> None:
    assert type(qwen.processor) is NativeProcessor
    assert isinstance(qwen.processor, MediaProcessor)
    assert qwen.processor.image_token == "<|image_pad|>"
    assert repr(qwen).startswith("VisualQA(")


@pytest.mark.parametrize("method", METHODS)
def test_every_way_in_gives_the_same_answer(qwen: vidcompress.VisualQA, method: str) -> None:
    of_clips = method == "vidcom2"
    qa = qwen.using(method=method, **({} if method == "none" else {"retention_ratio": 0.5}))
    media: dict[str, Any] = {"video": frames()} if of_clips else {"image": PICTURE}
    asked = qa.ask("what is it?", **media, max_new_tokens=6)
    assert asked.report.kept <= asked.report.total and (method == "none") == (
        asked.report.kept == asked.report.total
    )
    assert "".join(qa.stream("what is it?", **media, max_new_tokens=6)).strip() == asked.text
    batch = qa.ask_batch([{"question": "what is it?", **media}] * 2, max_new_tokens=6)
    assert [answer.text for answer in batch] == [asked.text] * 2

    kind = "video" if of_clips else "image"
    message = {"role": "user", "content": [{"type": kind}, {"type": "text", "text": "what is it?"}]}
    inputs = qa.processor(qa.processor.apply_chat_template([message]), **{f"{kind}s": [media[kind]]})
    short = vidcompress.compress_inputs(qa.model, inputs, config=qa.config)
    out = qa.model.generate(**short, max_new_tokens=6, do_sample=False)
    plain = qa.processor.batch_decode(out[:, short["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    with vidcompress.compress(qa.model, config=qa.config):
        out = qa.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    block = qa.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    assert [plain.strip(), block.strip()] == [asked.text] * 2


def test_answers_depend_on_what_is_shown(qwen: vidcompress.VisualQA) -> None:
    def first(**media: Any) -> str:
        return qwen.ask("what is it?", **media, max_new_tokens=12).text

    answers = {first(image=PICTURE), first(image=WIDE), first(video=frames()), first()}
    assert len(answers) == 4


def test_a_batch_of_unequal_questions_is_answered_row_by_row(qwen: vidcompress.VisualQA) -> None:
    items: list[dict[str, Any]] = [
        {"question": "what is it?", "image": PICTURE},
        {"question": "and these two?", "images": [WIDE, PICTURE], "video": frames(3)},
        {"question": "what moves?", "video": frames(7)},
        {"question": "who are you?"},
    ]
    together = qwen.ask_batch(items, batch_size=4, max_new_tokens=5)
    alone = [qwen.ask(**item, max_new_tokens=5) for item in items]
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.report.total for answer in together] == [answer.report.total for answer in alone]


@pytest.mark.parametrize("history", [True, False])
def test_a_chat_goes_on_as_if_it_had_begun_anew(qwen: vidcompress.VisualQA, history: bool) -> None:
    chat = qwen.chat(images=[PICTURE], video=frames(3), history=history)
    first = chat.ask("what is it?", max_new_tokens=5)
    second = chat.ask("and what else?", max_new_tokens=5)
    alone = qwen.ask("what is it?", images=[PICTURE], video=frames(3), max_new_tokens=5)
    assert first.text == alone.text
    if not history:
        again = qwen.ask("and what else?", images=[PICTURE], video=frames(3), max_new_tokens=5)
        assert second.text == again.text
        return
    content = [{"type": "image"}, {"type": "video"}, {"type": "text", "text": "what is it?"}]
    messages = [
        {"role": "user", "content": content},
        {"role": "assistant", "content": [{"type": "text", "text": first.text}]},
        {"role": "user", "content": [{"type": "text", "text": "and what else?"}]},
    ]
    processor = qwen.processor
    inputs = processor(processor.apply_chat_template(messages), images=[PICTURE], videos=[frames(3)])
    short = vidcompress.compress_inputs(qwen.model, inputs, config=qwen.config)
    out = qwen.model.generate(**short, max_new_tokens=5, do_sample=False)
    text = processor.batch_decode(out[:, short["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    assert second.text == text.strip()
    chat.reset()
    assert chat.ask("what is it?", max_new_tokens=5).text == first.text


def test_times_of_a_clip_are_those_of_its_temporal_patches(qwen: vidcompress.VisualQA) -> None:
    (visual,) = qwen.ask("what moves?", video=frames(5), max_new_tokens=2).report.visuals
    assert [view.time for view in visual.layout.views] == [0.5, 2.5, 4.0]
    assert all(view.kind == "frame" for view in visual.layout.views)


def test_a_clip_file_is_sampled_by_the_family(qwen: vidcompress.VisualQA, clip: Path) -> None:
    answer = qwen.ask("what moves?", video=clip, max_new_tokens=2)
    read = answer.media[0]
    assert read.times == vidcompress.media.read_video(clip, rule=qwen.processor.frame_rule).times
    assert len(read) == max(4, int(read.total_frames / read.fps * 2) // 2 * 2)
    (visual,) = answer.report.visuals
    assert len(visual.layout.views) == (len(read) + 1) // 2


def test_overlays_show_native_grids_and_temporal_patches(qwen: vidcompress.VisualQA) -> None:
    answer = qwen.ask("what is it?", images=[PICTURE, WIDE], max_new_tokens=2)
    for number, picture in enumerate((PICTURE, WIDE)):
        (view,) = answer.report.visuals[number].layout.views
        patches = qwen.processor.geometry.patches
        assert (view.rows, view.cols) == tuple(
            side // 2 for side in qwen.processor.geometry.image_grid((picture.height, picture.width))[1:]
        )
        assert patches.merge == 2
        assert answer.overlay(index=number).size[0] > 200
        assert answer.media[number].size == picture.size
    moving = qwen.ask("what moves?", video=frames(5), max_new_tokens=2)
    assert moving.overlay().size[0] > 200
    whole = [Image.fromarray(frame) for frame in frames(5)]
    drawn = vidcompress.draw_overlay(moving.report, whole)
    assert drawn.tobytes() == vidcompress.draw_overlay(moving.report, whole[::2]).tobytes()
    with pytest.raises(vidcompress.ArgumentError, match="3 frames were encoded"):
        vidcompress.draw_overlay(moving.report, whole[:4][:2])


def test_methods_are_compared(qwen: vidcompress.VisualQA) -> None:
    result = qwen.compare("what moves?", video=frames(5), methods=["globalcom2", "uniform"], max_new_tokens=3)
    assert {row.label for row in result.rows} >= {"globalcom2", "uniform"}


def test_the_command_line_answers(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from vidcompress.cli import main

    PICTURE.save(tmp_path / "picture.png")
    words = ["ask", "--model", str(folder), "--image", str(tmp_path / "picture.png"), "--question", "what?"]
    with pytest.raises(SystemExit) as left:
        main([*words, "--max-new-tokens", "3", "--device", "cpu", "--json"])
    assert not left.value.code
    assert json.loads(capsys.readouterr().out)["answer"] is not None


def test_a_stock_processor_serves_too(folder: Path, qwen: vidcompress.VisualQA) -> None:
    from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    family = qwen.model.config.model_type
    kind = Qwen2_5_VLProcessor if family == "qwen2_5_vl" else Qwen3VLProcessor
    stock = kind.__new__(kind)  # its constructor asks for a video processor, which needs torchvision
    stock.image_processor, stock.tokenizer = Qwen2VLImageProcessorPil.from_pretrained(folder), None
    stock.tokenizer = AutoTokenizer.from_pretrained(folder)
    stock.chat_template = (folder / "chat_template.jinja").read_text()
    for name in ("image", "video"):
        token = f"<|{name}_pad|>"
        setattr(stock, f"{name}_token", token)
        setattr(stock, f"{name}_token_id", stock.tokenizer.convert_tokens_to_ids(token))
    qa = vidcompress.VisualQA(qwen.model, stock, retention_ratio=0.5)
    assert isinstance(qa.processor, AdoptedProcessor) and isinstance(qa.processor, MediaProcessor)
    ours, theirs = (one.ask("what is it?", images=[PICTURE, WIDE], max_new_tokens=3) for one in (qwen, qa))
    assert theirs.report.total == ours.report.total
    assert theirs.overlay().size == ours.overlay().size
    with pytest.raises(vidcompress.MediaError, match="use vidcompress.load_processor"):
        qa.ask("what moves?", video=frames(3))
    chat = qa.chat(images=[PICTURE])
    chat.ask("what is it?", max_new_tokens=3)
    assert chat.ask("and else?", max_new_tokens=3).report.total > 0


def test_a_stock_processor_keeps_its_bounds_of_frames(qwen: vidcompress.VisualQA) -> None:
    class Videos:
        fps, min_frames, max_frames = 4.0, 2, 6

    class Stock:
        tokenizer = qwen.processor.tokenizer
        video_processor: Any = Videos()

    stock = Stock()
    rule = AdoptedProcessor(stock, qwen.model.config.model_type).frame_rule
    assert (len(rule.choose(900, 30.0)), len(rule.choose(10, 30.0))) == (6, 2)
    stock.video_processor = object()  # the family's own: two per second, from 4 to 768
    rule = AdoptedProcessor(stock, qwen.model.config.model_type).frame_rule
    assert (len(rule.choose(900, 30.0)), len(rule.choose(10, 30.0))) == (60, 4)


def test_clips_reach_a_stock_processor_with_their_times(folder: Path, qwen: vidcompress.VisualQA) -> None:

    seen: dict[str, Any] = {}

    class Stock:
        tokenizer, image_token, video_token = qwen.processor.tokenizer, "<|image_pad|>", "<|video_pad|>"
        video_processor = object()

        def __call__(self, **call: Any) -> dict[str, Any]:
            seen.update(call)
            return {}

    adopted = AdoptedProcessor(Stock(), qwen.model.config.model_type)
    clip = vidcompress.media.read_video(frames(3), source_fps=2.0)
    adopted(["x"], videos=[replace(clip, total_frames=3)])
    (about,) = seen["video_metadata"]
    assert about["frames_indices"] == [0, 1, 2] and about["fps"] == 2.0
    assert seen["do_sample_frames"] is False
    np.testing.assert_array_equal(seen["videos"][0], frames(3))
    assert adopted.frame_rule.choose(90, 30.0) == qwen.processor.frame_rule.choose(90, 30.0)


def test_seconds_stay_exact_on_a_model_of_half_precision(folder: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(folder, device="cpu", dtype="bfloat16")
    from vidcompress.qa.question import Question

    question = Question("what moves?", (), frames(5))
    inputs = qa.pipeline.preprocess([question]).inputs
    assert inputs["pixel_values_videos"].dtype == torch.bfloat16
    if "second_per_grid_ts" in inputs:
        assert inputs["second_per_grid_ts"].dtype == torch.float32

"""The plugin's parts, without lmms-eval."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from vidcompress import ArgumentError, UnsupportedInputError, VisualQA, compress
from vidcompress.adapters.families import time_instruction
from vidcompress.errors import SamplingError
from vidcompress.loading import load as pretrained
from vidcompress.media.preprocessing.placeholders import without_second_start
from vidcompress.tools.evaluation.lmms_eval.arguments import as_read, check_arguments
from vidcompress.tools.evaluation.lmms_eval.conventions import QWEN_GENERATION, Convention, convention
from vidcompress.tools.evaluation.lmms_eval.engine import LAUNCHED, Engine, LmmsRequest, generation_options
from vidcompress.tools.evaluation.lmms_eval.fetch_rule import FetchRule, PairsRule
from vidcompress.tools.evaluation.lmms_eval.frame_rules import FrameRule, MiddleRule, frame_rule
from vidcompress.tools.evaluation.lmms_eval.launch import _environment
from vidcompress.tools.evaluation.lmms_eval.multi_turn import answer_turns, likelihoods
from vidcompress.tools.evaluation.lmms_eval.record import (
    Response,
    ResponseStore,
    merge_processes,
    read_answers,
    read_metadata,
)
from vidcompress.tools.evaluation.lmms_eval.requests import RequestPrompt, chat_prompt, simple_prompt
from vidcompress.tools.evaluation.lmms_eval.results import _times, read_results
from vidcompress.tools.evaluation.lmms_eval.settings import LmmsSettings, read_settings
from vidcompress.tools.runs.journal import as_line, rank_path

ROOT = Path(__file__).parents[2]
SCENE, CLIP = ROOT / "examples" / "scene.png", ROOT / "examples" / "clip.mp4"


@pytest.fixture(scope="module")
def qa() -> VisualQA:
    return VisualQA.from_pretrained("tiny-onevision", device="cpu")


@pytest.mark.parametrize(
    "given, said",
    [
        (
            {"retention_ration": 0.5},
            "retention_ration=0.5: no such model argument.*did you mean 'retention_ratio'",
        ),
        ({"method": "globalcom2", "tua": 5}, "tua=5: no such model argument.*did you mean 'tau'"),
        ({"batch_size": "auto"}, "batch_size='auto': must be a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size=0: must be a whole number"),
        ({"max_frames_num": 0}, "max_frames_num=0: must be a whole number of at least 1"),
        ({"fps": -1.0}, "fps=-1.0: must be a positive number of frames per second"),
        ({"force_sample": "yes"}, "force_sample='yes': must be True or False"),
        ({"time_instruction": 1}, "time_instruction=1: must be True or False"),
        ({"journal": 5}, "journal=5: must be a text"),
        ({"device": 0}, "device=0: must be a text"),
        ({"pretrained": "None"}, "pretrained is missing"),
        ({"min_pixels": 0}, "min_pixels=0: must be a whole number of at least 1"),
        ({"max_pixels": 2.5}, "max_pixels=2.5: must be a whole number"),
        ({"total_pixels": "many"}, "total_pixels='many': must be a whole number"),
        ({"system_prompt": " "}, "system_prompt=' ': must be a text that is not empty"),
        ({"enable_thinking": 1}, "enable_thinking=1: must be True or False"),
        ({"max_num_frames": 8}, "max_num_frames=8: pass max_frames_num=8"),
        ({"num_frames": 8}, "num_frames=8: pass max_frames_num=8"),
        ({"interleave_visuals": True}, "interleave_visuals=True: is for lmms-eval's simple prompts"),
        ({"reasoning_prompt": "think"}, "reasoning_prompt='think': is for lmms-eval's simple prompts"),
        ({"min_patches": 2}, "min_patches=2: pictures are 1 to 12 tiles"),
        ({"use_cache": True}, "use_cache=True: answers are generated with a cache"),
    ],
)
def test_model_arguments_are_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        read_settings({"pretrained": "tiny-next", **given})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_frames": 8}, r"max_frames=8: no such model argument.*did you mean 'max_frames_num'"),
        ({"method": "globalcom3"}, r"unknown method 'globalcom3'.*did you mean 'globalcom2'"),
        ({"tau": 0}, r"tau must be a number above 0, got 0"),
        ({"allocation": "softmaxx"}, r"allocation must be one of .*got 'softmaxx'"),
        ({"retention_ratio": 2}, r"retention_ratio must be a number with 0 < R <= 1, got 2"),
        ({"retention_ratio": 0.5, "max_tokens": 9}, r"give exactly one of retention_ratio"),
        ({"separators": "all"}, r"separators must be one of keep, thin, drop, got 'all'"),
        ({"max_views": 0}, r"max_views must be an integer of at least 1, got 0"),
        ({"video_backend": "ffmpeg"}, r"backend='ffmpeg': not known; use one of"),
        ({"pretrained": "tiny-nxt"}, r"model='tiny-nxt' is neither a folder .*did you mean 'tiny-next'"),
        ({"pretrained": "7"}, r"pretrained=7: must be a text"),  # as lmms-eval reads it
        ({"revision": "1e5"}, r"revision=100000.0: must be a text"),
        ({"dtype": "int8"}, r"dtype='int8': must be a torch dtype or one of float32"),
        ({"attn_implementation": "fast"}, r"is no attention implementation of transformers"),
        ({"device_map": "nowhere"}, r"device_map='nowhere': must be one of auto, balanced"),
        ({"quantization": "2bit"}, r"quantization='2bit': must be one of 4bit, 8bit"),
        ({"resize_device": "toaster"}, r"resize_device='toaster' is not a device"),
        ({"local_files_only": "yes"}, r"local_files_only='yes': must be True or False"),
        ({"preset": "288"}, r"preset='288' with llava_next: .*did you mean '2880'"),
        (
            {"pretrained": "tiny-onevision", "preset": "2880"},
            r"with llava_onevision: it has no presets; leave it",
        ),
        ({"min_pixels": 784}, r"min_pixels=784: lmms-eval's own prompts for llava_next have no place for it"),
        ({"enable_thinking": True}, r"enable_thinking=True: lmms-eval's own prompts for llava_next"),
        (
            {"pretrained": "tiny-qwen", "min_pixels": 900, "max_pixels": 800},
            r"max_pixels=800: must be at least min_pixels=900",
        ),
        ({"auxiliary": "a,b"}, r"auxiliary='a,b' holds a comma, which lmms-eval splits at; use another"),
        ({"auxiliary": "it's"}, r"holds a quote or half a pair of brackets, .*; use another value or name"),
        ({"auxiliary": "a[b"}, r"holds a quote or half a pair of brackets"),
        (
            {"retention_ratio": "½"},
            r"retention_ratio='½' is a character for a number, .*; write it in digits",
        ),
    ],
    ids=str,
)
def test_what_a_run_would_refuse_is_refused_without_a_model(
    given: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "_load", lambda *args, **more: pytest.fail("a model was loaded"))
    whole = {
        "pretrained": "tiny-next",
        **({} if "max_tokens" in given else {"retention_ratio": 0.5}),
        **given,
    }
    with pytest.raises(ArgumentError, match=said):
        check_arguments(whole, journal=tmp_path / "answers.jsonl")


def test_what_is_allowed_is_written_as_it_is_read(tmp_path: Path) -> None:
    given = {
        "pretrained": "tiny-next",
        "method": "globalcom2",
        "max_tokens": 64,
        "preset": "2880",
        "tau": 2.5,
    }
    given |= {"force_sample": True, "encoder_saving": "crops", "allocation": "gated", "revision": None}
    written = check_arguments(given, journal=tmp_path / "a.jsonl", batch_size=4)
    named = dict(pair.split("=", 1) for pair in written.split(","))
    assert named.pop("journal") == str(tmp_path / "a.jsonl")
    assert {name: as_read(text) for name, text in named.items()} == {
        name: 2880 if name == "preset" else value for name, value in given.items() if value is not None
    }


def test_a_preset_of_a_model_that_is_not_here_is_not_judged(tmp_path: Path) -> None:
    given = {"pretrained": "owner/not-fetched", "preset": "288", "retention_ratio": 0.5}
    assert "preset=288" in check_arguments(given, journal=tmp_path / "a.jsonl")


def test_model_arguments_are_sorted_out() -> None:
    found = read_settings(
        {
            "pretrained": "x",
            "method": "globalcom2:tau=5",
            "alpha": 0.3,
            "policy": "reference",
            "dtype": "float32",
        }
        | {"retention_ratio": 0.25, "batch_size": "4", "revision": "None", "max_batch_size": 64}
    )
    assert found.method == "globalcom2" and found.options == {"tau": 5, "alpha": 0.3, "policy": "reference"}
    assert found.loading == {"dtype": "float32"} and found.batch_size == 4
    heavy = read_settings({"pretrained": "x", "mass": "on", "mass_strength": 0.5, "mass_cap": 16})
    assert heavy.options == {"mass": "on", "mass_strength": 0.5, "mass_cap": 16} and heavy.config.weighs
    assert heavy.head() != read_settings({"pretrained": "x"}).head()
    assert not read_settings({"pretrained": "x"}).config.weighs
    joined = read_settings({"pretrained": "x", "method": "globalcom2+fastv", "before_ratio": 0.5, "tau": 2})
    assert joined.options == {"before_ratio": 0.5, "tau": 2}
    named = read_settings({"pretrained": "x", "preset": 2880})  # lmms-eval reads it as a number
    assert named.loading == {"preset": "2880"}


def test_generation_is_that_of_llava_hf_and_nothing_is_changed() -> None:
    given = {
        "until": ["\n\n"],
        "max_new_tokens": 16,
        "temperature": 0,
        "top_p": 1.0,
        "num_beams": 1,
        "do_sample": True,
    }
    kept = dict(given)
    assert generation_options(given, 2) == {
        "max_new_tokens": 16, "num_beams": 1, "do_sample": False, "eos_token_id": 2
    }  # fmt: skip
    assert given == kept
    assert generation_options({"until": ["x"]}, None) == {
        "max_new_tokens": 1024,
        "num_beams": 1,
        "do_sample": False,
    }
    hot = {"temperature": 0.2, "top_k": 9}
    assert generation_options(hot, None, QWEN_GENERATION) == {
        "max_new_tokens": 128, "num_beams": 1, "do_sample": True, "temperature": 0.2, "top_k": 9
    }  # fmt: skip
    assert "top_k" not in generation_options(hot, None)
    assert generation_options({"temperature": 0}, None, {"max_new_tokens": 7, "temperature": 0.7}) == {
        "max_new_tokens": 7, "num_beams": 1, "do_sample": False
    }  # fmt: skip
    assert generation_options({"temperature": 0.2, "top_p": 0.9, "do_sample": False}, None) == {
        "max_new_tokens": 1024, "num_beams": 1, "do_sample": True, "temperature": 0.2, "top_p": 0.9
    }  # fmt: skip


def test_frames_are_those_of_the_families_evaluations() -> None:
    free = {"max_frames": None, "fps": None, "force_sample": False, "backend": "auto"}
    assert frame_rule("llava_onevision", **free) == FrameRule(32, None)
    assert frame_rule("llava_video", **free) == FrameRule(64, 1.0)
    assert frame_rule("llava_video", **{**free, "force_sample": True, "max_frames": 16}) == FrameRule(
        16, None
    )
    whole = FrameRule(8).read(CLIP)
    assert whole.total_frames == 8
    longer = FrameRule(12).read(CLIP)  # linspace(0, 7, 12), rounded down
    assert torch.equal(longer.frames, whole.frames[[0, 0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7]])
    assert "some were taken more than once to make 12" in longer.notes[-1]
    seconds = FrameRule(64, 1.0).read(CLIP)
    assert [round(time) for time in seconds.times] == list(range(len(seconds)))
    assert len(FrameRule(2, 1.0).read(CLIP)) == 2


def test_conventions_are_those_of_the_families() -> None:
    """The defaults are compared with the source of lmms-eval's models in test_chat_wrappers.py."""
    plain = convention("llava_onevision", LmmsSettings("x"))
    assert plain == Convention(FrameRule(32, None)) and plain.facts == {"max_frames": 32, "fps": None}
    with pytest.raises(ArgumentError, match="system_prompt='Hi': lmms-eval's own prompts for qwen2_5_vl"):
        convention("qwen2_5_vl", LmmsSettings("x", system_prompt="Hi"))
    asked = LmmsSettings("x", fps=1.0, max_frames_num=8, system_prompt="Hi", enable_thinking=True)
    third = convention("qwen3_vl", asked)
    assert (third.rule.frames, third.rule.fps, third.system_prompt, third.thinking) == (8, 1.0, "Hi", True)
    assert third.facts["system_prompt"] == "Hi" and third.facts["enable_thinking"] is True
    assert convention("qwen2_5_vl", LmmsSettings("x", fps=1.0)).rule.frames == 768
    assert convention("qwen3_5", LmmsSettings("x", force_sample=True)).rule.fps is None
    bounded = convention("qwen3_5", LmmsSettings("x", max_pixels=99_000)).rule
    assert isinstance(bounded, FetchRule)
    assert (bounded.max_pixels, bounded.total_pixels, bounded.fps) == (99_000, None, None)
    assert isinstance(convention("internvl", LmmsSettings("x")).rule, MiddleRule)


def test_answers_come_without_their_reasoning() -> None:
    thinking, plain = Convention(thinking=True), Convention(thinking=False)
    assert thinking.finished("hm </think> two") == "two" and thinking.finished("hm") == ""
    assert plain.finished("hm </think> two") == "hm </think> two" == Convention().finished("hm </think> two")
    processor = replace(VisualQA.from_pretrained("tiny-qwen", device="cpu").processor)
    processor.chat_template = "{% if enable_thinking is defined %}{{ enable_thinking }}{% else %}?{% endif %}"
    said = [
        replace(own, rule=FrameRule())
        .fitted(processor)
        .apply_chat_template([{"role": "user", "content": "a"}])
        for own in (thinking, plain, Convention())
    ]
    assert said == ["True", "False", "?"]


@pytest.mark.parametrize(
    ("total", "rate", "given", "places"),
    [
        (9, 8.0, {"num_frames": 4}, [0, 3, 5, 8]),
        (9, 8.0, {"num_frames": 5}, [0, 3, 5, 8]),
        (7, 8.0, {"num_frames": 32, "max_frames": 32}, [0, 1, 2, 4, 5, 6]),
        (1, 8.0, {"num_frames": 32}, [0]),
        (80, 8.0, {"fps": 1.0}, [0, 9, 18, 26, 35, 44, 53, 61, 70, 79]),
        (80, 8.0, {"fps": 0.1}, [0, 26, 53, 79]),
        (80, 8.0, {"fps": 1.0, "max_frames": 5}, [0, 26, 53, 79]),
    ],
)
def test_frames_of_qwen_are_even_in_number(
    total: int, rate: float, given: dict[str, Any], places: list[int]
) -> None:
    assert PairsRule().choose(total, rate, **given) == places
    with pytest.raises(SamplingError, match="exclude each other"):
        PairsRule().choose(total, rate, num_frames=2, fps=1.0)


@pytest.mark.parametrize(
    ("size", "frames", "rule", "resized"),
    [
        ((720, 1280), 8, FetchRule(), (560, 1008)),  # 768 tokens
        ((720, 1280), 600, FetchRule(), (392, 728)),  # an even share of 115,200 tokens
        ((100, 100), 8, FetchRule(), (448, 448)),  # 256 tokens
        ((720, 1280), 8, FetchRule(max_pixels=210_000), (336, 588)),
        ((720, 1280), 8, FetchRule(total_pixels=10), (336, 588)),  # 1.05 times the fewest
        ((9, 1700), 8, FetchRule(min_pixels=3136), (28, 1708)),  # no side below one token
    ],
)
def test_frames_of_qwen_have_the_size_of_qwen_vl_utils(
    size: Any, frames: int, rule: FetchRule, resized: Any
) -> None:
    """The sizes are those of fetch_video in qwen_vl_utils 0.0.14."""
    assert rule.frame_size(frames, size) == resized


def test_times_of_qwen_are_places_over_the_frame_rate() -> None:
    rule = FetchRule(4, min_pixels=784, max_pixels=3136)
    clip = rule.read(CLIP)
    places = PairsRule().choose(clip.total_frames, clip.fps, num_frames=4)
    assert clip.times == tuple(place / clip.fps for place in places)
    assert clip.frames.shape[1] % 28 == clip.frames.shape[2] % 28 == 0 and len(clip) == 4
    assert replace(rule, fps=1e-3).read(CLIP).times == clip.times


def test_middle_frames_of_internvl() -> None:
    assert [round(time * 8) for time in MiddleRule(2).read(CLIP).times] != [
        round(time * 8) for time in FrameRule(2).read(CLIP).times
    ]
    assert len(MiddleRule(32).read(CLIP)) == 8  # each frame once


def test_prompts_of_the_simple_form(qa: VisualQA) -> None:
    rule, processor = FrameRule(4), qa.processor
    picture = Image.open(SCENE)
    plain = simple_prompt("what", [picture], rule, processor, {})
    assert plain.messages() == [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what"}]}
    ]
    placed = simple_prompt("first <image> then <image>", [[picture], picture], rule, processor, {})
    assert placed.messages()[0]["content"] == [{"type": "text", "text": "first <image> then <image>"}]
    clip = simple_prompt("<image>\nwhat", [str(CLIP)], rule, processor, {})
    assert clip.messages("Note.")[0]["content"] == [{"type": "text", "text": "Note.\n<video>\nwhat"}]
    assert simple_prompt("what", None, rule, processor, {}).images == ()
    other = SimpleNamespace(image_token="<|image_pad|>", video_token="<|video_pad|>")
    begun = simple_prompt("<image>what", [picture], rule, other, {}, "Be brief.")
    assert begun.messages() == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        *plain.messages(),
    ]
    frames = simple_prompt(
        "what", [picture] * 9, FrameRule(64, 1.0), processor, {"task_type": "video", "sample_frames": 4}
    )
    assert len(frames.open()[1] or ()) == 4 and frames.images == ()
    for visuals, said in (
        ([str(CLIP)] * 2, "2 clips"),
        (["a.wav"], "with audio"),
        ([{"array": 0}], "with audio"),
    ):
        with pytest.raises(UnsupportedInputError, match=said):
            simple_prompt("what", visuals, rule, processor, {})


def test_prompts_of_the_chat_form() -> None:
    note = time_instruction(4.0, [0.0, 1.0])
    messages = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "video", "url": str(CLIP)},
                {"type": "text", "text": "what"},
            ],
        },
    ]
    prompt = chat_prompt(messages, FrameRule(4))
    assert prompt.video == str(CLIP) and prompt.text == "be brief\nlook\nwhat"
    system, user = prompt.messages(note)
    assert system == {"role": "system", "content": [{"type": "text", "text": "be brief"}]}
    assert user["content"] == [
        {"type": "text", "text": "look"}, {"type": "video"}, {"type": "text", "text": f"{note}\nwhat"}
    ]  # fmt: skip
    begun = chat_prompt(messages, FrameRule(4), "Be kind.").messages(note)
    assert begun == [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, system, user]
    with pytest.raises(UnsupportedInputError, match="with audio"):
        chat_prompt([{"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}], FrameRule())


def asks(count: int, **generation: Any) -> list[LmmsRequest]:
    return [
        LmmsRequest(
            f"t/{number}",
            lambda: RequestPrompt("what color is the circle", (SCENE,)),
            {"max_new_tokens": 6, **generation},
        )
        for number in range(count)
    ]


def test_batches_are_those_of_an_unbroken_run(
    qa: VisualQA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ResponseStore(tmp_path / "a.jsonl", {"x": 1})
    engine = Engine(qa, record, batch_size=2)
    sizes: list[list[str]] = []
    answer = engine.answer_batch
    monkeypatch.setattr(
        engine, "answer_batch", lambda batch: sizes.append([a.id for a in batch]) or answer(batch)
    )
    engine.answer(asks(3))
    engine.answer(asks(5))
    assert sizes == [["t/0", "t/1"], ["t/2"], ["t/2", "t/3"], ["t/4"]]
    assert [line["id"] for line in read_answers(tmp_path / "a.jsonl")] == [
        f"t/{number}" for number in range(5)
    ]
    changed = [LmmsRequest("t/0", asks(1)[0].prompt, {"max_new_tokens": 6}, digest="another prompt")]
    assert engine.recorded(changed[0]) is None


def test_sampled_answers_follow_from_the_request_alone(qa: VisualQA) -> None:
    hot = asks(4, temperature=5.0)
    together = [outcome.answer for outcome in Engine(qa, ResponseStore(None, {}), 4).answer(hot)]
    torch.manual_seed(77)
    apart = [
        outcome.answer
        for ask in reversed(hot)
        for outcome in Engine(qa, ResponseStore(None, {}), 1).answer([ask])
    ]
    assert together == apart[::-1] and len(set(together)) > 1


@pytest.mark.parametrize("name", ["tiny-onevision", "tiny-next", "tiny-qwen"])
def test_uncompressed_likelihoods_are_the_model_s_own_loss(name: str) -> None:
    qa = VisualQA.from_pretrained(name, method="none", device="cpu")
    ask = asks(1)[0]
    texts = ("yes", "two red")
    named = [replace(ask, id=text) for text in texts]
    found = likelihoods(
        Engine(qa, ResponseStore(None, {})), named, [lambda text=text: text for text in texts]
    )
    prompt = qa.processor.apply_chat_template(ask.prompt().messages())
    for text, outcome in zip(texts, found, strict=True):
        end = qa.processor.tokenizer.eos_token
        inputs = qa.processor(
            text=without_second_start(f"{prompt} {text}{end}", qa.processor.tokenizer), images=[[SCENE]]
        )
        labels = inputs["input_ids"].clone()
        labels[:, : -len(text.split()) - 1] = -100
        with torch.no_grad():
            stock = qa.model(**inputs, labels=labels)
        assert outcome.answer[0] == pytest.approx(float(stock.loss), abs=1e-5)
        assert outcome.output_tokens == len(text.split()) + 1
    said = Engine(qa, ResponseStore(None, {})).answer([ask])[0].answer
    greedy = likelihoods(Engine(qa, ResponseStore(None, {})), [ask], [lambda: said])[0]
    assert greedy.answer[1] is True and found[1].answer[1] is False


@pytest.mark.parametrize("name", ["tiny-onevision", "tiny-qwen"])
def test_likelihoods_weigh_tokens_by_their_mass(name: str) -> None:
    qa = VisualQA.from_pretrained(name, method="uniform", retention_ratio=0.2, device="cpu")
    ask = asks(1)[0]
    prompt = qa.processor.apply_chat_template(ask.prompt().messages())
    end = qa.processor.tokenizer.eos_token
    inputs = qa.processor(
        text=without_second_start(f"{prompt} two red{end}", qa.processor.tokenizer), images=[[SCENE]]
    )
    labels = inputs["input_ids"].clone()
    labels[:, :-3] = -100
    losses = []
    for mass in ("off", "on"):
        engine = Engine(qa.using(mass=mass), ResponseStore(None, {}))
        losses.append(likelihoods(engine, [ask], [lambda: "two red"])[0].answer[0])
        with compress(qa.model, "uniform", retention_ratio=0.2, mass=mass), torch.no_grad():
            expected = float(qa.model(**inputs, labels=labels).loss)
        assert losses[-1] == pytest.approx(expected, abs=1e-5), mass
    assert abs(losses[0] - losses[1]) > 1e-3


def test_likelihoods_of_nothing_are_errors(qa: VisualQA) -> None:
    inside = qa.using(method="fastv", retention_ratio=0.5)
    for model, text, said in ((qa, "", "is empty"), (inside, "yes", "prunes inside the language model")):
        made = likelihoods(
            Engine(model, ResponseStore(None, {})), [replace(asks(1)[0], id="t")], [lambda text=text: text]
        )
        assert said in str(made[0].error) and made[0].answer == [1e9, False]


def test_what_fails_fails_alone(qa: VisualQA) -> None:
    def leave() -> RequestPrompt:
        raise SystemExit("video path does not exist")

    bad = [
        LmmsRequest("t/exit", leave, {"max_new_tokens": 6}),
        LmmsRequest(
            "t/placeholders",
            lambda: RequestPrompt("<image> or <image>", (SCENE,), placed=True),
            {"max_new_tokens": 6},
        ),
        LmmsRequest("t/gone", lambda: RequestPrompt("what", (ROOT / "no.png",)), {"max_new_tokens": 6}),
    ]
    found = Engine(qa, ResponseStore(None, {}), 8).answer([*asks(1), *bad, *asks(1)])
    assert [bool(outcome.error) for outcome in found] == [False, True, True, True, False]
    assert "video path does not exist" in str(found[1].error) and "<image>" in str(found[2].error)
    assert found[0].answer == found[4].answer != ""


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        # By hand, of 464 tokens in four layers: the budget is 232. The first layer takes in 464, so 464 are left for
        # three, 154 each; or sqrt(232 x 464) = 328 are sent, and 200 each are left.
        ("fastv", (464 + 3 * 154) / 4),
        ("globalcom2+fastv", (328 + 3 * 200) / 4),
        ("globalcom2", 232),
    ],
)
def test_kept_and_budget_are_on_one_basis(qa: VisualQA, method: str, kept: float) -> None:
    """Averages over the layers' inputs where a method prunes between them, whatever is sent to the first."""
    chosen = qa.using(method=method, retention_ratio=0.5)
    (outcome,) = Engine(chosen, ResponseStore(None, {}), 1).answer(asks(1))
    assert (outcome.kept, outcome.budget, outcome.total) == (kept, 232, 464)
    line = outcome.line()
    assert (line["kept"], line["budget"], line["total"]) == (kept, 232, 464)


def test_of_two_lines_with_one_id_the_first_counts(tmp_path: Path) -> None:
    """In one journal, and of a journal and what another process left beside it."""
    path = tmp_path / "a.jsonl"
    ResponseStore(path, {"x": 1}).add([Response("t/0", "red"), Response("t/1", "one")])
    ResponseStore(path, {"x": 1}, rank=1, world_size=2).add([Response("t/2", "two")])
    for file, line in ((path, Response("t/1", "green")), (rank_path(path, 1), Response("t/0", "blue"))):
        with file.open("ab") as opened:
            opened.write(as_line(line.line()))
    for rank in (0, 1):
        record = ResponseStore(path, {"x": 1}, rank=rank, world_size=2)
        said = {name: found.answer for name in ("t/1", "t/2") if (found := record.get(name))}
        assert said == {"t/1": "one", "t/2": "two"}
    # A process believes its own journal before those of others.
    assert [ResponseStore(path, {"x": 1}, rank=n, world_size=2).get("t/0").answer for n in (0, 1)] == [
        "red",
        "blue",
    ]  # type: ignore[union-attr]
    with rank_path(path, 1).open("ab") as opened:
        opened.write(as_line(Response("t/2", "three").line()))
    merge_processes(path)
    assert [(line["id"], line["answer"]) for line in read_answers(path)] == [
        ("t/0", "red"),
        ("t/1", "one"),
        ("t/2", "two"),
    ]


def test_the_highest_peak_of_a_process_is_the_run_s(tmp_path: Path) -> None:
    """Whatever the order in which processes, and starts of one process, note theirs."""
    path = tmp_path / "a.jsonl"
    first, second = (ResponseStore(path, {"x": 1}, rank=rank, world_size=2) for rank in (0, 1))
    for record, peak in ((first, 300), (first, 500), (first, 200), (second, 400), (second, 100)):
        record.note("peak memory", bytes=peak)
    assert read_metadata(path)["peak_memory_bytes"] == 500
    second.note("peak memory", bytes=600)
    assert read_metadata(path)["peak_memory_bytes"] == 600


def test_questions_of_a_batch_share_its_time() -> None:
    """By hand: four at once in 2 s and one in 1 s are five questions in three seconds."""
    together = {"timing_ms": {"total": 2000.0}, "batch_size": 4, "time_to_first_token_ms": 1500.0}
    alone = {"timing_ms": {"total": 1000.0}, "batch_size": 1, "time_to_first_token_ms": 900.0}
    found = _times([together, together, together, together, alone, {}])
    assert found["questions_per_second"] == pytest.approx(5 / 3)
    assert found["times_ms"]["total"] == {"mean": 1800.0, "median": 2000.0}
    assert found["time_to_first_token_ms"]["median"] == 1500.0
    assert _times([{}])["questions_per_second"] is None


@pytest.mark.parametrize("error", [KeyError("video"), ZeroDivisionError("frames"), SystemExit("no clip")])
def test_rounds_whose_media_cannot_be_opened_fail_alone(error: BaseException, qa: VisualQA) -> None:
    def leave() -> RequestPrompt:
        raise error

    engine = Engine(qa, ResponseStore(None, {}), 1)
    failed = answer_turns(engine, LmmsRequest("t/bad", leave, {"max_new_tokens": 2}), lambda said: None)
    assert failed.answer == [""] and str(error.args[0]) in str(failed.error)
    (ask,) = asks(1)
    assert answer_turns(engine, ask, lambda said: None).error is None


@pytest.mark.parametrize("frames", [4, 12])  # of 8: fewer, and some more than once
def test_turns_about_a_clip_take_the_frames_of_the_task(qa: VisualQA, frames: int) -> None:
    def request(rule: FrameRule) -> LmmsRequest:
        prompt = RequestPrompt("what color is the circle", video=str(CLIP), rule=rule)
        return LmmsRequest("t/0", lambda: prompt, {"max_new_tokens": 2})

    def total(rule: FrameRule, turns: bool) -> int:
        engine = Engine(qa, ResponseStore(None, {}), 1)
        if turns:
            response = answer_turns(engine, request(rule), lambda said: None)
        else:
            (response,) = engine.answer_batch([request(rule)])
        assert response.error is None
        return response.total

    own = total(FrameRule(frames), turns=False)
    assert total(FrameRule(frames), turns=True) == own
    assert total(FrameRule(8), turns=True) != own


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ResponseStore(tmp_path / "a.jsonl", {"x": 1})
    with monkeypatch.context() as patch:

        def full(*args: Any) -> Any:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        record.add([Response("t/0", "red")])
        assert [line["id"] for line in read_answers(tmp_path / "a.jsonl")] == []
    assert record.get("t/0") == Response("t/0", "red")
    record.add([Response("t/1", "blue")])
    assert [line["answer"] for line in read_answers(tmp_path / "a.jsonl")] == ["red", "blue"]


def test_processes_read_each_others_answers_and_are_merged(tmp_path: Path) -> None:
    path, head = tmp_path / "a.jsonl", {"x": 1}
    first, second = (ResponseStore(path, head, rank=rank, world_size=2) for rank in (0, 1))
    first.add([Response("t/10", "c", timing_ms={"total": 3.0, "generate": 1.0}), Response("t/2", "b")])
    second.add([Response("t/1", "a")])
    again = ResponseStore(path, head)
    assert [again.get(f"t/{number}") is not None for number in (1, 2, 10)] == [True] * 3
    assert again.get("t/10").time_to_first_token_ms == 2.0  # type: ignore[union-attr]
    with pytest.raises(ArgumentError, match="x is 1 there and 5 here"):
        ResponseStore(path, {"x": 5})
    rank_path(path, 2).write_bytes(rank_path(path, 1).read_bytes().replace(b'"x":1', b'"x":2'))
    for refused in (lambda: ResponseStore(path, head), lambda: merge_processes(path)):
        with pytest.raises(ArgumentError, match=r"a.rank2.jsonl belongs to another run: x is 2 there"):
            refused()
    assert rank_path(path, 2).exists(), "answers of another run are not thrown away"
    rank_path(path, 2).unlink()
    merge_processes(path)
    assert [line["id"] for line in read_answers(path)] == ["t/1", "t/2", "t/10"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl", "a.times"]


def test_a_run_whose_launcher_is_gone_stops(qa: VisualQA, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(qa, ResponseStore(None, {}))
    monkeypatch.setenv(LAUNCHED, "1")
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(SystemExit, match="the process that started this run is gone"):
        engine.answer(asks(1))


def test_processes_are_started_as_if_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    with _environment("cpu", 2, "llava_vid") as environment:
        assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT", "TORCHELASTIC_RUN_ID"} & set(
            environment
        )
        assert (
            environment["ACCELERATE_USE_CPU"] == "true"
            and environment["VIDCOMPRESS_PROMPTS_OF"] == "llava_vid"
        )


def test_a_failed_question_has_the_mark_that_the_harness_gave_its_empty_answer(tmp_path: Path) -> None:
    """So that the marks, which are compared, are those that the score is the mean of."""
    results = {"results": {"t": {"acc,none": 0.5}}, "configs": {"t": {"metric_list": [{"metric": "acc"}]}}}
    (tmp_path / "x_results.json").write_text(json.dumps(results))
    counted = {"kept": 1, "budget": 1, "total": 4}
    lines = [
        {"doc_id": 0, "acc": 1.0, "target": "a", "token_counts": [counted]},
        {"doc_id": 1, "acc": 0.0, "target": "b", "token_counts": [{"error": "no such file"}]},
    ]
    (tmp_path / "x_samples_t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    journal = tmp_path / "answers.jsonl"
    record = ResponseStore(journal, {})
    record.add([Response("t/0", "a"), Response("t/1", error="no such file")])
    found = read_results(tmp_path, "t", journal)
    assert found is not None
    assert found["failed"] == [{"id": "t/1", "error": "no such file"}]
    assert found["samples"]["score"] == [1.0, 0.0]
    assert found["scores"] == {"acc": sum(found["samples"]["score"]) / 2}

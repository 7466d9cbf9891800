"""What VisualQA refuses, before it has read any weights; and its small parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tiny_models import tiny_model
from vidcompress import CompressionConfig, VisualQA
from vidcompress.adapters.families import get_family
from vidcompress.core.timing import PHASES, FirstToken, Phases
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.loading import load as pretrained
from vidcompress.loading.attention import check_attention
from vidcompress.media import MediaError, VideoFrames, time_instruction
from vidcompress.media.preprocessing.placeholders import without_second_start
from vidcompress.progress import question_progress
from vidcompress.qa.pipeline import Pipeline
from vidcompress.qa.question import Question, read_question


@pytest.fixture
def idle() -> VisualQA:
    """A VisualQA without a model: what it can refuse, it refuses before it would need one."""
    return VisualQA(None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "globalcom3"}, "unknown method 'globalcom3'.*did you mean 'globalcom2'"),
        ({"method": 7}, "method must be a name"),
        ({"retention_ratio": 0}, "retention_ratio must be a number with 0 < R <= 1, got 0"),
        ({"retention_ratio": 1.5}, r"retention_ratio .* got 1\.5"),
        ({"retention_ratio": "a lot"}, "retention_ratio .* got 'a lot'"),
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1, got 0"),
        ({"retention_ratio": 0.5, "max_tokens": 9}, "exactly one of retention_ratio"),
        ({"policy": "sloppy"}, "policy must be one of exact, reference, got 'sloppy'"),
        ({"separators": "some"}, "separators must be one of keep, thin, drop"),
        ({"positions": "gone"}, "positions must be one of"),
        ({"tua": 5}, "method 'globalcom2' has no option 'tua'.*did you mean 'tau'"),
    ],
)
def test_bad_settings_are_refused_before_weights_are_read(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        VisualQA.from_pretrained("owner/nothing-that-exists", local_files_only=True, **arguments)


def test_default_budget_is_a_quarter_and_all_for_none() -> None:
    assert VisualQA(None, None).budget == {"retention_ratio": 0.25, "max_tokens": None}
    assert VisualQA(None, None, method="none").budget["retention_ratio"] == 1.0
    assert VisualQA(None, None, max_tokens=9).budget == {"retention_ratio": None, "max_tokens": 9}


def test_using_changes_only_what_is_named() -> None:
    model = tiny_model("llava_onevision")
    first = VisualQA(model, None, method="globalcom2", max_tokens=9, tau=5.0, separators="drop", num_frames=4)
    second = first.using(retention_ratio=0.5)
    assert (second.method, second.budget["retention_ratio"], second.budget["max_tokens"]) == (
        "globalcom2",
        0.5,
        None,
    )
    assert (second.config.method.tau, second.config.separators) == (5.0, "drop")
    third = first.using(method="random", seed=3)
    assert (third.config.method.seed, third.config.separators, third.config.max_tokens) == (3, "drop", 9)
    assert (third.model, third.sampling["num_frames"]) == (model, 4)
    assert first.config == CompressionConfig("globalcom2:tau=5", max_tokens=9, separators="drop")
    with pytest.raises(ArgumentError, match="has no option 'tau'"):
        first.using(method="random", tau=5.0)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"question": ""}, "question='': must be a text"),
        ({"question": None}, "question=None"),
        ({"image": "x.png"}, "question=None"),
        ({"question": "q", "image": "a", "images": ["b"]}, "image and images exclude each other"),
        ({"question": "q", "image": ["a", "b"]}, r"image is a list of 2; pass a list as images"),
        ({"question": "q", "images": "a.png"}, "images must be a list, got str"),
        ({"question": "q", "video": []}, "video is an empty list"),
        (
            {"question": "q", "colour": "a"},
            r"unknown keys \['colour'\]; allowed are question, image, images, video",
        ),
        ("what?", "must be a dict with the keys"),
    ],
)
def test_bad_questions_say_what_is_wrong(item: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        read_question(item)


def test_batch_errors_name_the_entry(idle: VisualQA) -> None:
    with pytest.raises(ArgumentError, match=r"items\[1\]: question=''"):
        idle.ask_batch([{"question": "fine"}, {"question": ""}])
    with pytest.raises(ArgumentError, match="batch_size=0: must be a whole number"):
        idle.ask_batch([], batch_size=0)
    with pytest.raises(ArgumentError, match="items must be a list of dicts, got dict"):
        idle.ask_batch({"question": "q"})  # type: ignore[arg-type]
    assert idle.ask_batch([]) == []


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "many"])
def test_max_new_tokens_must_be_positive(idle: VisualQA, value: Any) -> None:
    with pytest.raises(ArgumentError, match="max_new_tokens="):
        idle.ask("q", max_new_tokens=value)


def test_questions_open_their_media() -> None:
    with pytest.raises(MediaError, match=r"missing\.png"):
        read_question({"question": "q", "image": "missing.png"}).open()
    both = read_question({"question": "q", "images": ["a", "b"], "video": "c"})
    assert [part["type"] for part in both.messages()[0]["content"]] == ["image", "image", "video", "text"]


def _of_family(name: str) -> Pipeline:
    """A pipeline whose processor knows its family and nothing else."""
    return Pipeline(None, SimpleNamespace(family=get_family(name)), CompressionConfig(retention_ratio=0.5))


def test_llava_video_is_told_when_its_frames_were_taken() -> None:
    """For files, and frames that come with times; frames without times of their own get none."""
    note = time_instruction(10.0, [0.0, 3.25, 9.5])
    assert note == (
        "The video lasts for 10.00 seconds, and 3 frames are uniformly sampled from it. These frames are located at "
        "0.00s,3.25s,9.50s.Please answer the following questions related to this video."
    )
    read = VideoFrames(torch.zeros(3, 2, 2, 3).byte(), (0.0, 3.25, 9.5), 10.0, 4.0, 40, "pyav", "clip.mp4")
    held = replace(read, backend="memory")
    pipeline = _of_family("llava_video")
    assert pipeline.clip_note(Question("q", video="clip.mp4"), read) == note
    assert pipeline.clip_note(Question("q", video=held), held) == note
    assert pipeline.clip_note(Question("q", video=["a.png"]), held) == ""
    assert pipeline.clip_note(Question("q"), None) == ""
    assert replace(pipeline, time_instruction=False).clip_note(Question("q", video="clip.mp4"), read) == ""
    assert _of_family("llava_onevision").clip_note(Question("q", video="clip.mp4"), read) == ""
    (message,) = Question("what?", video="clip.mp4").messages(note)
    assert message["content"] == [{"type": "video"}, {"type": "text", "text": f"{note}\nwhat?"}]
    assert Question("what?").messages()[0]["content"] == [{"type": "text", "text": "what?"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name_or_path": "tiny-onevison"},
            "model='tiny-onevison' is neither a folder nor an embedded model",
        ),
        ({"device": "cpu", "device_map": "auto"}, "exclude each other"),
        ({"device": "toaster"}, "device='toaster' is not a device"),
        (
            {"attn_implementation": "foo"},
            "attn_implementation='foo' is no attention .*known: eager, flash_.*sdpa",
        ),
        ({"attn_implementation": "spda"}, "attn_implementation='spda'.*did you mean 'sdpa'"),
        (
            {"attn_implementation": "kernels-community/flash-attn"},
            "attn_implementation='kernels-community/flash",
        ),
        (
            {"attn_implementation": {"text_config": "sdpa", "vision_config": "foo"}},
            "attn_implementation='foo'",
        ),
        ({"attn_implementation": 3}, "attn_implementation=3 is no attention implementation"),
        ({"device": "cuda:99"}, "device='cuda:99': this machine has"),
    ],
)
def test_load_model_refuses(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments.setdefault("name_or_path", str(tmp_path))
    with pytest.raises(ArgumentError, match=message):
        pretrained.load_model(**arguments)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_flash_attention_without_its_package_names_it(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers.utils

    name = f"flash_attention_{number}"
    monkeypatch.setattr(transformers.utils, f"is_flash_attn_{number}_available", lambda: False)
    with pytest.raises(
        ArgumentError, match=f"attn_implementation='{name}' needs a CUDA device and the package flash-attn"
    ):
        pretrained.load_model(attn_implementation=name)
    monkeypatch.setattr(transformers.utils, f"is_flash_attn_{number}_available", lambda: True)
    check_attention(name)


@pytest.mark.parametrize("value", ["sdpa", "eager", {"text_config": "eager", "vision_config": "sdpa"}])
def test_attention_that_transformers_has(value: Any) -> None:
    assert pretrained.load_model(device="cpu", attn_implementation=value) is not None


def test_load_model_says_why_a_folder_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="does not load"):
        pretrained.load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(
        UnsupportedModelError, match="of type 'bert', which no adapter serves; supported: .*llava_next"
    ):
        pretrained.load_model(tmp_path)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    (tmp_path / "config.json").write_text(
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}}'
    )
    with pytest.raises(
        UnsupportedModelError, match="of type 'evil', which no adapter serves.*code .* is never run"
    ):
        pretrained.load_model(tmp_path)
    assert not marker.exists()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = tiny_model("llava_next")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ArgumentError, match="does not load.*safetensors"):
        pretrained.load_model(tmp_path)


def test_dtype_names() -> None:
    cpu = torch.device("cpu")
    assert pretrained._dtype(None, cpu) is torch.float32
    assert pretrained._dtype(None, None) == "auto"
    assert pretrained._dtype("bfloat16", cpu) is torch.bfloat16
    with pytest.raises(ArgumentError, match="dtype='int8': must be a torch dtype or one of float32"):
        pretrained._dtype("int8", cpu)


def test_phases_sum_to_the_total() -> None:
    watch = Phases("cpu")
    watch.cut("decode")
    watch.cut("compress", within={"decode": -1.0, "encode": 1e9})
    assert watch.ms["compress"] == 0 < watch.ms["encode"]
    first = FirstToken("cpu")
    scores = torch.randn(2, 5)
    assert first(torch.zeros(2, 1), scores) is scores
    noted = first.at
    first(torch.zeros(2, 1), scores)
    assert first.at == noted
    watch.cut("prefill", at=noted)
    watch.cut("generate")
    timing = watch.with_total()
    assert list(timing) == [*PHASES, "total"]
    assert timing["total"] == pytest.approx(sum(timing[phase] for phase in PHASES))
    assert all(ms >= 0 for ms in timing.values())


class _Tokenizer:
    bos_token, bos_token_id = "<s>", 1

    def __init__(self, adds: bool) -> None:
        self.adds = adds

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [1] * self.adds}


@pytest.mark.parametrize(("adds", "expected"), [(True, " USER: hi"), (False, "<s> USER: hi")])
def test_start_token_comes_once(adds: bool, expected: str) -> None:
    assert without_second_start("<s> USER: hi", _Tokenizer(adds)) == expected


def test_progress_bar_writes_to_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    with question_progress(4, True, 2) as advance:
        advance(2)
        advance(2)
    written = capsys.readouterr()
    assert written.out == ""
    assert "4/4" in written.err
    with question_progress(4, None, 2) as advance:
        advance(4)
    assert capsys.readouterr().err == ""

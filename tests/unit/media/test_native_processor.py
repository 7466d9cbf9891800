"""The processor of native resolution against recordings of transformers' own with torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

import processor_cases as cases
from vidcompress import MediaError
from vidcompress.media import VideoFrames, load_processor
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.preprocessing.processor import Processor

RECORDED = Path(__file__).parents[2] / "data" / "processors"
FAMILIES = tuple(cases.SETTINGS)
IMAGES = [(f, name, size) for f in FAMILIES for name in cases.SETTINGS[f] for size in cases.IMAGE_SIZES]
CLIPS = [(f, name, count) for f in FAMILIES for name in cases.CLIP_SETTINGS[f] for count in cases.CLIP_FRAMES]


def config(family: str) -> Any:
    """A config of the family with the ids of the test tokenizer."""
    ids = cases.bytes_tokenizer().convert_tokens_to_ids
    kinds = {"image_token_id": "image_token", "video_token_id": "video_token"}
    numbers = {key: ids(cases.SPECIAL[token]) for key, token in kinds.items()}
    return {"qwen2_5_vl": Qwen2_5_VLConfig, "qwen3_vl": Qwen3VLConfig}[family](
        vision_config={"patch_size": cases.PATCH[family]}, **numbers
    )


def folder(path: Path, family: str, image: dict[str, Any], video: dict[str, Any] | None = None) -> Path:
    """A folder with what a processor reads of a checkpoint."""
    shared = {"patch_size": cases.PATCH[family], "merge_size": 2, "temporal_patch_size": 2} | cases.CHANNELS[
        family
    ]
    config(family).save_pretrained(path)
    cases.bytes_tokenizer().save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(shared | image))
    if video is not None:
        (path / "video_preprocessor_config.json").write_text(json.dumps(shared | video))
    return path


def recorded(family: str) -> tuple[dict[str, Any], Any]:
    return json.loads((RECORDED / f"{family}.json").read_text()), np.load(RECORDED / f"{family}.npz")


def sampled(count: int) -> VideoFrames:
    """The recorded clip, sampled as the recording says."""
    total = count * cases.STEP
    times = tuple(number * cases.STEP / cases.FPS for number in range(count))
    frames = torch.from_numpy(cases.clip(count))
    return VideoFrames(frames, times, total / cases.FPS, cases.FPS, total, "memory", "recorded")


def check(made: Any, processor: Any, expected: dict[str, Any], kind: int) -> None:
    ids, types = made["input_ids"][0], made["mm_token_type_ids"][0]
    assert made["image_grid_thw" if kind == 1 else "video_grid_thw"][0].tolist() == expected["grid"]
    assert len(ids) == expected["columns"]
    assert int((types == kind).sum()) == expected["placeholders"]
    assert processor.tokenizer.decode(ids[types == 0]) == expected["text"]
    edges = np.flatnonzero(np.diff(np.r_[0, (types == kind).numpy(), 0]))
    assert np.diff(edges)[::2].tolist() == expected["runs"]


def check_pixels(pixels: torch.Tensor, expected: np.ndarray[Any, Any], family: str) -> None:
    level = 1 / 255 / min(cases.CHANNELS[family]["image_std"])
    off = np.abs(cases.few(pixels) - expected).max()
    assert off <= level * 1.001, off / level
    assert np.abs(cases.few(pixels.flip(-1)) - expected).max() > 10 * level  # another order is noticed


@pytest.mark.parametrize("family, name, size", IMAGES, ids=str)
def test_pictures_are_those_recorded(family: str, name: str, size: Any, tmp_path: Path) -> None:
    numbers, arrays = recorded(family)
    processor = load_processor(folder(tmp_path, family, cases.SETTINGS[family][name]))
    assert isinstance(processor, NativeProcessor)
    made = processor(
        cases.template(False), images=Image.fromarray(cases.picture(sum(size), *size)), padding=True
    )
    key = f"{name}_{size[0]}x{size[1]}"
    expected = numbers["images"][key]
    check(made, processor, expected, 1)
    assert list(made["pixel_values"].shape) == expected["shape"]
    assert made["pixel_values"].dtype == torch.float32
    check_pixels(made["pixel_values"], arrays[f"image_{key}"], family)
    assert processor.image_tokens(size) == expected["placeholders"]
    if processor.geometry.image_budget.image_size(size, processor.geometry.patches) == size:
        np.testing.assert_allclose(cases.few(made["pixel_values"]), arrays[f"image_{key}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family, name, count", CLIPS, ids=str)
def test_clips_are_those_recorded(family: str, name: str, count: int, tmp_path: Path) -> None:
    numbers, arrays = recorded(family)
    processor = load_processor(folder(tmp_path, family, {}, cases.CLIP_SETTINGS[family][name]))
    made = processor(cases.template(True), videos=sampled(count))
    expected = numbers["clips"][f"{name}_{count}"]
    check(made, processor, expected, 2)
    assert list(made["pixel_values_videos"].shape) == expected["shape"]
    check_pixels(made["pixel_values_videos"], arrays[f"clip_{name}_{count}"], family)
    assert processor.video_tokens(count, cases.CLIP_SIZE) == expected["placeholders"]
    if "seconds" in expected:
        assert made["second_per_grid_ts"].tolist() == pytest.approx([expected["seconds"]])
    else:
        assert "second_per_grid_ts" not in made


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_sampled_as_recorded(family: str, tmp_path: Path) -> None:
    rule = load_processor(folder(tmp_path, family, {})).frame_rule
    expected = recorded(family)[0]["sampled"]
    for (total, fps, asked), places in zip(cases.SAMPLED, expected, strict=True):
        assert rule.choose(total, fps, max_frames=1000, **asked) == places, (total, fps, asked)


def test_a_batch_is_padded_on_the_left_with_types(tmp_path: Path) -> None:
    processor = load_processor(folder(tmp_path, "qwen3_vl", cases.SETTINGS["qwen3_vl"]["small"]))
    small = Image.fromarray(cases.picture(0, 64, 64))
    made = processor(
        [cases.template(False), cases.template(True), "hello"], images=[[small], [], []], videos=[sampled(3)]
    )
    assert set(made) == {
        "input_ids",
        "attention_mask",
        "mm_token_type_ids",
        "pixel_values",
        "image_grid_thw",
        "pixel_values_videos",
        "video_grid_thw",
    }
    assert set(made) <= set(processor.model_input_names) | {"token_type_ids"}
    types = made["mm_token_type_ids"]
    assert types.shape == made["input_ids"].shape and types.dtype == torch.int64
    assert [sorted(set(row.tolist())) for row in types] == [[0, 1], [0, 2], [0]]
    assert (types[made["attention_mask"] == 0] == 0).all()
    assert int((types == 2).sum()) == processor.video_tokens(3, cases.CLIP_SIZE)


def test_times_follow_the_frames_and_not_their_numbers(tmp_path: Path) -> None:
    processor = load_processor(folder(tmp_path, "qwen3_vl", {}, cases.CLIP_SETTINGS["qwen3_vl"]["small"]))
    frames = torch.from_numpy(cases.clip(3))
    clip = VideoFrames(frames, (0.0, 1.0, 7.0), 8.0, 3.0, 24, "memory", "clip")
    made = processor(cases.template(True), videos=clip)
    text = processor.tokenizer.decode(made["input_ids"][0][made["mm_token_type_ids"][0] == 0])
    stamps = "<0.5 seconds><|vision_start|><|vision_end|><7.0 seconds><|vision_start|><|vision_end|>"
    assert text == cases.template(True).replace(cases.SPECIAL["video_token"], stamps)


def test_processors_are_saved_and_read_again(tmp_path: Path) -> None:
    settings = cases.CLIP_SETTINGS["qwen3_vl"]["capped"] | {"fps": 1.0, "max_frames": 20}
    first = load_processor(folder(tmp_path / "a", "qwen3_vl", cases.SETTINGS["qwen3_vl"]["small"], settings))
    first.save_pretrained(tmp_path / "b")
    again = Processor.from_pretrained(tmp_path / "b")
    assert type(again) is NativeProcessor
    assert (again.geometry, again.paced, again.around) == (first.geometry, first.paced, first.around)
    assert again.paced.fps == 1.0 and again.paced.most_frames == 20
    assert again.geometry.clip_budget.frame_tokens == 6
    assert "tokens of 32 px" in repr(again)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"patch_size": 12}, "patch_size=12, the model's encoder has 16"),
        ({"size": {"shortest_edge": 0, "longest_edge": 9}}, "shortest_edge=0"),
        ({"size": {"shortest_edge": 10, "longest_edge": 9}}, "at most longest_edge"),
        ({"size": 5}, "size=5"),
        ({"do_resize": False}, "do_resize=False"),
        ({"fps": -1}, "fps=-1"),
        ({"cap_pixels_per_frame": True, "max_video_tokens": "many"}, "max_video_tokens='many'"),
        ({"min_frames": 0}, "min_frames=0"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=message):
        load_processor(folder(tmp_path, "qwen3_vl", settings))


def test_a_clip_needs_its_size_and_long_pictures_are_refused(tmp_path: Path) -> None:
    processor = load_processor(folder(tmp_path, "qwen3_vl", {}))
    with pytest.raises(MediaError, match="size=None"):
        processor.video_tokens(4)
    with pytest.raises(MediaError, match="200 times"):
        processor(cases.template(False), images=Image.new("RGB", (2010, 10)))


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl_moe"])
def test_the_other_two_families_write_as_their_relatives(family: str, tmp_path: Path) -> None:
    from transformers import Qwen2VLConfig, Qwen3VLMoeConfig

    relative = {"qwen2_vl": "qwen2_5_vl", "qwen3_vl_moe": "qwen3_vl"}[family]
    made = folder(tmp_path, relative, {}, cases.CLIP_SETTINGS[relative]["small"])
    expected = load_processor(made)(cases.template(True), videos=sampled(7))
    ids = {key: getattr(config(relative), key) for key in ("image_token_id", "video_token_id")}
    kind = Qwen2VLConfig if family == "qwen2_vl" else Qwen3VLMoeConfig
    kind(vision_config={"patch_size": cases.PATCH[relative]}, **ids).save_pretrained(made)
    processor = load_processor(made)
    assert processor.family.model_type == family
    again = processor(cases.template(True), videos=sampled(7))
    assert set(expected) - set(again) == ({"second_per_grid_ts"} if family == "qwen2_vl" else set())
    assert all(torch.equal(again[key], expected[key]) for key in again)

"""The processor's keys, ids and padding, against transformers' own where it can run without torchvision."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from record_media import CLIP_MEAN, CLIP_STD
from vidcompress.adapters.families import read_geometry
from vidcompress.errors import MediaError
from vidcompress.media.preprocessing.load_processor import load_processor
from vidcompress.media.preprocessing.pixel_config import read_recipe
from vidcompress.media.preprocessing.placeholders import expand

GRID = [[28, 56], [56, 28], [56, 56], [28, 84]]


def picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


@pytest.fixture(scope="module")
def onevision(make_config: Callable[..., Any], make_processor: Callable[..., Any]) -> Any:
    return make_processor(make_config("llava_onevision", 28, GRID))


@pytest.fixture(scope="module")
def next_(make_config: Callable[..., Any], make_processor: Callable[..., Any]) -> Any:
    return make_processor(make_config("llava_next", 28, GRID))


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_inputs_equal_transformers_processor(family: str, next_: Any, onevision: Any, tokenizer: Any) -> None:
    import transformers

    shared = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "image_grid_pinpoints": GRID}
    if family == "llava_next":
        pixels = transformers.LlavaNextImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, **shared
        )
        reference = transformers.LlavaNextProcessor(
            pixels,
            tokenizer,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
        )
    else:
        pixels = transformers.LlavaOnevisionImageProcessorPil(size={"height": 28, "width": 28}, **shared)
        reference = transformers.models.llava_onevision.LlavaOnevisionProcessor.__new__(
            transformers.models.llava_onevision.LlavaOnevisionProcessor
        )
        reference.image_processor, reference.tokenizer = pixels, tokenizer
        reference.num_image_tokens, reference.vision_feature_select_strategy = 4, "full"
        reference.vision_aspect_ratio, reference.chat_template = "anyres_max_9", None
        reference.image_token, reference.image_token_id = "<image>", 3
        reference.video_token, reference.video_token_id = "<video>", 4
    text = ["what is <image> ?", "<image> and <image> blue square", "is this blue ?"]
    images = [[picture(40, 70)], [picture(30, 31), picture(90, 20)]]
    expected = reference(text=text, images=images, padding=True, return_tensors="pt")
    made = (next_ if family == "llava_next" else onevision)(text=text, images=[*images, []])
    assert set(made) == set(expected)
    for key, value in expected.items():
        assert made[key].shape == value.shape, key
        assert made[key].dtype == value.dtype, key
        if key != "pixel_values":
            assert torch.equal(made[key], value), key


def test_rows_are_padded_on_the_left(next_: Any) -> None:
    made = next_(text=["<image> blue", "is this a square ?"], images=picture(28, 28))
    short = made["input_ids"][1]
    count = int(made["attention_mask"][1].sum())
    assert count == 6  # <s> and five words
    assert made["attention_mask"][1].tolist() == [0] * (len(short) - 6) + [1] * 6
    assert short[:-6].tolist() == [0] * (len(short) - 6)
    assert made["attention_mask"][0].all()
    with pytest.raises(MediaError, match="padding=False.*rows have"):
        next_(text=["blue", "a blue square"], padding=False)


def test_text_alone_has_no_pixel_keys(onevision: Any) -> None:
    assert set(onevision("a blue square ?")) <= {"input_ids", "attention_mask", "token_type_ids"}


def test_a_flat_list_is_cut_into_crops_and_a_nested_one_is_not(onevision: Any) -> None:
    two = [picture(56, 56), picture(28, 56)]
    flat = onevision("<image> <image>", images=two)
    nested = onevision("<image> <image>", images=[two])
    assert flat["batch_num_images"].tolist() == [1, 1]
    assert flat["pixel_values"].shape == (2, 5, 3, 28, 28)
    assert nested["batch_num_images"].tolist() == [2]
    assert nested["pixel_values"].shape == (2, 1, 3, 28, 28)
    assert int((nested["input_ids"] == 3).sum()) == 2 * (4 + 1)
    assert flat["image_sizes"].tolist() == [[56, 56], [28, 56]]


@pytest.fixture
def words_only(onevision: Any) -> Any:
    """A processor whose placeholders are words like others, so that `x<image>` is an unknown one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = onevision.tokenizer.get_vocab()
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bare = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>")
    return dataclasses.replace(onevision, tokenizer=bare)


def test_placeholders_are_counted_where_they_are_written(onevision: Any, words_only: Any) -> None:
    """In the text, as stock processors do; ids said something else, and a clip got the length of a picture."""
    media: dict[str, Any] = {"images": picture(28, 28), "videos": [np.zeros((3, 28, 28, 3), np.uint8)]}
    for processor in (onevision, words_only):
        with pytest.raises(MediaError, match=r"images: 1 given, but text has \[2\] '<image>' placeholders"):
            processor("x<image> <video> <image>", **media)
        ids = processor("<video> <image> what", **media)["input_ids"][0].tolist()
        assert (ids.count(3), ids.count(4)) == (onevision.image_tokens((28, 28)), onevision.video_tokens(3))
    with pytest.raises(
        MediaError, match="text: holds 2 placeholders, and the tokenizer makes 1 of them; write each"
    ):
        words_only("<video> x<image>", **media)
    glued = onevision("<video> x<image>", **media)["input_ids"][0].tolist()
    assert glued.count(3) == onevision.image_tokens((28, 28)), "a special token is found anywhere"


@pytest.mark.parametrize("form", ["array", "tensor", "pictures", "frames", "list of one", "five axes"])
def test_every_form_of_a_clip(form: str, onevision: Any) -> None:
    from vidcompress.media.video.read import read_video

    clip = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    forms = {
        "array": clip,
        "tensor": torch.from_numpy(clip),
        "pictures": [Image.fromarray(frame) for frame in clip],
        "frames": read_video(clip),
        "list of one": [clip],
        "five axes": clip[None],
    }
    expected = onevision("<video>", videos=torch.from_numpy(clip).permute(0, 3, 1, 2))
    made = onevision("<video>", videos=forms[form])
    assert made["pixel_values_videos"].shape == (1, 3, 3, 28, 28)
    assert torch.equal(made["pixel_values_videos"], expected["pixel_values_videos"])
    assert int((made["input_ids"] == 4).sum()) == 3 * 1 + 1


def test_clips_of_different_length_come_as_a_list(onevision: Any) -> None:
    clip = np.zeros((4, 20, 30, 3), dtype=np.uint8)
    made = onevision(["<video> a", "<video> blue square ?"], videos=[clip, clip[:2]])
    assert [tuple(v.shape) for v in made["pixel_values_videos"]] == [(4, 3, 28, 28), (2, 3, 28, 28)]
    assert (made["input_ids"] == 4).sum(1).tolist() == [5, 3]
    same = onevision(["<video>", "<video>"], videos=[clip, clip[:2]], num_frames=2)
    assert same["pixel_values_videos"].shape == (2, 2, 3, 28, 28)


def test_a_file_gives_32_frames_unless_asked(onevision: Any, write_clip: Callable[..., Any]) -> None:
    path = write_clip("forty.mp4", 40)
    assert onevision("<video>", videos=str(path))["pixel_values_videos"].shape[1] == 32
    assert onevision("<video>", videos=path, fps=3)["pixel_values_videos"].shape[1] == 4
    assert (
        onevision("<video>", videos=io.BytesIO(path.read_bytes()), num_frames=5)["pixel_values_videos"].shape[
            1
        ]
        == 5
    )


def test_chat_template(onevision: Any, next_: Any) -> None:
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is this blue ?"}]}]
    prompt = onevision.apply_chat_template(talk)
    assert prompt == "user:<image> is this blue ? assistant:"
    assert (
        onevision.apply_chat_template([talk, talk], add_generation_prompt=False)
        == [prompt[: -len("assistant:")]] * 2
    )
    begun = [*talk, {"role": "assistant", "content": [{"type": "text", "text": "blue"}]}]
    assert onevision.apply_chat_template(begun, continue_final_message=True).endswith("blue")
    assert onevision.apply_chat_template(begun).endswith("assistant:")
    assert onevision.decode([5, 9, 10]) == onevision.batch_decode([[5, 9, 10]])[0] == "what blue square"
    with pytest.raises(MediaError, match="images: 0 given, but text has"):
        onevision.apply_chat_template(talk, tokenize=True)
    next_.chat_template, kept = None, next_.chat_template
    try:
        with pytest.raises(MediaError, match="no chat template"):
            next_.apply_chat_template(talk)
    finally:
        next_.chat_template = kept


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"text": "<image> a"}, r"images: 0 given, but text has \[1\] '<image>'"),
        (
            {"text": ["a", "<image> <image>"], "images": [picture(9, 9)]},
            r"images: 1 given, but text has \[0, 2\]",
        ),
        (
            {"text": ["<image> <image>", "<image>"], "images": [[picture(9, 9)], [picture(9, 9)] * 2]},
            r"images: lists of \[1, 2\], but text has \[2, 1\]",
        ),
        ({"text": "<image> <image>", "images": [picture(9, 9), [picture(9, 9)]]}, "are mixed"),
        ({"text": "a", "videos": np.zeros((1, 4, 4, 3), np.uint8)}, r"videos: 1 given, but text has \[0\]"),
        ({"text": 7}, "text: got int"),
        ({"text": []}, "text: got list"),
        ({"text": "a", "return_tensors": "np"}, "return_tensors='np'"),
        ({"text": ["a", "a blue"], "padding": "max_length"}, "padding='max_length'"),
        (
            {"text": "<video>", "videos": np.zeros((2, 4, 4, 3), np.float32)},
            r"video: array of dtype float32; pass uint8 .*x \* 255",
        ),
        ({"text": "<image>", "images": 5}, "image: got int"),
    ],
)
def test_bad_calls_name_the_argument(arguments: dict[str, Any], message: str, onevision: Any) -> None:
    with pytest.raises(MediaError, match=message):
        onevision(**arguments)


def test_a_family_without_clips_says_so(next_: Any) -> None:
    with pytest.raises(MediaError, match=r"videos: 1 given, but this model takes none"):
        next_("a", videos=np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(MediaError, match="llava_next takes no clips"):
        next_.video_tokens(3)


def test_expand_repeats_masks_alongside() -> None:
    rows = [
        {"input_ids": [2, 3, 5, 3], "attention_mask": [1, 1, 1, 1], "token_type_ids": [0, 1, 0, 1]},
        {"input_ids": [3]},
    ]
    first, second = expand(rows, (3, None), [2, 0, 3])
    assert first == {
        "input_ids": [2, 3, 3, 5],
        "attention_mask": [1, 1, 1, 1],
        "token_type_ids": [0, 1, 1, 0],
    }
    assert second == {"input_ids": [3, 3, 3]}


# Loading ------------------------------------------------------------------------------------------------------------


def test_files_win_over_defaults_and_nested_over_single(
    make_config: Callable[..., Any], make_processor: Any
) -> None:
    config = make_config("llava_onevision", 28, GRID)
    single = {
        "size": {"height": 28, "width": 28},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [1, 1, 1],
        "resample": 2,
    }
    assert make_processor(config).image_recipe.mean == (0.5, 0.5, 0.5)
    processor = make_processor(config, preprocessor_config=single)
    assert processor.image_recipe.mean == processor.video_recipe.mean == (0.1, 0.2, 0.3)
    assert processor.image_recipe.mode == "bilinear"
    nested = {"image_processor": {**single, "image_mean": 0.25}}
    processor = make_processor(config, preprocessor_config=single, processor_config=nested)
    assert processor.image_recipe.mean == (0.25, 0.25, 0.25)
    assert processor.video_recipe.mean == (0.1, 0.2, 0.3)
    assert make_processor(make_config("llava_next", 28, GRID)).image_recipe.mean == tuple(CLIP_MEAN)


def test_recipes_read_what_the_file_says(make_config: Callable[..., Any]) -> None:
    geometry = read_geometry(make_config("llava_onevision", 28, GRID))
    raw = {"size": 28, "crop_size": 14, "do_center_crop": False}
    assert read_recipe(raw, geometry, "file").crop is None
    shorter = read_recipe(raw, geometry, "file")
    assert (shorter.target((50, 37)), shorter.target((37, 50))) == ((37, 28), (28, 37)), (
        "28 * 50 / 37 = 37.8, cut off"
    )
    plain = read_recipe({"do_rescale": False, "do_normalize": False}, geometry, "file")
    assert (plain.rescale, plain.mean, plain.std) == (1.0, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(MediaError, match="file has no image_mean, and radio has no known one"):
        read_recipe({}, replace(geometry, encoder="radio"), "file")


def test_a_model_in_memory(make_config: Callable[..., Any], tokenizer: Any) -> None:
    import transformers

    model = transformers.LlavaNextForConditionalGeneration(make_config("llava_next", 28, GRID))
    processor = load_processor(model, tokenizer=tokenizer)
    assert processor.resize_device == model.device
    assert load_processor(model, tokenizer=tokenizer, resize_device="cpu").resize_device == torch.device(
        "cpu"
    )
    with pytest.raises(MediaError, match="pass tokenizer="):
        load_processor(model)


@pytest.mark.parametrize(
    "stem, content, message",
    [
        (
            "preprocessor_config",
            {"size": {"height": 30, "width": 30}},
            r"preprocessor_config.json.*\(30, 30\).*28 x 28",
        ),
        ("preprocessor_config", {"size": "big"}, "size='big'"),
        ("preprocessor_config", {"image_mean": [0.5, 0.5]}, r"image_mean=\[0.5, 0.5\]"),
        ("preprocessor_config", {"image_std": [0.5, 0, 0.5]}, "image_std"),
        ("preprocessor_config", {"resample": 1}, "resample=1"),
        ("preprocessor_config", {"rescale_factor": "x"}, "rescale_factor='x'"),
        ("preprocessor_config", {"do_resize": False}, "do_resize"),
        ("video_preprocessor_config", {"size": 27}, "video_preprocessor_config.json"),
        ("processor_config", [1], "processor_config.json.*list"),
    ],
)
def test_bad_files_are_named(
    stem: str, content: Any, message: str, make_config: Any, make_processor: Any
) -> None:
    with pytest.raises(MediaError, match=message):
        make_processor(make_config("llava_onevision", 28, GRID), **{stem: content})


def test_bad_checkpoints(make_config: Callable[..., Any], tokenizer: Any, tmp_path: Any) -> None:
    with pytest.raises(MediaError, match="holds no config.json"):
        load_processor(tmp_path)
    with pytest.raises(MediaError, match="model_or_path='no-such/model'"):
        load_processor("no-such/model", local_files_only=True)
    with pytest.raises(MediaError, match="model_or_path: got int"):
        load_processor(3)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(MediaError, match="model_type='bert' has no processor here"):
        load_processor(tmp_path, tokenizer=tokenizer)
    config = make_config("llava_next", 28, GRID)
    config.image_token_index = 9
    config.save_pretrained(tmp_path)
    with pytest.raises(MediaError, match="'<image>' the id 3.*image_token_id=9"):
        load_processor(tmp_path, tokenizer=tokenizer)
    with pytest.raises(MediaError, match="tokenizer of .* does not load"):
        load_processor(tmp_path)
    (tmp_path / "processor_config.json").write_text("{")
    with pytest.raises(MediaError, match="processor_config.json.*not JSON"):
        load_processor(tmp_path, tokenizer=tokenizer)


def test_loading_runs_no_code_from_the_checkpoint(
    make_config: Callable[..., Any], tokenizer: Any, tmp_path: Any
) -> None:
    config = make_config("llava_next", 28, GRID).to_dict()
    config["auto_map"] = {"AutoConfig": "evil.Config"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('code from the checkpoint was run')")
    assert load_processor(tmp_path, tokenizer=tokenizer).family.model_type == "llava_next"


def test_the_package_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    heavy = ("torch", "av", "decord", "transformers", "PIL")
    code = f"import sys, vidcompress.media; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_checkpoint_may_state_its_frames(onevision: Any, write_clip: Callable[..., Any]) -> None:
    """`num_frames` of the video processor file is the default for files; what is in memory stays whole."""
    path = write_clip("twelve.mp4", 12)
    eight = replace(onevision, video_recipe=replace(onevision.video_recipe, num_frames=8))
    prompt = "<video> what"
    assert onevision(text=prompt, videos=[path])["pixel_values_videos"].shape[1] == 12
    assert eight(text=prompt, videos=[path])["pixel_values_videos"].shape[1] == 8
    assert eight(text=prompt, videos=[path], num_frames=3)["pixel_values_videos"].shape[1] == 3
    frames = np.zeros((12, 28, 28, 3), dtype=np.uint8)
    assert eight(text=prompt, videos=[frames])["pixel_values_videos"].shape[1] == 12
    geometry = onevision.geometry
    assert read_recipe({"num_frames": 8}, geometry, "f.json").num_frames == 8
    with pytest.raises(MediaError, match=r"f.json: num_frames=0; expected a whole number"):
        read_recipe({"num_frames": 0}, geometry, "f.json")

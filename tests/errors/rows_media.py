"""Wrong arguments of what reads clips and pictures and makes model inputs of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from errors.rows import Make, Row
from errors.rows_settings import WHOLE, sampling_rows
from vidcompress.adapters.presets import TOKENS_2880
from vidcompress.errors import MediaError, SamplingError, VidcompressError

NO_COUNTS = (0, -1, 1.5, math.nan, math.inf, True, None, "8")
NO_FLAGS = (1, "yes", None)


def limits(call: str, *names: str, error: type[VidcompressError] = MediaError) -> list[Row]:
    """Rows of parameters that are whole numbers of at least 1."""
    return [Row(call, name, value, WHOLE, error) for name in names for value in NO_COUNTS]


def media(call: str, parameter: str, value: Any, message: str, **more: Any) -> Row:
    """A row that raises MediaError."""
    return Row(call, parameter, value, message, MediaError, **more)


def sources(call: str, parameter: str) -> list[Row]:
    """Rows of a clip's source."""
    return [
        *(
            media(
                call, parameter, value, "; pass a path, bytes, a binary file object", names="video", says=says
            )
            for value, says in (
                (None, "NoneType"),
                (5, "int"),
                (True, "bool"),
                ({}, "dict"),
                (object, "type"),
            )
        ),
        media(call, parameter, "", "no such file", names="video", says="''"),
        media(call, parameter, "no.mp4", "no such file; check the path", names="video"),
        media(
            call, parameter, "https://example.org/a.mp4", "URLs are not opened; download it", names="video"
        ),
        media(call, parameter, b"", "is empty (0 bytes)", names="video", says="0 bytes"),
        media(call, parameter, [], "got an empty list; pass at least one", names="video", says="empty list"),
        media(
            call,
            parameter,
            Make(lambda here: here.photo),
            "is a still picture, not a video; pass it as image=",
            names="video",
        ),
    ]


READ_VIDEO = [
    *sources("read_video", "source"),
    media("read_video", "source", [5], "image: got int", names="image", says="int"),
    media("read_video", "source", np.zeros((4, 4, 3), np.uint8), "pass (frame, height, width, 3)", names="video", says="(4, 4, 3)"),
    *sampling_rows("read_video"),
    *(Row("read_video", "backend", value, "not known; use one of ['auto'", SamplingError) for value in ("ffmpeg", None, 3, [])),
    *(Row("read_video", "rule", value, "must be a SamplingRule", SamplingError) for value in (5, "qwen", [], True)),
    *(row for row in limits("read_video", "default_frames", error=SamplingError) if row.value is not None),
    *(
        Row("read_video", "source_fps", value, "must be a positive number of frames per second", SamplingError)
        for value in (0, -1, math.nan, math.inf, True, None, "1")
    ),
    *limits("read_video", "max_pixels", "max_source_frames", "max_bytes"),
    media("read_video", "max_pixels", 99, "are over max_pixels=99; scale the clip down first", says="99"),
    media("read_video", "max_source_frames", 3, "more than max_source_frames=3 frames; cut the clip", says="3"),
    media("read_video", "max_bytes", 99, "over max_bytes=99; ask for fewer frames, raise max_bytes, or", says="99"),
]  # fmt: skip

LOAD_IMAGE = [
    *(
        media("load_image", "source", value, "image: got ", names="image", says=says)
        for value, says in ((None, "NoneType"), (5, "int"), (True, "bool"), ({}, "dict"), ([], "list"))
    ),
    media("load_image", "source", "no.png", "no such file; check the path", names="image"),
    media("load_image", "source", "/", "is a folder; pass a file inside it", names="image"),
    media(
        "load_image",
        "source",
        b"",
        "is empty (0 bytes); fetch or write it again",
        names="image",
        says="0 bytes",
    ),
    media(
        "load_image",
        "source",
        Make(lambda here: here.clip),
        "is a video, not a picture; pass it as video=",
        names="image",
    ),
    *limits("load_image", "max_pixels"),
    media("load_image", "max_pixels", 99, "more than max_pixels=99; make it smaller, or raise", says="99"),
]

SMALL = [
    *(media("sample_indices", "total", value, "must be a whole number") for value in (*NO_COUNTS, 10**30)),
    *limits("sample_indices", "num_frames", error=SamplingError),
    *(media("register_backend", "name", value, "must be a text that is not empty") for value in ("", None, 5, ["x"])),
    *(media("register_family", "family", value, "register_family takes a vidcompress.media.Family, got") for value in (None, "x", 5)),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, counts_images=False)),
          "is registered already; choose another", names="model_type", says="'llava_onevision'"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, presets=["2880"])),
          "must be a tuple of vidcompress.adapters.presets.Preset", names="presets", says="['2880']"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, presets=(TOKENS_2880,), crops=False)),
          "need crops=True", names="presets", says="Preset(name='2880', crops=(2, 2))"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, image_layout=5)),
          "must be a function of (geometry, size)", names="image_layout", says="image_layout=5"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, presets=(TOKENS_2880,))),
          "must be a function of (geometry, preset, size)", names="preset_layout", says="preset_layout=None"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, tile_rule=5)),
          "must be a function of (picture, fewest, most, side)", names="tile_rule", says="tile_rule=5"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, native=5)),
          "must be NativeRules, or None", names="native", says="native=5"),
    *(media(call, "model_type", value, "must be a text that is not empty") for call in ("tiled_family", "native_family") for value in ("", None, 5)),
    media("tiled_family", "tile_rul", 5, "did you mean 'tile_rule'?", says="tile_rul"),
    *(media("native_family", "rules", value, "must be NativeRules") for value in (None, 5, "qwen")),
    *(media("native_family", "clips", value, "must be True or False") for value in NO_FLAGS),
    *(row for name in ("least", "most") for row in limits("PixelBudget", name)),
    *(media("PixelBudget", name, value, WHOLE) for name in ("frame_tokens", "clip_tokens") for value in (0, 1.5, "4")),
    *(media("PixelBudget", name, value, "must be True or False") for name in ("over_clip", "paired") for value in NO_FLAGS),
    media("PixelBudget", "most", 5, "must be at least the 10 pixels of least"),
    *(media("NativeRules", name, value, "must be a PixelBudget") for name in ("image_budget", "clip_budget") for value in (None, 5)),
    *(media("NativeRules", name, value, "must be a tuple of 3 numbers") for name in ("mean", "std") for value in (None, (1, 2), (1, 2, "3"))),
    *(media("NativeRules", name, value, "must be a tuple of 2 texts") for name in ("tokens", "around", "row_ends", "clip_marks") for value in (None, ("a",), ("a", 5))),
    *(media("NativeRules", name, value, "must be True or False") for name in ("timestamps", "seconds") for value in NO_FLAGS),
    *(media("NativeRules", name, value, WHOLE) for name in ("multiple", "cap_tokens", "frames") for value in (0, 1.5, "4")),
    media("NativeRules", "form", "grid", "must be one of grids, pictures, numbered"),
    media("NativeRules", "spread", "near", "must be one of nearest, steps"),
    media("NativeRules", "capped", 5, "must be one of frame, clip"),
    media("NativeRules", "sampling", "fps", "must be one of rate, seconds, lengths"),
    media("NativeRules", "frame_text", "<frame>", "must be a function of (placeholder, seconds), or None"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, split=5)),
          "must be True or False", names="split", says="split=5"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, split=True)),
          "needs tiles=True", names="split", says="split=True"),
    media("register_family", "family", Make(lambda here: replace(here.processor.family, model_type="")),
          "must be a text that is not empty", names="model_type", says="model_type=''"),
    *(media("time_instruction", "duration", value, "must be a number of seconds") for value in (None, "3", math.nan, True)),
    *(media("time_instruction", "times", value, "must be a list of numbers") for value in (None, 5, "1", ["1"], [math.nan])),
]  # fmt: skip

VIDEO_FRAMES = [
    *(
        media("VideoFrames", "frames", value, "uint8", says=says)
        for value, says in (
            (None, "None"),
            (np.zeros((1, 2, 2, 3), np.uint8), "(1, 2, 2, 3)"),
            (torch.zeros(1, 2, 2, 3), "float32"),
            (torch.zeros(2, 2, 3).byte(), "(2, 2, 3)"),
            (torch.zeros(0, 2, 2, 3).byte(), "(0, 2, 2, 3)"),
        )
    ),
    *(media("VideoFrames", "times", value, "pass one per frame, in seconds") for value in (None, (), (0, 1), ("0",), (math.nan,))),
    *(
        media("VideoFrames", name, value, "must be a number of at least 0")
        for name in ("duration", "fps")
        for value in (None, "1", -1, math.nan, math.inf, True)
    ),
    *(media("VideoFrames", "notes", value, "must be a tuple of texts") for value in (None, "cut", [1], (1,))),
    *limits("VideoFrames", "total_frames"),
    *(media("VideoFrames", "backend", value, "must be a text") for value in (None, "", 5)),
    *(media("VideoFrames", "source", value, "must be a text that names the clip") for value in (None, 5)),
]  # fmt: skip

CALL = "Processor.__call__"
PROCESSOR = [
    *(
        media(CALL, "text", value, "pass a prompt, or a non-empty list of prompts", says=f"got {type(value).__name__}")
        for value in (None, 5, [], {}, [5], b"hello")
    ),
    *(media(CALL, "text", value, "pass Unicode text", says="ud800") for value in ("a \ud800", ["a", "\ud800"])),
    media(CALL, "images", Make(lambda here: here.picture), "placeholders per row; write one for each", says="1 given"),
    media(CALL, "images", 5, "image: got int", others={"text": "<image>"}, names="image", says="int"),
    media(CALL, "images", [["a"], "b"], "are mixed; pass one list per prompt", says=""),
    media(CALL, "images", [["a", "b"]], "lists of [2], but text has", others={"text": ["<image>", "<image>"]}, says="[2]"),
    media(CALL, "videos", "a.mp4", "placeholders per row; write one for each", says="1 given"),
    media(CALL, "videos", "a.mp4", "no such file", others={"text": "<video>"}, names="video"),
    *sampling_rows(CALL),
    *(Row(CALL, "video_backend", value, "not known; use one of ['auto'", SamplingError, names="backend") for value in ("ffmpeg", 5, None)),
    *(media(CALL, "padding", value, "must be True, 'longest' or False") for value in ("left", None, 1, [])),
    media(CALL, "padding", False, "but the rows have [1, 2] tokens; pass padding=True", others={"text": ["what", "what is"]}),
    *(media(CALL, "return_tensors", value, "only 'pt' is supported") for value in ("np", None, 5)),
    *(media("Processor.prepare_images", "pictures", value, "must be a list of what load_image takes") for value in (None, 5, "a.png")),
    *(media("Processor.prepare_images", "groups", value, "sum to the 1 pictures") for value in (5, [2], [0, 1], ["1"], [True])),
    *(media("Processor.prepare_videos", "clips", value, "pass a list of VideoFrames") for value in (None, 5)),
    media("Processor.prepare_videos", "clips", ["a.mp4"], "entry 0 is 'a.mp4'; pass a list of VideoFrames", says="'a.mp4'"),
    *(media("Processor.image_tokens", "size", value, "must be (height, width) in pixels") for value in (None, 5, (4,), "44")),
    *(media("Processor.image_tokens", "size", (4, value), WHOLE, says=f"={value!r}") for value in (0, 1.5, "4")),
    *(media("Processor.image_tokens", "single_view", value, "must be True or False") for value in NO_FLAGS),
    *(media("Processor.video_tokens", "frames", value, "must be a whole number from 1 to 20000") for value in (*NO_COUNTS, 20_001)),
    *(
        media("Processor.apply_chat_template", "conversation", value, "must be a list of messages such as")
        for value in (None, 5, "hello", [], {}, [5], [{}], [{"role": 3}], [[]])
    ),
    media("Processor.apply_chat_template", "conversation", [{"role": "user", "content": 5}], "the chat template fails over",
          says=""),
    *(
        media("Processor.apply_chat_template", "conversation", value, "pass Unicode text", says="ud800")
        for value in (
            [{"role": "user", "content": "\ud800"}],
            [{"role": "user", "content": [{"type": "text", "text": "a\ud800"}]}],
            [[{"role": "\ud800", "content": "a"}]],
        )
    ),
    *(media("Processor.apply_chat_template", "add_generation_prompt", value, "must be True or False") for value in NO_FLAGS[:2]),
    *(media("Processor.apply_chat_template", "tokenize", value, "must be True or False") for value in NO_FLAGS),
    *(media("Processor.apply_chat_template", "return_dict", value, "must be True or False") for value in NO_FLAGS),
    *(
        media("Processor.apply_chat_template", "processor_kwargs", value, "must be a dict of arguments, or None")
        for value in (5, "num_frames", [3])
    ),
    media(CALL, "truncation", True, "not served by this processor, which takes images, videos, num_frames"),
    media("Processor.apply_chat_template", "chat_template", "{% if %}", "the chat template fails over", names="template", says=""),
]  # fmt: skip

LOAD_PROCESSOR = [
    *(
        media("load_processor", "model_or_path", value, "pass a folder, a hub id or a transformers model")
        for value in (None, 5, True, [], "", "x\0")
    ),
    Row("load_processor", "use_fast", True, "there is one processor; leave it out"),
    Row("load_processor", "cache_dir", "/cache", "set HF_HOME in the environment before Python starts"),
    Row("load_processor", "prset", "2880", "load_processor takes no such argument"),
    media("load_processor", "model_or_path", "/", "holds no config.json; pass the folder of a saved"),
    media("load_processor", "model_or_path", "owner/nothing", "pass a folder or a hub id of a known model"),
    *(media("load_processor", "resize_device", value, "is not a device; pass 'cpu'") for value in ("toaster", "", 0, 2.5)),
    *(Row("load_processor", "preset", value, "with llava_onevision: it has no presets; leave it out") for value in ("2880", "", 5)),
    media("load_processor", "resize_device", "cuda:99", "this machine has"),
    *(media("load_processor", "tokenizer", value, "must be a transformers tokenizer") for value in (5, "bert", [])),
    *(media("load_processor", "local_files_only", value, "must be True or False") for value in NO_FLAGS),
    *(media("load_processor", "revision", value, "must be a text that is not empty") for value in (5, "", [])),
]  # fmt: skip

ROWS = [*READ_VIDEO, *LOAD_IMAGE, *SMALL, *VIDEO_FRAMES, *PROCESSOR, *LOAD_PROCESSOR]

"""A tokenizer, model configs and clips that are made on the spot, small enough to be made for every run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

torch.set_num_threads(1)

WORDS = ["<pad>", "<unk>", "<s>", "<image>", "<video>", "what", "is", "this", "a", "blue", "square", "?"]
Array = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A word-level tokenizer that puts <s> before every prompt, as Llama's does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>"
    )
    made.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
    made.padding_side = "left"
    made.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:{% for c in m['content'] %}"
        "{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<{{ c['type'] }}>{% endif %} {% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    return made


@pytest.fixture(scope="session")
def asked(make_config: Callable[..., Any], tokenizer: Any) -> Callable[[str], Any]:
    """A VisualQA around a random model of a family, sending all tokens or half of them."""
    import transformers

    from vidcompress import VisualQA, load_processor

    made: dict[str, Any] = {}

    def make(family: str) -> Any:
        if family not in made:
            grid = [[28 * r, 28 * c] for r in range(1, 4) for c in range(1, 4)]
            torch.manual_seed(0)
            model = transformers.AutoModelForImageTextToText.from_config(make_config(family, 28, grid)).eval()
            made[family] = VisualQA(model, load_processor(model, tokenizer=tokenizer), retention_ratio=0.5)
            made[family].processor.chat_template = tokenizer.chat_template
        return made[family]

    return make


def text_settings() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": len(WORDS),
    }


def vision_settings(image_size: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": image_size,
        "patch_size": 14,
    }


def next_config(image_size: int, canvases: list[list[int]]) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextConfig

    return LlavaNextConfig(
        vision_config=CLIPVisionConfig(**vision_settings(image_size)),
        text_config=LlamaConfig(**text_settings()),
        image_grid_pinpoints=canvases,
        image_token_index=3,
    )


def next_video_config(image_size: int, canvases: list[list[int]], **settings: Any) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaNextVideoConfig

    return LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(**vision_settings(image_size)),
        text_config=LlamaConfig(**text_settings()),
        image_grid_pinpoints=canvases,
        image_token_index=3,
        video_token_index=4,
        **settings,
    )


def video_config(image_size: int, canvases: list[list[int]], aspect_ratio: str = "anyres_max_9") -> Any:
    from vidcompress.adapters.llava_video.model import LlavaVideoConfig

    alike = onevision_config(image_size, canvases, aspect_ratio).to_dict()
    return LlavaVideoConfig(**{key: value for key, value in alike.items() if key != "model_type"})


def onevision_config(image_size: int, canvases: list[list[int]], aspect_ratio: str = "anyres_max_9") -> Any:
    from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig

    return LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**vision_settings(image_size), vision_use_head=False),
        text_config=Qwen2Config(**text_settings()),
        image_grid_pinpoints=canvases,
        vision_aspect_ratio=aspect_ratio,
        image_token_index=3,
        video_token_index=4,
    )


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Any]:
    """make_config(model_type, image_size, canvases[, aspect_ratio]) to a transformers config."""

    def make(model_type: str, *args: Any, **kwargs: Any) -> Any:
        made = {
            "llava_next": next_config,
            "llava_next_video": next_video_config,
            "llava_onevision": onevision_config,
            "llava_video": video_config,
        }
        return made[model_type](*args, **kwargs)

    return make


@pytest.fixture(scope="session")
def make_processor(tokenizer: Any, tmp_path_factory: Any) -> Callable[..., Any]:
    """make_processor(config[, **files]) to a Processor loaded from a folder with these JSON files."""
    import json

    from vidcompress.media.preprocessing.load_processor import load_processor

    def make(config: Any, **files: Any) -> Any:
        folder = tmp_path_factory.mktemp("checkpoint")
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for stem, content in files.items():
            (folder / f"{stem}.json").write_text(json.dumps(content))
        return load_processor(folder)

    return make


def draw(number: int, height: int, width: int) -> Array:
    """Frame `number` of every test clip: a moving texture and a number that can be told from its neighbours'."""
    base = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    picture = np.roll(base.repeat(8, 0).repeat(8, 1)[:height, :width], number * 3, axis=1)
    picture[: height // 3, : width // 3] = (number * 37) % 256
    return picture


@pytest.fixture(scope="session")
def write_clip(tmp_path_factory: Any) -> Callable[..., Path]:
    """write_clip(name, frames, ...) encodes a clip with FFmpeg and returns its path; equal calls share a file."""
    folder, made = tmp_path_factory.mktemp("clips"), {}

    def write(
        name: str,
        count: int,
        *,
        height: int = 48,
        width: int = 64,
        codec: str = "libx264",
        rate: int = 30,
        stamps: list[int] | None = None,
        rotation: int = 0,
        mirror: bool = False,
        pix_fmt: str = "yuv420p",
        container_format: str | None = None,
        **options: str,
    ) -> Path:
        path = folder / name
        if name in made:
            assert made[name] == (count, options), f"two different clips are called {name}"
            return path
        if codec not in av.codecs_available:
            pytest.skip(f"this FFmpeg build has no {codec}")
        made[name] = (count, options)
        with av.open(str(path), "w", format=container_format) as container:
            stream = container.add_stream(
                codec, rate=rate, options={k.replace("_", "-"): v for k, v in options.items()}
            )
            stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
            if rotation or mirror:
                stream.set_display_rotation(rotation, hflip=mirror)
            if stamps:
                stream.codec_context.time_base = Fraction(1, 1000)
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(draw(number, height, width), format="rgb24")
                if stamps:
                    frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture(scope="session")
def decode_all() -> Callable[[Path], Array]:
    """The plain way: every frame of a file from start to end, uint8 (frame, height, width, 3)."""

    def decode(path: Path) -> Array:
        with av.open(str(path)) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

    return decode


@pytest.fixture
def damaged_clip(write_clip: Callable[..., Path], tmp_path: Path) -> Path:
    """A clip of 60 frames whose key frame 40 holds nothing but ones."""
    whole = write_clip("to_damage.mp4", 60, height=48, width=64, g="10", bf="0")
    content = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        packet = list(container.demux(video=0))[40]
        assert packet.is_keyframe and packet.pos is not None
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    return path


@pytest.fixture
def running() -> Iterator[Callable[[], list[str]]]:
    """Which threads read a clip; none is left when the test is over."""

    def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "vidcompress-frames"]

    yield names
    assert names() == []

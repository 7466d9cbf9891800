"""Small random models of each family, built from configs, and inputs for them without any processor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from vidcompress.adapters.layouts import closest_grid
from vidcompress.adapters.llava_video.model import LlavaVideoConfig, LlavaVideoForConditionalGeneration

IMAGE, VIDEO, PAD, EOS = 90, 91, 0, 1
SIDE, PATCH = 56, 14
TOKENS = (SIDE // PATCH) ** 2
"""Of a view."""
_DECODER = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=100,
    max_position_embeddings=4096,
    pad_token_id=PAD,
    bos_token_id=None,
    eos_token_id=None,
)
_VISION = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=SIDE,
    patch_size=PATCH,
)
NEXT_PINPOINTS = [
    [SIDE, 2 * SIDE],
    [2 * SIDE, SIDE],
    [2 * SIDE, 2 * SIDE],
    [3 * SIDE, SIDE],
    [SIDE, 3 * SIDE],
]
ONE_PINPOINTS = [[SIDE * i, SIDE * j] for i in range(1, 7) for j in range(1, 7)]
CROPPED = ("llava_next", "llava_next_video", "llava_onevision", "llava_video")
"""Families with a thumbnail, crops of a canvas and newlines."""
FAMILIES = (*CROPPED, "llava", "internvl")
ANYRES_MAX = ("llava_onevision", "llava_video")
"""Families that shrink large canvases, and send several images of one prompt as one view each."""
VIDEO_FAMILIES = ("llava_next_video", "llava_onevision", "llava_video", "internvl")
MOST_TILES = 6
CLASSES: dict[str, tuple[Any, Any]] = {
    "llava_next": (LlavaNextConfig, LlavaNextForConditionalGeneration),
    "llava_next_video": (LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration),
    "llava_onevision": (LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration),
    "llava_video": (LlavaVideoConfig, LlavaVideoForConditionalGeneration),
    "llava": (LlavaConfig, LlavaForConditionalGeneration),
    "internvl": (InternVLConfig, InternVLForConditionalGeneration),
}
SIZES = ((112, 112), (112, 80), (56, 168), (40, 100), (200, 56), (56, 56), (8, 300), (300, 8))


@lru_cache(maxsize=16)
def tiny_model(
    family: str, decoder: str = "default", attention: str = "sdpa", side: int = SIDE, **settings: Any
) -> Any:
    """A random model in float32 and eval mode; cached, so tests may not change it for good.

    `side` is that of the encoder's pictures in pixels; `settings` go into the config.
    """
    torch.manual_seed(0)
    vision = {**_VISION, "image_size": side}
    config_class, model_class = CLASSES[family]
    if family == "internvl":
        config = config_class(
            vision_config=InternVLVisionConfig(**{**vision, "patch_size": PATCH // 2}, use_qk_norm=True),
            text_config=Qwen2Config(**_DECODER),
            image_token_id=IMAGE,
            tie_word_embeddings=False,
            **settings,
        )
    elif family == "llava":
        config = config_class(
            vision_config=CLIPVisionConfig(**vision),
            text_config=LlamaConfig(**_DECODER),
            image_token_index=IMAGE,
            **settings,
        )
    elif "next" in family:
        text = {"default": LlamaConfig, "mistral": MistralConfig}[decoder](**_DECODER)
        config = config_class(
            vision_config=CLIPVisionConfig(**vision),
            text_config=text,
            image_grid_pinpoints=NEXT_PINPOINTS,
            image_token_id=IMAGE,
            image_seq_length=(side // PATCH) ** 2,
            **({"video_token_id": VIDEO} if "video" in family else {}),
            **settings,
        )
    else:
        config = config_class(
            vision_config=SiglipVisionConfig(**vision, vision_use_head=False),
            text_config=Qwen2Config(**_DECODER),
            image_grid_pinpoints=ONE_PINPOINTS,
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            **settings,
        )
    model = model_class(config)
    model.set_attn_implementation(attention)
    # Larger weights, so that wrong features cannot hide in the noise and answers differ between inputs.
    scale = 8.0 if "next" in family else 3.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("cls_token", "embeddings.position_embeddings")):  # zeros as they are made
                parameter.normal_()
            elif parameter.ndim > 1:
                parameter.mul_(3.0 if "vision" in name else scale)
    model.generation_config.suppress_tokens = [IMAGE, VIDEO]  # generated placeholders would ask for features
    return model.eval()


@dataclass
class Scene:
    """One prompt: text ids around visuals. `visuals` holds ("image", (height, width)) or ("video", frames)."""

    visuals: tuple[tuple[str, Any], ...] = ()
    before: int = 4
    between: int = 2
    after: int = 5
    seed: int = 0


def batch(
    model: Any, scenes: list[Scene], pad_right: bool = False, preset: str | None = None
) -> dict[str, Any]:
    """Inputs as a processor would make them, left-padded; under a preset each image has five views and no newlines."""
    from vidcompress.adapters.base import adapter_for

    adapter = adapter_for(model)
    rows, image_pixels, sizes, counts, videos = [], [], [], [], []
    for scene in scenes:
        generator = torch.Generator().manual_seed(scene.seed)
        images = sum(kind == "image" for kind, _ in scene.visuals)
        counts.append(images)
        row = _text(scene.before, generator)
        for kind, what in scene.visuals:
            if kind == "image":
                single = images > 1 and model.config.model_type in ANYRES_MAX
                views, length = image_views(adapter, tuple(what), single)
                if preset:
                    views, length = 5, 5 * TOKENS
                image_pixels.append(torch.randn(views, 3, SIDE, SIDE, generator=generator))
                sizes.append((*what, 0) if model.config.model_type == "internvl" else tuple(what))
                row += [IMAGE] * length
            elif model.config.model_type == "internvl":
                image_pixels.append(torch.randn(what, 3, SIDE, SIDE, generator=generator))
                sizes.append((SIDE, SIDE, what))
                for _ in range(what):
                    row += [*_text(2, generator), *[IMAGE] * TOKENS]
            else:
                videos.append(torch.randn(what, 3, SIDE, SIDE, generator=generator))
                row += [VIDEO] * video_length(model.config.model_type, what)
            row += _text(scene.between, generator)
        rows.append(row + _text(scene.after, generator))
    width = max(map(len, rows))
    pads = [width - len(r) for r in rows]
    order = (lambda r, p: r + p) if pad_right else (lambda r, p: p + r)
    out = {
        "input_ids": torch.tensor([order(r, [PAD] * p) for r, p in zip(rows, pads, strict=True)]),
        "attention_mask": torch.tensor(
            [order([1] * len(r), [0] * p) for r, p in zip(rows, pads, strict=True)]
        ),
    }
    if image_pixels and model.config.model_type not in CROPPED:
        out["pixel_values"] = torch.cat(image_pixels)
        if model.config.model_type == "internvl":
            out["image_sizes"] = torch.tensor(sizes)
    elif image_pixels:
        most = max(p.shape[0] for p in image_pixels)
        stacked = torch.zeros(len(image_pixels), most, 3, SIDE, SIDE)
        for i, pixels in enumerate(image_pixels):
            stacked[i, : pixels.shape[0]] = pixels
        out |= {"pixel_values": stacked, "image_sizes": torch.tensor(sizes)}
        if model.config.model_type in ANYRES_MAX:
            out["batch_num_images"] = torch.tensor(counts)
        if preset:
            out["preset"] = preset
    if videos:
        out["pixel_values_videos"] = torch.stack(videos)
    return out


def sent_rows(inputs: Any) -> list[torch.Tensor]:
    """What goes to the language model, (k, D) per prompt row with visuals, whatever container the family takes."""
    sent = inputs["mm_encoder_outputs"]["image"].pooler_output
    if not isinstance(sent, torch.Tensor):
        return list(sent)
    counts = (inputs["input_ids"] == IMAGE).sum(1).tolist()
    return list(sent[:, 0].split([count for count in counts if count]))


def image_views(adapter: Any, size: tuple[int, int], single: bool) -> tuple[int, int]:
    """Views of an image of (height, width) pixels, and its placeholders."""
    family = adapter.model.config.model_type
    if family in CROPPED:
        layout = adapter.image_layout(size, single, "cpu")
        return len(layout.views), len(layout)
    rows, cols = closest_grid(size, 1, MOST_TILES, SIDE) if family == "internvl" else (1, 1)
    views = rows * cols + (rows * cols > 1)
    return views, views * TOKENS


def video_length(family: str, frames: int) -> int:
    """Placeholders of a clip: frames of 4 x 4 patches pooled to 2 x 2, or as they are."""
    return {
        "llava_next_video": 4 * frames,
        "llava_onevision": 4 * frames + 1,
        "llava_video": 6 * frames,
        "internvl": TOKENS * frames,
    }[family]


def _text(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(2, IMAGE, (count,), generator=generator).tolist()

"""Folders with small random Qwen-VL models, their tokenizer and processor files, as on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

import processor_cases as cases

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_5")
PIXELS = {"qwen2_5_vl": "qwen2_5_vl", "qwen3_vl": "qwen3_vl", "qwen3_5": "qwen3_vl"}
"""By family, that of `processor_cases` whose pixels it has."""
STOCK = {
    "qwen2_5_vl": ("Qwen2_5_VLProcessor", "Qwen2VLImageProcessor", "Qwen2VLVideoProcessor"),
    "qwen3_vl": ("Qwen3VLProcessor", "Qwen2VLImageProcessor", "Qwen3VLVideoProcessor"),
}
"""By family of `PIXELS`: transformers' processor, and its parts for pictures and for clips."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<|vision_start|>"
    "<|{{ c['type'] }}_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


SERVED: dict[str, Any] = dict(
    hidden_size=128,
    head_dim=32,
    rope_parameters={"rope_type": "default", "mrope_section": [6, 5, 5], "rope_theta": 10000.0},
)
"""Sizes of the decoder that vLLM's kernels take, with a vision encoder of two heads of 32."""


def small_model(family: str, *, served: bool = False) -> Any:
    """A random model of a family in float32 and eval mode, with the encoder's real patches and few of everything else.

    Its vocabulary is that of `bytes_tokenizer`, so that it answers in bytes. `served` has heads that vLLM takes.
    """
    tokenizer = cases.bytes_tokenizer()
    ids = {
        f"{kind}_token_id": tokenizer.convert_tokens_to_ids(f"<|{word}|>")
        for kind, word in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    text: dict[str, Any] = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
    )
    vision: dict[str, Any] = dict(
        depth=3,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        patch_size=cases.PATCH[PIXELS[family]],
        out_hidden_size=32,
    )
    if served:
        text |= SERVED
        vision |= {"hidden_size": 64, "out_hidden_size": 128}
    torch.manual_seed(0)
    if family == "qwen2_5_vl":
        del text["head_dim"]
        vision |= {"fullatt_block_indexes": [1], "window_size": 56}
        config: Any = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
        model: Any = Qwen2_5_VLForConditionalGeneration(config)
    elif family == "qwen3_5":
        text |= {"num_hidden_layers": 4, "head_dim": 16, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
        text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        text["rope_parameters"] = {**text["rope_parameters"], "partial_rotary_factor": 0.5}
        if served:
            text |= {"head_dim": 32, "linear_key_head_dim": 128, "linear_value_head_dim": 128}
            text["rope_parameters"]["mrope_section"] = [4, 2, 2]
        vision["num_position_embeddings"] = 64
        config = Qwen3_5Config(text_config=text, vision_config=vision, **ids)
        model = Qwen3_5ForConditionalGeneration(config)
    else:
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
        config = Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
        model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that answers depend on the pixels
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.generation_config.suppress_tokens = sorted(
        ids.values()
    )  # generated placeholders would ask for features
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model.eval()


def save_folder(path: Path, family: str, *, served: bool = False) -> Path:
    """Save model, tokenizer, template and processor files of a family; pictures become up to 20 tokens."""
    small_model(family, served=served).save_pretrained(path)
    cases.bytes_tokenizer().save_pretrained(path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    pixels = PIXELS[family]
    shared = {"patch_size": cases.PATCH[pixels], "merge_size": 2, "temporal_patch_size": 2}
    shared |= cases.CHANNELS[pixels]
    whole, images, videos = STOCK[pixels]
    files = {
        "preprocessor_config.json": ({"image_processor_type": images}, cases.SETTINGS),
        "video_preprocessor_config.json": ({"video_processor_type": videos}, cases.CLIP_SETTINGS),
    }
    for name, (kind, settings) in files.items():
        own = {"processor_class": whole, **kind, **settings[pixels]["small"]}
        (path / name).write_text(json.dumps(shared | own))
    return path

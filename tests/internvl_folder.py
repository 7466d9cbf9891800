"""A folder with a small random InternVL, its tokenizer and processor files, as on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

import processor_cases as cases

SIDE, PATCH = 56, 14
MARKS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<IMG_CONTEXT>\n{% elif c['type'] == 'video' %}<video>\n"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_internvl(path: Path) -> Path:
    """Save a model whose tiles are 4 tokens each; it answers in bytes."""
    core = cases.bytes_tokenizer().backend_tokenizer
    core.add_special_tokens(list(MARKS.values()))
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        extra_special_tokens=MARKS,
        padding_side="left",
    )
    tokenizer.save_pretrained(path)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    image = tokenizer.convert_tokens_to_ids(MARKS["context_image_token"])
    model: Any = InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=InternVLVisionConfig(**size, image_size=SIDE, patch_size=PATCH),
            text_config=Qwen2Config(**size, num_key_value_heads=2, vocab_size=len(tokenizer)),
            image_token_id=image,
            image_seq_length=4,
            tie_word_embeddings=False,
        )
    )
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that answers depend on the pixels
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.generation_config.suppress_tokens = [image]
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.eval().save_pretrained(path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    shared = {"size": {"height": SIDE, "width": SIDE}, "processor_class": "InternVLProcessor"}
    shared |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    files: dict[str, dict[str, Any]] = {
        "preprocessor_config.json": {"image_processor_type": "GotOcr2ImageProcessor", "max_patches": 4},
        "video_preprocessor_config.json": {"video_processor_type": "InternVLVideoProcessor"},
        "processor_config.json": {"image_seq_length": 4},
    }
    for name, own in files.items():
        (path / name).write_text(json.dumps(shared | own))
    return path

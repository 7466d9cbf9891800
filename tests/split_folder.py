"""A tokenizer, a template, the stock processors of Idefics3 and SmolVLM, and a folder with a small SmolVLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm import processing_smolvlm
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

from vidcompress.adapters.family.split import in_words

SIDE, SEQ = 24, 9
"""Of a crop in pixels, and its tokens."""
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}:{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<{{ c['type'] }}>"
    "{% endif %}{% endfor %}{% endif %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def picture(height: int, width: int) -> Any:
    """Flat parts, edges and noise: uint8 (height, width, 3)."""
    rng = np.random.default_rng(height + width)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    noise = rng.integers(0, 256, (height, width, 3))
    return np.where(((x // 9 + y // 7) % 2)[..., None] > 0, ramp, noise).astype(np.uint8)


def words_tokenizer() -> Any:
    """A tokenizer of single bytes with the families' marks."""
    marks = ["<pad>", "<eos>", "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    marks += [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*marks, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def stock(family: str, **settings: Any) -> Any:
    """Transformers' processor; without a video processor, of which there is none without torchvision."""
    edges = {"size": {"longest_edge": 4 * SIDE}, "max_image_size": {"longest_edge": SIDE}}
    cls = {"idefics3": Idefics3ImageProcessorPil, "smolvlm": SmolVLMImageProcessorPil}[family]
    images, tokenizer = cls(**{**edges, **settings}), words_tokenizer()
    if family == "idefics3":
        return Idefics3Processor(images, tokenizer, image_seq_len=SEQ)

    class Stock(SmolVLMProcessor):  # type: ignore[misc]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return type(argument)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processing_smolvlm, "num2words", in_words)
        return Stock(images, tokenizer, None, image_seq_len=SEQ)


def save_smolvlm(path: Path) -> Path:
    """Save a small random SmolVLM that answers in bytes, with its tokenizer, template and processor files."""
    tokenizer = words_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = SmolVLMConfig(
        vision_config={**size, "num_hidden_layers": 2, "image_size": 24, "patch_size": 4},
        text_config=LlamaConfig(
            **size,
            num_hidden_layers=3,
            num_key_value_heads=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=8192,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        ),
        image_token_id=2,
        scale_factor=2,
    )
    model = SmolVLMForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that answers depend on the pixels
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.generation_config.suppress_tokens = [2]
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    (path / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 72}}))
    return path

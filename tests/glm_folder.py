"""A tokenizer, the stock processors and folders with small models of GLM-4.1V and GLM-4.6V."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.processing_glm4v import Glm4vProcessor
from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil
from transformers.models.glm46v.processing_glm46v import Glm46VProcessor

from glm_models import CLASSES

SMALL = {"size": {"shortest_edge": 28 * 28 * 8, "longest_edge": 28 * 28 * 40}}
MARKS = ("<pad>", "<eos>", "<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>")
CLIP_MARKS = ("<|begin_of_video|>", "<|end_of_video|>")
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}"
    "<|begin_of_{{ c['type'] }}|><|{{ c['type'] }}|><|end_of_{{ c['type'] }}|>{% endif %}{% endfor %}{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def glm_tokenizer() -> Any:
    """A tokenizer of single bytes with the families' marks."""
    marks = [*MARKS, *CLIP_MARKS]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate([*marks, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(mark, normalized=False, special=True) for mark in marks])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def stock(family: str, **settings: Any) -> Any:
    """Transformers' processor; for a video processor, of which there is none without torchvision, its numbers alone."""
    image, kind = {
        "glm4v": (Glm4vImageProcessorPil, Glm4vProcessor),
        "glm46v": (Glm46VImageProcessorPil, Glm46VProcessor),
    }[family]

    class Stock(kind):  # type: ignore[misc, valid-type]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return type(argument)

    made = Stock(image(**settings), glm_tokenizer(), None)
    made.video_processor = SimpleNamespace(merge_size=2, temporal_patch_size=2)
    return made


def save_glm(path: Path, family: str) -> Path:
    """Save a small random model that answers in bytes, with its tokenizer, template and processor files."""
    tokenizer = glm_tokenizer()
    size = dict(hidden_size=32, intermediate_size=64)
    text = dict(
        **size,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        rope_parameters={"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0},
    )
    marks = {"image": "<|image|>", "video": "<|video|>", "video_start": "<|begin_of_video|>"}
    marks |= {
        "video_end": "<|end_of_video|>",
        "image_start": "<|begin_of_image|>",
        "image_end": "<|end_of_image|>",
    }
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(mark) for name, mark in marks.items()}
    vision = dict(**size, depth=2, num_heads=2, image_size=56, patch_size=14, out_hidden_size=32)
    config_class, model_class = CLASSES[family]
    torch.manual_seed(0)
    model = model_class(config_class(vision_config=vision, text_config=text, **ids)).eval()
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that answers depend on the pixels
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.generation_config.suppress_tokens = sorted(ids.values())
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "chat_template.jinja").write_text(TEMPLATE)
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        (path / name).write_text(json.dumps(SMALL))
    return path

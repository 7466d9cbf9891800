"""A tokenizer and the stock processors of GLM-4.1V and GLM-4.6V, for tests of their processor here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.processing_glm4v import Glm4vProcessor
from transformers.models.glm46v.image_processing_pil_glm46v import Glm46VImageProcessorPil
from transformers.models.glm46v.processing_glm46v import Glm46VProcessor

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

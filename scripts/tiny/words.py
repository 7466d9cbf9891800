"""Word-level tokenizers of the embedded models and their chat templates."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vidcompress.tools.evaluation.shapes.vocabulary import words

COMMON: Final = (
    "user assistant system describe image picture video clip frame frames and , . ! : ; ' - in of it they this that "
    "what's colour see can you any which when who why not nothing none object color count number than more less "
    "left right side corner center middle top bottom above below next to under over between small large big little "
    "gray grey pink brown background with has have does do be was were time before after then second third one two "
    "three four five six seven eight nine ten please tell me answer question word only for from at by as about all"
)
"""Words beyond those of the generator, so that a user's own phrasing is not all unknown."""

ROLES: Final = {
    "tiny-onevision": {"bos": "<|im_start|>", "eos": "<|im_end|>", "pad": "<|pad|>"},
    "tiny-next": {"bos": "<s>", "eos": "</s>", "pad": "<pad>"},
    "tiny-qwen": {"bos": "<|im_start|>", "eos": "<|im_end|>", "pad": "<|pad|>"},
}
"""Model name to the spelling of its special tokens."""

MEDIA_TOKENS: Final[dict[str, dict[str, str]]] = {
    "tiny-onevision": {"image_token": "<image>", "video_token": "<video>"},
    "tiny-next": {"image_token": "<image>", "video_token": "<video>"},
    "tiny-qwen": {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
    },
}
"""Model name to its tokens for media, by the name transformers gives them."""

TIMES: Final = ("<", ">", "seconds")
"""Words of a timestamp besides digits and the point: `<1.2 seconds>`."""

_MEDIA: Final = (
    "{%- for part in message['content'] if part['type'] in ('image', 'video') -%}"
    "{{ '<' + part['type'] + '>' }}"
    "{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{{ ' ' + part['text'] }}"
    "{%- endfor -%}"
)
_PADS: Final = _MEDIA.replace(
    "'<' + part['type'] + '>'", "'<|vision_start|><|' + part['type'] + '_pad|><|vision_end|>'"
)


def _content(media: str) -> str:
    return (
        "{%- if message['content'] is string -%}{{ ' ' + message['content'] }}{%- else -%}"
        + media
        + "{%- endif -%}"
    )


def _im_template(media: str) -> str:
    return (
        "{%- for message in messages -%}"
        "{{ '<|im_start|>' + message['role'] + ' ' }}" + _content(media) + "{{ '<|im_end|>' }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant' }}{%- endif -%}"
    )


TEMPLATES: Final = {
    "tiny-onevision": _im_template(_MEDIA),
    "tiny-qwen": _im_template(_PADS),
    "tiny-next": (
        "{{ '<s>' }}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'assistant' -%}{{ ' ASSISTANT:' }}" + _content(_MEDIA) + "{{ '</s>' }}"
        "{%- else -%}{{ ' ' + message['role'] | upper + ': ' }}" + _content(_MEDIA) + "{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ ' ASSISTANT:' }}{%- endif -%}"
    ),
}
"""Model name to its chat template; media come before the text, whatever the order they are listed in."""


@cache
def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Build the tokenizer of an embedded model: lower-cased words and punctuation marks.

    tiny-qwen reads timestamps too, digit by digit.
    """
    roles, media, times = ROLES[name], MEDIA_TOKENS[name], name == "tiny-qwen"
    special = [roles["pad"], roles["bos"], roles["eos"], "<unk>", *media.values()]
    ordinary = sorted(set(words()) | set(COMMON.split()) | (set(TIMES) if times else set()))
    vocabulary = {word: index for index, word in enumerate([*special, *ordinary])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            *([pre_tokenizers.Digits(individual_digits=True)] if times else []),
        ]
    )
    core.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=roles["bos"],
        eos_token=roles["eos"],
        pad_token=roles["pad"],
        unk_token="<unk>",
        extra_special_tokens=media,
        padding_side="left",
        chat_template=TEMPLATES[name],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Return the ids of "bos", "eos", "pad" and of the tokens for media that the tokenizer has."""
    return {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id,
        **{
            kind: tokenizer.convert_tokens_to_ids(getattr(tokenizer, f"{kind}_token"))
            for kind in ("image", "video", "vision_start", "vision_end")
            if getattr(tokenizer, f"{kind}_token", None) is not None
        },
    }

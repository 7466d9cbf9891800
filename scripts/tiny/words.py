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
}
"""Model name to the spelling of its special tokens."""

_MEDIA: Final = (
    "{%- for part in message['content'] if part['type'] in ('image', 'video') -%}"
    "{{ '<' + part['type'] + '>' }}"
    "{%- endfor -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{{ ' ' + part['text'] }}"
    "{%- endfor -%}"
)
_CONTENT: Final = (
    "{%- if message['content'] is string -%}{{ ' ' + message['content'] }}{%- else -%}"
    + _MEDIA
    + "{%- endif -%}"
)

TEMPLATES: Final = {
    "tiny-onevision": (
        "{%- for message in messages -%}"
        "{{ '<|im_start|>' + message['role'] + ' ' }}" + _CONTENT + "{{ '<|im_end|>' }}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant' }}{%- endif -%}"
    ),
    "tiny-next": (
        "{{ '<s>' }}"
        "{%- for message in messages -%}"
        "{%- if message['role'] == 'assistant' -%}{{ ' ASSISTANT:' }}" + _CONTENT + "{{ '</s>' }}"
        "{%- else -%}{{ ' ' + message['role'] | upper + ': ' }}" + _CONTENT + "{%- endif -%}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ ' ASSISTANT:' }}{%- endif -%}"
    ),
}
"""Model name to its chat template; media come before the text, whatever the order they are listed in."""


@cache
def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Build the tokenizer of "tiny-onevision" or "tiny-next": lower-cased words and punctuation marks."""
    roles = ROLES[name]
    special = [roles["pad"], roles["bos"], roles["eos"], "<unk>", "<image>", "<video>"]
    ordinary = sorted(set(words()) | set(COMMON.split()))
    vocabulary = {word: index for index, word in enumerate([*special, *ordinary])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    core.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=roles["bos"],
        eos_token=roles["eos"],
        pad_token=roles["pad"],
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
        padding_side="left",
        chat_template=TEMPLATES[name],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def special_ids(tokenizer: Any) -> dict[str, int]:
    """Return the ids of "bos", "eos", "pad", "image" and "video"."""
    return {
        "bos": tokenizer.bos_token_id,
        "eos": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id,
        "image": tokenizer.convert_tokens_to_ids("<image>"),
        "video": tokenizer.convert_tokens_to_ids("<video>"),
    }

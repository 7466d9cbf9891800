"""Folders with small random checkpoints of the newer families, as on the hub, by the type of the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gemma_models import END, IMAGE, START, gemma3
from glm_folder import save_glm
from pixtral_models import BREAK, mistral3
from pixtral_models import END as LAST
from pixtral_models import IMAGE as PICTURE
from qwen_folder import save_folder
from split_folder import save_smolvlm


def _words(named: Mapping[str, int], **settings: Any) -> Any:
    """A tokenizer of 100 words: those of the map at their ids, the others w0 to w99."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(100) if number not in named.values()}
    core = Tokenizer(models.WordLevel({**words, **named}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        padding_side="left",
        **settings,
    )


_SPECIAL = {"<pad>": 0, "<unk>": 1, "<eos>": 2}
_TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %} PICTURE "
    "{% else %} {{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
)


def _save(path: Path, model: Any, tokenizer: Any, placeholder: str, **settings: Any) -> Path:
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    (path / "chat_template.jinja").write_text(_TEMPLATE.replace("PICTURE", placeholder))
    return path


def _gemma3(path: Path) -> Path:
    marks = {"<image_soft_token>": IMAGE, "<start_of_image>": START, "<end_of_image>": END}
    names = ("image_token", "boi_token", "eoi_token")
    tokenizer = _words({**_SPECIAL, **marks}, extra_special_tokens=dict(zip(names, marks, strict=True)))
    return _save(path, gemma3(), tokenizer, "<start_of_image>")


def _mistral3(path: Path) -> Path:
    marks = {"[IMG]": PICTURE, "[IMG_BREAK]": BREAK, "[IMG_END]": LAST}
    tokenizer = _words({**_SPECIAL, **marks})
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    return _save(path, mistral3(), tokenizer, "[IMG]", size={"longest_edge": 112})


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "gemma3": _gemma3,
    "smolvlm": save_smolvlm,
    "qwen3_5": lambda path: save_folder(path, "qwen3_5"),
    "glm4v": lambda path: save_glm(path, "glm4v"),
    "mistral3": _mistral3,
}
CLIPS = ("smolvlm", "qwen3_5", "glm4v")
"""Families that take clips."""

"""Foreign argument names, as other libraries use them or passed to the wrong function, and the advice for each.

Such a name is no misspelling, so the nearest known name would mislead. This module has the only answer to each name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from vidcompress.errors import ArgumentError, shown

_FIRST = "pass it first, as in VisualQA.from_pretrained('owner/name')"
_ENVIRONMENT = "set {} in the environment before Python starts, and leave it out"
_LOGIN = "the hub's client finds your token by itself: run `hf auth login` or set HF_TOKEN, and leave it out"
_MEDIA = "is about one question; pass it to ask, as in qa.ask('what is this?', image='photo.jpg')"
_LOADED = "belongs to loading a model; pass it to VisualQA.from_pretrained(..., {name}={value})"
_SAMPLED = "is set where a VisualQA is made; pass it to VisualQA.from_pretrained(..., {name}={value})"
_GENERATION = "is an argument of generate; pass it to ask, as in qa.ask(question, max_new_tokens=64)"

_BUDGET = "pass retention_ratio= (a share) or max_tokens= (visual tokens) where a VisualQA or a block is made"

SAMPLING: Final = ("num_frames", "fps", "max_frames", "backend", "time_instruction")
"""Arguments of `VisualQA` about how clips are read."""

LOADING: Final[Mapping[str, str]] = {
    "token": _LOGIN,
    "use_auth_token": _LOGIN,
    "cache_dir": _ENVIRONMENT.format("HF_HOME"),
    "proxies": _ENVIRONMENT.format("HTTPS_PROXY"),
    "force_download": "delete the repository from the hub's cache (`hf cache rm`) to fetch it again, and leave it out",
    "subfolder": "pass the folder itself as the first argument, after downloading the repository",
    "variant": "the files are those that the repository's index names; leave it out, and pass dtype= for a precision",
    "trust_remote_code": "code in a checkpoint is never run; leave it out (CONTRIBUTING.md says how to add a family)",
    "use_safetensors": "weights are always read from safetensors; leave it out",
    "load_in_4bit": "pass quantization='4bit'",
    "load_in_8bit": "pass quantization='8bit'",
    "use_flash_attention_2": "pass attn_implementation='flash_attention_2'",
    "attn_impl": "pass attn_implementation='sdpa'",
    "low_cpu_mem_usage": "weights are always read one by one; leave it out",
    "max_memory": "pass device_map='auto', or a dict that says where each part goes",
    "offload_folder": "pass device_map= with a dict that names the parts for 'disk' or 'cpu'; leave this out",
    "use_fast": "there is one processor; leave it out",
    "model": _FIRST,
    "model_id": _FIRST,
    "model_name": _FIRST,
    "model_name_or_path": _FIRST,
    "pretrained": _FIRST,
    "pretrained_model_name_or_path": _FIRST,
    "processor": "from_pretrained makes it; for one of load_processor use VisualQA(model, processor)",
    **dict.fromkeys(
        ("torch_dtype", "dtype", "device", "device_map", "attn_implementation", "quantization"), _LOADED
    ),
    **dict.fromkeys(SAMPLING, _SAMPLED),
    **dict.fromkeys(("ratio", "keep_ratio", "compression_ratio", "budget", "num_tokens"), _BUDGET),
    **dict.fromkeys(("question", "image", "images", "video"), _MEDIA),
    "videos": "a question is about one clip; pass it to ask as video=, and several questions to ask_batch",
    **dict.fromkeys(
        ("max_new_tokens", "temperature", "do_sample", "num_beams", "top_p", "top_k"), _GENERATION
    ),
}
"""Advice where a model is loaded or compression is set up: names of transformers, and our own for a question."""

_OBJECT = "is set once for all questions; use qa.using({name}={value}).ask(...)"
_TEXT = "pass the text as question"

ASKING: Final[Mapping[str, str]] = {
    **{name: advice for name, advice in LOADING.items() if advice not in (_MEDIA, _GENERATION)},
    **dict.fromkeys(
        ("method", "retention_ratio", "policy", "separators", "positions", "encoder_saving", "view_text"),
        _OBJECT,
    ),
    **dict.fromkeys(("hold", "mass", "mass_strength", "mass_cap"), _OBJECT),
    "max_tokens": "the length of an answer is max_new_tokens; for the number of visual tokens use "
    "qa.using(max_tokens={value}).ask(...)",
    "videos": "a question is about one clip; pass it as video=, and several questions to ask_batch",
    "frames": "pass a list of frames as video=[...]",
    **dict.fromkeys(
        ("img", "photo", "picture", "image_path", "image_url", "image_file"), "pass image={value}"
    ),
    **dict.fromkeys(("clip", "video_path", "video_url", "video_file"), "pass video={value}"),
    "prompt": _TEXT,
    "text": _TEXT,
    "messages": _TEXT + "; for several turns use qa.chat()",
    "max_output_tokens": "pass max_new_tokens=",
    "max_completion_tokens": "pass max_new_tokens=",
    "stream": "use qa.stream(...), which yields the answer piece by piece",
}
"""Advice where a question is asked: the names above that are wrong there too, and our own that belong to the object."""

_FORM = (
    "is for lmms-eval's simple prompts of this family; prompts here are those of its chat form; leave it out"
)

HARNESS: Final[Mapping[str, str]] = {
    "max_num_frames": "pass max_frames_num={value}",
    "num_frames": "pass max_frames_num={value}",
    "interleave_visuals": _FORM,
    "reasoning_prompt": _FORM,
    "min_patches": "pictures are 1 to 12 tiles, as in lmms-eval's internvl_hf; leave it out",
    "use_cache": "answers are generated with a cache; leave it out",
}
"""Advice for arguments of lmms-eval's own models among the plugin's."""

_SECRET = ("token", "use_auth_token")


def instead(name: str, value: Any, table: Mapping[str, str]) -> str | None:
    """Return the advice for an argument under a foreign name; None for a name that is not in the table.

    Args:
        name: of the argument.
        value: what was passed, which messages show unless it is a secret.
        table: `LOADING`, `ASKING` or `HARNESS`.
    """
    if name not in table:
        return None
    if value is None or value is False:
        return f"{name}={value}: this argument is not taken; leave it out"
    text = "..." if name in _SECRET else shown(value, 40)
    return f"{name}={text}: {table[name].format(name=name, value=text)}"


def refuse(given: Mapping[str, Any], table: Mapping[str, str], known: Iterable[str] = ()) -> None:
    """Refuse the first argument under a foreign name.

    Args:
        given: arguments by name.
        table: `LOADING`, `ASKING` or `HARNESS`.
        known: names that the function takes in spite of the table.

    Raises:
        ArgumentError: with the advice.
    """
    for name, value in given.items():
        advice = instead(name, value, table)
        if advice is not None and name not in known:
            raise ArgumentError(advice)

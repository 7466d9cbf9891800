"""Checkpoints in the layout of the LLaVA-NeXT repository (lmms-lab's LLaVA-OneVision and LLaVA-Video with Qwen2).

Their config.json is flat (a Qwen2 config with `mm_*` keys), their tensors have other names, and their tokenizer has no
placeholders. Nothing in them is run: the config is translated, the names are mapped while loading. Older checkpoints
with Llama and Mistral have no free row of the embedding for a placeholder, so they are recognised and refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from transformers import LlavaOnevisionConfig

from vidcompress.adapters.llava_video.model import LlavaVideoConfig
from vidcompress.errors import ArgumentError

ARCHITECTURE, MODEL_TYPE = "LlavaQwenForCausalLM", "llava_qwen"
CONVERTED = {
    "LlavaLlamaForCausalLM": ("llava-hf/llava-v1.6-vicuna-7b-hf", "llava-hf/LLaVA-NeXT-Video-7B-hf"),
    "LlavaMistralForCausalLM": ("llava-hf/llava-v1.6-mistral-7b-hf", "llava-hf/LLaVA-NeXT-Video-7B-32K-hf"),
}
"""Refused checkpoints of this layout, with examples of checkpoints to load instead (images, clips)."""
PLACEHOLDERS = ("<image>", "<video>")
KEY_MAPPING = {
    r"^model\.vision_tower\.vision_tower\.vision_model\.": "model.vision_tower.",
    r"^model\.mm_projector\.0\.": "model.multi_modal_projector.linear_1.",
    r"^model\.mm_projector\.2\.": "model.multi_modal_projector.linear_2.",
    r"^model\.embed_tokens\.": "model.language_model.embed_tokens.",
    r"^model\.layers\.": "model.language_model.layers.",
    r"^model\.norm\.": "model.language_model.norm.",
}
"""Patterns of tensor names to the names in transformers, for `from_pretrained(key_mapping=...)`."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<{{ part['type'] }}>{{ '\n' }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\n' }}{% endif %}"
)
"""Qwen2's conversation with each picture and clip on a line before the question."""

_ENCODERS = {"siglip-so400m-patch14-384": None}  # None: the default of transformers' OneVision config
_TEXT_KEYS = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads hidden_act "
    "max_position_embeddings initializer_range rms_norm_eps use_cache rope_theta rope_scaling use_sliding_window "
    "sliding_window max_window_layers attention_dropout tie_word_embeddings bos_token_id eos_token_id"
).split()


def is_original(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json is of this layout: a vision tower by name beside the keys of a Qwen2 decoder."""
    return "mm_vision_tower" in raw and (
        ARCHITECTURE in _architectures(raw) or raw.get("model_type") == MODEL_TYPE
    )


def _architectures(raw: Mapping[str, Any]) -> list[Any]:
    names = raw.get("architectures")
    return names if isinstance(names, list) else []


def read_config(source: str, **where: Any) -> Any:
    """Read the config.json of a checkpoint and translate it by `translated_config`.

    Raises:
        OSError: the checkpoint cannot be found.
    """
    from transformers.utils import cached_file

    path = cached_file(source, "config.json", _raise_exceptions_for_missing_entries=False, **where)
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        raw = json.load(file)
    return translated_config(source, raw, **where) if isinstance(raw, dict) else None


def translated_config(
    source: str, raw: Mapping[str, Any], *, placeholders: tuple[int, int] | None = None, **where: Any
) -> Any:
    """Return the translated config of a checkpoint of this layout; None for any other.

    Args:
        source: a folder or a hub id.
        raw: its config.json.
        placeholders: ids of the image and the video placeholder; None reads them from the checkpoint's tokenizer.
        **where: `revision`, `local_files_only` of the hub.

    Raises:
        ArgumentError: a config of this layout that the model classes cannot serve.
    """
    _refuse_small_vocabularies(source, raw)
    if not is_original(raw):
        return None
    config = translate_config(raw, placeholders or _placeholders_of(source, **where))
    config._name_or_path = source
    return config


def _placeholders_of(source: str, **where: Any) -> tuple[int, int]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **where)
    except (OSError, ValueError, KeyError) as error:
        raise ArgumentError(
            f"the tokenizer of {source!r} does not load ({error}); fetch the checkpoint again"
        ) from error
    return add_placeholders(tokenizer)


def _refuse_small_vocabularies(source: str, raw: Mapping[str, Any]) -> None:
    for architecture in _architectures(raw) if "mm_vision_tower" in raw else []:
        if architecture in CONVERTED:
            raise ArgumentError(
                f"model={source!r} is a {architecture} in its original layout, whose embedding has no row for image "
                f"placeholders; pass its conversion for transformers, such as {' or '.join(CONVERTED[architecture])}"
            )


def add_placeholders(tokenizer: Any) -> tuple[int, int]:
    """Give a tokenizer the placeholders of pictures and clips, where it lacks them, and return their ids."""
    from transformers import AddedToken

    vocabulary = tokenizer.get_vocab()
    missing = [token for token in PLACEHOLDERS if token not in vocabulary]
    tokenizer.add_tokens(
        [AddedToken(token, special=True, normalized=False) for token in missing], special_tokens=True
    )
    image, video = (int(tokenizer.convert_tokens_to_ids(token)) for token in PLACEHOLDERS)
    return image, video


def translate_config(raw: Mapping[str, Any], placeholders: tuple[int, int]) -> Any:
    """Turn a flat config.json into a `LlavaOnevisionConfig` or a `LlavaVideoConfig`.

    It is LLaVA-Video where `mm_newline_position` is "grid", for any pooling in the file: its authors average.

    Args:
        raw: the file. A `vision_config` in it describes an encoder that is not known by its name.
        placeholders: ids of the image and the video placeholder.

    Raises:
        ArgumentError: a key has a value that the model classes cannot serve; the message names it.
    """
    newline = raw.get("mm_newline_position", "one_token")
    _allow(raw, "mm_newline_position", ("grid", "one_token"), "one_token")
    _allow(raw, "mm_projector_type", ("mlp2x_gelu",), "mlp2x_gelu")
    _allow(raw, "mm_patch_merge_type", ("spatial_unpad",), "spatial_unpad")
    _allow(raw, "mm_spatial_pool_stride", (None, 2), 2)
    _allow(raw, "add_faster_video", (None, False), False)
    if newline == "one_token":
        _allow(raw, "mm_spatial_pool_mode", ("bilinear",), "bilinear")
    vision = raw.get("vision_config")
    if vision is None:
        tower = (
            str(raw.get("mm_vision_tower")).rstrip("/").rsplit("/", 1)[-1]
        )  # some name a folder of their own
        if tower not in _ENCODERS:
            _allow(raw, "mm_vision_tower", tuple(_ENCODERS), None)
        vision = _ENCODERS[tower]
    ratio = str(raw.get("image_aspect_ratio"))
    if not re.fullmatch(r"anyres_max_\d+", ratio):
        raise ArgumentError(f"image_aspect_ratio={ratio!r} in config.json: expected 'anyres_max_<k>'")
    missing = [key for key in ("vocab_size", "hidden_size", "num_hidden_layers") if key not in raw]
    if missing:
        raise ArgumentError(f"config.json has no {missing}; fetch the checkpoint again")
    rows = int(raw["vocab_size"])
    if max(placeholders) >= rows:
        raise ArgumentError(
            f"vocab_size={rows} in config.json leaves no room for the placeholders {PLACEHOLDERS}, whose ids would be "
            f"{placeholders}; convert the checkpoint with more embedding rows"
        )
    settings: dict[str, Any] = {} if vision is None else {"vision_config": dict(vision)}
    side = 384 if vision is None else int(vision["image_size"])
    config = (LlavaVideoConfig if newline == "grid" else LlavaOnevisionConfig)(
        text_config={
            "model_type": "qwen2",
            **{key: raw[key] for key in _TEXT_KEYS if raw.get(key) is not None},
        },
        image_token_index=placeholders[0],
        video_token_index=placeholders[1],
        image_grid_pinpoints=_pinpoints(raw.get("image_grid_pinpoints"), side),
        vision_aspect_ratio=ratio,
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        **settings,
    )
    config.dtype = raw.get("torch_dtype")
    return config


def _allow(raw: Mapping[str, Any], key: str, allowed: tuple[Any, ...], default: Any) -> None:
    value = raw.get(key, default)
    if value not in allowed:
        raise ArgumentError(
            f"{key}={value!r} in config.json: only {', '.join(map(repr, allowed))} can be loaded; convert the "
            "checkpoint to a family that transformers has"
        )


def _pinpoints(value: Any, side: int) -> list[list[int]]:
    """Return the crop canvases in pixels, from a list of them or from "(1x1),...,(6x6)" in crops."""
    if isinstance(value, str):
        pairs = [(int(a), int(b)) for a, b in re.findall(r"\((\d+)x(\d+)\)", value)]
        if pairs:
            (top, left), (bottom, right) = pairs[0], pairs[-1]
            value = [[i * side, j * side] for i in range(top, bottom + 1) for j in range(left, right + 1)]
    if not isinstance(value, list) or not value:
        raise ArgumentError(
            f"image_grid_pinpoints={value!r} in config.json: expected a list of [height, width] or '(1x1),...,(6x6)'"
        )
    return [[int(height), int(width)] for height, width in value]

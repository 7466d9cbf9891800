"""Model without weights, built from its config on the meta device: tensor names and shapes, geometry."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from vidcompress.adapters.base import ADAPTERS
from vidcompress.adapters.generic.interface import serves
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.loading.checkpoint import has_pooling_head, read_json


def read_model_config(
    source: str, *, placeholders: tuple[int, int] | None = None, **where: Any
) -> tuple[Any, str]:
    """Read the config of a checkpoint, and return it with its layout: "transformers" or "original".

    Args:
        source: a folder or a hub id.
        placeholders: ids of the image and the video placeholder of an original layout; None reads its tokenizer.
        **where: `revision`, `local_files_only` of the hub.

    Raises:
        UnsupportedModelError: no adapter serves its model type.
        ArgumentError, OSError, ValueError: the checkpoint cannot be found or read.
    """
    from transformers import AutoConfig

    from vidcompress.adapters.llava_video.original_checkpoints import translated_config

    families = ADAPTERS.names()  # importing the adapters makes known to transformers what it has no class for
    raw = read_json(source, "config.json", where)
    if raw is None:
        raise ArgumentError("there is no config.json; pass the folder or hub id of a transformers model")
    original = translated_config(source, raw, placeholders=placeholders, **where)
    kind = raw.get("model_type")
    if original is None and kind not in families and not serves(kind):
        raise UnsupportedModelError(
            f"it is of type {kind!r}, which no adapter serves; {ADAPTERS.unknown(str(kind))}"
        )
    config = original or AutoConfig.from_pretrained(source, trust_remote_code=False, **where)
    return config, "transformers" if original is None else "original"


def empty_model(config: Any) -> Any:
    """Build the model of a config with every tensor on the meta device: shapes without numbers."""
    from transformers import AutoModelForImageTextToText

    plain = copy.deepcopy(config)
    if getattr(plain, "quantization_config", None) is not None:
        del plain.quantization_config  # needs packages, and changes shapes
    if str(getattr(getattr(plain, "vision_config", None), "model_type", "")).startswith("siglip"):
        plain.vision_config.vision_use_head = False  # it is unused, and most checkpoints have none
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(plain)


def fit(
    model: Any, shapes: Mapping[str, tuple[int, ...]], *, original: bool, packed: bool
) -> dict[str, list[str]]:
    """Compare tensor names and shapes with a model, as transformers would load them, renaming old names.

    Args:
        model: from `empty_model`.
        shapes: of the checkpoint's tensors.
        original: whether they have the names of the LLaVA-NeXT repository.
        packed: whether the checkpoint is quantised; its shapes, and the scales beside its tensors, are then ignored.

    Returns:
        Names under `missing` and `unexpected`, and under `misshaped` lines that state both shapes. Tensors that are
        tied to others, and SigLIP's unused head, are neither missing nor unexpected.
    """
    from vidcompress.adapters.llava_video.original_checkpoints import KEY_MAPPING

    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    _, info = type(model).from_pretrained(
        None,
        config=copy.deepcopy(model.config),
        state_dict=tensors,
        device_map={"": "meta"},
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **({"key_mapping": KEY_MAPPING} if original else {}),
    )
    unexpected = [name for name in info["unexpected_keys"] if not has_pooling_head([name])]
    misshaped = [
        f"{name}: {tuple(got)} instead of {tuple(expected)}"
        for name, got, expected in info["mismatched_keys"]
    ]
    return {
        "missing": sorted(info["missing_keys"]),
        "unexpected": [] if packed else sorted(unexpected),
        "misshaped": [] if packed else sorted(misshaped),
    }


def geometry(config: Any) -> dict[str, dict[str, Any]]:
    """Return the main numbers of encoder and decoder, those that the config has."""
    text, vision = config.get_text_config(), config.vision_config
    shared = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    others = {"num_hidden_layers": "depth", "num_attention_heads": "num_heads"}  # of packed encoders
    parts = {
        "encoder": (vision, ("model_type", *shared, "image_size", "patch_size")),
        "decoder": (
            text,
            ("model_type", *shared, "num_key_value_heads", "vocab_size", "max_position_embeddings"),
        ),
    }
    stated = {
        part: {key: getattr(of, key, getattr(of, others.get(key, key), None)) for key in keys}
        for part, (of, keys) in parts.items()
    }
    return {
        part: {key: value for key, value in numbers.items() if value is not None}
        for part, numbers in stated.items()
    }


def parameter_count(model: Any) -> int:
    """Count the numbers in the model's tensors, tied ones once."""
    tied = getattr(model, "all_tied_weights_keys", {})
    return sum(p.numel() for name, p in model.named_parameters(remove_duplicate=False) if name not in tied)

"""Shapes of well-known checkpoints by name: `models/shapes.json`.

A random model of `config_of(name)` has the tensors of the real checkpoint, so it takes the same time and memory.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

from vidcompress.checks import whole_number
from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.loading.resources import find


class KnownShape(NamedTuple):
    """Shape of one known checkpoint: the numbers in its configs.

    Attributes:
        family, encoder, decoder: keyword arguments of the model's own config, of its vision and of its text config.
    """

    family: dict[str, Any]
    encoder: dict[str, Any]
    decoder: dict[str, Any]


@lru_cache(maxsize=1)
def known_shapes() -> dict[str, KnownShape]:
    """Return name -> shape, in the order of the file. Embeddings have their padded number of rows."""
    data = json.loads(find("models/shapes.json").read_text(encoding="utf-8"))
    return {
        name: KnownShape(
            data["families"][parts["family"]],
            data["encoders"][parts["encoder"]],
            data["decoders"][parts["decoder"]],
        )
        for name, parts in data["models"].items()
    }


def config_of(name: str, *, decoder_layers: int | None = None, encoder_layers: int | None = None) -> Any:
    """Make the transformers config of a named geometry.

    Args:
        name: one of `known_shapes`.
        decoder_layers: number of layers, instead of the checkpoint's, for smaller machines.
        encoder_layers: likewise, at least 2.

    Returns:
        A new `PretrainedConfig` of the family, for `AutoModelForImageTextToText.from_config`.

    Raises:
        ArgumentError: no such geometry, or an invalid number of layers.
    """
    shapes = known_shapes()
    if not isinstance(name, str) or name not in shapes:
        hint = nearest(name if isinstance(name, str) else "", shapes)
        raise ArgumentError(f"geometry={shown(name)}: no such geometry; {hint}")
    from transformers import AutoConfig

    from vidcompress.adapters.base import ADAPTERS

    ADAPTERS.names()  # importing the adapters makes LLaVA-Video known to transformers
    family, vision, text = (dict(part) for part in shapes[name])
    if decoder_layers is not None:
        text["num_hidden_layers"] = whole_number("decoder_layers", decoder_layers)
    if encoder_layers is not None:
        vision |= _shallow(vision, whole_number("encoder_layers", encoder_layers, least=2))
    return AutoConfig.for_model(
        **family,
        vision_config=vision,
        text_config=text,
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def _shallow(vision: dict[str, Any], layers: int) -> dict[str, Any]:
    """Return the numbers of an encoder of `layers` layers; entries for removed layers move to the last one."""
    numbers: dict[str, Any] = {"depth" if "depth" in vision else "num_hidden_layers": layers}
    for key in ("fullatt_block_indexes", "deepstack_visual_indexes"):
        if key in vision:
            numbers[key] = sorted({min(int(index), layers - 1) for index in vision[key]})
    return numbers

"""Size check of a config against the weights beside it, before any memory is allocated.

transformers allocates the model that config.json describes, and fills missing tensors at random. One wrong number in an
11 MB checkpoint may so take all memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import torch

from vidcompress.errors import ArgumentError
from vidcompress.loading.checkpoint import weight_files

FACTOR, SLACK = 2, 10_000_000
"""A model may have FACTOR times the stored parameters plus SLACK: tied and missing tensors are checked later."""


def check_size(source: str, config: Any, where: Mapping[str, Any]) -> None:
    """Refuse a config that describes a much larger model than its weights.

    Args:
        source: a folder or a hub id.
        config: of transformers.
        where: `revision` and `local_files_only` of the hub.

    Raises:
        ArgumentError: more layers than tensors, or parameters far beyond those stored.
    """
    shapes = list(_shapes(source, where))
    stored = sum(map(prod, shapes))
    for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
        layers = getattr(part, "num_hidden_layers", None)
        if isinstance(layers, int) and layers > len(shapes):
            raise ArgumentError(
                f"model={source!r} does not load: num_hidden_layers={layers} in its config.json, but its weights are "
                f"{len(shapes)} tensors; fetch the checkpoint again"
            )
    described = _described(config)
    if described > FACTOR * stored + SLACK:
        raise ArgumentError(
            f"model={source!r} does not load: its config.json describes {described:,} parameters, its weights hold "
            f"{stored:,}; fetch the checkpoint again"
        )


def _shapes(source: str, where: Mapping[str, Any]) -> Iterator[list[int]]:
    from safetensors import safe_open

    for path in weight_files(source, where).values():
        with safe_open(path, framework="pt") as file:
            yield from (file.get_slice(name).get_shape() for name in file.keys())


def _described(config: Any) -> int:
    """Count the parameters of a model without memory for them; 0 where it cannot be built, which loading reports."""
    from transformers import AutoModelForImageTextToText

    try:
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
    except Exception:  # noqa: BLE001  (loading reports errors of the config)
        return 0
    return sum(parameter.numel() for parameter in model.parameters())

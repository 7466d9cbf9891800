"""Attention implementations, checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidcompress.errors import ArgumentError, nearest, shown


def check_attention(value: Any) -> None:
    """Refuse an attention implementation that transformers does not have, or that cannot run here.

    Names of kernels on the hub are refused too, since their code would be fetched and run.

    Args:
        value: a name, names by part of the model (`text_config`, `vision_config`), or None.

    Raises:
        ArgumentError: the name is unknown, or its package or device is missing.
    """
    for name in value.values() if isinstance(value, Mapping) else [value]:
        if name is not None:
            _check_name(name)


def _check_name(name: Any) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.utils import (
        is_flash_attn_2_available,
        is_flash_attn_3_available,
        is_flash_attn_4_available,
    )

    names = {"eager", *(key for key in ALL_ATTENTION_FUNCTIONS.valid_keys() if "|" not in key)}
    if not isinstance(name, str) or name not in names:
        raise ArgumentError(
            f"attn_implementation={shown(name)} is no attention implementation of transformers; "
            f"{nearest(name if isinstance(name, str) else '', names)}"
        )
    packages = {
        "flash_attention_2": ("flash-attn", is_flash_attn_2_available),
        "flash_attention_3": ("flash-attn-3", is_flash_attn_3_available),
        "flash_attention_4": ("flash-attn-4", is_flash_attn_4_available),
    }
    if name in packages:
        package, available = packages[name]
        if not available():
            raise ArgumentError(
                f"attn_implementation={name!r} needs a CUDA device and the package {package}; one of them is missing, "
                "pass 'sdpa' or 'eager' instead"
            )

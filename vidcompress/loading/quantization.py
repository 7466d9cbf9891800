"""Quantisation of decoders; the encoder, the projector and the output layer stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

import torch

from vidcompress.errors import ArgumentError, shown
from vidcompress.loading.distribution import how_to_install

Quantization: TypeAlias = Literal["4bit", "8bit"] | str
QUANTIZATIONS = ("4bit", "8bit")


def make_quantization_config(
    quantization: str | None,
    quantization_config: Any,
    *,
    full_precision: tuple[str, ...],
    dtype: str | torch.dtype,
) -> Any:
    """Make the quantization config for `from_pretrained(quantization_config=...)`.

    Args:
        quantization: "4bit" (normal float, nf4) or "8bit" (LLM.int8()) by bitsandbytes; None for neither.
        quantization_config: a transformers quantization config of the caller's own, passed on as it is.
        full_precision: modules that are not quantised, as paths from the model's root.
        dtype: of products with 4-bit weights; "auto" is bfloat16.

    Raises:
        ArgumentError: both arguments are given, one is invalid, or bitsandbytes is not installed.
    """
    check_quantization(quantization, quantization_config)
    if quantization is None:
        return quantization_config
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(full_precision))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if dtype == "auto" else dtype,
        llm_int8_skip_modules=list(full_precision),
    )


def check_quantization(quantization: str | None, quantization_config: Any) -> None:
    """Refuse bad arguments before anything is read; see `make_quantization_config`."""
    known = isinstance(quantization, str) and quantization in QUANTIZATIONS
    if quantization is not None and not known:
        raise ArgumentError(
            f"quantization={shown(quantization)}: must be one of {', '.join(QUANTIZATIONS)}, or None"
        )
    if quantization is not None and quantization_config is not None:
        raise ArgumentError(
            f"quantization={quantization!r} and quantization_config exclude each other; pass one of them"
        )
    if quantization_config is not None and not (
        isinstance(quantization_config, Mapping) or hasattr(quantization_config, "quant_method")
    ):
        raise ArgumentError(
            f"quantization_config is of type {type(quantization_config).__name__}; pass a config of transformers, such "
            "as BitsAndBytesConfig(load_in_4bit=True), or quantization='4bit'"
        )
    if quantization is not None and find_spec("bitsandbytes") is None:
        raise ArgumentError(
            f"quantization={quantization!r} needs the package bitsandbytes, which is not installed; install it with "
            f"{how_to_install('quantization')}, or leave the argument out"
        )

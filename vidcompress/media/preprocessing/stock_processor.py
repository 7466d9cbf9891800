"""Processor of transformers for a model type that has no processor here."""

from __future__ import annotations

from typing import Any

from vidcompress.adapters.families import FAMILIES
from vidcompress.errors import MediaError, one_line
from vidcompress.media.preprocessing.load_processor import load_processor
from vidcompress.media.preprocessing.protocol import adopted


def processor_of(
    model: Any,
    *,
    resize_device: Any = None,
    preset: str | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
) -> Any:
    """Load the processor of a loaded model: ours where its family has one, else that of transformers.

    Args:
        model: from `load_model`.
        resize_device: as in `load_processor`; only ours resize there.
        preset: as in `load_processor`; only ours have any.
        local_files_only: do not access the hub.
        revision: of the hub repository.

    Returns:
        A `MediaProcessor`.

    Raises:
        MediaError: a preset for a family without a processor here, or files that transformers makes no processor of.
    """
    where: dict[str, Any] = {"local_files_only": local_files_only, "revision": revision}
    kind = str(model.config.model_type)
    if kind in FAMILIES:
        return load_processor(model, resize_device=resize_device, preset=preset, **where)
    if preset is not None:
        raise MediaError(f"preset={preset!r}: model type {kind!r} has no presets; leave it out")
    return stock_processor(str(model.config._name_or_path), kind, **where)


def stock_processor(
    name: str, kind: str, *, local_files_only: bool = False, revision: str | None = None
) -> Any:
    """Load the processor that transformers makes of a checkpoint, as a `MediaProcessor`.

    Args:
        name: a folder or a hub id.
        kind: model type.
        local_files_only: do not access the hub.
        revision: of the hub repository.

    Raises:
        MediaError: transformers makes none, or one without a tokenizer.
    """
    from transformers import AutoProcessor

    try:
        stock = AutoProcessor.from_pretrained(
            name, trust_remote_code=False, local_files_only=local_files_only, revision=revision or "main"
        )
    except Exception as error:
        raise MediaError(
            f"model type {kind!r} has no processor here, and transformers makes none of {name!r}: {one_line(error)}; "
            "pass a processor of your own to VisualQA, or install what it names"
        ) from error
    return adopted(stock, kind)

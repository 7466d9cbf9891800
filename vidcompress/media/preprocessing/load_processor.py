"""Loading the `Processor` of a checkpoint."""

from __future__ import annotations

import os

import torch
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from vidcompress.core.foreign_arguments import LOADING, refuse
from vidcompress.core.wrappers import Model
from vidcompress.errors import ArgumentError, shown
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.preprocessing.forms.numbered_processor import NumberedProcessor
from vidcompress.media.preprocessing.forms.padded_processor import PaddedProcessor
from vidcompress.media.preprocessing.forms.split_processor import SplitProcessor
from vidcompress.media.preprocessing.processor import Processor
from vidcompress.media.preprocessing.processor_files import read_processor_files

_OF_FORM = {"grids": NativeProcessor, "pictures": PaddedProcessor, "numbered": NumberedProcessor}


def load_processor(
    model_or_path: str | os.PathLike[str] | Model,
    *,
    resize_device: str | torch.device | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    preset: str | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
    **unknown: object,
) -> Processor:
    """Make the processor of a checkpoint, without torchvision and without running code from the checkpoint.

    Args:
        model_or_path: a folder, a hub id, or a loaded transformers model, wrapped or not (its config is used, and its
            files are read from its folder or hub id).
        resize_device: device for resizing. None is the loaded model's device, else "cpu". "cpu" gives the same
            pixels on every machine.
        tokenizer: replaces the checkpoint's; a model that was built in memory needs it.
        preset: put every picture into a named layout instead of the model's own. "2880" (LLaVA-NeXT) is that of the
            numbers which FasterVLM, CDPruner and others publish: a picture of any shape is fitted onto one canvas of
            2 x 2 crops (672 x 672 pixels), no padding is removed and there are no newlines, so that it makes
            5 x 576 = 2880 tokens, thumbnail first. The inputs state it under `preset`, which only compression reads.
        local_files_only: do not access the hub.
        revision: of the hub repository.
        **unknown: refused, with advice.

    Returns:
        The processor. Where processor files are missing, the model's config replaces them.

    Raises:
        ArgumentError: the family has no such preset.
        MediaError: the checkpoint is not found or its family is not known; a file has wrong content; the
            tokenizer lacks a placeholder.
    """
    refuse(unknown, LOADING)
    for argument, value in unknown.items():
        raise ArgumentError(
            f"{argument}={shown(value)}: load_processor takes no such argument; see its documentation, or leave it out"
        )
    fields = read_processor_files(
        model_or_path,
        resize_device=resize_device,
        tokenizer=tokenizer,
        preset=preset,
        local_files_only=local_files_only,
        revision=revision,
    )
    family = fields["family"]
    if family.split:
        return SplitProcessor(**fields)
    return Processor(**fields) if family.native is None else _OF_FORM[family.native.form](**fields)

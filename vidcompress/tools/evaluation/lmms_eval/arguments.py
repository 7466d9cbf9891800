"""Model arguments as text for lmms-eval's command line, checked as lmms-eval parses them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidcompress.checks import device as device_of
from vidcompress.errors import ArgumentError, shown
from vidcompress.loading.load import check_loading
from vidcompress.media.preprocessing.processor_files import check_preset, model_type_here
from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.evaluation.lmms_eval.conventions import convention
from vidcompress.tools.evaluation.lmms_eval.settings import LmmsSettings, read_settings


def check_arguments(
    model_args: Mapping[str, Any], *, journal: Path, batch_size: int = 1, device: str = "cpu"
) -> str:
    """Check the model arguments as a run does, as far as that needs no model.

    Args:
        model_args: as in `run_lmms`.
        journal, batch_size, device: of the run.

    Returns:
        The text for `--model_args`.

    Raises:
        ArgumentError: an unknown name, or a value that is not allowed or that lmms-eval misreads.
        BudgetError: an invalid budget.
    """
    given = {**model_args, "journal": str(journal)}
    written = _written(given)
    read = {name: as_read(str(value)) for name, value in given.items() if value is not None}
    check_settings(read_settings({**read, "batch_size": str(batch_size), "device": device}))
    return written


def check_settings(settings: LmmsSettings) -> None:
    """Check the settings as the plugin does before it reads a weight: of compression, of loading and of the family.

    Raises:
        ArgumentError, BudgetError: as `VisualQA.from_pretrained`.
    """
    VisualQA(
        None,
        None,
        config=settings.config,
        backend=settings.video_backend,
        time_instruction=settings.time_instruction,
    )
    loading = dict(settings.loading)
    preset, resized = loading.pop("preset", None), loading.pop("resize_device", None)
    device = None if "device_map" in loading else settings.device
    source = check_loading(settings.pretrained, device=device, **loading)[0]
    if resized is not None:
        device_of("resize_device", resized)
    revision = settings.loading.get("revision")
    check_preset(source, preset, revision)
    kind = model_type_here(source, revision)
    if kind is not None:
        convention(kind, settings)


def as_read(text: str) -> Any:
    """Value as lmms-eval parses it from its command line: True and False, whole and decimal numbers, else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.isnumeric():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _written(model_args: Mapping[str, Any]) -> str:
    """Text of the arguments for `--model_args`; values that lmms-eval would split or misread are refused."""
    for name, value in model_args.items():
        text = str(value)
        if "," in text:
            raise ArgumentError(
                f"model_args: {name}={shown(value)} holds a comma, which lmms-eval splits at; use another value or name"
            )
        if {*"\"'"} & {*text} or sum(map(text.count, "[{")) != sum(map(text.count, "]}")):
            raise ArgumentError(
                f"model_args: {name}={shown(value)} holds a quote or half a pair of brackets, and lmms-eval would not "
                "see where it ends; use another value or name"
            )
        if text.isnumeric() and not text.isdecimal():
            raise ArgumentError(
                f"model_args: {name}={shown(value)} is a character for a number, which lmms-eval takes for one and "
                "cannot read; write it in digits, or use another name"
            )
    return ",".join(f"{name}={value}" for name, value in model_args.items() if value is not None)

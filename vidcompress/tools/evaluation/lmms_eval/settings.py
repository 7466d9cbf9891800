"""Settings of the plugin: `--model_args name=value,...`, checked before a weight is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidcompress.checks import flag, is_whole, positive, whole_number, word
from vidcompress.core.config import DEFAULT_METHOD, DEFAULT_RATIO, CompressionConfig, read_config
from vidcompress.core.foreign_arguments import HARNESS, LOADING, SAMPLING, refuse
from vidcompress.core.method_lookup import options_of
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.loading.load import one_dtype

_COMPRESSION = {field.name for field in dataclasses.fields(CompressionConfig)}
_LOADING = (
    "dtype",
    "attn_implementation",
    "device_map",
    "quantization",
    "preset",
    "revision",
    "local_files_only",
    "resize_device",
)


@dataclasses.dataclass(frozen=True)
class LmmsSettings:
    """Settings of one run of the harness.

    Attributes:
        pretrained: folder, embedded model or hub id.
        method: registered name of the method, two joined by `+`, options behind a colon as in `globalcom2:tau=5`.
        retention_ratio: share of the visual tokens to keep; with neither this nor `max_tokens`, that of `VisualQA`.
        max_tokens: visual tokens per question instead.
        max_frames_num: most frames of a clip; None is the family's own number (`conventions.convention`).
        fps: frames per second of clip time, up to `max_frames_num`; None is the family's own rate.
        force_sample: spread `max_frames_num` frames over the clip also where `fps` would make fewer.
        video_backend: decoder, see `read_video`.
        min_pixels, max_pixels, total_pixels: bounds on frames, and on pictures of Qwen2.5-VL, of the Qwen families; see
            `fetch_rule.FetchRule`. `max_pixels` or `total_pixels` replaces both.
        system_prompt: text of a system turn before every conversation, for Qwen3-VL and Qwen3.5.
        enable_thinking: for the chat template of Qwen3-VL and Qwen3.5; with True answers come without their reasoning.
        time_instruction: put the times of the frames before LLaVA-Video's questions.
        journal: JSONL file of the answers; a repeated run resumes from it.
        batch_size: questions per batch.
        device: of the model; None is lmms-eval's.
        loading: further arguments of `VisualQA.from_pretrained`.
        options: `policy`, `separators`, `positions`, `max_views`, `max_patches`, `encoder_saving`, `view_text`, `mass`,
            `mass_strength`, `mass_cap` and the method's own options.
    """

    pretrained: str
    method: str = DEFAULT_METHOD
    retention_ratio: float | str | None = None
    max_tokens: int | None = None
    max_frames_num: int | None = None
    fps: float | None = None
    force_sample: bool = False
    video_backend: str = "auto"
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None
    system_prompt: str | None = None
    enable_thinking: bool | None = None
    time_instruction: bool = True
    journal: Path | None = None
    batch_size: int = 1
    device: str | None = None
    loading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def config(self) -> CompressionConfig:
        """The configuration of compression for every question.

        Raises:
            ArgumentError, BudgetError: as `CompressionConfig`.
        """
        given = {name: getattr(self, name) for name in ("method", "retention_ratio", "max_tokens")}
        return read_config({**given, **self.options}, default_ratio=DEFAULT_RATIO)

    def head(self) -> dict[str, Any]:
        """Head of the journal: the settings that answers depend on, as JSON values."""
        values = {name: value for name, value in vars(self).items() if name not in ("journal", "device")}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


_NAMES = ("preset", "revision")
"""Texts that may look like whole numbers, such as "2880", which lmms-eval reads as numbers."""

_OWN = {field.name for field in dataclasses.fields(LmmsSettings) if field.name not in ("loading", "options")}


def read_settings(given: Mapping[str, Any]) -> LmmsSettings:
    """Check the model arguments.

    Args:
        given: values that lmms-eval parsed from the command line: whole and decimal numbers, True and False, texts; its
            `batch_size` is a text. The text "None" stands for an argument that is left out.

    Raises:
        ArgumentError: an unknown name (the message has the nearest one), or a value that is not allowed.
    """
    values = {name: value for name, value in given.items() if value is not None and value != "None"}
    values.pop("max_batch_size", None)  # lmms-eval's, for batch_size=auto, which is refused
    dtype = one_dtype(values.pop("dtype", None), values.pop("torch_dtype", None))
    values |= {} if dtype is None else {"dtype": dtype}
    if "pretrained" not in values:
        raise ArgumentError("pretrained is missing; pass --model_args pretrained=<folder or hub id>,...")
    for name in ("pretrained", "method", "video_backend", "journal", "device"):
        if name in values:
            word(name, values[name], "globalcom2" if name == "method" else "owner/name")
    method, listed = parse_method_spec(values.get("method", DEFAULT_METHOD))
    options = {**listed, **{name: values.pop(name) for name in sorted(values) if name in _COMPRESSION - _OWN}}
    loading = {name: values.pop(name) for name in sorted(values) if name in _LOADING}
    loading |= {name: str(loading[name]) for name in _NAMES if is_whole(loading.get(name))}
    for name in sorted(set(values) - _OWN):
        names = {*_OWN, *_COMPRESSION, *_LOADING, *options_of(method)}
        if name not in names:
            refuse({name: values[name]}, HARNESS)
            if name not in SAMPLING:  # these have lmms-eval's own names
                refuse({name: values[name]}, LOADING)
            raise ArgumentError(
                f"{name}={shown(values[name])}: no such model argument; {nearest(name, names)}"
            )
        options[name] = values.pop(name)
    return _checked({**values, "method": method}, loading, options)


def _checked(values: dict[str, Any], loading: Mapping[str, Any], options: Mapping[str, Any]) -> LmmsSettings:
    size = values.get("batch_size", 1)
    if isinstance(size, str):
        if not size.isdecimal():
            raise ArgumentError(f"batch_size={shown(size)}: must be a whole number of at least 1, such as 8")
        size = int(size)
    values["batch_size"] = whole_number("batch_size", size)
    for name in ("max_frames_num", "min_pixels", "max_pixels", "total_pixels"):
        if name in values:
            whole_number(name, values[name])
    if "fps" in values:
        positive("fps", values["fps"], "frames per second")
    if "system_prompt" in values:
        word("system_prompt", values["system_prompt"], "You are a helpful assistant.")
    for name in ("force_sample", "time_instruction", "enable_thinking"):
        if name in values:
            flag(name, values[name])
    if "journal" in values:
        values["journal"] = Path(values["journal"])
    return LmmsSettings(**values, loading=loading, options=options)

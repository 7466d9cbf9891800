"""Conventions of lmms-eval's own models, by family: media, system prompt, generation, and what is cut off an answer.

They are those of lmms-eval 0.7.3: `llava_hf`, `llava_onevision`, `llava_vid`, and of its chat wrappers `qwen2_5_vl`,
`qwen3_vl`, `qwen3_5` and `internvl_hf`. Both forms of the plugin follow them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vidcompress.errors import ArgumentError, shown
from vidcompress.tools.evaluation.lmms_eval.fetch_rule import FetchRule
from vidcompress.tools.evaluation.lmms_eval.frame_rules import FrameRule, MiddleRule, frame_rule
from vidcompress.tools.evaluation.lmms_eval.settings import LmmsSettings

ASSISTANT = "You are a helpful assistant."
LLAVA_GENERATION: Final[Mapping[str, Any]] = {"max_new_tokens": 1024, "temperature": 0.0}
QWEN_GENERATION: Final[Mapping[str, Any]] = {"max_new_tokens": 128, "temperature": 0.0, "top_k": None}
THINKING_ENDS = "</think>"


@dataclass(frozen=True)
class Convention:
    """Convention by which a family is asked.

    Attributes:
        rule: for pictures and clips.
        system_prompt: text of a system turn before every conversation; None for none.
        generation: arguments of `generate` where a task states none; with `top_k` among them a task's is passed on.
        thinking: `enable_thinking` for the chat template; None leaves it to the template. With True an answer is what
            stands behind its reasoning.
    """

    rule: FrameRule = FrameRule()
    system_prompt: str | None = None
    generation: Mapping[str, Any] = field(default_factory=lambda: dict(LLAVA_GENERATION))
    thinking: bool | None = None

    def fitted(self, processor: Any) -> Any:
        """Return the processor with the bounds of the rule, and with `thinking` set in its chat template."""
        fitted = self.rule.fitted(processor)
        if self.thinking is None or fitted.chat_template is None:
            return fitted
        stated = f"{{%- set enable_thinking = {str(self.thinking).lower()} -%}}"
        return replace(fitted, chat_template=stated + fitted.chat_template)

    def finished(self, answer: str) -> str:
        """Return an answer without its reasoning: empty where that does not end."""
        return answer.partition(THINKING_ENDS)[2].strip() if self.thinking else answer

    @property
    def facts(self) -> dict[str, Any]:
        """The convention as JSON values, for the settings of a run."""
        own = {"system_prompt": self.system_prompt, "enable_thinking": self.thinking}
        return {**self.rule.facts, **{name: value for name, value in own.items() if value is not None}}


@dataclass(frozen=True)
class _Qwen:
    """Defaults of one of lmms-eval's Qwen models; `timed` is the most frames at a rate."""

    factor: int
    frames: int = 32
    timed: int = 32
    min_pixels: int = 256 * 28 * 28
    max_pixels: int | None = 1605632
    total_pixels: int | None = None
    twice: bool = False
    system_prompt: str | None = ASSISTANT
    generation: Mapping[str, Any] = field(default_factory=lambda: QWEN_GENERATION)
    thinking: bool | None = None
    refused: tuple[str, ...] = ()


_SAMPLED = {"max_new_tokens": 1024, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
_QWEN3_5 = _Qwen(
    32,
    frames=768,
    timed=768,
    min_pixels=64 * 32 * 32,
    max_pixels=None,
    total_pixels=224 * 1024 * 32 * 32,
    generation=_SAMPLED,
    thinking=True,
)
_QWEN = {
    "qwen2_5_vl": _Qwen(
        28,
        timed=768,
        twice=True,
        system_prompt=None,
        refused=("system_prompt", "enable_thinking", "total_pixels"),
    ),
    "qwen3_vl": _Qwen(32),
    "qwen3_vl_moe": _Qwen(32),
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
}
OF_QWEN = ("min_pixels", "max_pixels", "total_pixels", "system_prompt", "enable_thinking")
"""Settings that only the Qwen families have."""


def convention(model_type: str, settings: LmmsSettings, processor: Any = None) -> Convention:
    """Return the convention of a family, with the caller's changes.

    Args:
        model_type: of the model's config.
        settings: of the run.
        processor: of the model, whose tokens may have other sides than the published checkpoints'.

    Raises:
        ArgumentError: a setting that the family has no place for, or bounds on pixels that exclude each other.
    """
    own = _QWEN.get(model_type)
    for name in OF_QWEN if own is None else own.refused:
        if getattr(settings, name) is not None:
            raise ArgumentError(
                f"{name}={shown(getattr(settings, name))}: lmms-eval's own prompts for {model_type} have no place for "
                "it; leave it out"
            )
    if own is not None:
        return _qwen(own, settings, processor)
    if model_type == "internvl":
        fps = None if settings.force_sample else settings.fps
        return Convention(MiddleRule(settings.max_frames_num or 32, fps, settings.video_backend))
    rule = frame_rule(
        model_type,
        max_frames=settings.max_frames_num,
        fps=settings.fps,
        force_sample=settings.force_sample,
        backend=settings.video_backend,
    )
    return Convention(rule)


def _qwen(own: _Qwen, settings: LmmsSettings, processor: Any) -> Convention:
    most, total = own.max_pixels, own.total_pixels
    if settings.max_pixels is not None or settings.total_pixels is not None:
        most, total = settings.max_pixels, settings.total_pixels
    least = own.min_pixels if settings.min_pixels is None else settings.min_pixels
    if most is not None and most < least:
        raise ArgumentError(f"max_pixels={most}: must be at least min_pixels={least}")
    fps = settings.fps if settings.fps is not None or total is None else 2.0  # the rate of qwen_vl_utils
    fps = None if settings.force_sample else fps
    rule = FetchRule(
        settings.max_frames_num or (own.frames if fps is None else own.timed),
        fps,
        settings.video_backend,
        factor=own.factor if processor is None else processor.geometry.patches.factor,
        min_pixels=least,
        max_pixels=most,
        total_pixels=total,
        twice=own.twice,
    )
    system = own.system_prompt if settings.system_prompt is None else settings.system_prompt
    thinking = own.thinking if settings.enable_thinking is None else settings.enable_thinking
    return Convention(rule, system, own.generation, thinking)

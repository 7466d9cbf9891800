"""Settings of a serving engine: which configurations it serves, and the budget of one request."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from vidcompress.adapters.traits import encoder_has_cls
from vidcompress.checks import flag
from vidcompress.core.budget import Budget
from vidcompress.core.config import CompressionConfig, read_config
from vidcompress.core.layout import Modality
from vidcompress.core.tokens import Quantity
from vidcompress.errors import ArgumentError, shown

logger = logging.getLogger(__name__)

KEY = "vidcompress"
"""Key of `hf_overrides` that holds the settings; the same key of a processed request holds its share."""
ONLY_BUDGETS = "only_budgets"
"""Key beside the settings: whether requests may state a budget, and nothing else of the processor."""
BUDGETS = ("retention_ratio", "max_tokens")
"""Names in a request's `mm_processor_kwargs` that change its budget."""
_LAYERS = (-1, "features")
"""Encoder layers whose evidence an engine gives: the last one, and that of the features."""
_UNREAD = ("encoder_saving", "view_text", "max_views", "max_patches", "mass_strength", "mass_cap")


@dataclass(frozen=True)
class Served:
    """Abilities of a served family.

    Attributes:
        model_type: of the model's config.
        modalities: what the engine's model takes.
        quantities: evidence that it gives beside the features.
        has_cls: whether the encoder has a CLS token.
        axes: of its positions; 1 where they are columns.
    """

    model_type: str
    modalities: tuple[Modality, ...] = ("image", "video")
    quantities: tuple[Quantity, ...] = ()
    has_cls: bool = False
    axes: int = 1


SERVED: dict[str, Served] = {
    "LlavaNextForConditionalGeneration": Served(
        "llava_next", ("image",), ("cls_logits", "cls_attention"), has_cls=True
    ),
    "LlavaOnevisionForConditionalGeneration": Served("llava_onevision"),
    "Qwen2_5_VLForConditionalGeneration": Served("qwen2_5_vl", axes=4),
    "Qwen3VLForConditionalGeneration": Served("qwen3_vl", axes=4),
    "Qwen3_5ForConditionalGeneration": Served("qwen3_5", axes=4),
}
"""By architecture of transformers; the module of `engine` is called like the model type."""


def served_with(served: Served, config: Any) -> Served:
    """Return the abilities of a model of a family, whose encoder may have no CLS token.

    Args:
        served: of the family.
        config: of the model.
    """
    if not served.has_cls or encoder_has_cls(config):
        return served
    return replace(served, quantities=(), has_cls=False)


def read_settings(values: Any, served: Served) -> CompressionConfig:
    """Read the settings of an engine.

    Args:
        values: the mapping under `vidcompress` in `hf_overrides`: method, retention_ratio or max_tokens, separators,
            and options of the method, as keyword arguments of `vidcompress.compress`.
        served: abilities of the family.

    Raises:
        ArgumentError: no mapping, an argument that `compress` would not take, or one that no engine serves.
        BudgetError: a budget out of range, none, or two.
    """
    if not isinstance(values, Mapping):
        raise ArgumentError(
            f"hf_overrides['{KEY}']={shown(values)}: must be a mapping such as "
            "{'method': 'globalcom2', 'retention_ratio': 0.25}, beside the architecture that compresses"
        )
    settings = read_config({name: value for name, value in values.items() if name != ONLY_BUDGETS})
    default = CompressionConfig("none")
    for name in _UNREAD:
        if getattr(settings, name) != getattr(default, name):
            raise ArgumentError(f"{name} cannot go with vLLM, which does not read it; leave it out")
    if settings.policy != "exact":
        raise ArgumentError(
            f"policy={settings.policy!r} cannot go with vLLM: its counts may depend on the pixels, and the engine "
            "needs them before; use 'exact'"
        )
    _check_method(settings, served)
    return _positions(_without_mass(settings), served)


def _check_method(settings: CompressionConfig, served: Served) -> None:
    method = settings.method
    if method.inside is not None:
        raise ArgumentError(
            f"method={method.name!r} cannot go with vLLM: it drops tokens inside the language model, whose layers the "
            "engine runs; use a method before it, such as 'globalcom2'"
        )
    taken = [modality for modality in served.modalities if modality in method.modalities]
    if not taken:
        raise ArgumentError(
            f"method={method.name!r} takes no {' and no '.join(f'{kind}s' for kind in served.modalities)}, which "
            f"is all that {served.model_type} is served with; use 'globalcom2'"
        )
    for modality in taken:
        for item in method.needs(modality, served.has_cls):
            given = item.quantity in served.quantities and item.auxiliary is None and item.layer in _LAYERS
            if not given:
                raise ArgumentError(
                    f"method={method.name!r} cannot go with vLLM's {served.model_type}: it reads {tuple(item)} of "
                    f"{modality}s, which the engine does not give; use a method of features, such as 'globalcom2', "
                    "'vidcom2' or 'divprune'"
                )


def _without_mass(settings: CompressionConfig) -> CompressionConfig:
    if settings.mass == "on":
        raise ArgumentError(
            "mass='on' cannot go with vLLM, whose attention takes no bias; leave it out, and take no figure measured "
            "with mass for this engine's"
        )
    if settings.resolved_mass == "on":
        logger.warning(
            "method %r runs without mass, for vLLM's attention takes no bias: what was measured with mass does not "
            "hold here",
            settings.method.name,
        )
        return settings.replace(mass="off")
    return settings


def _positions(settings: CompressionConfig, served: Served) -> CompressionConfig:
    """Return settings with the one policy of positions that the engine serves.

    Raises:
        ArgumentError: another was named.
    """
    only = "contiguous" if served.axes == 1 else "original"
    if settings.positions not in (None, only):
        raise ArgumentError(
            f"positions={settings.positions!r} cannot go with vLLM's {served.model_type}, whose positions are "
            f"{only!r}; leave it out"
        )
    if settings.resolved_positions != only:
        logger.warning("method %r runs with positions=%r, those of the engine", settings.method.name, only)
    return settings.replace(positions=only)


@dataclass(frozen=True)
class Share:
    """Share of one request: what each of its items may keep.

    Attributes:
        ratio: retention ratio; None where the budget is `tokens`.
        tokens: of all items together. Each item gets its part of them, rounded down, so that equal pictures have equal
            counts, which the engine's caches need.
        whole: positions of all items, which `tokens` is divided by; 0 where there is one item.
        unasked: whether the engine measures its memory, and nothing was asked: items that the method does not take are
            whole.
    """

    ratio: Fraction | None = None
    tokens: int = 0
    whole: int = 0
    unasked: bool = False

    def of(self, length: int) -> int:
        """Return the positions that an item of `length` may keep.

        Raises:
            ArgumentError: none are left for it.
        """
        if self.ratio is not None:
            return Budget(self.ratio).split([length])[0]
        part = min(length, self.tokens * length // self.whole if self.whole else self.tokens)
        if part < 1:
            raise ArgumentError(
                f"max_tokens={self.tokens}: too few for items of {self.whole} tokens, of which one of {length} would "
                "keep none; raise it"
            )
        return part

    def __str__(self) -> str:
        """Text that differs where counts differ; the engine's caches are keyed by it."""
        if self.unasked:
            return "unasked"
        return f"tokens {self.tokens}/{self.whole}" if self.ratio is None else f"ratio {self.ratio}"


def read_share(text: str) -> Share:
    """Read what `str(share)` wrote."""
    kind, _, value = text.partition(" ")
    if kind == "unasked":
        return Share(Fraction(1), unasked=True)
    if kind == "ratio":
        return Share(Fraction(value))
    tokens, _, whole = value.partition("/")
    return Share(None, int(tokens), int(whole))


def only_budgets(values: Mapping[str, Any]) -> bool:
    """Return whether requests may state a budget and nothing else, from what `read_settings` takes.

    Raises:
        ArgumentError: neither True nor False.
    """
    return flag(ONLY_BUDGETS, values.get(ONLY_BUDGETS, False))


def request_budget(values: Mapping[str, Any], settings: CompressionConfig, *, strict: bool = False) -> Budget:
    """Return the budget of a request: its own, or that of the engine.

    Args:
        values: its `mm_processor_kwargs`.
        settings: of the engine.
        strict: whether it may state nothing else.

    Raises:
        ArgumentError: something else is stated.
        BudgetError: a budget out of range, or two.
    """
    for name in values:
        if strict and name not in BUDGETS:
            raise ArgumentError(
                f"{shown(name)} in mm_processor_kwargs: this server takes {' and '.join(BUDGETS)} of a request, "
                "for other arguments change what its memory was sized for; leave it out"
            )
    own = {name: values[name] for name in BUDGETS if values.get(name) is not None}
    return Budget(**own) if own else settings.budget

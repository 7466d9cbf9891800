"""Experiment grid of a comparison: the uncompressed model, then methods with their options times budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from vidcompress.checks import flag, whole_number
from vidcompress.core.budget import Ratio
from vidcompress.core.config import CompressionConfig, read_config, read_view_skipping, takes_seed
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import available_methods
from vidcompress.core.method_spec import split_method_specs
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown
from vidcompress.qa.compare.row import budget_words
from vidcompress.qa.question import Question, read_question

BASELINE = "none"
CONTROLS = ("random", "uniform")
DEFAULT_RATIOS = (0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Variant:
    """Variant: one method at one budget, a row to measure.

    Attributes:
        label: the method as the caller named it.
        settings: checked configuration of the compression.
        requested: whether the caller named it; a variant that was not named may be left out.
    """

    label: str
    settings: CompressionConfig
    requested: bool

    @property
    def budget_text(self) -> str:
        """The budget in words: "all", "0.25" or "64 tokens"."""
        ratio = self.settings.budget.ratio
        return budget_words(
            self.label, None if ratio is None else float(ratio), self.settings.budget.max_tokens
        )


def plan_comparison(
    item: Mapping[str, Any],
    methods: str | Sequence[str | Method] | None,
    *,
    retention_ratios: Ratio | Iterable[Ratio] | None,
    max_tokens: int | Iterable[int] | None,
    controls: bool,
    repeats: int,
    seed: int | None,
    common: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
) -> tuple[Question, list[Variant], dict[str, str]]:
    """Check the arguments of `VisualQA.compare` before any model runs.

    Args:
        item: the question and its media, as `read_question` takes them.
        methods, retention_ratios, max_tokens, controls, repeats, seed: as in `VisualQA.compare`.
        common: `policy`, `separators`, `positions`, `encoder_saving`, `view_text` and the mass for all rows, as
            `make_grid` takes them.
        options: further arguments, for `generate`; foreign names are refused.

    Returns:
        The question, then what `make_grid` returns.

    Raises:
        As `VisualQA.compare`, except for errors that need the opened media.
    """
    whole_number("repeats", repeats)
    flag("controls", controls)
    if seed is not None:
        whole_number("seed", seed, least=0)
    singular = {"method": "methods", "retention_ratio": "retention_ratios"}
    for name in singular.keys() & (options or {}).keys():
        raise ArgumentError(
            f"{name}={shown(dict(options or {})[name])}: compare takes several; pass {singular[name]}=[...]"
        )
    question, budgets = read_question(item), read_budgets(retention_ratios, max_tokens)
    images, video = question.images, question.video
    modalities = {*(["image"] if images else []), *(["video"] if video is not None else [])}
    return question, *make_grid(modalities, methods, budgets, controls=controls, seed=seed, common=common)


def make_grid(
    modalities: Set[str],
    methods: str | Sequence[str | Method] | None,
    budgets: Sequence[Mapping[str, Any]],
    *,
    controls: bool,
    seed: int | None,
    common: Mapping[str, Any],
) -> tuple[list[Variant], dict[str, str]]:
    """Make the variants of a comparison, checked as far as possible before a model runs.

    Args:
        modalities: `image`, `video` or both, of the question; decides which methods serve.
        methods: labels, or methods; None takes every registered one that serves the input.
        budgets: `retention_ratio` or `max_tokens` of each column.
        controls: whether to add `random` and `uniform` to `methods`.
        seed: for methods that have an option `seed` and whose label does not set it.
        common: `policy`, `separators`, `positions`, `encoder_saving`, `view_text`, `mass`, `mass_strength` and
            `mass_cap` for all of them; the uncompressed model still encodes everything, and methods that were not
            named encode every crop.

    Returns:
        The rows, the uncompressed model first, and the reason for each method of the default set that was left out.

    Raises:
        ArgumentError: as `compress_inputs`, or nothing to compress. UnsupportedInputError: a method that was asked
            for does not serve the input.
    """
    if not modalities:
        raise ArgumentError("compare: there is nothing to compress; pass image=, images= or video=")
    requested = _named(methods)
    names = _unique([*(_others() if methods is None else requested), *(CONTROLS if controls else ())])
    for budget in budgets:  # an error in these holds for every method
        _variant(BASELINE, budget, None, common, requested=True)
    skipped: dict[str, str] = {}
    whole = {name: value for name, value in common.items() if name != "encoder_saving"}
    variants = [_variant(BASELINE, {"retention_ratio": 1.0}, None, whole, requested=True)]
    for name in names:
        named = name in requested
        try:
            shared = common if named else _without_crops(common)
            rows = [_variant(name, budget, seed, shared, requested=named) for budget in budgets]
        except Exception as error:
            if named:
                raise
            skipped[_label(name)] = f"{type(error).__name__}: {error}"
            continue
        served = rows[0].settings.method.modalities
        if not modalities <= served:
            reason = f"serves {' and '.join(sorted(served))} inputs only"
            if named:
                about = " and ".join(sorted(modalities))
                raise UnsupportedInputError(
                    f"methods: {_label(name)!r} {reason}, and the question is about {about}; leave it out"
                )
            skipped[_label(name)] = reason
            continue
        variants += rows
    return variants, skipped


def read_budgets(
    retention_ratios: Ratio | Iterable[Ratio] | None, max_tokens: int | Iterable[int] | None
) -> list[dict[str, Any]]:
    """Turn lists of ratios or of token counts into the budgets of the columns, without repetitions.

    Raises:
        ArgumentError: both lists, or an empty one. `make_grid` checks their entries.
    """
    if retention_ratios is not None and max_tokens is not None:
        raise ArgumentError(
            f"retention_ratios={shown(retention_ratios)} and max_tokens={shown(max_tokens)} exclude each other; "
            "pass one of them"
        )
    name = "retention_ratio" if max_tokens is None else "max_tokens"
    given: Any = max_tokens if max_tokens is not None else retention_ratios
    values = DEFAULT_RATIOS if given is None else given
    if isinstance(values, (str, bytes)) or not isinstance(values, (list, tuple)):
        values = [values]
    values = list(values)
    budgets = [{name: value} for place, value in enumerate(values) if value not in values[:place]]
    if not budgets:
        raise ArgumentError(f"{name if name == 'max_tokens' else 'retention_ratios'}=[]: give at least one")
    return budgets


def _without_crops(common: Mapping[str, Any]) -> dict[str, Any]:
    """Return common arguments of methods that were not named: few can skip crops, so every crop is encoded."""
    saving = read_view_skipping(common.get("encoder_saving", "off"))
    return {**common, "encoder_saving": dataclasses.replace(saving, crops=False)}


def _named(methods: str | Sequence[str | Method] | None) -> list[str | Method]:
    """Return the labels and methods that the caller named, without the baseline, which is always in the grid."""
    if methods is None:
        return []
    if not isinstance(methods, (str, list, tuple)):
        raise ArgumentError(
            f"methods={shown(methods)}: must be a list of names or methods, or a text with commas"
        )
    listed = split_method_specs(methods) if isinstance(methods, str) else list(methods)
    if not listed:
        raise ArgumentError(
            f"methods={shown(methods)}: name at least one, or leave it out for all that serve the input"
        )
    for method in listed:
        if not isinstance(method, (str, Method)):
            raise ArgumentError(
                f"methods: {shown(method)} is of type {type(method).__name__}; pass names, or methods"
            )
    return [method for method in listed if method != BASELINE]


def _others() -> list[str]:
    """Return every registered method except the controls and the baseline."""
    return [name for name in available_methods() if name not in (*CONTROLS, BASELINE)]


def _unique(methods: Iterable[str | Method]) -> list[str | Method]:
    """Return the first method of each label, in order."""
    first: dict[str, str | Method] = {}
    for method in methods:
        first.setdefault(_label(method), method)
    return list(first.values())


def _label(method: str | Method) -> str:
    """Return the name, with the options of an instance that are not the defaults."""
    if not isinstance(method, Method):
        return str(method)
    changed = {
        f.name: getattr(method, f.name)
        for f in dataclasses.fields(method)
        if f.init and f.default != getattr(method, f.name)
    }
    return method.name + ":" * bool(changed) + ",".join(f"{key}={value}" for key, value in changed.items())


def _variant(
    method: str | Method,
    budget: Mapping[str, Any],
    seed: int | None,
    common: Mapping[str, Any],
    *,
    requested: bool,
) -> Variant:
    settings = read_config({"method": method, **budget, **common})
    if seed is not None and isinstance(method, str) and takes_seed(settings, method):
        settings = settings.replace(seed=seed)
    return Variant(_label(method), settings, requested)

"""encode -> select -> splice: from processor outputs to ordinary model inputs, only shorter."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import transformers

from vidcompress.adapters.base import Adapter, Visual, adapter_for
from vidcompress.core.budget import Policy, Ratio, Separators
from vidcompress.core.config import DEFAULT_METHOD, NO_SAVING, CompressionConfig, EncoderSaving, read_config
from vidcompress.core.devices import input_device
from vidcompress.core.layout import Modality
from vidcompress.core.method import Mass, Method, Positions
from vidcompress.core.prompt import ViewText, parse_prompt
from vidcompress.core.pruning.report import PruningReport
from vidcompress.core.report.visual import VisualReport, budget_note
from vidcompress.core.timing import Timings, phase
from vidcompress.core.wrappers import Model
from vidcompress.errors import UnsupportedInputError, warn_once
from vidcompress.llm_pruning.call import DecoderCall
from vidcompress.llm_pruning.plan import plan_pruning
from vidcompress.loading.versions import beyond_tested
from vidcompress.session.columns import ShortColumns
from vidcompress.session.entrance import judge_once
from vidcompress.session.held_clips import HeldTokens
from vidcompress.session.inputs import (
    CompressedInputs,
    check_inputs,
    encode_visuals,
    far_positions,
    late_features,
    row_features,
    scores_of_all,
    select_tokens,
)
from vidcompress.session.masses import plan_masses, visual_masses
from vidcompress.session.prompt import (
    full_positions,
    inferred_mask,
    pad_token_id,
    questions,
    served_positions,
    splice,
    visual_budgets,
)
from vidcompress.session.scaled_positions import homes_of_long_clips, note_unknown_home
from vidcompress.session.view_text import texts_of_views, texts_without_view, total_length


def compress_inputs(
    model: Model,
    inputs: Mapping[str, object],
    method: str | Method = DEFAULT_METHOD,
    *,
    config: CompressionConfig | None = None,
    retention_ratio: Ratio | None = None,
    max_tokens: int | None = None,
    separators: Separators | None = None,
    positions: Positions | None = None,
    policy: Policy = CompressionConfig.policy,
    max_views: int = CompressionConfig.max_views,
    max_patches: int = CompressionConfig.max_patches,
    encoder_saving: EncoderSaving = NO_SAVING,
    view_text: ViewText = CompressionConfig.view_text,
    hold: float | None = None,
    mass: Mass | None = None,
    mass_strength: float = CompressionConfig.mass_strength,
    mass_cap: float | None = None,
    **options: object,
) -> CompressedInputs:
    """Encode the images and videos of processor outputs and keep only part of their tokens.

    Args:
        model: a stock transformers model of a supported family; it is not changed.
        inputs: what the processor returned (`input_ids` (row, column), `attention_mask`, pixels, sizes, and `preset` of
            `load_processor`); further per-token inputs such as `labels` are shortened too, all else passes through.
        method: name of a registered method, also with options as in "globalcom2:tau=5", or a `Method`.
        config: replaces all arguments but `model` and `inputs`; the others must then keep their defaults.
        retention_ratio: 0 < R <= 1, share of each image's or video's positions to keep.
        max_tokens: instead, visual positions per prompt row.
        separators, positions, policy, max_views, max_patches, encoder_saving, view_text: as in `CompressionConfig`.
        hold, mass, mass_strength, mass_cap: as there. Masses want the call within `with inputs.pruning():`.
        **options: options of the method, such as tau=10.0.

    Returns:
        A mapping for `model.generate(**inputs)` or `model(**inputs)`, with `.report`.

    Raises:
        ArgumentError: an unknown or ill-typed argument. BudgetError: a budget out of range or out of reach.
        UnsupportedModelError: no adapter for this model. UnsupportedInputError: inputs that do not fit.
    """
    arguments = {
        "method": method,
        "retention_ratio": retention_ratio,
        "max_tokens": max_tokens,
        "separators": separators,
        "positions": positions,
        "policy": policy,
        "max_views": max_views,
        "max_patches": max_patches,
        "encoder_saving": encoder_saving,
        "view_text": view_text,
        "hold": hold,
        "mass": mass,
        "mass_strength": mass_strength,
        "mass_cap": mass_cap,
    }
    settings = read_config({**arguments, **options}, config=config)
    return compress_with(adapter_for(model), inputs, settings)


def compress_with(
    adapter: Adapter, inputs: Mapping[str, Any], settings: CompressionConfig, *, for_generate: bool = True
) -> CompressedInputs:
    """Compress processor outputs with an adapter and settings at hand.

    Args:
        adapter: of the model.
        inputs: as in `compress_inputs`.
        settings: how to compress.
        for_generate: read a missing `attention_mask` as `generate` does (leading or trailing padding ids are
            padding), not as `forward` does (nothing is), and force the cache where gaps in positions need it.
    """
    if not isinstance(inputs, Mapping):
        raise UnsupportedInputError(
            f"inputs must be a mapping with input_ids and pixels, got {type(inputs).__name__}; pass what the processor "
            "returns"
        )
    if untested := beyond_tested(transformers.__version__):
        warn_once(untested)
    if adapter.judged:
        judge_once(adapter, inputs, compress_with)
    settings = served_positions(adapter, settings)
    report = settings.report()
    timings = report.timing_ms = Timings()
    ids = check_inputs(adapter, inputs, settings)
    device = input_device(adapter.model)
    with phase(timings, "encode", device):
        both = adapter.visuals(inputs)
    kinds: dict[Modality, list[Visual]] = dict(zip(("image", "video"), both, strict=True))
    visuals: dict[tuple[str, int], Visual] = {(k, i): v for k, vs in kinds.items() for i, v in enumerate(vs)}
    runs = {kind: [visual.placeholder_runs for visual in of_kind] for kind, of_kind in kinds.items()}
    ids_of: dict[Modality, int | None] = {"image": adapter.image_token_id, "video": adapter.video_token_id}
    mask = inputs.get("attention_mask")
    if mask is None and for_generate:
        mask = inferred_mask(adapter.model, ids)
    prompt = parse_prompt(ids, mask, ids_of, runs, sorted(visuals, key=lambda k: visuals[k].place or 0))
    has_text = settings.view_text == "drop" or any(visual.view_text for visual in visuals.values())
    texts = texts_of_views(adapter, prompt, visuals, settings) if has_text else {}
    scaled = settings.resolved_positions == "scaled"
    homes = homes_of_long_clips(adapter, prompt, visuals) if scaled else {}
    asked, most = questions(prompt), settings.max_patches
    visuals = {k: replace(v, question=asked[k], max_patches=most) for k, v in visuals.items()}
    plans = visual_budgets(prompt, visuals, settings)
    with nullcontext() if getattr(adapter.model, "training", False) else torch.no_grad():
        tokens, alike = encode_visuals(adapter, visuals, plans, settings, timings)
        with phase(timings, "compress", device):
            selections = select_tokens(tokens, plans, settings.method, visuals)
            kept = {key: selection.source(tokens[key].layout) for key, selection in selections.items()}
            masses = visual_masses(tokens, selections, visuals) if settings.weighs else {}
            gone = texts_without_view(prompt, texts, kept) if settings.view_text == "drop" and texts else {}
        with phase(timings, "encode", device):
            sent = late_features(tokens, selections)
        with phase(timings, "compress", device):
            features = row_features(adapter, prompt, tokens, selections, sent)
    gaps = settings.resolved_positions != "contiguous"
    if any(gone.values()):
        prompt = prompt.without([[text for span in s for text in gone[span.key]] for s in prompt.spans])
    values: dict[str, Any] = splice(
        inputs,
        prompt,
        kept,
        placeholders={"image": adapter.placeholder("image"), "video": adapter.placeholder("video")},
        pad_token_id=pad_token_id(adapter.model, prompt),
        original_positions=gaps,
        positions=full_positions(adapter, inputs, mask, settings),
        homes=homes,
    )
    if gaps and features.rows and for_generate and adapter.traits.axes == 1:
        # Without a cache transformers reads a gap as the start of another sequence.
        values["use_cache"] = True
    plan = None
    if settings.method.inside is not None:
        apart = {key: tokens[key].layout.separator[one.index] for key, one in selections.items()}
        plan = plan_pruning(prompt, kept, apart, settings, len(adapter.decoder.layers))
    if inputs.get("logits_to_keep") is not None:
        columns = ShortColumns(prompt, kept, ids.shape[1], plan)
        values["logits_to_keep"] = columns.logits_to_keep(inputs["logits_to_keep"])
    dropped = {*values, *adapter.image_keys, *adapter.video_keys}
    values |= {key: value for key, value in inputs.items() if key not in dropped}
    inside = report.inside = None if plan is None else PruningReport(plan)
    for row, spans in enumerate(prompt.spans):
        for number, span in enumerate(spans):
            key = span.key
            layout, spared = visuals[key].layout, alike.get(key, 0)
            visual = VisualReport.from_selection(
                layout,
                kept[key],
                budget=plans[key].positions,
                row=row,
                note=budget_note(plans[key], layout, settings.method.uses_budget, spared),
                spared=len(layout.views) - len(tokens[key].layout.views) + spared,
                allotment=selections[key].allotment,
            )
            visual.scores, visual.mass = scores_of_all(selections[key], tokens[key].layout), masses.get(key)
            visual.left = None if inside is None else partial(inside.kept, row, number)
            if key in homes and visual.kept < span.length:
                visual.position_scale = homes[key] / span.length
            if texts:
                visual.view_text = total_length(texts[key])
                visual.view_text_dropped = total_length(gone.get(key, ()))
            report.visuals.append(visual)
    report.notes += far_positions(adapter, (ids if gaps and not scaled else values["input_ids"]).shape[1])
    report.notes += [one.note for one in tokens.values() if isinstance(one, HeldTokens)]
    if scaled:
        note_unknown_home(report, adapter)
    mass = plan_masses(prompt, kept, masses, settings, plan) if settings.weighs else None
    call = None if plan is None and mass is None else DecoderCall(adapter, plan, mass)
    if mass is not None and adapter.traits.hybrid:
        report.notes.append("masses count in the layers with attention only; the others keep a state")
    return CompressedInputs(values, features, report, adapter, call, prompt.dropped_until)

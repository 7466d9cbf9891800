"""encode -> select -> splice: from processor outputs to ordinary model inputs, only shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
import transformers
from torch import Tensor

from vidcompress.adapters.base import Adapter, Visual, adapter_for
from vidcompress.core.budget import Policy, Separators, VisualBudget, visual_budget
from vidcompress.core.config import CompressionConfig, ViewSkipping, read_config
from vidcompress.core.devices import input_device
from vidcompress.core.layout import Modality
from vidcompress.core.method import Method, Positions
from vidcompress.core.prompt import Prompt, parse_prompt
from vidcompress.core.pruning.report import PruningReport
from vidcompress.core.reductions import full_precision
from vidcompress.core.selection import Selection
from vidcompress.core.timing import Timings, phase
from vidcompress.core.tokens import Evidence, LazyTokens, VisualTokens
from vidcompress.core.visual_report import VisualReport
from vidcompress.errors import UnsupportedInputError, shown, warn_once
from vidcompress.llm_pruning.cache_names import cache_name, given_cache
from vidcompress.llm_pruning.hooks import Pruning
from vidcompress.llm_pruning.plan import plan_pruning
from vidcompress.loading.versions import beyond_tested
from vidcompress.session.columns import ShortColumns, check_counted
from vidcompress.session.generation_options import is_filled
from vidcompress.session.inputs import CompressedInputs, SentFeatures
from vidcompress.session.prompt import full_positions, questions, served_positions, splice
from vidcompress.session.view_skipping import leaders, spread


def compress_inputs(
    model: Any,
    inputs: Mapping[str, Any],
    method: str | Method = CompressionConfig.method,
    *,
    config: CompressionConfig | None = None,
    retention_ratio: float | str | Fraction | None = None,
    max_tokens: int | None = None,
    separators: Separators | None = None,
    positions: Positions | None = None,
    policy: Policy = CompressionConfig.policy,
    max_views: int = CompressionConfig.max_views,
    encoder_saving: str | ViewSkipping = CompressionConfig.encoder_saving,
    **options: Any,
) -> CompressedInputs:
    """Encode the images and videos of processor outputs and keep only part of their tokens.

    Args:
        model: a stock transformers model of a supported family; it is not changed.
        inputs: what the processor returned (`input_ids` (row, column), `attention_mask`, pixels, sizes, and
            `preset` where `load_processor` was given one);
            further per-token inputs such as `labels` are shortened alike, anything else passes through.
        method: name of a registered method, also with options as in "globalcom2:tau=5", or a `Method`.
        config: instead of all other arguments but `model` and `inputs`, which must then have their defaults.
        retention_ratio: 0 < R <= 1, share of each image's or video's positions to keep.
        max_tokens: instead, visual positions per prompt row.
        separators: `thin` (default) keeps newline tokens in proportion, `keep` all, `drop` none.
        positions: `contiguous` renumbers, `original` leaves gaps (needs the key-value cache, so `use_cache` is
            part of the returned inputs); the default is what the method's authors do.
        policy: `exact` meets the budget to the token; `reference` reproduces the authors' counts and order,
            with every separator on top.
        max_views: how many views the encoder sees at once; bounds its memory.
        encoder_saving: `off`, or `frames`: frames of a clip that look like an earlier one are not encoded and take
            over its tokens. With `frames:0.2:0.05` a frame is new when more than 5 % of its cells of 8 x 8 pixels
            changed by more than 0.2 (of `pixel_values`); the default is 0.15 and 1 %. With `crops` the thumbnail of an
            image is encoded first, and crops that `globalcom2` with allocation="gated" gives nothing never are; on a
            canvas that the model resizes this is refused. `frames+crops` is both.
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
        "encoder_saving": encoder_saving,
    }
    settings = read_config({**arguments, **options}, config=config)
    return compress_with(adapter_for(model), inputs, settings)


def compress_with(
    adapter: Adapter, inputs: Mapping[str, Any], settings: CompressionConfig, *, for_generate: bool = True
) -> CompressedInputs:
    """`compress_inputs` with settings and adapter at hand.

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
    untested = beyond_tested(transformers.__version__)
    if untested:
        warn_once(untested)
    settings = served_positions(adapter, settings)
    report = settings.report()
    timings = report.timing_ms = Timings()
    ids = _check_inputs(adapter, inputs, settings)
    images, videos = adapter.visuals(inputs)
    visuals: dict[tuple[str, int], Visual] = {
        **{("image", i): visual for i, visual in enumerate(images)},
        **{("video", i): visual for i, visual in enumerate(videos)},
    }
    runs: dict[Modality, list[tuple[int, ...]]] = {
        "image": [visual.placeholder_runs for visual in images],
        "video": [visual.placeholder_runs for visual in videos],
    }
    placeholders: dict[Modality, int | None] = {
        "image": adapter.image_token_id,
        "video": adapter.video_token_id,
    }
    mask = inputs.get("attention_mask")
    if mask is None and for_generate:
        mask = inferred_mask(adapter.model, ids)
    prompt = parse_prompt(ids, mask, placeholders, runs)
    asked = questions(prompt)
    visuals = {key: replace(visual, question=asked[key]) for key, visual in visuals.items()}
    plans = _plans(prompt, visuals, settings)
    device = input_device(adapter.model)
    with _gradient_mode(adapter.model):
        with phase(timings, "encode", device):
            tokens, alike = _encode(adapter, visuals, plans, settings)
        with phase(timings, "compress", device):
            selections = _select(tokens, plans, settings.method)
            selections |= {
                key: selections[key].ascending()
                for key, visual in visuals.items()
                if len(visual.placeholder_runs) > 1
            }
            kept = {key: selection.source(tokens[key].layout) for key, selection in selections.items()}
        with phase(timings, "encode", device):
            sent = _projected(tokens, selections)
        with phase(timings, "compress", device):
            features = _row_features(adapter, prompt, tokens, selections, sent)
    values: dict[str, Any] = splice(
        inputs,
        prompt,
        kept,
        placeholders={"image": adapter.placeholder("image"), "video": adapter.placeholder("video")},
        pad_token_id=_pad_token_id(adapter.model, prompt),
        original_positions=settings.resolved_positions == "original",
        positions=full_positions(adapter, inputs, mask, settings),
    )
    if (
        settings.resolved_positions == "original"
        and features.rows
        and for_generate
        and adapter.traits.axes == 1
    ):
        # Without a cache transformers reads a gap as the start of another sequence.
        values["use_cache"] = True
    plan = (
        None
        if settings.method.inside is None
        else plan_pruning(prompt, kept, settings, len(adapter.decoder.layers))
    )
    if inputs.get("logits_to_keep") is not None:
        columns = ShortColumns(prompt, kept, ids.shape[1], plan)
        values["logits_to_keep"] = columns.logits_to_keep(inputs["logits_to_keep"])
    dropped = {*values, *adapter.image_keys, *adapter.video_keys}
    values |= {key: value for key, value in inputs.items() if key not in dropped}
    for row, spans in enumerate(prompt.spans):
        for span in spans:
            key = (span.modality, span.number)
            report.visuals.append(
                VisualReport.from_selection(
                    visuals[key].layout,
                    kept[key],
                    budget=plans[key].positions,
                    row=row,
                    note=_note(plans[key], visuals[key], settings, alike.get(key, 0)),
                    spared=len(visuals[key].layout.views) - len(tokens[key].layout.views) + alike.get(key, 0),
                )
            )
    if plan is None:
        return CompressedInputs(values, features, report, adapter)
    report.inside = PruningReport(plan)
    return CompressedInputs(values, features, report, adapter, Pruning(adapter, plan))


def _check_inputs(adapter: Adapter, inputs: Mapping[str, Any], settings: CompressionConfig) -> Tensor:
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.shape[1] == 0:
        got = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise UnsupportedInputError(
            f"input_ids must be a tensor (row, column) with at least one column, got {got}; pass the processor's "
            "output with return_tensors='pt' (inputs_embeds cannot be shortened)"
        )
    if inputs.get("inputs_embeds") is not None or inputs.get("mm_encoder_outputs") is not None:
        raise UnsupportedInputError(
            "inputs_embeds and mm_encoder_outputs cannot be compressed: pass input_ids and pixels as the processor "
            "returns them"
        )
    pixels = (*adapter.image_keys[:1], *adapter.video_keys[:1])
    if is_filled(given_cache(inputs)) and any(inputs.get(key) is not None for key in pixels):
        raise UnsupportedInputError(
            f"{cache_name()} together with pixels cannot be compressed; encode the pixels in the first call only"
        )
    mask = inputs.get("attention_mask")
    if mask is not None and not isinstance(mask, Tensor):
        raise UnsupportedInputError(
            f"attention_mask={shown(mask)}: must be a tensor (row, column) like input_ids, or left out"
        )
    check_counted(inputs)
    for key in adapter.refused_keys:
        value = inputs.get(key)
        if value is not None and value != getattr(adapter.model.config, key, None):
            raise UnsupportedInputError(
                f"{key}={value!r} differs from the model's config; set it there or leave it out"
            )
    if settings.method.inside is not None and inputs.get("labels") is not None:
        raise UnsupportedInputError(
            f"labels cannot go with method {settings.method.name!r}, which shortens the sequence inside the model; "
            "leave them out"
        )
    adapter.preset(inputs)  # refused here, or a family that has none would not look
    if not adapter.video_keys and inputs.get("pixel_values_videos") is not None:
        raise UnsupportedInputError(
            f"{type(adapter.model).__name__} takes images only, got pixel_values_videos"
        )
    return ids


def _plans(
    prompt: Prompt, visuals: Mapping[tuple[str, int], Visual], settings: CompressionConfig
) -> dict[tuple[str, int], VisualBudget]:
    """The budget of every visual, row by row, before anything is encoded."""
    plans: dict[tuple[str, int], VisualBudget] = {}
    for spans in prompt.spans:
        keys = [(span.modality, span.number) for span in spans]
        for key, budget in zip(keys, settings.budget.split([span.length for span in spans]), strict=True):
            layout = visuals[key].layout
            settings.method.check(layout)
            sent = settings.method.sent(budget, layout.full_length)
            plans[key] = visual_budget(
                layout,
                sent,
                ratio=settings.budget.ratio if sent == budget else None,
                separators=settings.resolved_separators,
                policy=settings.policy,
            )
    return plans


def _encode(
    adapter: Adapter,
    visuals: Mapping[tuple[str, int], Visual],
    plans: Mapping[tuple[str, int], VisualBudget],
    settings: CompressionConfig,
) -> tuple[dict[tuple[str, int], VisualTokens], dict[tuple[str, int], int]]:
    """Encode images together and videos together; and count the views that the encoder was spared."""
    tokens: dict[tuple[str, int], VisualTokens] = {}
    alike: dict[tuple[str, int], int] = {}
    modalities: Sequence[Modality] = ("image", "video")
    for modality in modalities:
        keys = [key for key in visuals if key[0] == modality]
        if not keys:
            continue
        evidence = settings.method.needs(modality, adapter.has_cls)
        reads = settings.method.reads_features(modality, adapter.has_cls)
        frames = [settings.method.frames(visuals[key].layout, plans[key]) for key in keys]
        part = [visuals[key] for key in keys]
        if modality == "video" and settings.encoder_saving.frames:
            _check_pictures(part)
            encoded, fewer = _encode_new_frames(adapter, part, evidence, frames, settings)
            alike |= dict(zip(keys, fewer, strict=True))
        elif modality == "image" and settings.encoder_saving.crops:
            encoded, fewer = _encode_worthy_crops(
                adapter, part, [plans[key] for key in keys], evidence, settings
            )
            alike |= dict(zip(keys, fewer, strict=True))
        else:
            part = [
                replace(visuals[key], may_defer=not reads and plans[key].positions < plans[key].total)
                for key in keys
            ]
            encoded = adapter.encode(part, evidence, frames, settings.max_views)
        tokens |= dict(zip(keys, encoded, strict=True))
    return tokens, alike


def _check_pictures(visuals: Sequence[Visual]) -> None:
    """Refuse frames that are no pictures."""
    shapes = [tuple(visual.pixels.shape) for visual in visuals if visual.pixels.ndim != 4]
    if shapes:
        raise UnsupportedInputError(
            "encoder_saving='frames' compares pictures (frame, channel, height, width), and this family encodes "
            f"patches {shapes[0]}; leave it out"
        )


def _encode_new_frames(
    adapter: Adapter,
    visuals: Sequence[Visual],
    wanted: Sequence[Evidence],
    frames: Sequence[tuple[int, ...] | None],
    settings: CompressionConfig,
) -> tuple[list[VisualTokens], list[int]]:
    """Encode of each clip the frames that are new, spread their tokens over all, and count the others."""
    asked, follows, layouts = [], [], []
    for visual, some in zip(visuals, frames, strict=True):
        every = tuple(range(len(visual.layout.views))) if some is None else some
        index = torch.tensor(every, device=visual.pixels.device)
        pixels = visual.pixels[:] if some is None else visual.pixels[index]
        follows.append(leaders(pixels, settings.encoder_saving))
        asked.append(tuple(every[frame] for frame in sorted(set(follows[-1]))))
        device = visual.layout.view.device
        layouts.append(
            visual.layout if some is None else visual.layout.restrict_to_frames(index.to(device), every)
        )
    encoded = adapter.encode(visuals, wanted, asked, settings.max_views)
    spared = [len(follow) - len(new) for follow, new in zip(follows, asked, strict=True)]
    whole = [
        spread(tokens, layout, follow) if less else tokens
        for tokens, layout, follow, less in zip(encoded, layouts, follows, spared, strict=True)
    ]
    return whole, spared


def _encode_worthy_crops(
    adapter: Adapter,
    visuals: Sequence[Visual],
    plans: Sequence[VisualBudget],
    wanted: Sequence[Evidence],
    settings: CompressionConfig,
) -> tuple[list[VisualTokens], list[int]]:
    """Encode of each image the thumbnail and the crops that the method gives anything, and count the others."""

    def choose(number: int, thumbnail: VisualTokens) -> tuple[int, ...] | None:
        with full_precision(thumbnail.layout.view):
            method: Method = settings.method
            return method.crops(thumbnail, visuals[number].layout, plans[number])

    images = adapter.encode_chosen(visuals, wanted, choose, settings.max_views)
    return [tokens for tokens, _ in images], [
        len(v.layout.views) - n for v, (_, n) in zip(visuals, images, strict=True)
    ]


def _select(
    tokens: Mapping[tuple[str, int], VisualTokens],
    plans: Mapping[tuple[str, int], VisualBudget],
    method: Method,
) -> dict[tuple[str, int], Selection]:
    """Select from images together and from videos together, in float32 whatever the caller's autocast."""
    chosen: dict[tuple[str, int], Selection] = {}
    for modality in ("image", "video"):
        keys = [key for key in tokens if key[0] == modality]
        if keys:
            given = [tokens[key] for key in keys]
            for one in given:
                one.hold_autocast()
            with full_precision(given[0].layout.view):
                selections = method.select_batch(given, [plans[key] for key in keys])
            chosen |= dict(zip(keys, selections, strict=True))
    return chosen


def _projected(
    tokens: Mapping[tuple[str, int], VisualTokens], selections: Mapping[tuple[str, int], Selection]
) -> dict[tuple[str, int], Tensor]:
    """What is sent of visuals that the projector has not seen, projected together."""
    late: dict[tuple[str, int], LazyTokens] = {
        key: one
        for key, one in tokens.items()
        if isinstance(one, LazyTokens) and one.waits and selections[key].features is None
    }
    if not late:
        return {}
    rows = LazyTokens.rows_of(list(late.values()), [selections[key].index for key in late])
    return dict(zip(late, rows, strict=True))


def _row_features(
    adapter: Adapter,
    prompt: Prompt,
    tokens: Mapping[tuple[str, int], VisualTokens],
    selections: Mapping[tuple[str, int], Selection],
    sent: Mapping[tuple[str, int], Tensor],
) -> SentFeatures:
    """One (k, D) tensor per prompt row and key of `sent_as`, visuals in the order of the prompt; companions alike."""
    features = SentFeatures({}, {})
    for spans in prompt.spans:
        by_key: dict[str, list[tuple[str, int]]] = {}
        for span in spans:
            by_key.setdefault(adapter.sent_as[span.modality], []).append((span.modality, span.number))
        for name, keys in by_key.items():
            parts = [sent[key] if key in sent else selections[key].gather(tokens[key]) for key in keys]
            features.rows.setdefault(name, []).append(_joined(parts))
            deep_keys = [key for key in keys if tokens[key].deep]
            levels = zip(*(selections[key].companions(tokens[key]) for key in deep_keys), strict=True)
            deep = features.deep.setdefault(name, [])
            for number, level in enumerate(levels):
                if number == len(deep):
                    deep.append([])
                deep[number].append(_joined(level))
    return features


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Parts of one prompt row, one after the other, on the device of the first; a single one as it is."""
    return parts[0] if len(parts) == 1 else torch.cat([part.to(parts[0].device) for part in parts])


def _gradient_mode(model: Any) -> AbstractContextManager[Any]:
    """Encode without a graph unless the model is being trained."""
    return nullcontext() if getattr(model, "training", False) else torch.no_grad()


def _pad_token_id(model: Any, prompt: Prompt) -> int:
    """The id that fills padding: what the caller's padding holds, else what the model's configs name."""
    if prompt.padding is not None:
        return prompt.padding
    for config in (getattr(model, "generation_config", None), model.config, model.config.get_text_config()):
        for name in ("pad_token_id", "eos_token_id"):
            value = getattr(config, name, None)
            value = value[0] if isinstance(value, list) else value
            if value is not None:
                return int(value)
    return 0


def inferred_mask(model: Any, ids: Tensor) -> Tensor | None:
    """The mask that `generate` infers when none is given: padding ids are padding, unless they also end answers."""
    config = getattr(model, "generation_config", None)
    pad, ends = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    if pad is None or pad in (ends if isinstance(ends, list) else [ends]):
        return None
    mask: Tensor = ids != pad
    return mask.to(torch.int64)


def _note(plan: VisualBudget, visual: Visual, settings: CompressionConfig, spared: int) -> str | None:
    """What becomes of an input whose budget is smaller than its number of views, or of frames not encoded."""
    notes = []
    if spared:
        why = (
            "frames look like an earlier one" if visual.modality == "video" else "views are worth too little"
        )
        notes.append(f"{spared} of {len(visual.layout.views)} {why} and were not encoded")
    views = sum(size > 0 for size in visual.layout.sizes)
    if settings.method.uses_budget and plan.policy != "reference" and plan.tokens < views:
        notes.append(
            f"its budget of {plan.positions} leaves {plan.tokens} tokens for {views} views, so at least "
            f"{views - plan.tokens} of them send nothing"
        )
    return "; ".join(notes) or None

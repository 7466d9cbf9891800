"""What an input becomes under a method: views to encode, rows to project, tokens for each decoder layer.

Everything here comes from the planning that the runs themselves use: layouts of the adapter, budgets, schedules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.adapters.model_shape import ModelShape
from vidcompress.adapters.presets import find_preset
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method, tokens_to_keep
from vidcompress.core.pruning.composed import Composed
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError, UnsupportedModelError


@dataclass(frozen=True)
class Asked:
    """One prompt.

    Attributes:
        visual_tokens: positions of visual input whose views are not described, or None.
        size: (height, width) in pixels of its pictures, or None. images: how many.
        frames: of its clip, or None.
        text_tokens: of its text.
        preset: name of the layout that its pictures are in; None for the model's own.
    """

    visual_tokens: int | None
    size: tuple[int, int] | None
    images: int
    frames: int | None
    text_tokens: int
    preset: str | None = None


@dataclass(frozen=True)
class Load:
    """What one prompt costs a model with.

    Attributes:
        total: N, visual positions without compression.
        separators: newlines among those that are sent.
        views: that are encoded.
        projected: rows that go through the projector.
        late: whether the projector runs once, on what is sent, instead of once per chunk of views.
        visual: visual positions that each decoder layer takes in; the first number is what is sent.
        text: tokens of text.
        compared: (width, pairs) of the features that the method compares with one another, in all.
        evidence: quantities that the method reads of the encoder.
    """

    total: int
    separators: int
    views: int
    projected: int
    late: bool
    visual: tuple[int, ...]
    text: int
    compared: int
    evidence: tuple[Evidence, ...]

    @property
    def sent(self) -> int:
        """Visual positions that the first layer takes in."""
        return self.visual[0]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Of these those that are no separators; in layers behind a pruned one the same share."""
        share = 1 - self.separators / max(self.sent, 1)
        return tuple(round(n * share) for n in self.visual)


def load_of(adapter: Adapter, geometry: ModelShape, asked: Asked, settings: CompressionConfig) -> Load:
    """VisualBudget one prompt.

    Args:
        adapter: of a model, which may be without weights.
        geometry: of it.
        asked: the prompt.
        settings: how to compress.

    Raises:
        BudgetError: a budget out of reach. UnsupportedInputError: the method or the family takes no such input.
    """
    layers, method = geometry.decoder.layers, settings.method
    if asked.visual_tokens is not None:
        made = _undescribed(asked.visual_tokens, geometry, settings)
    else:
        made = _described(adapter, geometry, asked, settings)
    lengths = [part.total for part in made]
    sent, budget = sum(part.sent for part in made), sum(settings.budget.split(lengths))
    visual = [sent] * layers
    if method.inside is not None:
        visual = method.inside.plan_layers(
            sent, budget, layers, ratio=settings.budget.ratio, reference=settings.policy == "reference"
        ).per_layer()
    return Load(
        total=sum(lengths),
        separators=sum(part.separators for part in made),
        views=sum(part.views for part in made),
        projected=sum(part.projected for part in made),
        late=all(part.late for part in made),
        visual=tuple(visual),
        text=asked.text_tokens,
        compared=sum(part.compared for part in made),
        evidence=tuple(dict.fromkeys(item for part in made for item in part.evidence)),
    )


@dataclass(frozen=True)
class _Part:
    """One image or clip; as in `Load`."""

    total: int
    sent: int
    separators: int
    views: int
    projected: int
    late: bool
    compared: int
    evidence: tuple[Evidence, ...]


def _undescribed(total: int, geometry: ModelShape, settings: CompressionConfig) -> list[_Part]:
    """So many tokens without separators, from as many views as it takes to have them."""
    method = settings.method
    if method.changes_views:
        raise ArgumentError(
            f"visual_tokens={total}: method {method.name!r} leaves out frames before the encoder, so the clip must be "
            "described; pass frames= instead"
        )
    patches = geometry.encoder.patches
    views = -(-total // patches)
    sent = method.sent(settings.budget.split([total])[0], total)
    needs = method.needs("image" if "image" in method.modalities else "video", bool(geometry.encoder.cls))
    # Canvases of encoders with a CLS token are never resized, so there the projector can wait for the selection.
    late = bool(geometry.encoder.cls) and sent < total and not method.reads_features("image", True)
    projected = sent if late else views * patches
    return [_Part(total, sent, 0, views, projected, late, _compared(method, [patches] * views, total), needs)]


def _described(
    adapter: Adapter, geometry: ModelShape, asked: Asked, settings: CompressionConfig
) -> list[_Part]:
    visuals = visuals_of(adapter, geometry, asked)
    budgets = settings.budget.split([visual.layout.full_length for visual in visuals])
    return [_part(adapter, visual, budget, settings) for visual, budget in zip(visuals, budgets, strict=True)]


def _part(adapter: Adapter, visual: Visual, budget: int, settings: CompressionConfig) -> _Part:
    layout, method = visual.layout, settings.method
    method.check(layout)
    wanted = method.sent(budget, layout.full_length)
    plan = visual_budget(
        layout,
        wanted,
        ratio=settings.budget.ratio if wanted == budget else None,
        separators=settings.resolved_separators,
        policy=settings.policy,
    )
    frames = method.frames(layout, plan)
    needs = method.needs(layout.modality, adapter.has_cls)
    sent, separators = _sent(method, layout, plan, needs)
    encoded = layout
    if frames is not None and len(frames) < len(layout.views):
        encoded = layout.restrict_to_frames(torch.tensor(frames, dtype=torch.int64), frames)
    late = _projected_late(adapter, visual, plan, method)
    return _Part(
        layout.full_length,
        sent,
        separators,
        len(encoded.views),
        sent if late else adapter.projected_rows(encoded),
        late,
        _compared(method, encoded.sizes, encoded.num_tokens),
        needs,
    )


def _projected_late(adapter: Adapter, visual: Visual, plan: VisualBudget, method: Method) -> bool:
    """Whether the projector runs on what is sent only, as `compress_inputs` has it."""
    if plan.budget >= plan.total or method.reads_features(visual.modality, adapter.has_cls):
        return False
    return adapter.projects_late(visual)


def _sent(method: Method, layout: Layout, plan: VisualBudget, needs: Sequence[Evidence]) -> tuple[int, int]:
    """How many positions are sent, and how many separators among them.

    Methods that reach the largest count below the budget go by geometry alone, so they are simply asked.
    """
    if method.inside is method or not method.uses_budget:
        return layout.full_length, layout.num_separators
    chooser = method.before if isinstance(method, Composed) else method
    if not (chooser.exact or needs):
        index = method.select(VisualTokens(torch.zeros(len(layout), 1), layout), plan).source(layout)
        return len(index), int(layout.separator[index].sum())
    tokens = min(tokens_to_keep(layout, plan), layout.full_length - layout.num_separators)
    separators = min(plan.separators, layout.num_separators)
    return tokens + separators, separators


def _compared(method: Method, sizes: Sequence[int], total: int) -> int:
    """Pairs of features that are multiplied: with two means, with those of their view, or with all."""
    if method.compares == "nothing":
        return 0
    pairs = {"means": 0, "views": sum(size * size for size in sizes), "all": total * total}
    return 2 * total + pairs[method.compares]


def visuals_of(adapter: Adapter, geometry: ModelShape, asked: Asked) -> list[Visual]:
    """The pictures and the clip of a prompt as the adapter lays them out; their pixels are one number, spread out.

    Raises:
        UnsupportedModelError: the family's processor is not known here, so nobody can say how it cuts pictures.
        UnsupportedInputError: the family takes no clips. ArgumentError: it has no such preset.
    """
    from vidcompress.adapters.families import get_family, read_geometry
    from vidcompress.errors import MediaError

    shape = geometry.encoder
    try:
        family = get_family(geometry.model_type)
    except MediaError as error:
        raise UnsupportedModelError(
            f"model_type={geometry.model_type!r} has no registered processor, so what a picture becomes is not known; "
            "pass visual_tokens= instead"
        ) from error
    read_geometry(adapter.model.config, crops=family.crops)  # refuses canvases that no picture has
    view = (shape.channels, shape.image_size, shape.image_size)
    preset = find_preset(asked.preset, adapter.presets, geometry.model_type)
    inputs: dict[str, Any] = {}
    if asked.size is not None:
        crops = _most_crops(adapter, shape.image_size) if family.crops else 0
        if preset is not None:
            crops, inputs["preset"] = math.prod(preset.crops), preset.name
        many = (asked.images, 1 + crops) if family.crops else (asked.images,)
        inputs["pixel_values"] = torch.zeros(()).expand(*many, *view)
        if family.crops:
            inputs["image_sizes"] = torch.tensor([asked.size] * asked.images)
        if family.counts_images:
            inputs["batch_num_images"] = torch.tensor([asked.images])
    if asked.frames is not None:
        if not adapter.video_keys:
            raise UnsupportedInputError(
                f"frames={asked.frames}: models of type {geometry.model_type!r} take no clips; pass a picture"
            )
        inputs["pixel_values_videos"] = torch.zeros(()).expand(1, asked.frames, *view)
    images, videos = adapter.visuals(inputs)
    return [*images, *videos]


def _most_crops(adapter: Adapter, side: int) -> int:
    pinpoints = adapter.model.config.image_grid_pinpoints
    return max(int(height // side) * int(width // side) for height, width in pinpoints)

"""Load of a prompt under a method: views to encode, rows to project, tokens of each decoder layer.

The numbers come from the layouts, budgets and schedules that real runs use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.adapters.families import Family, Geometry
from vidcompress.adapters.model_shape import ModelShape
from vidcompress.adapters.presets import Preset, find_preset
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, tokens_to_keep, visual_budget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method
from vidcompress.core.pruning.composed import Composed
from vidcompress.core.reductions import DEVICE_BLOCK
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError, UnsupportedModelError
from vidcompress.llm_pruning.hooks import check_kinds
from vidcompress.tools.cost.encoder_work import Grid, square

DEFAULT_FRAME = (480, 640)
"""Default (height, width) of frames in pixels."""


@dataclass(frozen=True)
class PromptSpec:
    """Specification of one prompt.

    Attributes:
        visual_tokens: positions of visual input whose views are not described, or None.
        size: (height, width) in pixels of its pictures, or None. images: number of them.
        frames: of its clip, or None.
        text_tokens: of its text.
        preset: name of the layout that its pictures are in; None for the model's own.
        frame_size: (height, width) in pixels of the frames of its clip, where it matters; None for 480 x 640.
    """

    visual_tokens: int | None
    size: tuple[int, int] | None
    images: int
    frames: int | None
    text_tokens: int
    preset: str | None = None
    frame_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Load:
    """Load of one prompt.

    Attributes:
        total: N, visual positions without compression.
        separators: newlines among the positions sent.
        views: number of encoded views.
        grids: of these, equal ones together: their number, and rows and columns of tokens of each.
        projected: rows that go through the projector.
        late: whether the projector runs once, on the tokens sent, instead of once per chunk of views.
        visual: visual positions that each decoder layer takes in; the first number is that sent.
        text: tokens of text.
        compared: multiplications by which the method compares features with one another.
        reread: pairs of a token chosen and any token, where a method that chooses one after another cannot hold the
            distances of all pairs: then each choice reads all features.
        evidence: quantities that the method reads from the encoder.
    """

    total: int
    separators: int
    views: int
    grids: tuple[Grid, ...]
    projected: int
    late: bool
    visual: tuple[int, ...]
    text: int
    compared: int
    reread: int
    evidence: tuple[Evidence, ...]

    @property
    def sent(self) -> int:
        """Visual positions that the first layer takes in."""
        return self.visual[0]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Visual positions of each layer without separators; behind a pruned layer the same share is assumed."""
        share = 1 - self.separators / max(self.sent, 1)
        return tuple(round(n * share) for n in self.visual)


def load_of(adapter: Adapter, geometry: ModelShape, prompt: PromptSpec, settings: CompressionConfig) -> Load:
    """Compute the load of one prompt under a method and budget.

    Args:
        adapter: of a model, which may be without weights.
        geometry: of the model.
        prompt: its specification.
        settings: checked configuration of the compression.

    Raises:
        BudgetError: a budget out of reach. UnsupportedInputError: the method or the family takes no such input.
        UnsupportedModelError: the method drops tokens inside a decoder where that cannot be.
    """
    layers, method = geometry.decoder.layers, settings.method
    if prompt.visual_tokens is not None:
        loads = _undescribed(prompt.visual_tokens, geometry, settings)
    else:
        loads = _described(adapter, geometry, prompt, settings)
    lengths = [load.total for load in loads]
    sent, budget = sum(load.sent for load in loads), sum(settings.budget.split(lengths))
    visual = [sent] * layers
    if method.inside is not None:
        check_kinds(adapter)
        visual = method.inside.plan_layers(
            sent, budget, layers, ratio=settings.budget.ratio, reference=settings.policy == "reference"
        ).per_layer()
    return Load(
        total=sum(lengths),
        separators=sum(load.separators for load in loads),
        views=sum(load.views for load in loads),
        grids=tuple(grid for load in loads for grid in load.grids),
        projected=sum(load.projected for load in loads),
        late=all(load.late for load in loads),
        visual=tuple(visual),
        text=prompt.text_tokens,
        compared=sum(load.compared for load in loads),
        reread=sum(load.reread for load in loads),
        evidence=tuple(dict.fromkeys(item for load in loads for item in load.evidence)),
    )


@dataclass(frozen=True)
class _VisualLoad:
    """Load of one image or clip; fields as in `Load`."""

    total: int
    sent: int
    separators: int
    views: int
    grids: tuple[Grid, ...]
    projected: int
    late: bool
    compared: int
    reread: int
    evidence: tuple[Evidence, ...]


def _undescribed(total: int, geometry: ModelShape, settings: CompressionConfig) -> list[_VisualLoad]:
    """Compute the load of `total` tokens without separators, from as many views as they need."""
    method = settings.method
    if method.changes_views:
        raise ArgumentError(
            f"visual_tokens={total}: method {method.name!r} leaves out frames before the encoder, so the clip must be "
            "described; pass frames= instead"
        )
    tokens = geometry.encoder.projected or total  # an encoder of any sides has one view
    views = -(-total // tokens)
    sent = method.sent(settings.budget.split([total])[0], total)
    needs = method.needs("image" if "image" in method.modalities else "video", bool(geometry.encoder.cls))
    # Canvases of encoders with a CLS token are never resized, so there the projector can wait for the selection.
    late = bool(geometry.encoder.cls) and sent < total and not method.reads_features("image", True)
    projected = sent if late else views * tokens
    return [
        _VisualLoad(
            total,
            sent,
            0,
            views,
            (square(tokens),) * views,
            projected,
            late,
            method.multiplications(
                [tokens] * (views - 1) + [total - tokens * (views - 1)], sent, geometry.decoder.hidden
            ),
            _reread(method, total, sent),
            needs,
        )
    ]


def _described(
    adapter: Adapter, geometry: ModelShape, prompt: PromptSpec, settings: CompressionConfig
) -> list[_VisualLoad]:
    visuals = visuals_of(adapter, geometry, prompt)
    budgets = settings.budget.split([visual.layout.full_length for visual in visuals])
    return [
        _visual_load(adapter, visual, budget, settings, geometry.decoder.hidden)
        for visual, budget in zip(visuals, budgets, strict=True)
    ]


def _visual_load(
    adapter: Adapter, visual: Visual, budget: int, settings: CompressionConfig, hidden: int
) -> _VisualLoad:
    layout, method = visual.layout, settings.method
    method.check(layout)
    sent_budget = method.sent(budget, layout.full_length)
    plan = visual_budget(
        layout,
        sent_budget,
        ratio=settings.budget.ratio if sent_budget == budget else None,
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
    return _VisualLoad(
        layout.full_length,
        sent,
        separators,
        len(encoded.views),
        tuple((1, view.rows, view.cols) for view in encoded.views),
        sent if late else adapter.projected_rows(encoded),
        late,
        method.multiplications(encoded.sizes, sent, hidden),
        _reread(method, encoded.num_tokens, sent - separators),
        needs,
    )


def _projected_late(adapter: Adapter, visual: Visual, plan: VisualBudget, method: Method) -> bool:
    """Whether the projector runs on the sent tokens only, as in `compress_inputs`."""
    if plan.positions >= plan.total or method.reads_features(visual.modality, adapter.has_cls):
        return False
    return adapter.projects_late(visual)


def _sent(method: Method, layout: Layout, plan: VisualBudget, needs: Sequence[Evidence]) -> tuple[int, int]:
    """Return the number of positions sent, and of separators among them.

    Methods that reach the largest count below the budget need the layout alone, so their `select` is called.
    """
    if method.inside is method or not method.uses_budget:
        return layout.full_length, layout.num_separators
    chooser = method.before if isinstance(method, Composed) else method
    if not (chooser.exact or needs):
        batch = VisualBatch([VisualTokens(torch.zeros(len(layout), 1), layout)])
        index = method.select(batch, [plan])[0].source(layout)
        return len(index), int(layout.separator[index].sum())
    tokens = min(tokens_to_keep(layout, plan), layout.full_length - layout.num_separators)
    separators = min(plan.separators, layout.num_separators)
    return tokens + separators, separators


def _reread(method: Method, total: int, sent: int) -> int:
    """Count the pairs whose features are read once per token chosen, as an accelerator does beyond what it holds."""
    chooser = method.before if isinstance(method, Composed) else method
    held = DEVICE_BLOCK // torch.float32.itemsize
    return sent * total if chooser.sequential and chooser.compares == "all" and total**2 > held else 0


def visuals_of(adapter: Adapter, geometry: ModelShape, prompt: PromptSpec) -> list[Visual]:
    """Make the visuals of a prompt, in the layouts of its family; their pixels are an expanded scalar.

    Raises:
        UnsupportedModelError: the family is not registered, so its layouts are not known.
        UnsupportedInputError: the family takes no clips. ArgumentError: it has no such preset.
    """
    from vidcompress.adapters.families import get_family
    from vidcompress.errors import MediaError

    try:
        family = get_family(geometry.model_type)
    except MediaError as error:
        raise UnsupportedModelError(
            f"model_type={geometry.model_type!r} has no registered processor, so what a picture becomes is not known; "
            "pass visual_tokens= instead"
        ) from error
    numbers = family.geometry(adapter.model.config)  # refuses canvases that no picture has
    if prompt.frame_size is not None and family.clip_layout is None:
        raise ArgumentError(
            f"frame_size={prompt.frame_size}: frames of {geometry.model_type} have one size; leave it out"
        )
    preset, layouts = find_preset(prompt.preset, family.presets, geometry.model_type), []
    if prompt.size is not None:
        layouts += [_image_layout(family, numbers, prompt.size, prompt.images, preset)] * prompt.images
    if prompt.frames is not None:
        layouts.append(_clip_layout(family, numbers, prompt.frames, prompt.frame_size or DEFAULT_FRAME))
    pixels = torch.zeros(())
    return [
        Visual(
            layout.modality,
            layout,
            pixels.expand(len(layout.views)),
            prompt.size if layout.modality == "image" else None,
        )
        for layout in layouts
    ]


def _image_layout(
    family: Family, geometry: Geometry, size: tuple[int, int], images: int, preset: Preset | None
) -> Layout:
    """Return the layout of each of `images` images of (height, width) pixels."""
    if preset is not None and family.preset_layout is not None:
        return family.preset_layout(geometry, preset, size)
    if images > 1 and family.single_view_layout is not None:
        return family.single_view_layout(geometry)
    return family.image_layout(geometry, size)


def _clip_layout(family: Family, geometry: Geometry, frames: int, size: tuple[int, int]) -> Layout:
    """Return the layout of a clip of `frames` frames of (height, width) pixels."""
    if family.clip_layout is not None:
        return family.clip_layout(geometry, frames, size)
    if family.video_layout is None:
        raise UnsupportedInputError(
            f"frames={frames}: models of type {family.model_type!r} take no clips; pass a picture"
        )
    return family.video_layout(geometry, frames)

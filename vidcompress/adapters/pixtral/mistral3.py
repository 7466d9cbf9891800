"""Mistral 3 (`model_type` "mistral3"): a picture of any size is one view, a run of placeholders for each row of tokens.

`[IMG_BREAK]` stands behind each run and `[IMG_END]` behind the last one. They are text: they stay, but that
`view_text="drop"` leaves out the break behind a row of which nothing is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from vidcompress.adapters.base import Adapter, Visual, register_adapter
from vidcompress.adapters.families import Family, NativeRules, register_family
from vidcompress.adapters.family.budgets import EdgeBudget
from vidcompress.adapters.family.native import CLIP_CHANNELS, native_image_layout
from vidcompress.adapters.layouts import Size, native_layout
from vidcompress.adapters.llava import image_sizes
from vidcompress.adapters.packed.pieces import passes
from vidcompress.adapters.pixtral.probe import PixtralProbe
from vidcompress.checks import is_whole
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError, shown

logger = logging.getLogger(__name__)

ENCODER = "pixtral"


@register_adapter
class Mistral3Adapter(Adapter):
    """`Mistral3ForConditionalGeneration` on Pixtral's encoder, whose projector joins squares of patches."""

    model_types = ("mistral3",)
    image_keys = ("pixel_values", "image_sizes")
    refused_keys = ("vision_feature_layer",)
    full_precision: ClassVar[tuple[str, ...]] = (
        "model.vision_tower",
        "model.multi_modal_projector",
        "lm_head",
    )
    has_cls = False

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        encoder, layer = model.config.vision_config.model_type, model.config.vision_feature_layer
        if encoder != ENCODER or not is_whole(layer):
            raise UnsupportedModelError(
                f"vision tower {encoder!r} with vision_feature_layer={shown(layer)}: this adapter of mistral3 takes "
                f"{ENCODER!r} and one layer"
            )

    @cached_property
    def merge(self) -> int:
        """Patches along one side of a token."""
        return int(self.model.config.spatial_merge_size)

    @cached_property
    def factor(self) -> int:
        """Pixels along one side of a token."""
        return self.merge * int(self.model.config.vision_config.patch_size)

    def projected_rows(self, layout: Layout) -> int:
        return layout.num_tokens  # the merger joins the patches of a token

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return [], []
        channels = int(getattr(self.model.config.vision_config, "num_channels", 3))
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.shape[1] != channels:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"pixel_values must be (picture, {channels} channels, height, width), got {got}; pass what the "
                "processor returns"
            )
        most = (int(pixels.shape[2]), int(pixels.shape[3]))
        images = []
        for number, size in enumerate(image_sizes(inputs, len(pixels))):
            if any(side % self.factor or side > edge for side, edge in zip(size, most, strict=True)):
                raise UnsupportedInputError(
                    f"image_sizes has {size}: both sides must be multiples of {self.factor}, the side of a token in "
                    f"pixels, and at most the {most} of pixel_values; pass the processor's output unchanged"
                )
            rows, cols = size[0] // self.factor, size[1] // self.factor
            layout = native_layout((rows, cols), str(pixels.device))
            own = pixels[number : number + 1, :, : size[0], : size[1]]
            images.append(Visual("image", layout, own, size, runs=(cols,) * rows, view_text=row_breaks))
        return images, []

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        core = self.model.model
        probe = PixtralProbe(core, self.merge, self.model.config.vision_feature_layer, evidence)
        logger.info(
            "%s encodes %d visuals, evidence: %s", type(self).__name__, len(visuals), evidence or "none"
        )
        shapes = [visual.pixels.shape for visual in visuals]
        sizes: list[Size] = [(int(shape[2]), int(shape[3])) for shape in shapes]
        patches = [(1, height * width * self.merge**2 // self.factor**2) for height, width in sizes]
        tokens = []
        for pieces in passes(patches, min((visual.max_patches for visual in visuals), default=1)):
            some = [piece.visual for piece in pieces]
            pixels = self._placed([visuals[number].pixels for number in some])
            features, values = probe(pixels, [sizes[number] for number in some])
            for number, own, quantities in zip(some, features, values, strict=True):
                tokens.append(self._assembled(visuals[number], own, probe, quantities, evidence))
        return tokens

    def _placed(self, pictures: Sequence[Any]) -> Tensor:
        """Fill pictures to the largest of them, on the encoder's device; accelerate moves them to offloaded weights."""
        height, width = (max(int(picture.shape[axis]) for picture in pictures) for axis in (2, 3))
        filled = [pad(one, (0, width - one.shape[3], 0, height - one.shape[2])) for one in pictures]
        weight = next(self.model.model.vision_tower.parameters())
        joined = torch.cat(filled)
        return joined if weight.device.type == "meta" else joined.to(weight.device)

    def _assembled(
        self,
        visual: Visual,
        features: Tensor,
        probe: PixtralProbe,
        values: Sequence[Tensor],
        evidence: Sequence[Evidence],
    ) -> VisualTokens:
        quantities = dict(zip(probe.evidence, values, strict=True)) | self.text_evidence(visual, evidence)
        return VisualTokens(
            features,
            visual.layout.to(features.device),
            {item: quantities[item] for item in evidence if item in quantities},
            _projector(self.model.model.multi_modal_projector, self.merge),
        )

    def encode_chosen(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence],
        choose: Callable[[int, VisualTokens], Sequence[int] | None],
        max_views: int = 16,
    ) -> list[tuple[VisualTokens, int]]:
        raise UnsupportedInputError(
            f"encoder_saving='crops' cannot go with {type(self.model).__name__}, whose pictures are one view without "
            "crops; leave it out"
        )


def row_breaks(row: Tensor, runs: Sequence[range]) -> list[list[range]]:
    """Find the break behind each run of a picture but the last, whose end of the picture is no text of a row."""
    return [*([range(run.stop, run.stop + 1)] for run in runs[:-1]), []]


def _projector(projector: nn.Module, merge: int) -> Callable[[Tensor], Tensor]:
    """Return the projector as methods call it, on the patches of a token side by side: (n, C) to (n, D)."""

    def project(hidden: Tensor) -> Tensor:
        parts: Any = projector
        patches = parts.norm(hidden.unflatten(-1, (merge**2, -1)))
        joined = parts.patch_merger.merging_layer(patches.transpose(1, 2).flatten(1))
        features: Tensor = parts.linear_2(parts.act(parts.linear_1(joined)))
        return features

    return project


_EDGE = EdgeBudget(1024)
PIXTRAL_RULES = NativeRules(
    image_budget=_EDGE,
    clip_budget=_EDGE,
    mean=CLIP_CHANNELS[0],
    std=CLIP_CHANNELS[1],
    tokens=("[IMG]", "<video>"),
    form="pictures",
)
register_family(Family("mistral3", native_image_layout, crops=False, native=PIXTRAL_RULES))

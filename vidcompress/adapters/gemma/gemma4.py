"""Gemma 4 (`model_type` "gemma4"): pictures and clips of any size, a frame of a clip is a run behind its time.

Pixels are (view, patch, value), filled to one number of patches, with the column and row of each patch; a view keeps
its filling here, for the stock pooler counts by it. In larger models the tokens of a picture or a frame attend to each
other both ways in layers with a window, by a mask made of `mm_token_type_ids`. Smaller models add inputs per layer,
which follow from the ids of the shortened prompt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, Visual, register_adapter
from vidcompress.adapters.families import Family, NativeRules, register_family
from vidcompress.adapters.family.budgets import TokenBudget
from vidcompress.adapters.family.native import native_clip_layout, native_image_layout
from vidcompress.adapters.family.numbering import numbered
from vidcompress.adapters.gemma.probe import Gemma4Probe
from vidcompress.adapters.layouts import Size, native_layout, video_layout
from vidcompress.adapters.packed.pieces import TokenRows, passes
from vidcompress.adapters.packing import Source, join
from vidcompress.adapters.traits import Traits
from vidcompress.checks import is_whole
from vidcompress.core.layout import Layout
from vidcompress.core.prompt import text_between_runs
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError, shown

logger = logging.getLogger(__name__)

TYPES = "mm_token_type_ids"
ENCODER = "gemma4_vision"


@register_adapter
class Gemma4Adapter(Adapter):
    """`Gemma4ForConditionalGeneration`, images and clips; audio passes through."""

    model_types = ("gemma4",)
    image_keys = ("pixel_values", "image_position_ids")
    video_keys = ("pixel_values_videos", "video_position_ids", "num_frames_per_video")
    refused_keys = ("per_layer_inputs",)
    full_precision: ClassVar[tuple[str, ...]] = ("model.vision_tower", "model.embed_vision", "lm_head")
    has_cls = False

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        encoder = getattr(model.config.vision_config, "model_type", None)
        if encoder != ENCODER:
            raise UnsupportedModelError(
                f"vision tower {shown(encoder)}: this adapter of gemma4 takes {ENCODER!r}; a Gemma 4 without one reads "
                "text only"
            )

    @cached_property
    def traits(self) -> Traits:
        text = self.model.config.get_text_config()
        return replace(super().traits, both_ways=text.use_bidirectional_attention == "vision")

    @property
    def merge(self) -> int:
        """Patches along one side of a token."""
        return int(self.model.config.vision_config.pooling_kernel_size)

    def projected_rows(self, layout: Layout) -> int:
        return layout.num_tokens  # patches are averaged before it

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images = self._images(inputs)
        clips = self._clips(inputs)
        if (images or clips) and self.traits.both_ways and inputs.get(TYPES) is None:
            raise UnsupportedInputError(
                f"pixels without {TYPES}: without these the tokens of a picture do not see later ones of it, and the "
                "model says nothing; pass the processor's output unchanged, or 1 at placeholders of images, 2 at those "
                "of videos and 0 elsewhere"
            )
        return images, clips

    def _images(self, inputs: Mapping[str, Any]) -> list[Visual]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return []
        grids = self._grids(pixels, inputs.get("image_position_ids"), self.image_keys)
        return [
            Visual("image", native_layout(grid, str(pixels.device)), pixels[number : number + 1])
            for number, grid in enumerate(grids)
        ]

    def _clips(self, inputs: Mapping[str, Any]) -> list[Visual]:
        pixels, places, counts = (inputs.get(key) for key in self.video_keys)
        if pixels is None:
            return []
        if (
            isinstance(pixels, Tensor) and pixels.ndim == 4
        ):  # older versions of transformers stack clips of one length
            counts = [pixels.shape[1]] * len(pixels)
            pixels = pixels.flatten(0, 1)
            places = places.flatten(0, 1) if isinstance(places, Tensor) else places
        grids = self._grids(pixels, places, self.video_keys[:2])
        stated = counts.tolist() if isinstance(counts, Tensor) else counts
        frames = list(stated) if isinstance(stated, (list, tuple)) and all(map(is_whole, stated)) else []
        if sum(frames) != len(pixels) or min(frames, default=0) < 1:
            raise UnsupportedInputError(
                f"num_frames_per_video={shown(stated)}: must be the number of frames of each clip, together the "
                f"{len(pixels)} of pixel_values_videos; pass the processor's output unchanged"
            )
        clips, start = [], 0
        for count in frames:
            own = grids[start : start + count]
            if len(set(own)) > 1:
                raise UnsupportedInputError(
                    f"video_position_ids: a clip has frames of {sorted(set(own))} tokens, and all frames of a clip "
                    "must have one size; pass the processor's output unchanged"
                )
            layout = video_layout(count, own[0], "none", device=str(pixels.device))
            clips.append(
                Visual(
                    "video",
                    layout,
                    pixels[start : start + count],
                    runs=(own[0][0] * own[0][1],) * count,
                    view_text=text_between_runs,
                    pictures=partial(self._pictures, own[0]),
                )
            )
            start += count
        return clips

    def _grids(self, pixels: Any, places: Any, keys: Sequence[str]) -> list[Size]:
        """Return (rows, cols) of tokens of every view, from the places of its patches.

        Raises:
            UnsupportedInputError: ill-shaped pixels, or patches that are not row by row.
        """
        merge, value = self.merge, 3 * int(self.model.config.vision_config.patch_size) ** 2
        if not isinstance(pixels, Tensor) or pixels.ndim != 3 or pixels.shape[2] != value:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"{keys[0]} must be (view, patch, value) with {value} values, got {got}; pass the processor's output "
                "unchanged"
            )
        if not isinstance(places, Tensor) or places.shape != (*pixels.shape[:2], 2):
            got = tuple(places.shape) if isinstance(places, Tensor) else type(places).__name__
            raise UnsupportedInputError(
                f"{keys[1]} must be {(*pixels.shape[:2], 2)}, the column and row of each patch of {keys[0]}, got "
                f"{got}; pass the processor's output unchanged"
            )
        sides = places.amax(1) + 1
        due = numbered(sides[:, 1], sides[:, 0], pixels.shape[1])
        wrong = (places != due).any(-1).any(-1)
        rows = torch.cat((sides, wrong[:, None].to(sides.dtype)), dim=1).tolist()
        for number, (cols, height, bad) in enumerate(rows):
            if bad or min(cols, height) < 1 or cols % merge or height % merge:
                raise UnsupportedInputError(
                    f"{keys[1]}: the patches of view {number}, {height} rows of {cols}, must lie row by row, behind "
                    f"them -1, with both numbers multiples of {merge}; pass the processor's output unchanged"
                )
        if pixels.shape[1] % merge**2:
            raise UnsupportedInputError(
                f"{keys[0]} has {pixels.shape[1]} patches per view: must be a multiple of {merge**2}, those of one "
                "token; pass the processor's output unchanged"
            )
        return [(height // merge, cols // merge) for cols, height, _ in rows]

    def _pictures(self, grid: Size, pixels: Tensor) -> Tensor:
        """Turn patches (view, patch, value) into pictures (view, channel, height, width) without the filling, from -1
        to 1 as the encoder reads them."""
        side = int(self.model.config.vision_config.patch_size)
        rows, cols = grid[0] * self.merge, grid[1] * self.merge
        cells = pixels[:, : rows * cols].reshape(len(pixels), rows, cols, side, side, 3)
        return 2 * cells.permute(0, 5, 1, 3, 2, 4).reshape(len(pixels), 3, rows * side, cols * side) - 1

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        probe = Gemma4Probe(self.model.model, self.merge, evidence)
        logger.info(
            "%s encodes %d visuals, evidence: %s", type(self).__name__, len(visuals), evidence or "none"
        )
        layouts, sources, rows = [], [], []
        for visual, some in zip(visuals, frames or [None] * len(visuals), strict=True):
            layout, index = visual.layout, None
            if some is not None and len(some) < len(layout.views):
                index = torch.tensor(some, dtype=torch.int64, device=visual.pixels.device)
                layout = layout.restrict_to_frames(index.to(layout.view.device), some)
            layouts.append(layout)
            sources.append(Source(visual.pixels, index))
            rows.append(TokenRows(len(layout)))
        sizes = [(source.views, int(source.pixels.shape[1])) for source in sources]
        for pieces in passes(sizes, min((visual.max_patches for visual in visuals), default=1)):
            parts = [sources[piece.visual].part(piece.start, piece.stop) for piece in pieces]
            grids = [
                layouts[piece.visual].grid
                for part, piece in zip(parts, pieces, strict=True)
                for _ in range(len(part))
            ]
            encoded = probe(self._placed(join(parts)), grids)
            start = 0
            for part, piece in zip(parts, pieces, strict=True):
                own = [join(column[start : start + len(part)]) for column in encoded]
                rows[piece.visual].add(own)
                start += len(part)
            del encoded
        return [
            self._assembled(visual, layout, one.columns, probe, evidence)
            for visual, layout, one in zip(visuals, layouts, rows, strict=True)
        ]

    def _placed(self, pixels: Tensor) -> Tensor:
        """Move pixels to the encoder's device; accelerate moves them itself to offloaded weights."""
        weight = next(self.model.model.vision_tower.parameters())
        return pixels if weight.device.type == "meta" else pixels.to(weight.device)

    def _assembled(
        self,
        visual: Visual,
        layout: Layout,
        columns: Sequence[Tensor],
        probe: Gemma4Probe,
        evidence: Sequence[Evidence],
    ) -> VisualTokens:
        features = columns[0]
        quantities = dict(zip(probe.evidence, columns[1:], strict=True))
        quantities |= self.text_evidence(visual, evidence)
        return VisualTokens(
            features,
            layout.to(features.device),
            {item: quantities[item] for item in evidence if item in quantities},
            self.model.model.embed_vision,
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
            "crops; leave it out, or use 'frames'"
        )


GEMMA4_RULES = NativeRules(
    image_budget=TokenBudget(280),
    clip_budget=TokenBudget(70),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    timestamps=True,
    spread="steps",
    frames=32,
    tokens=("<|image|>", "<|video|>"),
    around=("<|image>", "<image|>"),
    form="numbered",
)
register_family(
    Family(
        "gemma4",
        native_image_layout,
        crops=False,
        clip_layout=native_clip_layout,
        native=GEMMA4_RULES,
        token_types=TYPES,
    )
)

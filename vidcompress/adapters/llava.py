"""Base adapter of the LLaVA families: a vision tower, a projector, anyres images, and stock packing code.

Features are produced by the model's own modules and packed by the model's own `pack_image_features` and
`apply_pooling`, so they equal the stock model's to the last bit. Evidence goes through the same
packing as extra channels, so it lands on the right tokens after any unpadding or resizing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from vidcompress.adapters.auxiliary import AUXILIARY, read_patches
from vidcompress.adapters.base import Adapter, Visual
from vidcompress.adapters.encoder_probe import EncoderProbe, encoder_layers
from vidcompress.adapters.family.geometry import Geometry
from vidcompress.adapters.layouts import image_layout
from vidcompress.adapters.packing import (
    ClipAssembly,
    Collected,
    Encoded,
    ImageAssembly,
    Source,
    Taker,
    at_tokens,
    chunks,
    hand_out,
    on_canvas,
    with_gaps,
)
from vidcompress.adapters.presets import Preset
from vidcompress.adapters.traits import encoder_has_cls
from vidcompress.checks import is_number
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.tokens import AXES, Evidence, FrameSource, LazyTokens, VisualTokens
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError, shown

logger = logging.getLogger(__name__)

HIDDEN = ("hidden", "cls_hidden")  # inputs of the projector
HIDDEN_ITEM = Evidence("hidden", "features")


class LlavaAdapter(Adapter):
    """Encoding shared by the LLaVA families; subclasses state layouts and packing."""

    sent_as: ClassVar[Mapping[Modality, Modality]] = {"image": "image", "video": "image"}
    full_precision: ClassVar[tuple[str, ...]] = (
        "model.vision_tower",
        "model.multi_modal_projector",
        "lm_head",
    )
    reads_ahead: ClassVar[bool] = True

    @property
    def core(self) -> Any:
        """The model without its language-modelling head."""
        return self.model.model

    @cached_property
    def geometry(self) -> Geometry:
        """Numbers of the config that layouts follow from, read and checked by `read_geometry`."""
        config = self.model.config
        canvases = getattr(config, "image_grid_pinpoints", None) or ()
        return Geometry(
            encoder=str(config.vision_config.model_type),
            image_size=int(config.vision_config.image_size),
            patch_size=int(config.vision_config.patch_size),
            canvases=tuple(map(tuple, canvases)),
            aspect_ratio=str(getattr(config, "vision_aspect_ratio", "") or ""),
            image_token_id=self.image_token_id,
            video_token_id=self.video_token_id,
            pool_stride=int(getattr(config, "spatial_pool_stride", 2)),
        )

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of patches of one view as encoded."""
        vision = self.model.config.vision_config
        side = int(vision.image_size) // int(vision.patch_size)
        return side, side

    @cached_property
    def has_cls(self) -> bool:
        return encoder_has_cls(self.model.config)

    @property
    def tower(self) -> nn.Module:
        """The vision encoder, from pictures to patches."""
        tower: nn.Module = self.core.vision_tower
        return tower

    @property
    def drops_cls(self) -> bool:
        """Whether the projector reads the encoder's outputs behind the first token."""
        return getattr(self.model.config, "vision_feature_select_strategy", None) == "default"

    def project(self, joined: Tensor) -> Tensor:
        """Project what `join_patches` returns: (..., token, C') -> (..., token, D)."""
        features: Tensor = self.core.multi_modal_projector(joined)
        return features

    def vision_layers(self) -> nn.ModuleList:
        """The encoder's transformer layers."""
        return encoder_layers(self.tower)

    def probe(self, evidence: Sequence[Evidence]) -> EncoderProbe:
        """Return the probe that runs the vision tower and reads evidence; families with another encoder override it.

        Args:
            evidence: quantities to read.
        """
        layer = self.model.config.vision_feature_layer
        indices = [layer] if isinstance(layer, int) else list(layer)
        return EncoderProbe(self.tower, self.vision_layers(), indices, evidence, self.has_cls)

    # -- stated by each family ------------------------------------------------------------------------------

    def image_layout(self, size: tuple[int, int], single: bool, device: str) -> Layout:
        """Return the layout of an image of (height, width) pixels; `single` when it is sent as one view."""
        raise NotImplementedError

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        """Pack one image by the stock code: (view, patch, channel) -> (N, channel); sizes (1, 2) height, width."""
        raise NotImplementedError

    def clip_layout(self, frames: int, device: str) -> Layout:
        """Return the layout of a clip of `frames` frames."""
        raise NotImplementedError

    def join_patches(self, hidden: Tensor) -> Tensor:
        """Join encoder outputs without CLS to the projector's inputs: (view, patch, C) -> (view, token, C')."""
        return hidden

    def average_patches(self, values: Tensor) -> Tensor:
        """Average the evidence of patches to that of tokens: (view, patch, E) -> (view, token, E)."""
        return values

    def pool_frames(self, features: Tensor) -> Tensor:
        """Pool frames by the stock code, with any channels: (frame, patch, channel) -> (frame, token, channel)."""
        raise NotImplementedError

    # -- derived from it, unless a family overrides it --------------------------------------------------------

    def image(
        self, views: Tensor, size: tuple[int, int], layout: Layout, preset: Preset | None = None
    ) -> Visual:
        """Return one image of (height, width) pixels: its views without the padding views of a batch.

        Raises:
            UnsupportedInputError: fewer views than the layout has.
        """
        needed = len(layout.views)
        if views.shape[0] < needed:
            raise UnsupportedInputError(
                f"pixel_values has {views.shape[0]} views for an image of {size[0]} x {size[1]} pixels that needs "
                f"{needed}; use a processor with the model's image_grid_pinpoints"
            )
        return Visual("image", layout, views[:needed], size, preset=preset)

    def projects_positions(self, visual: Visual) -> bool:
        """Whether the projector comes last, so that features are its outputs for the packed `hidden`, one by one."""
        return visual.modality == "image"

    def projects_late(self, visual: Visual) -> bool:
        return self.projects_positions(visual)

    def pool_hidden(self, hidden: Tensor) -> Tensor:
        """Pool the encoder's outputs, where the projector comes after it; else as any other channels."""
        return self.pool_frames(hidden)

    def project_frames(self, features: Tensor) -> Tensor:
        """Project encoder outputs of frames without CLS: (frame, patch, channel) -> (frame, token, D)."""
        return self.pool_frames(self.project(features))

    def clips(self, inputs: Mapping[str, Any]) -> list[Visual]:
        """Return the videos of processor outputs.

        Raises:
            UnsupportedInputError: ill-shaped pixels, or a video without frames.
        """
        if inputs.get("pixel_values_videos") is None:
            return []
        videos = []
        for frames in view_lists(inputs["pixel_values_videos"], "pixel_values_videos"):
            if frames.shape[0] < 1:
                raise UnsupportedInputError(
                    "pixel_values_videos has a video of 0 frames; give at least 1 frame"
                )
            layout = self.clip_layout(int(frames.shape[0]), str(frames.device))
            videos.append(Visual("video", layout, frames))
        return videos

    # -- encoding ------------------------------------------------------------------------------------------

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        self._check_pixels(visuals)
        frames = frames or [None] * len(visuals)
        defer = [visual.may_defer and self.projects_late(visual) for visual in visuals]
        tokens: dict[int, VisualTokens] = {}
        for deferred in sorted(set(defer)):  # a pass joins the views of visuals with the same setting
            alike = [number for number, value in enumerate(defer) if value == deferred]
            encoded = self._encode_alike(
                [visuals[i] for i in alike], evidence, [frames[i] for i in alike], max_views, deferred
            )
            tokens |= dict(zip(alike, encoded, strict=True))
        return [tokens[number] for number in range(len(visuals))]

    def _encode_alike(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence],
        frames: Sequence[tuple[int, ...] | None],
        max_views: int,
        deferred: bool,
    ) -> list[VisualTokens]:
        """Encode visuals, either all with the projector or all without."""
        is_video = visuals[0].modality == "video"
        sources, assemblies = [], []
        for visual, keep in zip(visuals, frames, strict=True):
            layout, index = visual.layout, None
            if keep is not None and len(keep) < len(layout.views):
                index = torch.tensor(keep, dtype=torch.int64, device=visual.pixels.device)
                layout = layout.restrict_to_frames(index.to(layout.view.device), keep)
            sources.append(Source(visual.pixels, index))
            assemblies.append(self._assembly(visual, layout, sources[-1].views, deferred))
        self._run(sources, assemblies, evidence, max_views, is_video, deferred)
        return [
            self._tokens(assembly, visual, evidence, deferred)
            for assembly, visual in zip(assemblies, visuals, strict=True)
        ]

    def encode_chosen(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence],
        choose: Callable[[int, VisualTokens], Sequence[int] | None],
        max_views: int = 16,
    ) -> list[tuple[VisualTokens, int]]:
        self._check_pixels(visuals)
        for visual in visuals:
            if not self.projects_positions(visual):
                raise UnsupportedInputError(
                    "encoder_saving='crops' cannot leave out crops of a canvas that the model resizes, since every "
                    f"token then mixes crops ({type(self.model).__name__}, image of {visual.size} pixels); leave it out"
                )
        thumbnails, numbers = [Collected() for _ in visuals], [_thumbnail(visual) for visual in visuals]
        sources = [
            Source(visual.pixels[at : at + 1], None) for visual, at in zip(visuals, numbers, strict=True)
        ]
        self._run(sources, thumbnails, evidence, max_views, is_video=False, deferred=False)
        chosen = []
        for number, (visual, thumbnail) in enumerate(zip(visuals, thumbnails, strict=True)):
            picked = choose(number, self._thumbnail_tokens(thumbnail.encoded))
            others = [view for view in range(visual.pixels.shape[0]) if view != numbers[number]]
            chosen.append(others if picked is None else picked)
        crops = [Collected() for _ in visuals]
        sources = [
            Source(visual.pixels, torch.tensor(list(some), dtype=torch.int64, device=visual.pixels.device))
            for visual, some in zip(visuals, chosen, strict=True)
        ]
        self._run(sources, crops, evidence, max_views, is_video=False, deferred=False)
        images = []
        for visual, at, thumbnail, crop, some in zip(
            visuals, numbers, thumbnails, crops, chosen, strict=True
        ):
            assembly = self._assembly(visual, visual.layout, visual.pixels.shape[0], deferred=False)
            assembly.add(with_gaps(thumbnail.encoded, at, crop, some, visual.pixels.shape[0]))
            images.append((self._tokens(assembly, visual, evidence, deferred=False), 1 + len(some)))
        return images

    def _run(
        self,
        sources: Sequence[Source],
        takers: Sequence[Taker],
        evidence: Sequence[Evidence],
        max_views: int,
        is_video: bool,
        deferred: bool,
    ) -> None:
        """Encode the views of all sources, chunk by chunk, and pass them to the taker of each source."""
        probe = self.probe(evidence)
        logger.info(
            "%s encodes %d visuals, evidence: %s", type(self).__name__, len(sources), evidence or "none"
        )
        for pixels, owners in chunks(sources, max_views):
            encoded = self._encode_views(probe, pixels, evidence, is_video, deferred)
            hand_out(encoded, owners, takers)
            del encoded  # frees its memory before the next chunk is encoded

    def _thumbnail_tokens(self, encoded: Encoded) -> VisualTokens:
        """Return the first of some encoded views as an image of its own, without separators."""
        layout = image_layout(self.grid, newline=False, device=str(encoded.features.device))
        values = {
            **{
                item: value[0] if item.quantity in AXES else value[0, :, 0]
                for item, value in encoded.of_tokens.items()
            },
            **{item: value[:1] for item, value in encoded.of_views.items()},
        }
        return VisualTokens(
            encoded.features[0], layout, {item: value.float() for item, value in values.items()}
        )

    def _check_pixels(self, visuals: Sequence[Visual]) -> None:
        vision = self.model.config.vision_config
        sides = vision.image_size  # InternVL's has both sides
        side = int(sides[0] if isinstance(sides, (list, tuple)) else sides)
        taken = (int(getattr(vision, "num_channels", 3)), side, side)
        for visual in visuals:
            if tuple(visual.pixels.shape[1:]) != taken:
                key = "pixel_values" if visual.modality == "image" else "pixel_values_videos"
                raise UnsupportedInputError(
                    f"{key} has views of shape {tuple(visual.pixels.shape[1:])}, the encoder takes {taken} (channel, "
                    "height, width); pass the processor's output unchanged"
                )

    def _encode_views(
        self,
        probe: EncoderProbe,
        pixels: Tensor,
        evidence: Sequence[Evidence],
        is_video: bool,
        deferred: bool,
    ) -> Encoded:
        """Encode one chunk of views: the tower, the projector unless deferred and, for clips, the pooling."""
        device = _device(self.tower)
        hidden, values = probe(pixels if device is None else pixels.to(device))
        every = hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=-1)
        drop_cls = self.drops_cls
        joined = self.join_patches(every[:, 1:] if drop_cls else every)
        if deferred:
            features = self.pool_hidden(joined) if is_video else joined
            if drop_cls == self.has_cls:  # then it is the evidence `hidden` as well
                evidence = [item for item in evidence if item != HIDDEN_ITEM]
        else:
            features = self.project_frames(joined) if is_video else self.project(joined)
        quantities = dict(zip(probe.evidence, values, strict=True))
        quantities |= self._hidden(every, evidence)
        quantities |= self._of_auxiliary(every, evidence)
        of_tokens = {
            item: self._of_tokens(item, value if value.ndim == 3 else value[..., None], is_video)
            for item, value in quantities.items()
            if at_tokens(item)
        }
        of_views = {item: value for item, value in quantities.items() if not at_tokens(item)}
        return Encoded(features, of_tokens, of_views)

    def _of_tokens(self, item: Evidence, value: Tensor, is_video: bool) -> Tensor:
        """Turn the evidence of patches of some views (view, patch, E) into that of their tokens (view, token, E)."""
        if item.quantity == "hidden":
            value = self.join_patches(value)
            return self.pool_hidden(value) if is_video else value
        value = self.average_patches(value)
        return self.pool_frames(value) if is_video else value

    def _hidden(self, hidden: Tensor, wanted: Sequence[Evidence]) -> dict[Evidence, Tensor]:
        """Return the requested inputs of the projector: the patches (view, patch, C) and the CLS token (view, C).

        Raises:
            UnsupportedModelError: another layer, or the CLS token of an encoder that has none.
        """
        states: dict[Evidence, Tensor] = {}
        for item in wanted:
            if item.quantity not in HIDDEN:
                continue
            if item.layer != "features":
                raise UnsupportedModelError(
                    f"evidence {tuple(item)} is known of the layer that the projector reads only; use layer 'features'"
                )
            if item.quantity == "cls_hidden" and not self.has_cls:
                raise UnsupportedModelError(
                    f"evidence {tuple(item)} needs a CLS token and {type(self.tower).__name__} has none"
                )
            states[item] = hidden[:, 0] if item.quantity == "cls_hidden" else hidden[:, int(self.has_cls) :]
        return states

    def _of_auxiliary(self, hidden: Tensor, evidence: Sequence[Evidence]) -> dict[Evidence, Tensor]:
        """Return the requested evidence that auxiliary weights compute from the patches (view, patch, C)."""
        asked = [item for item in evidence if item.quantity in AUXILIARY]
        return read_patches(hidden[:, int(self.has_cls) :], asked, self.has_cls) if asked else {}

    def _assembly(
        self, visual: Visual, layout: Layout, views: int, deferred: bool
    ) -> ClipAssembly | ImageAssembly:
        newline = None if deferred else self._newline()
        if visual.modality == "video":
            return ClipAssembly(layout, newline, self._check_length)
        if visual.preset is not None:
            crops = visual.preset.crops
            return ImageAssembly(
                layout, views, newline, lambda x, _: on_canvas(x, self.grid, crops), self._check_length
            )
        sizes = torch.tensor([visual.size or (0, 0)], device="cpu")

        def pack(features: Tensor, line: Tensor) -> Tensor:
            return self.pack_image(features, sizes, line)

        return ImageAssembly(layout, views, newline, pack, self._check_length)

    def _tokens(
        self,
        assembly: ClipAssembly | ImageAssembly,
        visual: Visual,
        evidence: Sequence[Evidence],
        deferred: bool,
    ) -> VisualTokens:
        layout, features, values = assembly.finish()
        quantities = {
            item: (value if item.quantity in AXES else value[:, 0]).float() for item, value in values.items()
        }
        quantities |= self.text_evidence(visual, evidence)
        if deferred:
            quantities.setdefault(HIDDEN_ITEM, features.float())
        quantities = {item: quantities[item] for item in evidence if item in quantities}
        if deferred:
            return LazyTokens(features, layout, quantities, self.project, self._newline())
        return VisualTokens(
            features, layout, quantities, self.project if self.projects_positions(visual) else None
        )

    def _newline(self) -> Tensor | None:
        """The newline (channel,), None for families without. Accelerate loads offloaded weights only for their module's
        own forward."""
        with align_module_device(self.core):
            newline: Tensor | None = getattr(self.core, "image_newline", None)
        return newline

    def _check_length(self, made: int, layout: Layout) -> None:
        if made != len(layout):
            raise RuntimeError(
                f"{type(self.model).__name__} packed {made} tokens where its geometry says {len(layout)}; "
                "this version of transformers packs differently, please report it"
            )


def _thumbnail(visual: Visual) -> int:
    """Return the number of an image's view that is its thumbnail."""
    return next(number for number, view in enumerate(visual.layout.views) if view.kind == "thumbnail")


def _device(module: nn.Module) -> torch.device | None:
    """Return the device of a module's inputs; None when accelerate moves them itself (offloaded weights)."""
    device = next(module.parameters()).device
    return None if device.type == "meta" else device


def view_lists(pixels: Any, name: str) -> list[Any]:
    """Split stacked or listed pixels into one (view, channel, height, width) tensor or `FrameSource` per visual.

    Raises:
        UnsupportedInputError: anything but a 5-D tensor or a list of 4-D tensors.
    """
    items = list(pixels) if isinstance(pixels, (list, tuple)) or _is_batch(pixels) else None
    if items is None or any(not isinstance(x, (Tensor, FrameSource)) or x.ndim != 4 for x in items):
        got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
        raise UnsupportedInputError(
            f"{name} must be (visual, view, channel, height, width) or a list of (view, channel, height, width), got "
            f"{got}; pass the processor's output unchanged"
        )
    return items


def _is_batch(pixels: Any) -> bool:
    return isinstance(pixels, Tensor) and pixels.ndim == 5


def image_sizes(inputs: Mapping[str, Any], count: int) -> list[tuple[int, int]]:
    """Read `image_sizes` as (height, width) pairs, one per image.

    Raises:
        UnsupportedInputError: missing or of another length.
    """
    sizes = inputs.get("image_sizes")
    pairs = sizes.tolist() if isinstance(sizes, Tensor) else sizes
    entries = pairs if isinstance(pairs, (list, tuple)) else []
    if len(entries) != count or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in entries):
        raise UnsupportedInputError(
            f"image_sizes must have one (height, width) per image, {count} here, got "
            f"{'nothing' if pairs is None else len(entries)}; pass the processor's output unchanged"
        )
    if not all(is_number(side) for pair in entries for side in pair):
        raise UnsupportedInputError(f"image_sizes must be whole numbers of pixels, got {shown(entries)}")
    checked = [(int(p[0]), int(p[1])) for p in entries]
    if any(h < 1 or w < 1 for h, w in checked):
        raise UnsupportedInputError(f"image_sizes must be positive pixels, got {shown(checked)}")
    return checked

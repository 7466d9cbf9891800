"""What the LLaVA families share: a vision tower, a projector, anyres images, and stock packing code.

Features are produced by the model's own modules and packed by the model's own `pack_image_features` and
`apply_pooling`, so they are what the stock model would use to the last bit. Evidence goes through the same
packing as extra channels, so it lands on the right tokens whatever unpadding or resizing happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from ..checks import is_number
from ..errors import UnsupportedInputError, shown
from ..views import AXES, Evidence, Layout, VisualTokens
from .auxiliary import read_patches
from .base import Adapter, Visual
from .evidence import EncoderProbe, encoder_layers
from .geometry import Newlines, video_layout


class LlavaAdapter(Adapter):
    """Encoding shared by the LLaVA families; subclasses state geometry and packing.

    Class attributes:
        newlines: where a clip has newlines, as in `video_layout`.
    """

    newlines: ClassVar[Newlines] = "end"
    full_precision: ClassVar[tuple[str, ...]] = (
        "model.vision_tower",
        "model.multi_modal_projector",
        "lm_head",
    )

    @property
    def core(self) -> Any:
        """The model without its language-modelling head."""
        return self.model.model

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of patches of one view as encoded."""
        vision = self.model.config.vision_config
        side = int(vision.image_size) // int(vision.patch_size)
        return side, side

    @property
    def has_cls(self) -> bool:
        tower = self.core.vision_tower
        return any(
            hasattr(getattr(root, "embeddings", None), "class_embedding")
            for root in (tower, getattr(tower, "vision_model", None))
        )

    def vision_layers(self) -> nn.ModuleList:
        """The encoder's transformer layers."""
        return encoder_layers(self.core.vision_tower)

    # -- what a family states ------------------------------------------------------------------------------

    def image_layout(self, size: tuple[int, int], single: bool, device: str) -> Layout:
        """Layout of an image of (height, width) pixels; `single` when it is sent as one view."""
        raise NotImplementedError

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        """Stock packing of one image: (view, patch, channel) -> (N, channel); sizes (1, 2) height, width."""
        raise NotImplementedError

    @property
    def frame_grid(self) -> tuple[int, int]:
        """(rows, cols) of tokens of one pooled frame."""
        raise NotImplementedError

    def pool_frames(self, features: Tensor) -> Tensor:
        """Stock pooling of frames, with any channels: (frame, patch, channel) -> (frame, token, channel)."""
        raise NotImplementedError

    # -- what follows from it, unless a family says otherwise -------------------------------------------------

    def project_frames(self, features: Tensor) -> Tensor:
        """Encoder outputs of frames without CLS (frame, patch, channel) -> (frame, token, D)."""
        return self.pool_frames(self.core.multi_modal_projector(features))

    def clips(self, inputs: Mapping[str, Any]) -> list[Visual]:
        """The videos of processor outputs.

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
            layout = video_layout(
                int(frames.shape[0]), self.frame_grid, self.newlines, device=str(frames.device)
            )
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
        if not visuals:
            return []
        chosen = frames or [None] * len(visuals)
        self._check_pixels(visuals)
        layouts, pixels = [], []
        for visual, keep in zip(visuals, chosen, strict=True):
            layout, views = visual.layout, visual.pixels
            if keep is not None and len(keep) < len(layout.views):
                index = torch.tensor(keep, dtype=torch.int64, device=views.device)
                layout, views = layout.restrict_to_frames(index.to(layout.view.device), keep), views[index]
            layouts.append(layout)
            pixels.append(views)
        is_video = visuals[0].modality == "video"
        features, extras = self._encode_views(pixels, evidence, is_video, max_views)
        counts = [p.shape[0] for p in pixels]
        return [
            self._pack(layout, f, dict(zip(extras, values, strict=True)), evidence, visual)
            for layout, f, visual, *values in zip(
                layouts,
                features.split(counts),
                visuals,
                *(value.split(counts) for value in extras.values()),
                strict=True,
            )
        ]

    def _check_pixels(self, visuals: Sequence[Visual]) -> None:
        vision = self.model.config.vision_config
        made = (int(getattr(vision, "num_channels", 3)), int(vision.image_size), int(vision.image_size))
        for visual in visuals:
            if tuple(visual.pixels.shape[1:]) != made:
                key = "pixel_values" if visual.modality == "image" else "pixel_values_videos"
                raise UnsupportedInputError(
                    f"{key} has views of shape {tuple(visual.pixels.shape[1:])}, the encoder takes {made} (channel, "
                    "height, width); pass the processor's output unchanged"
                )

    def _encode_views(
        self, pixels: Sequence[Tensor], evidence: Sequence[Evidence], is_video: bool, max_views: int
    ) -> tuple[Tensor, dict[Evidence, Tensor]]:
        """Return features (view, token, D) and evidence of all views, chunk by chunk.

        Evidence of tokens is (view, token, E), with E = 1 for plain numbers; evidence of views is (view, C).
        """
        wanted = self.model.config.vision_feature_layer
        indices = [wanted] if isinstance(wanted, int) else list(wanted)
        probe = EncoderProbe(self.core.vision_tower, self.vision_layers(), indices, evidence, self.has_cls)
        drop_cls = self.model.config.vision_feature_select_strategy == "default"
        device = _device(self.core.vision_tower)
        features: list[Tensor] = []
        extras: dict[Evidence, list[Tensor]] = {}
        for chunk in _chunks(pixels, max_views):
            hidden, values = probe(chunk if device is None else chunk.to(device))
            joined = hidden[0] if len(hidden) == 1 else torch.cat(hidden, dim=-1)
            patches = joined[:, 1:] if self.has_cls else joined
            joined = joined[:, 1:] if drop_cls else joined
            projected = self.project_frames(joined) if is_video else self.core.multi_modal_projector(joined)
            features.append(projected)
            found = dict(zip(probe.evidence, values, strict=True)) | read_patches(
                patches, evidence, self.has_cls
            )
            for item, value in found.items():
                if _of_tokens(item):
                    value = value if value.ndim == 3 else value[..., None]
                    value = self.pool_frames(value) if is_video else value
                extras.setdefault(item, []).append(value)
        return _join(features), {item: _join(parts) for item, parts in extras.items()}

    def _pack(
        self,
        layout: Layout,
        features: Tensor,
        extras: Mapping[Evidence, Tensor],
        evidence: Sequence[Evidence],
        visual: Visual,
    ) -> VisualTokens:
        layout = layout.to(features.device)
        newline = self._newline()
        of_tokens = {item: value for item, value in extras.items() if _of_tokens(item)}
        extra = torch.cat([*of_tokens.values()], -1) if of_tokens else None
        if layout.modality == "video":
            made = features.shape[:2].numel() + layout.num_separators
            self._check_length(made, layout)
            packed = _place(features, newline, layout)
            extra = None if extra is None else _place(extra, extra.new_zeros(extra.shape[-1]), layout)
        else:
            sizes = torch.tensor([visual.size], device="cpu")
            packed = self.pack_image(features, sizes, newline)
            self._check_length(packed.shape[0], layout)
            if extra is not None:
                extra = self.pack_image(extra, sizes, extra.new_zeros(extra.shape[-1]))
        found = {item: value.float() for item, value in extras.items() if not _of_tokens(item)}
        if extra is not None:
            widths = [value.shape[-1] for value in of_tokens.values()]
            for item, value in zip(of_tokens, extra.float().split(widths, -1), strict=True):
                found[item] = value if item.quantity in AXES else value[:, 0]
        found |= self.text_evidence(visual, evidence)
        return VisualTokens(packed, layout, {item: found[item] for item in evidence if item in found})

    def _newline(self) -> Tensor:
        """The newline (channel,). Accelerate brings offloaded weights only for their module's own forward."""
        with align_module_device(self.core):
            newline: Tensor = self.core.image_newline
        return newline

    def _check_length(self, made: int, layout: Layout) -> None:
        if made != len(layout):
            raise RuntimeError(
                f"{type(self.model).__name__} packed {made} tokens where its geometry says {len(layout)}; "
                "this version of transformers packs differently, please report it"
            )


def _of_tokens(item: Evidence) -> bool:
    """Whether a quantity has values at tokens, which are packed like features."""
    return AXES.get(item.quantity, "N").startswith("N")


def _place(features: Tensor, newline: Tensor, layout: Layout) -> Tensor:
    """(frame, token, channel) -> (N, channel), with `newline` (channel,) where the layout has separators.

    The layout keeps the separators of frames that were left out, so it alone knows where they stand.
    """
    flat = features.flatten(0, 1)
    if layout.num_separators == 0:
        return flat
    rows = newline.to(flat.device, flat.dtype).expand(len(layout), -1)
    return rows.index_copy(0, layout.token_index, flat)


def _chunks(pixels: Sequence[Tensor], size: int) -> Iterator[Tensor]:
    """Views of all visuals in order, `size` at a time, joined across visuals."""
    held: list[Tensor] = []
    count = 0
    for views in pixels:
        start = 0
        while start < views.shape[0]:
            part = views[start : start + size - count]
            held.append(part)
            start, count = start + part.shape[0], count + part.shape[0]
            if count == size:
                yield held[0] if len(held) == 1 else torch.cat(held)
                held, count = [], 0
    if held:
        yield held[0] if len(held) == 1 else torch.cat(held)


def _device(module: nn.Module) -> torch.device | None:
    """Where a module wants its inputs; None when accelerate moves them itself (offloaded weights)."""
    device = next(module.parameters()).device
    return None if device.type == "meta" else device


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def view_lists(pixels: Any, name: str) -> list[Tensor]:
    """Split stacked or listed pixels into one (view, channel, height, width) tensor per visual.

    Raises:
        UnsupportedInputError: anything but a 5-D tensor or a list of 4-D tensors.
    """
    items = list(pixels) if isinstance(pixels, (list, tuple)) or _is_batch(pixels) else None
    if items is None or any(not isinstance(x, Tensor) or x.ndim != 4 for x in items):
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
    found = pairs if isinstance(pairs, (list, tuple)) else []
    if len(found) != count or not all(isinstance(p, (list, tuple)) and len(p) == 2 for p in found):
        raise UnsupportedInputError(
            f"image_sizes must have one (height, width) per image, {count} here, got "
            f"{'nothing' if pairs is None else len(found)}; pass the processor's output unchanged"
        )
    if not all(is_number(side) for pair in found for side in pair):
        raise UnsupportedInputError(f"image_sizes must be whole numbers of pixels, got {shown(found)}")
    checked = [(int(p[0]), int(p[1])) for p in found]
    if any(h < 1 or w < 1 for h, w in checked):
        raise UnsupportedInputError(f"image_sizes must be positive pixels, got {shown(checked)}")
    return checked

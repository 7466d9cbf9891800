"""LLaVA-OneVision: SigLIP without CLS; anyres_max_9 images, several images as one view each, videos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.family.geometry import (
    onevision_image_layout,
    onevision_video_layout,
    single_view_layout,
)
from vidcompress.adapters.llava import LlavaAdapter, image_sizes, view_lists
from vidcompress.checks import is_whole
from vidcompress.core.layout import Layout
from vidcompress.errors import UnsupportedInputError, shown


@register_adapter
class LlavaOnevisionAdapter(LlavaAdapter):
    """`LlavaOnevisionForConditionalGeneration`."""

    model_types = ("llava_onevision",)
    image_keys = ("pixel_values", "image_sizes", "batch_num_images")
    video_keys = ("pixel_values_videos", "image_sizes_videos")
    refused_keys = (*LlavaAdapter.refused_keys, "vision_aspect_ratio")

    def clip_layout(self, frames: int, device: str) -> Layout:
        return onevision_video_layout(self.geometry, frames, device)

    @property
    def max_views(self) -> int | None:
        """The k of `anyres_max_k`."""
        digits = str(self.model.config.vision_aspect_ratio).rpartition("_")[2]
        return int(digits) if digits.isdigit() else None

    def image_layout(self, size: tuple[int, int], single: bool, device: str) -> Layout:
        if single:
            return single_view_layout(self.geometry, device)
        return onevision_image_layout(self.geometry, size, device, max_views=self.max_views or 0)

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        packed, _ = self.core.pack_image_features(
            [features],
            sizes,
            image_newline=newline,
            vision_aspect_ratio=self.model.config.vision_aspect_ratio,
        )
        return packed[0]  # type: ignore[no-any-return]

    def projects_positions(self, visual: Visual) -> bool:
        """False for clips, and for canvases that `anyres_max_k` shrinks: both are resized after the projector."""
        canvas = visual.layout.canvas
        if visual.modality == "video" or visual.size is None or canvas is None:
            return visual.modality == "image"
        return self.geometry.covered_box(visual.size)[2:] == canvas

    def pool_frames(self, features: Tensor) -> Tensor:
        return self.core.apply_pooling(features)  # type: ignore[no-any-return]

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images: list[Visual] = []
        if inputs.get("pixel_values") is not None:
            pixels = view_lists(inputs["pixel_values"], "pixel_values")
            sizes = image_sizes(inputs, len(pixels))
            single = _single_views(inputs.get("batch_num_images"), len(pixels))
            images = [
                self.image(views, size, self.image_layout(size, one, str(views.device)))
                for views, size, one in zip(pixels, sizes, single, strict=True)
            ]
        return images, self.clips(inputs)


def _single_views(counts: Any, images: int) -> list[bool]:
    """Whether each image is sent as one view, which it is where its prompt row holds several images.

    Raises:
        UnsupportedInputError: `batch_num_images` that does not add up.
    """
    if counts is None:
        return [False] * images
    per_row = counts.flatten().tolist() if isinstance(counts, Tensor) else counts
    if not isinstance(per_row, (list, tuple)) or not all(map(is_whole, per_row)):
        raise UnsupportedInputError(
            f"batch_num_images={shown(counts)}: must be whole numbers, images per prompt; pass the processor's output "
            "unchanged"
        )
    if sum(per_row) != images:
        raise UnsupportedInputError(
            f"batch_num_images {shown(list(per_row))} adds up to {sum(per_row)}, but pixel_values holds {images} "
            "images; pass the processor's output unchanged"
        )
    return [n > 1 for n in per_row for _ in range(n)]

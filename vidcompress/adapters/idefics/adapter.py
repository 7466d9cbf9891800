"""Idefics3 and SmolVLM: crops row by row with the whole picture behind them; SmolVLM also takes clips, frame by frame.

Each view is a run of placeholders with text before it. The inputs hold pictures of all prompts in one `pixel_values`
(row, picture, channel, height, width), filled up with pictures of zeros, which the model drops whatever they are. Which
views make one picture, and where its crops lie, follows from the text. That some pictures are the frames of a clip does
not, so the adapter reads `image_sizes`, which the processor of this package makes and the model ignores: a row
(height, width, frames) per picture and clip, with 0 frames for a picture. Without it a frame is a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from vidcompress.adapters.auxiliary import AUXILIARY
from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.encoder_probe import EncoderProbe
from vidcompress.adapters.family.geometry import Geometry, read_geometry, tiled_video_layout
from vidcompress.adapters.idefics.prompt import WrittenPicture, crop_text, without_marks, written_pictures
from vidcompress.adapters.internvl import stated_sizes
from vidcompress.adapters.layouts import Size, closest_grid, tiled_layout
from vidcompress.adapters.llava import LlavaAdapter
from vidcompress.adapters.traits import Traits, read_traits
from vidcompress.core.layout import Layout
from vidcompress.core.prompt import text_between_runs
from vidcompress.core.tokens import Evidence
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError


@register_adapter
class Idefics3Adapter(LlavaAdapter):
    """`Idefics3ForConditionalGeneration`."""

    model_types = ("idefics3",)
    image_keys: ClassVar[tuple[str, ...]] = ("pixel_values", "pixel_attention_mask", "image_sizes")
    full_precision: ClassVar[tuple[str, ...]] = ("model.vision_model", "model.connector", "lm_head")
    reads_ahead: ClassVar[bool] = False
    keeps_one_empty: ClassVar[bool] = False
    """Whether the model keeps the first picture where all pictures of a batch are zeros."""

    @property
    def decoder(self) -> Any:
        return self.core.text_model

    @cached_property
    def traits(self) -> Traits:
        # Newer versions of transformers take a list too, 5.18 takes this only.
        return replace(read_traits(self.decoder.layers), container="tensor")

    @property
    def tower(self) -> nn.Module:
        tower: nn.Module = self.core.vision_model
        return tower

    @property
    def geometry(self) -> Geometry:
        return read_geometry(self.model.config, crops=False)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of tokens of one view."""
        return self.geometry.side, self.geometry.side

    def projected_rows(self, layout: Layout) -> int:
        """Number of rows through the projector; patches are joined before it."""
        return layout.num_tokens

    def projects_positions(self, visual: Visual) -> bool:
        return True

    def probe(self, evidence: Sequence[Evidence]) -> EncoderProbe:
        for item in evidence:
            if item.quantity in AUXILIARY:
                raise UnsupportedModelError(
                    f"auxiliary={str(item.auxiliary)!r} for {item.quantity!r} goes with CLIP or SigLIP encoders, and "
                    f"this model's is {type(self.tower).__name__}; leave auxiliary out"
                )
        return EncoderProbe(self.tower, self.vision_layers(), [-1], evidence, self.has_cls)

    def join_patches(self, hidden: Tensor) -> Tensor:
        connector = self.core.connector
        normed = self.core.vision_model.post_layernorm(hidden)
        joined: Tensor = connector.pixel_shuffle(normed, connector.scale_factor)
        return joined

    def average_patches(self, values: Tensor) -> Tensor:
        side, merge = self.geometry.side, self.geometry.merge
        square: Tensor = values.unflatten(1, (side, merge, side, merge))
        return square.mean((2, 4)).flatten(1, 2)

    def project(self, joined: Tensor) -> Tensor:
        features: Tensor = self.core.connector.modality_projection(joined)
        return features

    def pool_frames(self, features: Tensor) -> Tensor:
        return features

    def clip_layout(self, frames: int, device: str) -> Layout:
        return tiled_video_layout(self.geometry, frames, device)

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        return features.flatten(0, 1)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return [], []
        views = self._real_views(pixels, inputs.get("pixel_attention_mask"))
        entries = stated_sizes(inputs.get("image_sizes"))
        pictures = self._pictures(inputs["input_ids"], entries)
        stated = [(None, 0)] * len(pictures) if entries is None else entries
        visuals, at, start = [], 0, 0
        for place, (size, frames) in enumerate(stated):
            own = pictures[at : at + max(1, frames)]
            count = self._views(own, frames)
            at, stop = at + len(own), start + count
            visuals.append(self._visual(views[start:stop], own, size, frames, place))
            start = stop
        if start != len(views):
            raise UnsupportedInputError(
                f"pixel_values holds {len(views)} pictures that are not all zeros, the placeholders stand for {start}; "
                "a picture of zeros is dropped as padding by the model; pass the processor's output unchanged"
            )
        images = [visual for visual in visuals if visual.modality == "image"]
        return images, [visual for visual in visuals if visual.modality == "video"]

    def _pictures(self, ids: Tensor, entries: Sequence[tuple[Size, int]] | None) -> list[WrittenPicture]:
        """Return the pictures and frames in the text, as many as `image_sizes` states.

        Raises:
            UnsupportedInputError: it states another number.
        """
        rows = [row for row in written_pictures(ids, self.image_token_id) if row]
        pictures = [picture for row in rows for picture in row]
        if entries is None:
            return pictures
        due = sum(max(1, frames) for _, frames in entries)
        if len(pictures) != due and len(entries) == len(rows):  # one per prompt, which needs no marks
            kinds = [frames > 0 for _, frames in entries]
            pictures = [
                one for row, clip in zip(rows, kinds, strict=True) for one in without_marks(row, frames=clip)
            ]
        if len(pictures) != due:
            raise UnsupportedInputError(
                f"image_sizes states {due} pictures and frames of clips, and the text holds {len(pictures)}; pass the "
                "processor's output unchanged"
            )
        return pictures

    def _real_views(self, pixels: Any, mask: Any) -> Tensor:
        """Return the pictures (view, channel, height, width) that the model sees: those that are not all zeros.

        Raises:
            UnsupportedInputError: ill-shaped pixels, or a mask that hides a part of a picture.
        """
        if not isinstance(pixels, Tensor) or pixels.ndim != 5:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"pixel_values must be (row, picture, channel, height, width), got {got}; pass what the "
                "processor returns"
            )
        flat = pixels.flatten(0, 1)
        if flat.device.type == "meta":  # where nothing can be compared
            return flat
        real = (flat != 0).flatten(1).any(1)
        if self.keeps_one_empty and len(real):
            real[0] |= ~real.any()
        views = flat if bool(real.all()) else flat[real]  # a batch without padding is not copied
        if mask is None:
            return views
        fits = isinstance(mask, Tensor) and mask.shape == (*pixels.shape[:2], *pixels.shape[3:])
        if not fits or not bool(mask.flatten(0, 1)[real].bool().all()):
            raise UnsupportedInputError(
                "pixel_attention_mask hides a part of a picture, or has another shape than pixel_values: pictures that "
                "do not fill the encoder's square are not served; resize them to it, or leave the mask out"
            )
        return views

    def _views(self, pictures: Sequence[WrittenPicture], frames: int) -> int:
        """Return the number of views of a picture, or of the frames of a clip.

        Raises:
            UnsupportedInputError: other numbers of placeholders.
        """
        length = self.geometry.side**2
        runs = [len(run) for picture in pictures for run in picture.runs]
        alone = all(len(picture.runs) == 1 for picture in pictures)
        if pictures and set(runs) == {length} and (alone if frames else len(runs) != 2):
            return len(runs)
        due = f"one run of {length} for each of its {frames} frames"
        if not frames:
            due = f"one run of {length}, or one for each of several crops and one for the whole picture behind them"
        raise UnsupportedInputError(
            f"a {'clip' if frames else 'picture'} has runs of {runs} placeholders, must be {due}; pass the processor's "
            "output unchanged"
        )

    def _visual(
        self, pixels: Tensor, pictures: Sequence[WrittenPicture], size: Size | None, frames: int, place: int
    ) -> Visual:
        geometry, device, views = self.geometry, str(pixels.device), len(pixels)
        runs = (geometry.side**2,) * views
        if frames:
            layout = self.clip_layout(frames, device)
            return Visual("video", layout, pixels, runs=runs, place=place, view_text=text_between_runs)
        count, crops = max(1, views - 1), pictures[0].crops
        tiles: Size | int = count
        if crops is not None and views > 1:
            tiles = crops
        elif size is not None:
            tiles = closest_grid(size, count, count, geometry.image_size)
        layout = tiled_layout(self.grid, tiles, device)
        return Visual("image", layout, pixels, size, runs=runs, place=place, view_text=crop_text)


@register_adapter
class SmolVLMAdapter(Idefics3Adapter):
    """`SmolVLMForConditionalGeneration`, which also takes clips: a whole picture per frame, behind its time."""

    model_types = ("smolvlm",)
    video_keys = Idefics3Adapter.image_keys
    keeps_one_empty = True

    @property
    def video_token_id(self) -> int:
        """Id of the image placeholder, which stands for frames too."""
        return self.image_token_id

"""InternVL: tiles with the thumbnail behind them, clips as frames; both are pictures in one flat `pixel_values`.

A picture's tokens are one run of placeholders, those of a clip one run per frame with text between them. The inputs of
the stock processor state neither the tiles' places nor the clips: for the model the frames of a clip are pictures like
others, and only the text differs. So the adapter reads `image_sizes`, which the processor of this package makes and the
model ignores: a row (height, width, frames) per picture and clip in the order of the prompts, with 0 frames for a
picture; two columns where there are pictures only. Without it every run is a picture, and the places of its tiles are
not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from vidcompress.adapters.auxiliary import AUXILIARY
from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.encoder_probe import EncoderProbe
from vidcompress.adapters.family.geometry import Geometry, read_geometry, tiled_video_layout
from vidcompress.adapters.layouts import Size, closest_grid, tiled_layout
from vidcompress.adapters.llava import LlavaAdapter
from vidcompress.adapters.traits import Traits
from vidcompress.checks import is_whole
from vidcompress.core.layout import Layout
from vidcompress.core.prompt import placeholder_runs, text_between_runs
from vidcompress.core.tokens import Evidence
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError, shown


@register_adapter
class InternVLAdapter(LlavaAdapter):
    """`InternVLForConditionalGeneration`.

    InternViT has a CLS token in all of its layers, and the projector never reads it. Its attention is served
    (`cls_logits`, `cls_attention`), its output (`cls_hidden`) is not: the projector reads four patches at once.
    """

    model_types = ("internvl",)
    image_keys = ("pixel_values", "image_sizes")
    video_keys = ("pixel_values", "image_sizes")
    reads_ahead = False

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        layer, strategy = model.config.vision_feature_layer, model.config.vision_feature_select_strategy
        if not is_whole(layer) or strategy != "default":
            raise UnsupportedModelError(
                f"vision_feature_layer={shown(layer)} with vision_feature_select_strategy={strategy!r}: this adapter "
                "takes one layer, and 'default'"
            )

    @property
    def traits(self) -> Traits:
        return replace(super().traits, container="tensor")

    @property
    def geometry(self) -> Geometry:
        return read_geometry(self.model.config, crops=False)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, cols) of tokens of one view."""
        return self.geometry.side, self.geometry.side

    @property
    def video_token_id(self) -> int:
        """Id of the image placeholder, which stands for frames too."""
        return self.image_token_id

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
                    "this model's is InternViT; leave auxiliary out"
                )
        return super().probe(evidence)

    def join_patches(self, hidden: Tensor) -> Tensor:
        tower, geometry = self.core.vision_tower, self.geometry
        if self.model.config.vision_feature_layer == -1:
            hidden = tower.layernorm(hidden)
        patches = geometry.side * geometry.merge
        square = hidden.reshape(hidden.shape[0], patches, patches, -1)
        joined: Tensor = self.core.pixel_shuffle(square, scale_factor=self.model.config.downsample_ratio)
        return joined.flatten(1, 2)

    def average_patches(self, values: Tensor) -> Tensor:
        side, merge = self.geometry.side, self.geometry.merge
        square: Tensor = values.unflatten(1, (side, merge, side, merge))
        return square.mean((2, 4)).flatten(1, 2)

    def pool_frames(self, features: Tensor) -> Tensor:
        return features

    def clip_layout(self, frames: int, device: str) -> Layout:
        return tiled_video_layout(self.geometry, frames, device)

    def pack_image(self, features: Tensor, sizes: Tensor, newline: Tensor) -> Tensor:
        return features.flatten(0, 1)

    def _hidden(self, hidden: Tensor, wanted: Sequence[Evidence]) -> dict[Evidence, Tensor]:
        return super()._hidden(hidden, [item for item in wanted if item.quantity != "cls_hidden"])

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        pixels = inputs.get("pixel_values")
        if pixels is None:
            return [], []
        if not isinstance(pixels, Tensor) or pixels.ndim != 4:
            got = tuple(pixels.shape) if isinstance(pixels, Tensor) else type(pixels).__name__
            raise UnsupportedInputError(
                f"pixel_values must be (picture, channel, height, width), got {got}; pass what the processor returns"
            )
        runs = placeholder_runs(inputs["input_ids"], self.image_token_id)
        entries = stated_sizes(inputs.get("image_sizes"))
        visuals, at, start = [], 0, 0
        for place, (size, frames) in enumerate([(None, 0)] * len(runs) if entries is None else entries):
            views = self._views(runs[at : at + max(1, frames)], frames)
            at, stop = at + max(1, frames), start + views
            visuals.append(self._visual(pixels[start:stop], size, frames, place))
            start = stop
        if start != len(pixels):
            raise UnsupportedInputError(
                f"pixel_values holds {len(pixels)} pictures, the placeholders stand for {start}; pass the processor's "
                "output unchanged"
            )
        images = [visual for visual in visuals if visual.modality == "image"]
        return images, [visual for visual in visuals if visual.modality == "video"]

    def _views(self, runs: Sequence[int], frames: int) -> int:
        """Return the number of views of some runs of placeholders: those of one picture, or of the frames of a clip.

        Raises:
            UnsupportedInputError: other numbers of placeholders.
        """
        length = self.geometry.side**2
        views = sum(runs) // length
        if frames and list(runs) == [length] * frames:
            return views
        if not frames and list(runs) == [views * length] and views not in (0, 2):
            return views
        due = f"a run of {length} for each of its {frames} frames"
        if not frames:
            due = f"one run: {length}, or {length} for each of several tiles and the thumbnail"
        raise UnsupportedInputError(
            f"a {'clip' if frames else 'picture'} has runs of {list(runs)} placeholders, must be {due}; pass the "
            "processor's output unchanged"
        )

    def _visual(self, pixels: Tensor, size: Size | None, frames: int, place: int) -> Visual:
        geometry, device, views = self.geometry, str(pixels.device), len(pixels)
        if frames:
            layout = self.clip_layout(frames, device)
            runs = (geometry.side**2,) * frames
            return Visual("video", layout, pixels, runs=runs, place=place, view_text=frame_text)
        count = max(1, views - 1)
        tiles = count if size is None else closest_grid(size, count, count, geometry.image_size)
        layout = tiled_layout(self.grid, tiles, device)
        return Visual("image", layout, pixels, size, place=place, view_text=frame_text)


def frame_text(row: Tensor, runs: Sequence[range]) -> list[list[range]]:
    """Find the text of each frame: `Frame2: <img>` before its run, `</img>` and the end of the line behind it.

    Where a tokenizer has no token for the end of a line, the first frame's text is found with `</img>` alone behind it.
    """
    texts = text_between_runs(row, runs, after=2)
    if len(runs) > 1 and not any(text.start < runs[0].start for text in texts[0]):
        return text_between_runs(row, runs, after=1)
    return texts


def stated_sizes(stated: Any) -> list[tuple[Size, int]] | None:
    """Read `image_sizes` as ((height, width), frames) of each picture and clip; None where it is not given.

    Raises:
        UnsupportedInputError: other values.
    """
    if stated is None:
        return None
    rows = stated.tolist() if isinstance(stated, Tensor) else stated
    fine = isinstance(rows, (list, tuple)) and all(
        isinstance(row, (list, tuple)) and len(row) in (2, 3) and all(map(is_whole, row)) for row in rows
    )
    if not fine or any(min(row[:2]) < 1 or min(row) < 0 for row in rows):
        raise UnsupportedInputError(
            f"image_sizes={shown(rows)}: must be a row (height, width, frames) per picture and clip, in pixels, with 0 "
            "frames for a picture, or (height, width) per picture; pass the processor's output, or leave it out"
        )
    return [((row[0], row[1]), row[2] if len(row) == 3 else 0) for row in rows]

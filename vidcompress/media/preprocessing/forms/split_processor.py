"""Processor of families that cut scaled pictures into crops with text before each: Idefics3 and SmolVLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange

from vidcompress.adapters.family.split import SplitGeometry, split_clip_text, split_text
from vidcompress.core.devices import upload
from vidcompress.media.images.image import ImageSource, load_image
from vidcompress.media.preprocessing.arguments import check_groups
from vidcompress.media.preprocessing.placeholders import Writing
from vidcompress.media.preprocessing.processor import Processor, check_clips
from vidcompress.media.preprocessing.transforms import scaled_frame_views, split_views, stack_views
from vidcompress.media.video.centre_rule import CentreRule
from vidcompress.media.video.frames import VideoFrames
from vidcompress.media.video.sampling import SamplingRule
from vidcompress.media.video.streaming import StreamingClip


@dataclass(repr=False)
class SplitProcessor(Processor):
    """A `Processor` whose pictures are scaled, stretched to whole crops and cut, with the whole picture last.

    Its inputs are, beside `input_ids` and `attention_mask`:

    - `pixel_values`: float32 (row, most views of a row, channel, height, width), crops row by row and the whole picture
      behind them, frames of a clip as they come; missing views are zero
    - `pixel_attention_mask`: int64 (row, view, height, width), 1 at real views
    - `image_sizes`: int64 (picture or clip, 3), height, width and frames (0: a picture), where there are clips; for
      `compress_inputs` and `compress` only, since the stock model's generate refuses it

    Attributes:
        paced: frame sampling rule.
    """

    geometry: SplitGeometry
    paced: CentreRule = CentreRule()

    @property
    def frame_rule(self) -> SamplingRule:
        """Frame sampling rule for clips."""
        return self.paced

    @property
    def marks(self) -> dict[str, str]:
        """Marks around views that the tokenizer names; the others are the family's own."""
        names = {"mark": "fake_image_token", "global_mark": "global_image_token"}
        found = {name: getattr(self.tokenizer, key, None) for name, key in names.items()}
        return {name: str(token) for name, token in found.items() if token}

    def prepare_images(
        self, pictures: list[ImageSource], groups: list[int] | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of pictures; those of one prompt, as a single row.

        Args:
            pictures: what `load_image` takes, in prompt order.
            groups: pictures per prompt; not used.

        Returns:
            The inputs (empty for no pictures) and the number of placeholders of each picture.
        """
        check_groups(pictures, groups)
        if not pictures:
            return {}, []
        views, sizes, lengths = [], [], []
        for source in pictures:
            array = upload(torch.from_numpy(np.array(load_image(source))), self.resize_device)
            pixels = rearrange(array, "h w c -> c h w").contiguous()
            views.append(split_views(pixels, self.geometry, self.image_recipe))
            sizes.append((int(pixels.shape[1]), int(pixels.shape[2]), 0))
            lengths.append(self.image_tokens(sizes[-1][:2]))
        return {"pixel_values": torch.cat(views)[None], "image_sizes": torch.tensor(sizes)}, lengths

    def prepare_videos(self, clips: list[VideoFrames]) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of clips; those of one prompt, as a single row.

        Args:
            clips: sampled frames, in prompt order.

        Returns:
            The inputs (empty for no clips) and the number of placeholders of each clip.
        """
        check_clips(clips)
        if not clips:
            return {}, []
        clips = [clip.whole() if isinstance(clip, StreamingClip) else clip for clip in clips]
        lengths = [self.video_tokens(len(clip)) for clip in clips]
        views = [
            scaled_frame_views(clip.frames, self.geometry, self.video_recipe, self.resize_device)
            for clip in clips
        ]
        stated = torch.tensor([(*clip.frames.shape[1:3], len(clip)) for clip in clips])
        return {"pixel_values": torch.cat(views)[None], "image_sizes": stated}, lengths

    def join(
        self,
        order: Sequence[Sequence[str]],
        images: Mapping[str, torch.Tensor],
        lengths: Sequence[int],
        videos: Mapping[str, torch.Tensor],
        clips: Sequence[VideoFrames],
    ) -> dict[str, torch.Tensor]:
        """Put the views of pictures and clips into the rows of their prompts; as `Processor.join`."""
        counts = {
            "image": iter([length // self.geometry.side**2 for length in lengths]),
            "video": iter([len(clip) for clip in clips]),
        }
        of_rows = [[(kind, next(counts[kind])) for kind in row] for row in order]
        flat = {
            kind: {key: value[0] if key == "pixel_values" else value for key, value in inputs.items()}
            for kind, inputs in (("image", images), ("video", videos))
        }
        whole = super().join(order, flat["image"], lengths, flat["video"], clips)
        if not whole:
            return {}
        rows = [sum(count for _, count in row) for row in of_rows]
        parts = whole["pixel_values"].split(rows)
        pixels = stack_views(list(parts))
        mask = torch.zeros((*pixels.shape[:2], *pixels.shape[3:]), dtype=torch.int64)
        for number, count in enumerate(rows):
            mask[number, :count] = 1
        out = {"pixel_values": pixels, "pixel_attention_mask": mask}
        return {**out, "image_sizes": whole["image_sizes"]} if clips else out

    def write_images(self, lengths: list[int], inputs: Mapping[str, Any]) -> list[Writing]:
        """Write the text for pictures: each view is a run with its place before it."""
        sizes = inputs.get("image_sizes")
        side, listed = self.geometry.side, [] if sizes is None else sizes[:, :2].tolist()
        return [
            Writing(
                split_text(self.image_token, self.geometry.tile_grid((height, width)), **self.marks),
                (side**2,) * (length // side**2),
            )
            for length, (height, width) in zip(lengths, listed, strict=True)
        ]

    def write_clips(self, clips: list[VideoFrames], lengths: list[int]) -> list[Writing]:
        """Write the text for clips: their length, and each frame as a run with its time before it."""
        return [
            Writing(
                split_clip_text(self.image_token, clip.times, clip.duration, **self.marks),
                (length // len(clip),) * len(clip),
            )
            for clip, length in zip(clips, lengths, strict=True)
        ]

    def empty_clip(self, frames: int, size: tuple[int, int]) -> tuple[dict[str, Any], int]:
        """Make the inputs of a clip without pixels, on the meta device, and its number of placeholders."""
        inputs, placeholders = super().empty_clip(frames, size)
        return {**inputs, "pixel_values": inputs["pixel_values"][None]}, placeholders

    @property
    def model_input_names(self) -> list[str]:
        """Keys that the inputs may have, `input_ids` first."""
        names = [*self.tokenizer.model_input_names, "pixel_values", "pixel_attention_mask"]
        return [*names, *(["image_sizes"] if self.family.takes_clips else [])]

"""Processor of families that take pictures and clips of any size, as patches: Qwen2-VL, Qwen2.5-VL, Qwen3-VL."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL.Image import Image

from vidcompress.adapters.family.native import NativeGeometry, NativeRules
from vidcompress.adapters.layouts import Size
from vidcompress.checks import whole_number
from vidcompress.core.devices import upload
from vidcompress.errors import MediaError, shown
from vidcompress.media.images.image import ImageSource, load_image
from vidcompress.media.preprocessing.arguments import check_groups
from vidcompress.media.preprocessing.native_resolution import (
    patch_times,
    seconds_per_grid,
    timestamp,
    to_patches,
)
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.preprocessing.placeholders import Writing
from vidcompress.media.preprocessing.processor import MOST_FRAMES, Processor, check_clips
from vidcompress.media.preprocessing.transforms import CHUNK_PIXELS, normalise, resize
from vidcompress.media.video.frames import VideoFrames
from vidcompress.media.video.paced_rule import PacedRule
from vidcompress.media.video.sampling import SamplingRule
from vidcompress.media.video.streaming import StreamingClip


@dataclass(repr=False)
class NativeProcessor(Processor):
    """A `Processor` whose pictures and frames keep their shape and become patches.

    Its inputs are, beside `input_ids` and `attention_mask`, those of the following that apply:

    - `mm_token_type_ids`: int64 (row, token), 1 at placeholders of pictures, 2 at those of clips, else 0
    - `pixel_values`: float32 (patches of all pictures, channel * 2 frames * patch side squared), 2 x 2 patches of one
      token together; a picture is used for both frames
    - `image_grid_thw`: int64 (picture, 3), 1 and the rows and columns of patches
    - `pixel_values_videos`, `video_grid_thw`: the same for clips; two frames to a patch, the last one repeated
    - `second_per_grid_ts`: float32 (clip,), seconds between temporal patches; for Qwen2.5-VL

    A clip of Qwen3-VL is written as one run of placeholders per temporal patch, each with its time before it; a clip of
    GLM as runs of the placeholder of pictures, each with its time behind it.

    Attributes:
        paced: frame sampling rule.
        around: texts before and behind each run of a clip, where the family writes times.
        row_ends: texts behind each row of placeholders and behind the last, where a picture has a run for each row.
    """

    geometry: NativeGeometry
    paced: SamplingRule = PacedRule()
    around: tuple[str, str] = ("<|vision_start|>", "<|vision_end|>")
    row_ends: tuple[str, str] = ("[IMG_BREAK]", "[IMG_END]")

    def __repr__(self) -> str:
        patches = self.geometry.patches
        return (
            f"{type(self).__name__}({self.family.model_type}, {self.image_token!r}, {self.video_token!r}, "
            f"{type(self.tokenizer).__name__}, tokens of {patches.factor} px, "
            f"resize_device={str(self.resize_device)!r})"
        )

    @property
    def frame_rule(self) -> SamplingRule:
        """Frame sampling rule for clips."""
        return self.paced

    @property
    def rules(self) -> NativeRules:
        """Rules of the family."""
        rules = self.family.native
        if rules is None:
            raise MediaError(f"family={shown(self.family)}: has no native resolution; use load_processor")
        return rules

    def prepare_images(
        self, pictures: list[ImageSource], groups: list[int] | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of pictures, each at its own resolution.

        Args:
            pictures: what `load_image` takes, in prompt order.
            groups: pictures per prompt; not used.

        Returns:
            The inputs (empty for no pictures) and the number of placeholders of each picture.
        """
        check_groups(pictures, groups)
        if not pictures:
            return {}, []
        patches, grids, lengths = [], [], []
        for source in pictures:
            frames = torch.from_numpy(np.array(load_image(source)))[None]
            lengths.append(self.image_tokens(_size(frames)))
            size = self.geometry.image_budget.image_size(_size(frames), self.geometry.patches)
            patches.append(self._patches(frames, size, self.image_recipe))
            grids.append(self.geometry.patches.grid(1, size))
        inputs = {"pixel_values": torch.cat(patches), "image_grid_thw": torch.tensor(grids)}
        return inputs, lengths

    def prepare_videos(self, clips: list[VideoFrames]) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of clips.

        Args:
            clips: sampled frames, in prompt order.

        Returns:
            The inputs (empty for no clips) and the number of placeholders of each clip.
        """
        check_clips(clips)
        if not clips:
            return {}, []
        clips = [clip.whole() if isinstance(clip, StreamingClip) else clip for clip in clips]
        patches, grids, lengths = [], [], []
        for clip in clips:
            lengths.append(self.video_tokens(len(clip), _size(clip.frames)))
            size = self.geometry.clip_budget.frame_size(len(clip), _size(clip.frames), self.geometry.patches)
            patches.append(self._patches(clip.frames, size, self.video_recipe))
            grids.append(self.geometry.patches.grid(len(clip), size))
        inputs = {"pixel_values_videos": torch.cat(patches), "video_grid_thw": torch.tensor(grids)}
        if self.rules.seconds:
            temporal = self.geometry.patches.temporal
            seconds = [seconds_per_grid(len(clip), clip.total_frames, clip.fps, temporal) for clip in clips]
            inputs["second_per_grid_ts"] = torch.tensor(seconds)
        return inputs, lengths

    def _patches(self, frames: torch.Tensor, size: Size, recipe: PixelRecipe) -> torch.Tensor:
        """Make patches of uint8 frames (frame, height, width, channel), resized chunk by chunk."""
        geometry = self.geometry.patches
        height, width = _size(frames)
        step = max(1, CHUNK_PIXELS // (height * width)) * geometry.temporal
        parts = []
        for start in range(0, len(frames), step):
            chunk = rearrange(
                upload(frames[start : start + step], self.resize_device), "frame h w c -> frame c h w"
            ).contiguous()
            levels = resize(chunk, size, recipe.mode)
            pixels = normalise(levels, mean=recipe.mean, std=recipe.std, rescale=recipe.rescale)
            parts.append(to_patches(pixels, geometry))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def write_clips(self, clips: list[VideoFrames], lengths: list[int]) -> list[Writing]:
        """Write the text for clips in a prompt: one run of placeholders, or one per temporal patch with its time."""
        write, temporal = self.rules.frame_text, self.geometry.patches.temporal
        if write is not None:
            firsts = [clip.times[::temporal] for clip in clips]
            return [
                Writing(
                    "".join(write(self.image_token, time) for time in times),
                    (length // len(times),) * len(times),
                )
                for times, length in zip(firsts, lengths, strict=True)
            ]
        if not self.rules.timestamps:
            return super().write_clips(clips, lengths)
        before, behind = self.around
        writings = []
        for clip, length in zip(clips, lengths, strict=True):
            times = self.view_times(clip)
            text = "".join(f"{timestamp(time)}{before}{self.video_token}{behind}" for time in times)
            writings.append(Writing(text, (length // len(times),) * len(times)))
        return writings

    def view_times(self, clip: VideoFrames) -> tuple[float, ...]:
        """Return the times of a clip's temporal patches, in seconds: the mean of first and last frame."""
        return patch_times(clip.times, self.geometry.patches.temporal)

    def with_token_types(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Add `mm_token_type_ids` to the text inputs of a batch."""
        ids = batch["input_ids"]
        types = (ids == self.geometry.image_token_id) + 2 * (ids == self.geometry.video_token_id)
        if self.rules.frame_text is not None:  # a clip is what stands between its marks
            start, end = (self.tokenizer.convert_tokens_to_ids(mark) for mark in self.rules.clip_marks)
            types = types * (1 + ((ids == start).cumsum(1) > (ids == end).cumsum(1)).to(types.dtype))
        return {**batch, "mm_token_type_ids": types}

    def as_seen(self, picture: Image, *, alone: bool = True) -> Image:
        """Return the part of a picture under its token grid: the whole picture."""
        return picture

    def image_tokens(self, size: tuple[int, int], *, single_view: bool = False) -> int:
        """Count the placeholders of a picture of `size` = (height, width) pixels.

        Raises:
            MediaError: `size` is no pair of whole numbers of at least 1, or `single_view` neither True nor False.
        """
        return super().image_tokens(size, single_view=single_view)

    def video_tokens(self, frames: int, size: tuple[int, int] | None = None) -> int:
        """Count the placeholders of a clip of that many frames.

        Args:
            frames: number of frames.
            size: (height, width) of these in pixels; required by this family.

        Raises:
            MediaError: `frames` is no whole number from 1 to `MOST_FRAMES`, or there is no size.
        """
        whole_number("frames", frames, most=MOST_FRAMES, error=MediaError)
        if not isinstance(size, (tuple, list)) or len(size) != 2:
            raise MediaError(
                f"size={shown(size)}: the tokens of a clip of {self.family.model_type} follow from the size of its "
                "frames; pass (height, width) in pixels"
            )
        if self.family.clip_layout is None:
            raise MediaError(f"videos: {self.family.model_type} takes no clips here; pass frames as images")
        return len(self.family.clip_layout(self.geometry, frames, (int(size[0]), int(size[1]))))

    def empty_clip(self, frames: int, size: tuple[int, int]) -> tuple[dict[str, Any], int]:
        """Make the inputs of a clip without pixels, on the meta device, and its number of placeholders.

        Args:
            frames: number of frames.
            size: (height, width) of these in pixels.
        """
        placeholders, patches = self.video_tokens(frames, size), self.geometry.patches
        grid = self.geometry.clip_grid(frames, size)
        shape = (math.prod(grid), 3 * patches.temporal * patches.patch**2)
        inputs = {
            "pixel_values_videos": torch.empty(shape, device="meta"),
            "video_grid_thw": torch.tensor([grid]),
        }
        if self.rules.seconds:
            inputs["second_per_grid_ts"] = torch.ones(1)
        return inputs, placeholders

    @property
    def model_input_names(self) -> list[str]:
        """Keys that the inputs may have, `input_ids` first."""
        names = [*self.tokenizer.model_input_names, "mm_token_type_ids", "pixel_values", "image_grid_thw"]
        names += ["pixel_values_videos", "video_grid_thw"] + ["second_per_grid_ts"] * self.rules.seconds
        return list(dict.fromkeys(names))


def _size(frames: torch.Tensor) -> Size:
    """(height, width) of frames (frame, height, width, channel)."""
    return int(frames.shape[1]), int(frames.shape[2])

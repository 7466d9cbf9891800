"""Processor of families that take pictures and frames as numbered patches, filled to one number of them: Gemma 4."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch.nn.functional import pad

from vidcompress.adapters.family.budgets import TokenBudget
from vidcompress.adapters.family.numbering import numbered
from vidcompress.adapters.layouts import Size
from vidcompress.core.devices import upload
from vidcompress.errors import MediaError, shown
from vidcompress.media.images.image import ImageSource, load_image
from vidcompress.media.preprocessing.arguments import check_groups
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.preprocessing.pixel_config import PixelRecipe
from vidcompress.media.preprocessing.placeholders import Writing
from vidcompress.media.preprocessing.processor import check_clips
from vidcompress.media.preprocessing.transforms import CHUNK_PIXELS, normalise, resize
from vidcompress.media.video.frames import VideoFrames
from vidcompress.media.video.streaming import StreamingClip


@dataclass(repr=False)
class NumberedProcessor(NativeProcessor):
    """A `NativeProcessor` of patches with their column and row.

    Its inputs are, beside `input_ids`, `attention_mask` and `mm_token_type_ids`, those of the following that apply:

    - `pixel_values`: float32 (picture, patch, patch side squared * channel), filled with 0 to the most patches
    - `image_position_ids`: int64 (picture, patch, 2), column and row of each, -1 in the filling
    - `pixel_values_videos`, `video_position_ids`: the same for the frames of all clips
    - `num_frames_per_video`: int64 (clip,). Where the installed transformers knows none, frames of clips of one length
      are (clip, frame, patch, ...) instead

    A frame of a clip is a run of placeholders behind its time.
    """

    def prepare_images(
        self, pictures: list[ImageSource], groups: list[int] | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of pictures, each at its own resolution; see `NativeProcessor`."""
        check_groups(pictures, groups)
        if not pictures:
            return {}, []
        made, places, lengths = [], [], []
        budget = _of_tokens(self.geometry.image_budget)
        for source in pictures:
            frames = torch.from_numpy(np.array(load_image(source)))[None]
            given = (int(frames.shape[1]), int(frames.shape[2]))
            lengths.append(self.image_tokens(given))
            pixels, placed = self._numbered(frames, budget, self.image_recipe)
            made.append(pixels)
            places.append(placed)
        return {"pixel_values": torch.cat(made), "image_position_ids": torch.cat(places)}, lengths

    def prepare_videos(self, clips: list[VideoFrames]) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of clips; see `NativeProcessor`."""
        check_clips(clips)
        if not clips:
            return {}, []
        clips = [clip.whole() if isinstance(clip, StreamingClip) else clip for clip in clips]
        made, places, lengths = [], [], []
        budget = _of_tokens(self.geometry.clip_budget)
        for clip in clips:
            lengths.append(
                self.video_tokens(len(clip), (int(clip.frames.shape[1]), int(clip.frames.shape[2])))
            )
            pixels, placed = self._numbered(clip.frames, budget, self.video_recipe)
            made.append(pixels)
            places.append(placed)
        pixels, placed, counts = torch.cat(made), torch.cat(places), [len(clip) for clip in clips]
        return _of_clips(pixels, placed, counts), lengths

    def _numbered(
        self, frames: torch.Tensor, budget: TokenBudget, recipe: PixelRecipe
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make patches and their places of uint8 frames (frame, height, width, channel), resized chunk by chunk."""
        geometry, (height, width) = self.geometry.patches, (int(side) for side in frames.shape[1:3])
        size = budget.image_size((height, width), geometry)
        step = max(1, CHUNK_PIXELS // (height * width))
        parts = []
        for start in range(0, len(frames), step):
            chunk = rearrange(
                upload(frames[start : start + step], self.resize_device), "frame h w c -> frame c h w"
            ).contiguous()
            levels = resize(chunk, size, recipe.mode)
            values = normalise(levels, mean=recipe.mean, std=recipe.std, rescale=recipe.rescale)
            parts.append(
                rearrange(
                    values,
                    "frame c (row p) (col q) -> frame (row col) (p q c)",
                    p=geometry.patch,
                    q=geometry.patch,
                )
            )
        patches = torch.cat(parts)
        most = budget.most * geometry.merge**2
        _, rows, cols = geometry.grid(1, size)
        count = torch.full((len(frames),), rows), torch.full((len(frames),), cols)
        places = numbered(*count, most).to(patches.device)
        return pad(patches, (0, 0, 0, most - patches.shape[1])), places

    def write_images(self, lengths: list[int], inputs: Mapping[str, Any]) -> list[Writing]:
        """Write the text for pictures in a prompt: a start, a run of placeholders, and an end."""
        before, behind = self.around
        return [Writing(f"{before}{self.image_token}{behind}", (length,)) for length in lengths]

    def write_clips(self, clips: list[VideoFrames], lengths: list[int]) -> list[Writing]:
        """Write the text for clips in a prompt: each frame is its time in minutes and seconds and a run."""
        before, behind = self.around
        writings = []
        for clip, length in zip(clips, lengths, strict=True):
            times = [f"{int(time // 60):02d}:{int(time % 60):02d}" for time in self.view_times(clip)]
            text = " ".join(f"{time} {before}{self.video_token}{behind}" for time in times)
            writings.append(Writing(text, (length // len(times),) * len(times)))
        return writings

    def empty_clip(self, frames: int, size: Size) -> tuple[dict[str, Any], int]:
        """Make the inputs of a clip without pixels, on the meta device, and its number of placeholders; see
        `NativeProcessor`."""
        placeholders, geometry = self.video_tokens(frames, size), self.geometry.patches
        _, rows, cols = self.geometry.clip_grid(frames, size)
        most = _of_tokens(self.geometry.clip_budget).most * geometry.merge**2
        pixels = torch.empty((frames, most, 3 * geometry.patch**2), device="meta")
        places = numbered(torch.full((frames,), rows), torch.full((frames,), cols), most)
        return _of_clips(pixels, places, [frames]), placeholders

    @property
    def model_input_names(self) -> list[str]:
        """Keys that the inputs may have, `input_ids` first."""
        names = [*self.tokenizer.model_input_names, "mm_token_type_ids", "pixel_values", "image_position_ids"]
        names += ["pixel_values_videos", "video_position_ids"] + ["num_frames_per_video"] * counts_frames()
        return list(dict.fromkeys(names))


def _of_tokens(budget: Any) -> TokenBudget:
    if not isinstance(budget, TokenBudget):
        raise MediaError(f"budget={shown(budget)}: patches are filled to the most tokens of a TokenBudget")
    return budget


def _of_clips(pixels: torch.Tensor, places: torch.Tensor, counts: list[int]) -> dict[str, Any]:
    """Return the inputs of clips with so many frames each, in the form of the installed transformers."""
    inputs = {"pixel_values_videos": pixels, "video_position_ids": places}
    if not counts_frames() and len(set(counts)) == 1:
        return {key: value.unflatten(0, (len(counts), counts[0])) for key, value in inputs.items()}
    return inputs | {"num_frames_per_video": torch.tensor(counts)}


@lru_cache(maxsize=1)
def counts_frames() -> bool:
    """Whether the installed transformers takes `num_frames_per_video`, so that clips may differ in length."""
    from transformers.models.gemma4.modeling_gemma4 import Gemma4Model

    return "num_frames_per_video" in inspect.signature(Gemma4Model.forward).parameters

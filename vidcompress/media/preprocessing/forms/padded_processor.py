"""Processor of families that take pictures of any size as pictures, filled to the size of the largest: Mistral 3."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch.nn.functional import pad

from vidcompress.core.devices import upload
from vidcompress.media.images.image import ImageSource, load_image
from vidcompress.media.preprocessing.arguments import check_groups
from vidcompress.media.preprocessing.forms.native_processor import NativeProcessor
from vidcompress.media.preprocessing.placeholders import Writing
from vidcompress.media.preprocessing.transforms import normalise, resize


@dataclass(repr=False)
class PaddedProcessor(NativeProcessor):
    """A `NativeProcessor` of pictures that stay pictures; it takes no clips.

    Its inputs are `input_ids` and `attention_mask`, and for pictures:

    - `pixel_values`: float32 (picture, channel, height, width), smaller ones filled with 0 at the bottom and the right
    - `image_sizes`: int64 (picture, 2), height and width of each, resized and without the filling

    A picture is written as a run of placeholders for each row of tokens, with a token behind each row.
    """

    def prepare_images(
        self, pictures: list[ImageSource], groups: list[int] | None = None
    ) -> tuple[dict[str, Any], list[int]]:
        """Make pixel inputs and placeholder counts of pictures, each at its own resolution; see `NativeProcessor`."""
        check_groups(pictures, groups)
        if not pictures:
            return {}, []
        made, lengths = [], []
        for source in pictures:
            array = torch.from_numpy(np.array(load_image(source)))
            levels = rearrange(upload(array, self.resize_device), "h w c -> 1 c h w").contiguous()
            given = (int(levels.shape[2]), int(levels.shape[3]))
            lengths.append(self.image_tokens(given))
            size = self.geometry.image_budget.image_size(given, self.geometry.patches)
            recipe = self.image_recipe
            resized = resize(levels, size, recipe.mode)
            made.append(normalise(resized, mean=recipe.mean, std=recipe.std, rescale=recipe.rescale))
        sizes = [tuple(picture.shape[2:]) for picture in made]
        height, width = (max(side) for side in zip(*sizes, strict=True))
        filled = [pad(one, (0, width - one.shape[3], 0, height - one.shape[2])) for one in made]
        return {"pixel_values": torch.cat(filled), "image_sizes": torch.tensor(sizes)}, lengths

    def write_images(self, lengths: list[int], inputs: Mapping[str, Any]) -> list[Writing]:
        """Write the text for pictures in a prompt: a run of placeholders for each row of tokens."""
        if not lengths:
            return []
        writings, (between, last) = [], self.row_ends
        for height, width in (inputs["image_sizes"] // self.geometry.patches.factor).tolist():
            text = f"{self.image_token}{between}" * (height - 1) + f"{self.image_token}{last}"
            writings.append(Writing(text, (width,) * height))
        return writings

    def with_token_types(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the text inputs as they are: the model takes no token types."""
        return batch

    @property
    def model_input_names(self) -> list[str]:
        """Keys that the inputs may have, `input_ids` first."""
        return list(dict.fromkeys([*self.tokenizer.model_input_names, "pixel_values", "image_sizes"]))

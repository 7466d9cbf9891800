"""GLM-4.1V and GLM-4.6V: pictures of any size, clips with a time behind every frame, positions with axes.

Frames of clips have the placeholder of pictures and go to the model as images. What is a clip follows from
`mm_token_type_ids`, which the stock model needs for its positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from vidcompress.adapters.base import Visual, register_adapter
from vidcompress.adapters.packed import PackedAdapter
from vidcompress.adapters.qwen_vl import Qwen2VLAdapter
from vidcompress.core.layout import Modality
from vidcompress.core.prompt import text_between_runs
from vidcompress.errors import UnsupportedInputError


@register_adapter
class Glm4vAdapter(Qwen2VLAdapter):
    """`Glm4vForConditionalGeneration` and `Glm46VForConditionalGeneration`."""

    model_types = ("glm4v", "glm46v")
    video_keys = PackedAdapter.video_keys
    sent_as: ClassVar[Mapping[Modality, Modality]] = {"image": "image", "video": "image"}
    runs_apart = True
    grids_apart = True

    @property
    def video_token_id(self) -> int:
        """Id of the image placeholder, which stands for frames too."""
        return self.image_token_id

    @property
    def merger_rows(self) -> int:
        return 1  # a convolution has joined the patches of a token

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images, clips = super().visuals(inputs)
        if images and clips:
            raise UnsupportedInputError(
                f"pixel_values and pixel_values_videos in one batch: {type(self.model).__name__} takes one of both; "
                "pass pictures and clips in batches of their own, or frames as pictures"
            )
        return images, clips

    def view_text(self, row: Tensor, runs: Sequence[range]) -> Sequence[Sequence[range]]:
        """Find the text of each frame: its start before its run, and behind it its end and its time."""
        behind, end = row[runs[-1].stop :].tolist(), int(self.model.config.video_end_token_id)
        if end not in behind:  # a prompt of one's own
            return text_between_runs(row, runs)
        stops = [run.start - 1 for run in runs[1:]] + [runs[-1].stop + behind.index(end)]
        return [
            [range(run.start - 1, run.start), range(run.stop, stop)]
            for run, stop in zip(runs, stops, strict=True)
        ]

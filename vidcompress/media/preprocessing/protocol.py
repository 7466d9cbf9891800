"""Processor protocol for question answering, and transformers' own processors adapted to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL.Image import Image

from vidcompress.adapters.families import FAMILIES, Family
from vidcompress.errors import MediaError, one_line, shown
from vidcompress.media.preprocessing.native_resolution import patch_times
from vidcompress.media.preprocessing.placeholders import placeholder_pattern
from vidcompress.media.video.centre_rule import CentreRule
from vidcompress.media.video.frames import VideoFrames
from vidcompress.media.video.glm_rules import glm_rule
from vidcompress.media.video.paced_rule import PacedRule
from vidcompress.media.video.sampling import SamplingRule
from vidcompress.media.video.segment_rule import SegmentRule


@runtime_checkable
class MediaProcessor(Protocol):
    """Processor that `VisualQA` takes.

    `load_processor` returns one, and `adopted` makes one of a processor of transformers. Your own needs these:

    Attributes:
        tokenizer: a transformers tokenizer.
        image_token: placeholder of a picture in a prompt before it is written out; None where it takes none.
        video_token: placeholder of a clip, likewise.
        family: the model's family, for the line about a clip's times; None where it is not known.
        frame_rule: frame sampling rule for clip files.
    """

    tokenizer: Any
    image_token: Any
    video_token: Any

    @property
    def family(self) -> Family | None:
        """The model's family, or None."""

    @property
    def frame_rule(self) -> SamplingRule:
        """Frame sampling rule for clip files."""

    def __call__(self, text: list[str], images: Any = None, videos: Any = None) -> Mapping[str, Any]:
        """Make the model inputs of prompts, padded on the left.

        Args:
            text: prompts, with one placeholder per picture and clip.
            images: None, or a list of RGB pictures per prompt.
            videos: None, or the clips of all prompts in order, as `VideoFrames`.

        Returns:
            Inputs of the model's `forward`.
        """

    def apply_chat_template(
        self, conversation: list[Any], *, add_generation_prompt: bool | None = None
    ) -> Any:
        """Write a conversation as prompt text."""

    def batch_decode(self, sequences: Any, *, skip_special_tokens: bool = False) -> list[str]:
        """Return the texts of rows of ids."""

    def as_seen(self, picture: Image, *, alone: bool = True) -> Image:
        """Return the part of a picture that the model sees, to draw its tokens over."""

    def view_times(self, clip: VideoFrames) -> tuple[float, ...]:
        """Return the times of a clip's views, in seconds."""


class AdoptedProcessor:
    """Processor of transformers as a `MediaProcessor`.

    Clips are read and sampled by `read_video`, and passed on with their times, so that the stock processor samples
    nothing. Its video processors need torchvision. Where a model's own inputs do not tell a clip from pictures
    (InternVL), `image_sizes` is added, as by `vidcompress.load_processor`.

    Args:
        stock: a `transformers.ProcessorMixin` with a tokenizer.
        model_type: of the model's config.
    """

    def __init__(self, stock: Any, model_type: str) -> None:
        self.stock, self.tokenizer, self._model_type = stock, stock.tokenizer, model_type
        self.image_token = getattr(stock, "image_token", None)
        self.video_token = getattr(stock, "video_token", None)

    def __repr__(self) -> str:
        return f"AdoptedProcessor({type(self.stock).__name__}, {self._model_type})"

    @property
    def family(self) -> Family | None:
        """The model's family, or None."""
        return FAMILIES.get(self._model_type)

    @property
    def frame_rule(self) -> SamplingRule:
        """Frame sampling rule for clip files: the family's, with the numbers of the video processor."""
        videos, family = getattr(self.stock, "video_processor", None), self.family
        frames = getattr(videos, "num_frames", None)
        if family is not None and family.split:
            fps = getattr(videos, "fps", None) or CentreRule.fps
            return CentreRule(frames or CentreRule.num_frames, fps)
        if family is None or family.native is None:
            return even_rule(family, frames)
        rules = family.native
        if rules.sampling != "rate":
            names = ("fps", "max_duration")
            stated = {name: getattr(videos, name) for name in names if getattr(videos, name, None)}
            return glm_rule(rules.sampling, **stated)
        fps = getattr(videos, "fps", None) or PacedRule.fps
        return PacedRule(
            frames,
            fps=fps if frames is None else None,
            min_frames=getattr(videos, "min_frames", None) or PacedRule.min_frames,
            most_frames=getattr(videos, "max_frames", None) or PacedRule.most_frames,
            multiple=rules.multiple,
            spread=rules.spread,
        )

    def __call__(self, text: list[str], images: Any = None, videos: Any = None, **options: Any) -> Any:
        """Model inputs of prompts, padded on the left.

        Args:
            text: prompts, with one placeholder per picture and clip.
            images: None, or a list of RGB pictures per prompt.
            videos: None, or clips as `VideoFrames`.
            **options: of the stock processor.

        Raises:
            MediaError: the stock processor fails.
        """
        call: dict[str, Any] = {"padding": True, "return_tensors": "pt", **options}
        tiles = self.family is not None and self.family.tiles and (images is not None or videos is not None)
        if tiles and self.family is not None and self.family.split:  # their text tells all but clips
            tiles = videos is not None
        sizes = self._image_sizes(text, images, videos) if tiles else None
        if images is not None:
            call["images"] = [group for group in images if group]
        if videos is not None:
            if getattr(self.stock, "video_processor", None) is None:
                raise MediaError(
                    f"videos: {type(self.stock).__name__} has no video processor, which needs torchvision; install it, "
                    "or use vidcompress.load_processor"
                )
            call |= {
                "videos": [clip.frames.cpu().numpy() for clip in videos],
                "video_metadata": [_metadata(clip) for clip in videos],
                "do_sample_frames": False,
            }
        side, self.tokenizer.padding_side = self.tokenizer.padding_side, "left"
        try:
            inputs = self.stock(text=text, **call)
        except (AttributeError, ImportError, TypeError, ValueError) as error:
            raise MediaError(
                f"{type(self.stock).__name__} does not take these pictures and clips ({one_line(error)}); use "
                "vidcompress.load_processor"
            ) from error
        finally:
            self.tokenizer.padding_side = side
        if sizes is not None:
            inputs["image_sizes"] = sizes
        return inputs

    def _image_sizes(self, text: list[str], images: Any, videos: Any) -> torch.Tensor:
        """Return (picture or clip, 3) int64 in the order of the prompts: height, width and frames, 0 for pictures."""
        pictures = iter([(picture.height, picture.width, 0) for group in images or () for picture in group])
        clips = iter([(*clip.frames.shape[1:3], len(clip)) for clip in videos or ()])
        by_token = {self.image_token: pictures, self.video_token: clips}
        places = placeholder_pattern(self.image_token, self.video_token).finditer("\n".join(text))
        return torch.tensor([next(by_token[place[0]]) for place in places])

    def apply_chat_template(
        self, conversation: list[Any], *, add_generation_prompt: bool | None = None, **options: Any
    ) -> Any:
        """Write a conversation as prompt text; `options` are those of the stock processor."""
        start = add_generation_prompt is not False
        return self.stock.apply_chat_template(conversation, add_generation_prompt=start, **options)

    def batch_decode(self, sequences: Any, **options: Any) -> list[str]:
        """Texts of rows of ids."""
        texts: list[str] = self.tokenizer.batch_decode(sequences, **options)
        return texts

    def as_seen(self, picture: Image, *, alone: bool = True) -> Image:
        """Return the picture itself: the parts that a stock processor cuts off are not known."""
        return picture

    def view_times(self, clip: VideoFrames) -> tuple[float, ...]:
        """Times of the views that a clip becomes, in seconds."""
        temporal = getattr(getattr(self.stock, "video_processor", None), "temporal_patch_size", None) or 1
        return patch_times(clip.times, int(temporal))


def even_rule(family: Family | None, num_frames: int | None) -> SamplingRule:
    """Return the rule of a family whose frames do not follow from a rate.

    Args:
        family: None where it is not known.
        num_frames: of the checkpoint, or None.
    """
    if family is None or family.segments is None:
        return SamplingRule(num_frames)
    return SegmentRule(num_frames or family.segments)


def adopted(processor: Any, model_type: str) -> Any:
    """Return a processor as a `MediaProcessor`; one of transformers is wrapped.

    Args:
        processor: of `load_processor`, of transformers, or of your own.
        model_type: of the model's config.

    Raises:
        MediaError: not a processor.
    """
    if isinstance(processor, MediaProcessor):
        return processor
    from transformers.processing_utils import ProcessorMixin

    if isinstance(processor, ProcessorMixin) and getattr(processor, "tokenizer", None) is not None:
        return AdoptedProcessor(processor, model_type)
    raise MediaError(
        f"processor={shown(processor)}: must be one that vidcompress.load_processor(model) returned, a processor of "
        "transformers with a tokenizer, or meet vidcompress.media.MediaProcessor"
    )


def _metadata(clip: VideoFrames) -> dict[str, Any]:
    """Return the metadata of sampled frames for transformers."""
    fps = clip.fps if clip.fps > 0 else 24.0
    places = [int(place) for place in np.round(np.asarray(clip.times) * fps)]
    height, width = (int(side) for side in clip.frames.shape[1:3])
    return {
        "total_num_frames": clip.total_frames,
        "fps": fps,
        "frames_indices": places,
        "duration": clip.duration,
        "height": height,
        "width": width,
    }

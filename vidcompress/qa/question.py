"""One question with what it is about, checked before anything is opened; and the messages a chat template takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Required, TypedDict

import torch

from vidcompress.checks import unicode_text, whole_number
from vidcompress.core.foreign_arguments import ASKING, instead
from vidcompress.errors import ArgumentError, shown
from vidcompress.media import ImageSource, VideoFrames, VideoSource, load_image, read_video
from vidcompress.media.video.streaming_clip import StreamingClip, open_streaming_clip


class QuestionItem(TypedDict, total=False):
    """One entry of `VisualQA.ask_batch`, with the arguments of `ask` of the same names."""

    question: Required[str]
    image: ImageSource | None
    images: Sequence[ImageSource] | None
    video: VideoSource | None


KEYS = tuple(QuestionItem.__annotations__)


@dataclass(frozen=True, eq=False)
class Question:
    """A question and its media.

    Attributes:
        text: the question.
        images: pictures it is about, in order; anything that `load_image` takes.
        video: the clip it is about, or None; anything that `read_video` takes.
        notes: what the report of its answer is to say.
    """

    text: str
    images: tuple[Any, ...] = ()
    video: Any = None
    notes: tuple[str, ...] = ()

    def open(self, **sampling: Any) -> tuple[list[Any], VideoFrames | None]:
        """Read the media.

        Args:
            **sampling: `num_frames`, `fps`, `max_frames` and `backend`, handed to `read_video`.

        Returns:
            PIL images and the sampled frames of the clip, if there is one.
        """
        pictures = [load_image(image) for image in self.images]
        return pictures, None if self.video is None else read_video(self.video, **sampling)

    @contextmanager
    def arriving(
        self, device: torch.device, dtype: torch.dtype, **sampling: Any
    ) -> Iterator[tuple[list[Any], StreamingClip]]:
        """Read the pictures, and of the clip the first frame; the others follow in a thread within the block.

        Args:
            device: where the views of the clip are to lie.
            dtype: as what.
            **sampling: as for `open`.

        Raises:
            Reread: only `open` serves the clip.
        """
        pictures = [load_image(image) for image in self.images]
        with open_streaming_clip(self.video, device, dtype, **sampling) as clip:
            yield pictures, clip

    def messages(self, note: str = "") -> list[dict[str, Any]]:
        """The conversation for a chat template: pictures, then the clip, then the text.

        Args:
            note: a line that stands before the question.
        """
        media = [{"type": "image"} for _ in self.images] + ([] if self.video is None else [{"type": "video"}])
        text = f"{note}\n{self.text}" if note else self.text
        return [{"role": "user", "content": [*media, {"type": "text", "text": text}]}]


def read_question(item: Mapping[str, Any], *, where: str = "") -> Question:
    """Check one entry of a batch.

    Args:
        item: `question`, and at most one of `image` and `images`, and `video`; None counts as absent.
        where: put before messages, such as "items[3]: ".

    Raises:
        ArgumentError: unknown or missing keys, a question that is empty or no Unicode text, both `image` and `images`,
            an empty list of pictures or frames.
    """
    if not isinstance(item, Mapping):
        raise ArgumentError(
            f"{where}must be a dict with the keys {', '.join(KEYS)}, got {type(item).__name__}; "
            f"for example dict(question='...', image='photo.jpg')"
        )
    unknown = sorted(set(item) - set(KEYS))
    for key in unknown:
        said = instead(key, item[key], ASKING)
        if said is not None:
            raise ArgumentError(f"{where}{said}")
    if unknown:
        raise ArgumentError(f"{where}unknown keys {unknown}; allowed are {', '.join(KEYS)}")
    text, image, images, video = (item.get(key) for key in KEYS)
    if not isinstance(text, str) or not text.strip():
        raise ArgumentError(f"{where}question={shown(text)}: must be a text that is not empty")
    unicode_text(f"{where}question", text)
    if image is not None and images is not None:
        raise ArgumentError(f"{where}image and images exclude each other; pass one picture or a list of them")
    if isinstance(image, (list, tuple)):
        raise ArgumentError(f"{where}image is a list of {len(image)}; pass a list as images=[...]")
    if isinstance(video, (list, tuple)) and not video:
        raise ArgumentError(f"{where}video is an empty list; pass a path or at least one frame")
    if images is not None and not isinstance(images, (list, tuple)):
        raise ArgumentError(
            f"{where}images must be a list, got {type(images).__name__}; pass one picture as image"
        )
    if images is not None and not images:  # of a folder without pictures, say; None is for text only
        raise ArgumentError(
            f"{where}images is an empty list; pass at least one picture, or leave it out for a question about text only"
        )
    pictures = (image,) if image is not None else tuple(images or ())
    return Question(text, pictures, video)


def check_length(max_new_tokens: Any) -> None:
    """Refuse what is no length of an answer.

    Raises:
        ArgumentError: not a whole number of at least 1.
    """
    whole_number("max_new_tokens", max_new_tokens)

"""Question with its media, checked before anything is opened; and the messages for a chat template."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Required, TypedDict

import torch

from vidcompress.checks import unicode_text
from vidcompress.core.foreign_arguments import ASKING, instead
from vidcompress.errors import ArgumentError, shown
from vidcompress.loading.drawn_media import is_drawn
from vidcompress.media import ImageSource, VideoFrames, VideoSource, load_image, read_video
from vidcompress.media.video.streaming import open_streaming_clip


class QuestionItem(TypedDict, total=False):
    """One entry of `VisualQA.ask_batch`, with the arguments of `ask` of the same names."""

    question: Required[str]
    image: ImageSource | None
    images: Sequence[ImageSource] | None
    video: VideoSource | None


Media = tuple[list[Any], VideoFrames | None]
"""The opened PIL images of a question, and its sampled clip."""

EXAMPLE: Final = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
REMARK: Final = (
    "no model was named, and tiny-onevision, which answers, knows coloured shapes and digits only; for other pictures "
    f"and clips name a checkpoint: --model {EXAMPLE}, in Python VisualQA.from_pretrained({EXAMPLE!r})"
)

EXAMPLES: Final = {
    111716: "2a7732bc53a820457aef4b6307a04c80a81a15d35c17e0701a9627c47cca7e03",  # scene.png
    14144: "9e2e22803ebd71e7bf79c32e98c01f4e9e46f2f9e75bec8852ccab1ca01d5c37",  # clip.mp4
}
"""Bytes and SHA-256 of the media in `examples/`, of which there are copies in many folders."""

KEYS = tuple(QuestionItem.__annotations__)


@dataclass(frozen=True, eq=False)
class Question:
    """A question and its media.

    Attributes:
        text: the question.
        images: pictures it is about, in order; anything that `load_image` takes.
        video: the clip it is about, or None; anything that `read_video` takes.
        notes: remarks for the report of its answer.
    """

    text: str
    images: tuple[Any, ...] = ()
    video: Any = None
    notes: tuple[str, ...] = ()

    def open(self, **sampling: Any) -> Media:
        """Read the media.

        Args:
            **sampling: `num_frames`, `fps`, `max_frames` and `backend`, handed to `read_video`.

        Returns:
            PIL images and the sampled frames of the clip, if there is one.
        """
        pictures = [load_image(image) for image in self.images]
        return pictures, None if self.video is None else read_video(self.video, **sampling)

    @property
    def streams(self) -> bool:
        """Whether the question has a clip that `start` can read frame by frame."""
        return self.video is not None

    def start(
        self,
        device: torch.device,
        dtype: torch.dtype,
        *,
        held: bool = True,
        decode_all: bool = False,
        **sampling: Any,
    ) -> Media:
        """Read the pictures, and the first frame of the clip; the others follow in a thread until the clip is closed.

        Args:
            device: for the views of the clip.
            dtype: of these views.
            held, decode_all: as for `open_streaming_clip`.
            **sampling: as for `open`.

        Raises:
            Reread: the clip can only be read by `open`.
        """
        pictures = [load_image(image) for image in self.images]
        clip = open_streaming_clip(self.video, device, dtype, held=held, decode_all=decode_all, **sampling)
        return pictures, clip

    def check_text(self, processor: Any) -> None:
        """Refuse a text that holds placeholders.

        Raises:
            ArgumentError: the text holds a placeholder.
        """
        for token in filter(None, (processor.image_token, processor.video_token)):
            if token in self.text:
                raise ArgumentError(
                    f"question={shown(self.text)} holds {token!r}, which stands for a picture or clip in a prompt; "
                    "leave it out and pass image=, images= or video="
                )

    def messages(self, note: str = "") -> list[dict[str, Any]]:
        """Return the conversation for a chat template: pictures, then the clip, then the text.

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
        where: prefix of messages, such as "items[3]: ".

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
    if images is not None and not images:  # such as a folder without pictures; None is for text only
        raise ArgumentError(
            f"{where}images is an empty list; pass at least one picture, or leave it out for a question about text only"
        )
    pictures = (image,) if image is not None else tuple(images or ())
    return Question(text, pictures, video)


def remarked(question: Question) -> Question:
    """Return the question, with `REMARK` among its notes if one of its media is not the package's own."""
    own = is_own(question.images) and (question.video is None or is_own(question.video))
    return question if own else replace(question, notes=(*question.notes, REMARK))


def is_own(source: Any) -> bool:
    """Whether a picture or clip is the package's own, so that the embedded models were trained on such content.

    Own are the media of `examples/`, in any folder, and the drawings of `vidcompress suite`. Pixels in memory that
    were not opened from a file are not.

    Args:
        source: as in `ask`; of a list every entry must be own.
    """
    if isinstance(source, (list, tuple)):
        return all(is_own(entry) for entry in source)
    attributes = ("filename", "name", "source")  # of PIL images, files and VideoFrames
    named = [source, *(getattr(source, attribute, None) for attribute in attributes)]
    name = next((name for name in named if isinstance(name, (str, os.PathLike)) and name != ""), None)
    if name is None:
        return False
    try:
        path = Path(os.path.realpath(os.fsdecode(name)))
        return _is_example(path) or is_drawn(path)
    except (OSError, ValueError):  # a name that no file can have
        return False


def _is_example(path: Path) -> bool:
    """Whether a file holds a picture or clip of `examples/`; a file of another size is not read."""
    digest = EXAMPLES.get(path.stat().st_size) if path.is_file() else None
    return digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() == digest

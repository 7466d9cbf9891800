"""What is said where no model was named and the embedded one is asked about media that it was not trained on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vidcompress.loading.drawn_media import is_drawn
from vidcompress.qa.question import Question

EXAMPLE: Final = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
REMARK: Final = (
    "no model was named, and tiny-onevision, which answers, knows coloured shapes and digits only; for other pictures "
    f"and clips name a checkpoint: --model {EXAMPLE}, in Python VisualQA.from_pretrained({EXAMPLE!r})"
)

EXAMPLES: Final = {
    111716: "2a7732bc53a820457aef4b6307a04c80a81a15d35c17e0701a9627c47cca7e03",  # scene.png
    14144: "9e2e22803ebd71e7bf79c32e98c01f4e9e46f2f9e75bec8852ccab1ca01d5c37",  # clip.mp4
}
"""Bytes and SHA-256 of the media in `examples/`, which an installed package does not have beside it."""


def remarked(question: Question) -> Question:
    """The question, with `REMARK` among its notes if one of its media is not the package's own."""
    own = is_own(question.images) and (question.video is None or is_own(question.video))
    return question if own else replace(question, notes=(*question.notes, REMARK))


def is_own(source: Any) -> bool:
    """Whether a picture or clip shows what the embedded models were trained on, as far as its file tells.

    Own are the media of `examples/`, wherever they lie, and what `vidcompress suite` drew. Of pixels in memory that
    were not opened from a file nothing is known, so they are not.

    Args:
        source: as `ask` takes it; of a list every entry must be own.
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
    """Whether a file holds a picture or clip of `examples/`; only a file of such a size is read."""
    digest = EXAMPLES.get(path.stat().st_size) if path.is_file() else None
    return digest is not None and hashlib.sha256(path.read_bytes()).hexdigest() == digest

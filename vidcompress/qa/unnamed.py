"""What is said where no model was named and the embedded one is asked about media that it was not trained on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ..distribution import checkout
from .question import Question

EXAMPLE: Final = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
REMARK: Final = (
    "no model was named, and tiny-onevision, which answers, knows coloured shapes and digits only; for other pictures "
    f"and clips name a checkpoint: --model {EXAMPLE}, in Python VisualQA.from_pretrained({EXAMPLE!r})"
)


def remarked(question: Question) -> Question:
    """The question, with `REMARK` among its notes if one of its media is not the package's own."""
    own = is_own(question.images) and (question.video is None or is_own(question.video))
    return question if own else replace(question, notes=(*question.notes, REMARK))


def is_own(source: Any) -> bool:
    """Whether a picture or clip shows what the embedded models were trained on, as far as its path tells.

    Own are the files of `examples/` in a checkout and what `vidcompress suite` drew. Of pixels in memory that were not
    opened from a file nothing is known, so they are not.

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
    from ..evaluate.suite.target import is_drawn

    try:
        path, beside = Path(os.path.realpath(os.fsdecode(name))), checkout()
        if beside is not None and path.is_relative_to(os.path.realpath(beside / "examples")):
            return True
        return is_drawn(path)
    except (OSError, ValueError):  # a name that no file can have
        return False

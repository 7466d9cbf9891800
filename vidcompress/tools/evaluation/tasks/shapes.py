"""Task of shapes questions: held-out pictures and clips, drawn into files once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from vidcompress.checks import one_of, whole_number
from vidcompress.tools.evaluation.shapes import (
    ClipExample,
    Scene,
    held_out_questions,
    paint,
    paint_clip,
    write_clip,
)
from vidcompress.tools.evaluation.shapes.examples import CLIP_FPS, CLIP_FRAMES
from vidcompress.tools.evaluation.tasks.base import Item

MEDIA = ("image", "clip")
LONGEST_ANSWER = 6
DEFAULT_QUESTIONS = 1000


class ShapesTask:
    """Questions about scenes that no training of the embedded models has seen, one per scene.

    Args:
        medium: "image" or "clip".
        folder: where pictures (PNG) and clips (H.264) are written; existing files are used.
        questions: number of questions.
        seed: number of the block of that many questions: 0 the first, 1 the next, ...
        frames: of a clip.

    Attributes:
        name, split, revision, metric, max_new_tokens: see `Task`. The revision is that of what is drawn, not of the
            files, whose bytes are the encoder's.

    Raises:
        ArgumentError: an argument is not allowed.
    """

    split, metric, max_new_tokens = "held-out", "exact", LONGEST_ANSWER

    def __init__(
        self,
        medium: Literal["image", "clip"],
        folder: Path,
        *,
        questions: int = DEFAULT_QUESTIONS,
        seed: int = 0,
        frames: int = CLIP_FRAMES,
    ) -> None:
        one_of("task", medium, MEDIA)
        count, block = whole_number("questions", questions), whole_number("seed", seed, least=0)
        whole_number("frames", frames, most=300)
        self.name = f"shapes:{medium}"
        drawn = list(held_out_questions(medium, count * (block + 1), frames))[count * block :]
        content = json.dumps([[at, question.text, question.answer] for at, _, question in drawn])
        self.revision = hashlib.sha256(f"{medium} {frames} {content}".encode()).hexdigest()
        ending = "png" if medium == "image" else "mp4"
        self._scenes: list[tuple[Path, int, Any]] = []
        self._items: list[Item] = []
        for at, scene, question in drawn:
            path = folder / f"{at}.{ending}" if medium == "image" else folder / f"{at}-{frames}.{ending}"
            self._scenes.append((path, at, scene))
            self._items.append(
                Item(
                    f"{at}",
                    question.text,
                    images=(path,) if medium == "image" else (),
                    video=path if medium == "clip" else None,
                    answers=(question.answer,),
                    kind=question.type,
                )
            )

    def items(self) -> list[Item]:
        """The questions, in the order of their seeds."""
        return list(self._items)

    def write_media(self) -> None:
        """Draw the files that are not there yet.

        Raises:
            OSError: a file cannot be written.
        """
        for path, at, scene in self._scenes:
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_name(f"new-{path.name}")  # leftovers of a kill are overwritten
            try:
                _draw(scene, at, scratch)
                scratch.replace(path)
            finally:
                scratch.unlink(missing_ok=True)


def _draw(scene: Any, seed: int, path: Path) -> None:
    if isinstance(scene, Scene):
        from PIL import Image

        Image.fromarray(paint(scene)).save(path)
    else:
        write_clip(ClipExample(seed, paint_clip(scene), CLIP_FPS, scene, []), path)

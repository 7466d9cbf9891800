"""Draw a counting benchmark for large models: clips of one to four objects, and the number as a choice of letters.

    python scripts/make_counting.py runs/counting
    vidcompress eval configs/mass-counting.toml --task data:runs/counting --out runs/mass-counting-folder

The same options give the same questions and pictures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shapes_accuracy.accuracy import check_seeds
from vidcompress.tools.evaluation.shapes import clip_example, write_clip
from vidcompress.tools.evaluation.shapes.clip import MAX_CLIP_ITEMS
from vidcompress.tools.evaluation.tasks.folder import QUESTIONS

FIRST_SEED = 970_000
CHOICES = [str(number) for number in range(1, MAX_CLIP_ITEMS + 1)]


def main(
    folder: Annotated[Path, typer.Argument(help="Where the questions and clips are written.")],
    clips: Annotated[int, typer.Option(min=1, help="Clips, one question each.")] = 400,
    frames: Annotated[int, typer.Option(min=1, help="Frames per clip.")] = 32,
    side: Annotated[int, typer.Option(min=64, help="Width and height in pixels, even.")] = 384,
) -> None:
    """Draw the clips, and write the questions last."""
    check_seeds(FIRST_SEED, clips)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for seed in range(FIRST_SEED, FIRST_SEED + clips):
        example = clip_example(seed, frames, size=(side, side))
        write_clip(example, folder / f"{seed}.mp4")
        line = {
            "id": str(seed),
            "video": f"{seed}.mp4",
            "question": "How many coloured shapes does this clip show? Do not count digits.",
            "answer": str(len(example.scene.actors)),
            "choices": CHOICES,
            "kind": f"{len(example.scene.actors)} objects",
        }
        lines.append(json.dumps(line) + "\n")
    (folder / QUESTIONS).write_text("".join(lines), encoding="utf-8")
    print(f"wrote {clips} questions to {folder}")


if __name__ == "__main__":
    typer.run(main)

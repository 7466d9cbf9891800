"""A small benchmark folder: pictures, a clip, a group, text alone, and what cannot be served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vidcompress.tools.evaluation.shapes import image_example

EXAMPLES = Path(__file__).parents[1] / "examples"
BROKEN = ("broken", "missing", "placeholder")
"""Questions that fail, each alone."""


def write_benchmark(folder: Path, pictures: int = 3, *, broken: bool = True, clip: bool = True) -> Path:
    """Write the folder.

    Args:
        folder: made where it is missing.
        pictures: questions about a picture each.
        broken: whether a picture is broken, one is missing, and a question holds a placeholder.
        clip: whether there are a clip, a group of three about one picture, and a question without media.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for seed in range(pictures):
        example = image_example(seed, (112, 112))
        example.image.save(folder / f"{seed}.png")
        asked = example.questions[0]
        lines.append(
            {"id": f"p{seed}", "image": f"{seed}.png", "question": asked.text, "answer": asked.answer}
            | {"kind": asked.type, "facts": {"seed": seed}}
        )
    if clip:
        shutil.copy(EXAMPLES / "clip.mp4", folder / "clip.mp4")
        lines.append({"id": "clip", "video": "clip.mp4", "question": "what digit is shown?", "answer": "3"})
        lines.append({"id": "text", "question": "what digit is shown?", "answer": "3"})
        shutil.copy(EXAMPLES / "scene.png", folder / "scene.png")
        for number, question in enumerate(("what digit is shown?", "is there a ring?", "is there a star?")):
            lines.append(
                {
                    "id": f"g{number}",
                    "image": "scene.png",
                    "question": question,
                    "answer": "6",
                    "group": "scene",
                }
            )
    if broken:
        (folder / "broken.png").write_text("no picture")
        plain = {"question": "what color is the ring?", "answer": "red"}
        lines.insert(1, {"id": "broken", "image": "broken.png", **plain})
        lines.insert(2, {"id": "missing", "image": "gone.png", **plain})
        lines.append({"id": "placeholder", "question": "what is <image>?", "answer": "red", "image": "0.png"})
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "benchmark.toml").write_text('name = "small"\nmax_new_tokens = 4\n')
    return folder

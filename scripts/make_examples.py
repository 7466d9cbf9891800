"""Draw examples/scene.png and examples/clip.mp4 and write the truth about them to examples/media.json.

    python scripts/make_examples.py

Each is the first held-out scene that allows a question of every type and holds at least four objects (an image) or
three (a clip), so neither was chosen for the answers that a model gives.
"""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path

from vidcompress.tools.evaluation.shapes import CLIP_TYPES, IMAGE_TYPES
from vidcompress.tools.evaluation.shapes.examples import (
    ClipExample,
    ImageExample,
    clip_example,
    image_example,
    write_clip,
)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
IMAGE_SIZE = (336, 224)


def first_image() -> ImageExample:
    """The first held-out image with every type of question and at least four objects."""
    return next(
        found
        for found in (image_example(seed, size=IMAGE_SIZE) for seed in count())
        if len(found.questions) == len(IMAGE_TYPES) and len(found.scene.items) >= 4
    )


def first_clip() -> ClipExample:
    """The first held-out clip with every type of question and at least three objects."""
    return next(
        found
        for found in (clip_example(seed) for seed in count())
        if len(found.questions) == len(CLIP_TYPES) and len(found.scene.actors) >= 3
    )


def main() -> None:
    """Write the three files."""
    image, clip = first_image(), first_clip()
    image.image.save(EXAMPLES / "scene.png", optimize=True)
    write_clip(clip, EXAMPLES / "clip.mp4")
    truth = {
        name: {
            "seed": example.seed,
            "questions": [
                {"type": entry.type, "question": entry.text, "answer": entry.answer}
                for entry in example.questions
            ],
        }
        for name, example in (("scene.png", image), ("clip.mp4", clip))
    }
    (EXAMPLES / "media.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

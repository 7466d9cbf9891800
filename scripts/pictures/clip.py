"""clip.gif: a clip with its mask, and how many tokens each frame keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vidcompress
from pictures.facts import facts_of
from pictures.scenes import clip
from vidcompress.qa.animation import draw_animation

SEED, FRAMES = 25, 16
QUESTION = "what digit is shown?"
METHOD, RATIO = "vidcom2", 0.25


def draw(path: Path) -> dict[str, Any]:
    """Ask, draw, and return what is shown."""
    qa = vidcompress.VisualQA.from_pretrained(
        "tiny-onevision", device="cpu", method=METHOD, retention_ratio=RATIO, num_frames=FRAMES
    )
    frames = clip(SEED, FRAMES)
    whole = qa.using(retention_ratio=1.0).ask(QUESTION, video=frames, max_new_tokens=4)
    part = qa.ask(QUESTION, video=frames, max_new_tokens=4)
    other = qa.using(method="globalcom2").ask(QUESTION, video=frames, max_new_tokens=4)
    said = [
        f"{answer.report.kept} of {answer.report.total} tokens: '{answer.text}'" for answer in (whole, part)
    ]
    heading = f"{QUESTION}\n{said[0]}      {said[1]}"
    draw_animation(part.report, part.media[0].frames, heading=heading).save(path)
    return {
        "picture": f"generated: held-out shapes clip {SEED}, {FRAMES} frames, the digit is in one of them",
        "model": "tiny-onevision",
        "question": QUESTION,
        "captions": said,
        "remark": "with 16 tokens per frame globalcom2, whose temperature is made for frames of 196, shares almost "
        "evenly; its run is the last one",
        "runs": [facts_of(whole), facts_of(part), facts_of(other)],
    }

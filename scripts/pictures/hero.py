"""hero.png: the picture, all of its tokens, a tenth of them; with the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vidcompress
from pictures.drawing import MARGIN, Card
from pictures.facts import facts_of
from pictures.scenes import picture
from vidcompress.qa.tiles import Tile, font, make_tiles

SEED, SIZE = 50, (336, 224)
QUESTION = "what digit is shown?"
RATIO = 0.1
WIDTH, PANEL, GAP = 1600, 492, 26


def draw(path: Path) -> dict[str, Any]:
    """Ask, draw, and return what is shown."""
    qa = vidcompress.VisualQA.from_pretrained("tiny-onevision", device="cpu", retention_ratio=RATIO)
    image = picture(SEED, SIZE)
    whole = qa.using(retention_ratio=1.0).ask(QUESTION, image=image, max_new_tokens=4)
    part = qa.ask(QUESTION, image=image, max_new_tokens=4)
    panels = [crops(whole).render(PANEL), crops(part).render(PANEL)]
    width, height = panels[0].size
    captions = [
        ("the picture", ""),
        *(
            (f"{answer.report.kept} of {answer.report.total} tokens:", f"'{answer.text}'")
            for answer in (whole, part)
        ),
    ]
    top = 92
    card = Card(2 * MARGIN + 3 * width + 2 * GAP, top + height + 84)
    card.text(QUESTION, MARGIN, 30, 38)
    for number, (panel, (words, text)) in enumerate(
        zip([image.resize((width, height)), *panels], captions, strict=True)
    ):
        left = MARGIN + number * (width + GAP)
        card.panel(panel, left, top)
        card.text(words, left, top + height + 22, 32, faint=not text)
        card.text(text, left + 10 + round(font(32).getlength(words)), top + height + 22, 32)
    card.save(path)
    return {
        "picture": f"generated: held-out shapes scene {SEED}, {SIZE[0]} x {SIZE[1]} pixels to the model",
        "model": "tiny-onevision",
        "question": QUESTION,
        "captions": [" ".join(filter(None, pair)) for pair in captions],
        "shown": "the tokens of the crops; those of the thumbnail and the separators are counted and not drawn",
        "runs": [facts_of(whole), facts_of(part)],
    }


def crops(answer: vidcompress.Answer) -> Tile:
    """The crops of an answer about one picture, without the borders between them."""
    tile, _ = make_tiles(answer.report.visuals[0], answer.media[0], WIDTH)[-1]
    return Tile(tile.picture, tile.keep, tile.caption, ([], []))

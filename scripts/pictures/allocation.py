"""allocation.png: a picture whose content lies in one crop, and how the thumbnail shares the budget among the crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import vidcompress
from pictures.drawing import MARGIN, Card
from pictures.facts import facts_of
from pictures.scenes import picture
from vidcompress.qa.tiles import Tile, make_tiles

SEED, SIZE = 184, (224, 224)
QUESTION = "which digit is on the blue circle?"
RATIO = 0.25
CROP, GAP = 312, 44
WIDTH = 2 * MARGIN + 3 * CROP + 2 * GAP
TOP, LINE = 142, 38
ROW = CROP + 2 * LINE + 44
GREY, ORANGE = (172, 176, 184), (233, 150, 20)


def draw(path: Path) -> dict[str, Any]:
    """Ask, draw, and return what is shown."""
    qa = vidcompress.VisualQA.from_pretrained("tiny-next", device="cpu", retention_ratio=RATIO)
    image = picture(SEED, SIZE)
    whole = qa.using(retention_ratio=1.0).ask(QUESTION, image=image, max_new_tokens=4)
    part = qa.ask(QUESTION, image=image, max_new_tokens=4)
    visual = part.report.visuals[0]
    thumbnail, crops = (tile for tile, _ in make_tiles(visual, part.media[0], WIDTH))
    first, *views = visual.views
    most = max(views, key=lambda view: view.kept)
    card = Card(WIDTH, TOP + 2 * ROW)
    card.text(QUESTION, MARGIN, 28, 34)
    said = [
        f"{answer.report.kept} of {answer.report.total} tokens: '{answer.text}'" for answer in (whole, part)
    ]
    rest = f"({visual.separators_kept} of {visual.separators_total} newlines among them)"
    card.text("      ".join([*said, rest]), MARGIN, 78, 27, faint=True)
    small = thumbnail.render(CROP)
    card.panel(image.resize(small.size), MARGIN, TOP)
    card.panel(small, MARGIN, TOP + ROW)
    captions = [
        "the picture, in 2 x 2 crops",
        f"thumbnail: {first.kept} of {first.total}",
        "sums its scores over each crop",
    ]
    card.text(captions[0], MARGIN, TOP + CROP + 8, 26, faint=True)
    card.text(captions[1], MARGIN, TOP + ROW + CROP + 8, 30)
    card.text(captions[2], MARGIN, TOP + ROW + CROP + 8 + LINE, 24, faint=True)
    for number, view in enumerate(views):
        row, column = divmod(number, 2)
        left, top = MARGIN + (column + 1) * (CROP + GAP), TOP + row * ROW
        panel = _quarter(crops, row, column).render(CROP)
        card.panel(panel, left, top)
        below = top + panel.height + 8
        share = view.share or 0.0
        lines = [
            f"crop {number + 1}: {view.kept} of {view.total}",
            f"sum {view.importance:.1f}, {100 * share:.0f} % of what views get",
        ]
        card.text(lines[0], left, below, 30)
        card.text(lines[1], left, below + LINE, 24, faint=True)
        end = left + round(panel.width * view.kept / view.total)
        ink = ORANGE if view is most else GREY
        card.pen.rectangle((left, below + 2 * LINE, end, below + 2 * LINE + 9), fill=ink)
        captions += lines
    card.save(path, colors=96)
    return {
        "picture": f"generated: held-out shapes scene {SEED}, {SIZE[0]} x {SIZE[1]} pixels to the model",
        "model": "tiny-next",
        "question": QUESTION,
        "captions": [*said, rest, *captions],
        "views": [view.to_dict() for view in visual.views],
        "remark": "options are the defaults. Crop j of n keeps the share R (1 + sigma_j - 1 / n) of its tokens, "
        "with sigma the softmax of the sums over tau = 10: from R (1 - 1 / n) where sigma is 0 to R (2 - 1 / n) where "
        "it is 1, here 12 to 28 of 64",
        "runs": [facts_of(whole), facts_of(part)],
    }


def _quarter(crops: Tile, row: int, column: int) -> Tile:
    """One of 2 x 2 crops, without the lines at its border that belong to its neighbours."""
    rows, columns = (side // 2 for side in crops.keep.shape)
    width, height = crops.picture.width // 2, crops.picture.height // 2
    box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
    keep = crops.keep[row * rows : (row + 1) * rows, column * columns : (column + 1) * columns]
    return Tile(crops.picture.crop(box), keep, "", ([], []))

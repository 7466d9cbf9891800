"""What the README owes a newcomer: it is short, and the first snippet comes early. See test_documents for the rest."""

from __future__ import annotations

import re

from PIL import Image

from documents import ROOT, blocks
from refresh_documents import HUB
from vidcompress.cli.listings import family_entries

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 180


def test_it_is_short() -> None:
    assert README.count("\n") <= MOST_LINES


def test_first_snippet_is_short_and_early() -> None:
    before, _, rest = README.partition("```python")
    assert before.count("\n") + 1 <= 40
    assert rest.partition("```")[0].count("\n") <= 17


def test_a_picture_is_among_the_first_lines() -> None:
    top = "\n".join(README.splitlines()[:20])
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)|<img src=\"([^\"]+)\"", top)
    assert len(shown) == 2
    for name in map("".join, shown):
        with Image.open(ROOT / name) as picture:
            assert picture.width >= 300


def test_every_family_has_its_row() -> None:
    table = README.partition("## Models")[2].partition("## Limits")[0]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [\w., ()-]+ \| [a-z]", table, flags=re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert names[0] == "model_type" and sorted(names[1:]) == [
        entry["model_type"] for entry in family_entries()
    ]
    firsts = [row.partition("`")[2].partition("`")[0] for row in rows[1:]]
    assert firsts == sorted(firsts)


def test_a_named_checkpoint_stands_before_the_embedded_one() -> None:
    first, second = [block.body for block in blocks(README) if block.language == "python"][:2]
    assert HUB.search(first)
    assert not HUB.search(second)
    between = README.partition(first)[2].partition(second)[0]
    assert "coloured\nshapes and digits, and nothing else" in between

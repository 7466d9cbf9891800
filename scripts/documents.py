"""The documents of the repository, and the blocks of code in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(?P<language>[^\n`]*)\n(?P<body>.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([\w./-]+\.(?:py|md|toml))`")


@dataclass(frozen=True)
class Block:
    """One block between fences.

    Attributes:
        language: the word behind the opening fence; empty, or in braces for a directive.
        body: the lines between the fences.
        files: paths of the files that it is the content of, named in backticks by the line above, which ends in a
            colon; other blocks have none.
        line: number of the opening fence, from 1.
    """

    language: str
    body: str
    files: tuple[str, ...]
    line: int


def documents() -> list[Path]:
    """README, CONTRIBUTING, the change log, all pages of docs/, the cards of the models, and the list of sweeps."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    pages = [path for path in sorted(ROOT.glob("docs/**/*.md")) if "_build" not in path.parts]
    return [*top, *pages, *sorted(ROOT.glob("models/*/README.md")), ROOT / "configs" / "README.md"]


def name_of(page: Path) -> str:
    """Path of a document from the root, with slashes."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[Block]:
    """Return every block of a document, in order."""
    for match in BLOCK.finditer(text):
        yield block_of(match)


def block_of(match: re.Match[str]) -> Block:
    """A match of `BLOCK` as a block."""
    before = match.string[: match.start()]
    above = before.rstrip().rpartition("\n")[2]
    files = tuple(_FILE.findall(above)) if above.endswith("`:") else ()
    return Block(match["language"], match["body"], files, before.count("\n") + 1)

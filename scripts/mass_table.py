"""Write the tables of the mass measurements from the committed result files, between markers.

    python scripts/mass_table.py

A table stands between `<!-- mass:WHAT -->` and `<!-- /mass -->` in any document or card of a method; what is between is
replaced. WHAT is `both/RATIO` (every method as published and with both levers), `alone/RATIO` (each lever alone),
`census` (against all tokens, the best as published, and others with both levers), `types/RATIO`, `strength`,
`positions`, `parts`, `compositions`, `claims` (what was claimed, and whether it holds), `full/COLUMN` (every cell of a
column such as tiny-next-image), `dose` (scripts/dose_response.py) or `origin` (seeds, commands, commits).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from documents import ROOT, documents, name_of
from shapes_accuracy.mass_tables import MARK, fill

CARDS = ROOT / "vidcompress" / "methods" / "cards"


def pages() -> list[Path]:
    """The documents and cards that hold marked tables."""
    every = [*documents(), *sorted(CARDS.glob("*.md"))]
    return [page for page in every if MARK.search(page.read_text(encoding="utf-8"))]


def main(
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = ROOT / "docs/results/mass",
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if a page is out of date.")
    ] = False,
) -> None:
    """Fill the tables of all documents and cards."""
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        new = fill(text, results)
        if new != text:
            stale.append(name_of(page))
            if not check:
                page.write_text(new, encoding="utf-8")
    print(f"{'out of date' if check else 'updated'}: {', '.join(stale) or 'nothing'}")
    raise typer.Exit(int(check and bool(stale)))


if __name__ == "__main__":
    typer.run(main)

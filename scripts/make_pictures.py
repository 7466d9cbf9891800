"""Draw the pictures of the README and the docs into docs/pictures/, each from a run of an embedded model on the CPU.

    python scripts/make_pictures.py

Beside them pictures.json says what each one shows: the question, the counts, the answers, the kept tokens as a mask,
and the digest of the file; with command, commit and versions of the run. A run that draws the same pictures leaves it
as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pictures import allocation, clip, hero
from vidcompress.cli.library_output import quiet
from vidcompress.tools.runs.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
RECORD = "pictures.json"
PICTURES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "hero.png": hero.draw,
    "clip.gif": clip.draw,
    "allocation.png": allocation.draw,
}
MOST_BYTES = {".png": 150_000, ".gif": 400_000}


def draw_all(folder: Path) -> dict[str, dict[str, Any]]:
    """Draw every picture into a folder and return what each one shows, with its size and digest.

    Raises:
        ValueError: a file is larger than `MOST_BYTES` allows.
    """
    shown = {}
    for name, draw in PICTURES.items():
        path = folder / name
        facts = draw(path)
        content = path.read_bytes()
        if len(content) > MOST_BYTES[path.suffix]:
            raise ValueError(
                f"{name} has {len(content)} bytes, allowed are {MOST_BYTES[path.suffix]}: use fewer colours"
            )
        shown[name] = {**facts, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return shown


def main(arguments: list[str] | None = None) -> None:
    """Draw the pictures and write the record where they changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the pictures and the record")
    folder: Path = parser.parse_args(arguments).out
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD
    before = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    origin = provenance()  # before the pictures change, which makes a checkout dirty
    with quiet():
        shown = draw_all(folder)
    if shown != before.get("pictures"):
        entry = {"provenance": origin, "pictures": shown}
        record.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    for name, facts in shown.items():
        print(f"{name}: {facts['bytes']} bytes; {'; '.join(facts['captions'])}")


if __name__ == "__main__":
    main()

"""Judge the generic adapter over every class of the installed transformers that takes encoder outputs.

    python scripts/judge_classes.py                  # writes vidcompress/adapters/generic/classes.json
    python scripts/judge_classes.py --only gemma     # print some of them

Each class is made at toy size from its default config, with random weights. Served is a medium whose logits are equal
to the bit with everything kept, whose language model gets equal numbers at surviving columns with a quarter kept, and
whose wrong order, wrong positions, empty companions and token types of zeros are noticed. The exit code is 1 when
anything was wrong without a refusal.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import transformers
import typer

from classes.judge import Verdict, judge_class
from classes.listing import taking_classes
from vidcompress.progress import counting_bar
from vidcompress.tools.runs.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "vidcompress/adapters/generic/classes.json"


def verdicts(only: str = "") -> list[Verdict]:
    """Verdicts on all classes, or on those whose name contains one of some words."""
    words = [word.strip().lower() for word in only.split(",") if word.strip()]
    chosen = {
        name: cls
        for name, cls in taking_classes().items()
        if not words or any(word in name.lower() for word in words)
    }
    found = []
    with counting_bar() as bar:
        task = bar.add_task("classes", total=len(chosen))
        for name, cls in chosen.items():
            found.append(judge_class(name, cls))
            bar.advance(task)
    return found


def main(
    only: Annotated[str, typer.Option(help="Words with commas between them; nothing is written then.")] = "",
    out: Annotated[Path, typer.Option(help="Result file.")] = FILE,
) -> None:
    """Judge the classes, print what is served and why others are not, and write the result file."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    found = verdicts(only)
    for one in found:
        print(
            f"{one.name}: {' and '.join(one.served) or one.reason}{''.join(f'; WRONG: {w}' for w in one.wrong)}"
        )
    served = sum(bool(one.served) for one in found)
    print(f"{served} of {len(found)} classes are served with transformers {transformers.__version__}")
    if not only:
        entry = {"classes": [asdict(one) for one in found], "provenance": provenance()}
        out.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if any(one.wrong for one in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)

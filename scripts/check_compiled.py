"""Check of models compiled by torch.compile with inductor, and of a static cache, against the ordinary answers.

    python scripts/check_compiled.py --json docs/results/compiled.json

On the CPU this needs a C++ compiler and minutes, so no test does it; `tests/contract/test_compiled.py` traces the same
graphs without inductor. Every embedded model is asked about pictures of several sizes and budgets, alone and several
at once, with the growing cache and a static one, first as it is and then compiled. Stated are the answers that differ
(none should), the graphs that were compiled, and how long the calls took: the first with compiling (by the clock, since
other processes compile), then again and as it is (in this process). The exit code is 1 where an answer differs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vidcompress import VisualQA
from vidcompress.table import Table, terminal_width
from vidcompress.tools.runs.provenance import provenance

QUESTIONS = ("what digit is shown?", "how many objects are there?", "which shape is left of the digit?")
SIZES = ((192, 192), (260, 140), (120, 300))
RATIOS = (0.5, 0.25, 0.1)
CACHES: dict[str, dict[str, Any]] = {"growing": {}, "static": {"cache_implementation": "static"}}
SCENE = Path(__file__).resolve().parent.parent / "examples" / "scene.png"


def pictures() -> list[Image.Image]:
    """One scene in several shapes, so that prompts are of several lengths."""
    with Image.open(SCENE) as scene:
        return [scene.convert("RGB").resize(size) for size in SIZES]


def answers(qa: VisualQA, cache: str, batch: int) -> list[str]:
    """Answers to every question about every picture at every ratio, `batch` at a time."""
    items = [{"question": q, "image": picture} for q, picture in zip(QUESTIONS, pictures(), strict=True)]
    texts = []
    for ratio in RATIOS:
        made = qa.using(retention_ratio=ratio).ask_batch(
            items, batch_size=batch, max_new_tokens=6, progress=False, **CACHES[cache]
        )
        texts += [answer.text for answer in made]
    return texts


def graphs() -> int:
    """How many graphs were compiled so far."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def measure(name: str, batches: Sequence[int]) -> Iterator[dict[str, Any]]:
    """All cases of one model: each as it is, compiled for the first time, and compiled once more."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    plain = VisualQA.from_pretrained(name, device="cpu")
    fast = VisualQA.from_pretrained(name, device="cpu", compile=True)
    for cache in CACHES:
        for batch in batches:
            expected = answers(plain, cache, batch)
            case: dict[str, Any] = {"model": name, "cache": cache, "batch": batch, "asked": len(expected)}
            for run in ("first", "again"):
                before, start, busy = graphs(), time.perf_counter(), time.process_time()
                found = answers(fast, cache, batch)
                case[run] = {
                    "seconds": round(time.perf_counter() - start, 2),
                    "busy_here": round(time.process_time() - busy, 2),
                    "graphs": graphs() - before,
                    "differ": sum(one != other for one, other in zip(expected, found, strict=True)),
                }
            start = time.process_time()
            answers(plain, cache, batch)
            case["ordinary_busy"] = round(time.process_time() - start, 2)
            case["graph_breaks"] = sum(counters["graph_break"].values())
            yield case


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["tiny-onevision", "tiny-next"])
    parser.add_argument(
        "--batches", nargs="+", type=int, default=[1, len(QUESTIONS)], help="questions at a time"
    )
    parser.add_argument("--json", type=Path, help="write the results here")
    given = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    source = provenance()  # as of the start: the file written below would count as a local change
    with tempfile.TemporaryDirectory() as folder:  # nothing compiled earlier
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        cases: list[dict[str, Any]] = []
        for name in given.models:
            for case in measure(name, given.batches):
                cases.append(case)
                if given.json:  # after every case, for they take minutes
                    found = {"provenance": source, "cases": cases}
                    given.json.write_text(json.dumps(found, indent=1) + "\n")
    head = ["model", "cache", "batch", "answers", "differ", "graphs", "first", "again", "ordinary"]
    lines = []
    for case in cases:
        first, again = case["first"], case["again"]
        line = [
            *(str(case[key]) for key in ("model", "cache", "batch", "asked")),
            str(first["differ"] + again["differ"]),
            f"{first['graphs']} + {again['graphs']}",
            f"{first['seconds']} s",
            f"{again['busy_here']} s",
            f"{case['ordinary_busy']} s",
        ]
        lines.append(line)
    print(Table.of_lines(head, lines, keys=2).text(terminal_width()))
    sys.exit(any(case[run]["differ"] for case in cases for run in ("first", "again")))


if __name__ == "__main__":
    main()

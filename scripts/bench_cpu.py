"""Benchmark on the CPU: random models of LLaVA-OneVision-0.5B's shape with few layers, an image and a clip.

    python scripts/bench_cpu.py                    # or `make bench`; writes docs/results/bench_cpu.json
    python scripts/bench_cpu.py --minutes 9        # as much as that; the same command goes on

Every case is one run of `vidcompress bench` in which the compressed rows and the uncompressed one take turns; what
was measured is in runs/bench/*.jsonl, so that a killed run resumes. The checks: at least 85 % of the speed-up of the
first token that the operations allow at 0.25 and 75 % at 0.1, and memory above weights and pixels that falls at least
as caches and activations predict, within 10 %. The embedded 3M model is reported, not judged.

The real model has 26 encoder and 24 decoder layers, and its encoder takes most of the time to the first token. With two
and four layers the decoder takes most of it, so that there is something to save and less to hide behind.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from bench.checks import OF_ALLOWED, check_rows
from vidcompress.progress import measurement_progress
from vidcompress.table import Table, terminal_width
from vidcompress.tools.benchmark import BenchPlan, run_bench, summarise
from vidcompress.tools.benchmark.table import render
from vidcompress.tools.runs.provenance import provenance

SHAPE = {"geometry": "llava-onevision-0.5b", "encoder_layers": 2, "decoder_layers": 4}
METHODS = {"image": "globalcom2,globalcom2+pdrop", "video": "globalcom2,vidcom2"}


def plans(rounds: int, warmup: int, tiny: bool, side: tuple[int, int], frames: int) -> dict[str, BenchPlan]:
    """The cases: image and clip of the cut 0.5B shape, and the embedded model."""
    shape: dict[str, Any] = {**SHAPE, "scale": "tiny"} if tiny else SHAPE
    common: dict[str, Any] = {"rounds": rounds, "warmup": warmup, "new_tokens": [4], "device": "cpu"}
    return {
        "image": BenchPlan(**shape, sizes=[side], methods=METHODS["image"], **common),
        "video": BenchPlan(**shape, frames=[frames], methods=METHODS["video"], **common),
        "embedded": BenchPlan(
            model="tiny-onevision", sizes=[(640, 480)], frames=[8], methods="globalcom2,stock", **common
        ),
    }


KEYS = ("fast", "fast_when_alone", "small")
"""Checks of every row."""


def settled(cases: dict[str, Any], checks: dict[str, Any]) -> dict[str, bool]:
    """Whether all expected rows were measured and pass, by check."""
    every = [row for checked in checks.values() for row in checked]
    expected = sum(
        row["retention_ratio"] in OF_ALLOWED
        for name, found in cases.items()
        if name != "embedded"
        for group in found["groups"]
        for row in group["rows"]
    )
    return {key: len(every) == expected > 0 and all(row.get(key, False) for row in every) for key in KEYS}


def table(found: list[dict[str, Any]]) -> Table:
    """Table of the checks."""
    columns = (
        "method",
        "budget",
        "speed-up",
        "of processor time",
        "allowed",
        "reached",
        "wanted",
        "memory",
        "predicted",
        "",
    )
    lines = []
    for v in found:
        fine = (v.get("fast") or v.get("fast_when_alone")) and v.get("small")
        speed, allowed = v["speed_up"], v.get("allowed")
        line = [
            v["method"],
            f"{v['retention_ratio']:g}",
            f"{speed['min']:.2f} x",
            f"{speed['busy']:.2f} x",
            f"{allowed:.2f} x" if allowed else "",
            f"{100 * v['of_allowed']['min']:.0f} %" if allowed else "",
            f"{100 * v['wanted']:.0f} %" if allowed else "",
            f"{100 * v['prefill_memory']:.0f} %" if "prefill_memory" in v else "",
            f"{100 * v['prefill_predicted']:.0f} %" if "prefill_memory" in v else "",
            "" if fine else "missed",
        ]
        lines.append(line)
    return Table.of_lines(columns, lines, keys=2)


def main() -> None:
    """Run what is missing, print, write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed runs per row (default 5)")
    parser.add_argument("--warmup", type=int, default=1, help="runs per row before these (default 1)")
    parser.add_argument("--width", type=int, default=768, help="of the image, pixels (default 768)")
    parser.add_argument("--height", type=int, default=384, help="of the image, pixels (default 384)")
    parser.add_argument("--frames", type=int, default=8, help="of the clip (default 8)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument("--minutes", type=float, help="stop in time; the same command goes on")
    parser.add_argument(
        "--scale", choices=("full", "tiny"), default="full", help="tiny: to try this script out"
    )
    parser.add_argument("--journals", type=Path, default=Path("runs/bench"), help="folder of the journals")
    parser.add_argument("--json", type=Path, default=Path("docs/results/bench_cpu.json"), help="result file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    side = (args.width, args.height)
    cases = plans(args.rounds, args.warmup, args.scale == "tiny", side, args.frames)
    source, begun = provenance(), time.perf_counter()
    result: dict[str, Any] = {"cases": {}, "verdicts": {}, "provenance": source}
    complete = True
    for name, plan in cases.items():
        left = None if args.minutes is None else args.minutes * 60 - (time.perf_counter() - begun)
        journal = args.journals / f"cpu-{args.scale}-{name}.jsonl"
        with measurement_progress() as on_step:
            found = summarise(run_bench(plan, journal=journal, seconds=left, on_step=on_step))
        complete &= found["complete"]
        result["cases"][name] = found
        result["verdicts"][name] = checks = [] if name == "embedded" else check_rows(found)
        print(render(found))
        print(table(checks).text(terminal_width()))
    if not complete:
        raise SystemExit("not everything was measured; the same command goes on")
    result |= settled(result["cases"], result["verdicts"])
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(result) + "\n")
    met = {key: "met" if result[key] else "NOT MET" for key in KEYS}
    print(
        f"time: {met['fast']}, in processor time: {met['fast_when_alone']}, memory: {met['small']}; wrote {args.json}"
    )


if __name__ == "__main__":
    main()

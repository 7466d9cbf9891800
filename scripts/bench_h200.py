"""The table of a large GPU: LLaVA-NeXT-7B, LLaVA-OneVision-7B and LLaVA-Video-7B, bfloat16, random weights.

    python scripts/bench_h200.py                     # or `make bench-gpu`; again until it says that all is measured
    python scripts/bench_h200.py --scale tiny        # the same on a CPU with toy widths, to try the script out

Each call stops after 9 minutes (`--minutes`) and the next one goes on: what was measured is in the journals of
`--journals`, a file per model. Once all is there, docs/results/bench_h200.json holds everything and the tables and aims
are printed; with `--part NAME` one model is measured alone. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vidcompress.bench import BenchPlan, run_bench, summarise
from vidcompress.bench.aims import HEADLINE, aims
from vidcompress.bench.plot import draw
from vidcompress.bench.progress import bar
from vidcompress.bench.table import render
from vidcompress.evaluate.provenance import provenance

INPUTS: dict[str, dict[str, Any]] = {
    "llava-next-7b": {"sizes": [(672, 672)]},
    "llava-onevision-7b": {"frames": [32, 128]},
    "llava-video-7b": {"frames": [64]},
}
METHODS = {"sizes": "stock,globalcom2,fastervlm,fastv", "frames": "stock,globalcom2,vidcom2,fastervlm,fastv"}


def plans(scale: str, rounds: int) -> dict[str, BenchPlan]:
    """One run per model."""
    cut: dict[str, Any] = {"device": "cuda", "dtype": "bfloat16"}
    if scale == "tiny":
        cut = {
            "device": "cpu",
            "dtype": "float32",
            "scale": "tiny",
            "encoder_layers": 2,
            "decoder_layers": 16,
        }
    return {
        name: BenchPlan(
            geometry=name,
            **inputs,
            **cut,
            methods=METHODS[next(iter(inputs))],
            retention_ratios=[0.25, 0.1],
            batch_sizes=[1, 8],
            new_tokens=[1, 16] if scale == "full" else [1, 3],
            rounds=rounds,
        )
        for name, inputs in INPUTS.items()
    }


def table(found: list[dict[str, Any]]) -> Table:
    """The aims."""
    out = Table("input", "method", "budget", "aim", "wanted", "found", "", box=None)
    for entry in found:
        out.add_row(
            entry["group"],
            entry["method"],
            f"{entry['retention_ratio']:g}",
            entry["aim"],
            entry["wanted"],
            f"{entry['found']:.3g}",
            "" if entry["met"] else "missed",
        )
    return out


def main() -> None:
    """Measure what is missing for as long as there is time; print and write once all is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scale", choices=("full", "tiny"), default="full", help="tiny: toy widths, on the CPU"
    )
    parser.add_argument("--part", choices=list(INPUTS), action="append", help="only this model; repeatable")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs per row (default 3)")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call (default 9)")
    parser.add_argument("--journals", type=Path, default=Path("runs/bench"), help="folder of the journals")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results"), help="folder of the result and the plots"
    )
    args = parser.parse_args()
    if args.scale == "full" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --scale tiny tries this script out on the CPU")
    source, begun, console = provenance(), time.perf_counter(), Console(width=150)
    runs: dict[str, Any] = {}
    for name, plan in plans(args.scale, args.rounds).items():
        if args.part is not None and name not in args.part:
            continue
        left = args.minutes * 60 - (time.perf_counter() - begun)
        journal = args.journals / f"h200-{args.scale}-{name}.jsonl"
        with bar() as on_step:
            runs[name] = summarise(run_bench(plan, journal=journal, seconds=left, on_step=on_step))
        print(render(runs[name]))
        if args.scale == "full":
            torch.cuda.empty_cache()
        if not runs[name]["complete"]:
            raise SystemExit(f"{name}: time is up; the same command goes on")
    found = {name: aims(result) for name, result in runs.items()}
    for entries in found.values():
        console.print(table(entries))
    console.print(f"published: {HEADLINE}", highlight=False)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, result in runs.items():
        draw(result, args.out / f"bench_h200-{name}.png")
    result = {"headline": HEADLINE, "scale": args.scale, "runs": runs, "aims": found, "provenance": source}
    (args.out / "bench_h200.json").write_text(json.dumps(result) + "\n")
    print(f"all is measured; wrote {args.out / 'bench_h200.json'}")


if __name__ == "__main__":
    main()

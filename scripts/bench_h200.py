"""Benchmark on a large GPU: LLaVA-NeXT-7B, LLaVA-OneVision-7B and LLaVA-Video-7B, bfloat16, random weights.

    python scripts/bench_h200.py                     # or `make bench-gpu`; again until it says that all is measured
    python scripts/bench_h200.py --scale tiny        # the same on a CPU with toy widths, to try the script out

Each call stops after 9 minutes (`--minutes`) and the next one goes on: what was measured is in the journals of
`--journals`, a file per part. At half of the peak of an H200 all take a quarter of an hour; those worth most come
first. Every call prints tables and aims and writes what there is so far to docs/results/bench_h200.json (of toys to
bench_h200-tiny.json); with `--part NAME` one part is measured alone, and the others stay in the file as they are. Rows
for which memory does not suffice say so, and the others go on. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from bench.targets import HEADLINE, check_targets
from vidcompress.progress import measurement_progress
from vidcompress.table import Table, terminal_width
from vidcompress.tools.benchmark import BenchPlan, run_bench, summarise
from vidcompress.tools.benchmark.plot import draw_panels
from vidcompress.tools.benchmark.table import render
from vidcompress.tools.runs.provenance import provenance

PARTS: dict[str, dict[str, Any]] = {
    "llava-next-7b": {"geometry": "llava-next-7b", "sizes": [(672, 672)]},
    "llava-onevision-7b": {"geometry": "llava-onevision-7b", "frames": [32]},
    "llava-video-7b": {"geometry": "llava-video-7b", "frames": [64]},
    "llava-onevision-7b-128": {"geometry": "llava-onevision-7b", "frames": [128]},
}
"""What is measured, in this order: the longest clips take half of the time and most of the memory."""
METHODS = {"sizes": "stock,globalcom2,fastervlm,fastv", "frames": "stock,globalcom2,vidcom2,fastervlm,fastv"}
TIME_IS_UP = 60.0
"""Seconds below which making a model is not worth it."""


def plans(scale: str, rounds: int) -> dict[str, BenchPlan]:
    """One run per part."""
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
            **part,
            **cut,
            methods=METHODS["sizes" if "sizes" in part else "frames"],
            retention_ratios=[0.25, 0.1],
            batch_sizes=[1, 8],
            new_tokens=[1, 16] if scale == "full" else [1, 3],
            rounds=rounds,
        )
        for name, part in PARTS.items()
    }


def table(found: list[dict[str, Any]]) -> Table:
    """Table of the targets."""
    lines = [
        [
            entry["group"],
            entry["method"],
            f"{entry['retention_ratio']:g}",
            entry["aim"],
            entry["wanted"],
            f"{entry['found']:.3g}",
            "" if entry["met"] else "missed",
        ]
        for entry in found
    ]
    head = ("input", "method", "budget", "aim", "wanted", "found", "")
    return Table.of_lines(head, lines, keys=2, words=("aim", "wanted"))


def main() -> None:
    """Measure what is missing for as long as there is time; write and print what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scale", choices=("full", "tiny"), default="full", help="tiny: toy widths, on the CPU"
    )
    parser.add_argument("--part", choices=list(PARTS), action="append", help="only this one; repeatable")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs per row (default 3)")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call (default 9)")
    parser.add_argument("--journals", type=Path, default=Path("runs/bench"), help="folder of the journals")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results"), help="folder of the result and the plots"
    )
    args = parser.parse_args()
    if args.scale == "full" and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --scale tiny tries this script out on the CPU")
    source, begun = provenance(), time.perf_counter()
    path = args.out / f"bench_h200{'' if args.scale == 'full' else '-tiny'}.json"
    runs, wanted = earlier(path), args.part or list(PARTS)
    for name, plan in plans(args.scale, args.rounds).items():
        left = args.minutes * 60 - (time.perf_counter() - begun)
        if name not in wanted or left < min(TIME_IS_UP, args.minutes * 30):
            continue
        if not measured(runs.get(name), plan, source):
            journal = args.journals / f"h200-{args.scale}-{name}.jsonl"
            with measurement_progress() as on_step:
                runs[name] = summarise(run_bench(plan, journal=journal, seconds=left, on_step=on_step))
            write(path, {name: runs[name] for name in PARTS if name in runs}, args.scale, source)
            if runs[name]["complete"]:
                draw_panels(runs[name], path.with_name(f"{path.stem}-{name}.png"))
        print(render(runs[name]))
        if args.scale == "full":
            torch.cuda.empty_cache()
    for name in PARTS:
        if name in runs:
            print(table(check_targets(runs[name])).text(terminal_width()))
    print(f"published, of {HEADLINE['model']}: {published()}")
    missing = {name: name in wanted for name in PARTS if not runs.get(name, {}).get("complete")}
    if any(missing.values()):
        raise SystemExit(
            f"{', '.join(n for n in missing if missing[n])}: time is up; the same command goes on"
        )
    rest = f"; not measured yet: {', '.join(missing)}" if missing else "; all is measured"
    print(f"{path} is written{rest}")


def earlier(path: Path) -> dict[str, Any]:
    """The parts that other calls measured; each says itself at which commit and where."""
    try:
        runs: dict[str, Any] = json.loads(path.read_text())["runs"] if path.exists() else {}
    except (ValueError, TypeError, KeyError) as error:
        raise SystemExit(
            f"{path} is damaged ({error}); delete it, what was measured is in the journals"
        ) from error
    return runs


def measured(run: dict[str, Any] | None, plan: BenchPlan, source: dict[str, Any]) -> bool:
    """Whether an earlier call has all of a part, at this commit and on such a device: its journal may be gone."""
    if run is None or not run["complete"] or run["plan"] != json.loads(json.dumps(plan.to_dict())):
        return False
    return all(run["provenance"][key] == source[key] for key in ("commit", "device", "versions"))


def write(path: Path, runs: dict[str, Any], scale: str, source: dict[str, Any]) -> None:
    """Results so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    complete = all(name in runs and runs[name]["complete"] for name in PARTS)
    targets = {name: check_targets(result) for name, result in runs.items()}
    result = {"headline": HEADLINE, "scale": scale, "complete": complete, "runs": runs, "aims": targets}
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**result, "provenance": source}) + "\n")
    part.replace(path)  # a kill leaves the one before


def published() -> str:
    """The headline figures as text."""
    units = {"tflops": "TFLOPs", "gigabytes": "GB", "samples_per_s": "samples/s"}
    return ", ".join(f"{HEADLINE[key][0]} to {HEADLINE[key][1]} {unit}" for key, unit in units.items())


if __name__ == "__main__":
    main()

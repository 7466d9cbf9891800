"""Benchmark of time and memory by input length: clips of 8 to 512 frames, pictures of 1 to 36 crops (9).

    python scripts/bench_length.py                           # the embedded model: minutes
    python scripts/bench_length.py --geometry llava-onevision-0.5b --no-baseline    # 2 encoder layers, 1 decoder layer

Writes docs/results/length.json and length.png (with a geometry length-GEOMETRY.*). Runs resume from runs/bench/*.jsonl;
`--minutes 9` stops in time. The embedded model cuts a picture into 9 crops at most, the geometry into 36. The
uncompressed model's prefill is quadratic; that is one more reason to compress.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from bench.growth import draw_growth, growth
from vidcompress.progress import measurement_progress
from vidcompress.tools.benchmark import BenchPlan, run_bench, summarise
from vidcompress.tools.benchmark.models import depth
from vidcompress.tools.benchmark.table import render

FRAMES = (8, 16, 32, 64, 128, 256, 512)
CROPS = (1, 2, 3, 4, 5, 6)
"""Crops along each side of a picture."""
QUANTITIES = ("first token, ms", "first token, processor ms", "compress, ms", "peak, MiB")


def make_plan(args: argparse.Namespace) -> BenchPlan:
    """One workload per length."""
    model: dict[str, Any] = {"model": "tiny-onevision"}
    side, most = 112, 3  # its canvases end at 3 x 3
    if args.geometry is not None:
        model = {"geometry": args.geometry, "encoder_layers": 2, "decoder_layers": 1, "scale": args.scale}
        side, most = 384, 6
    return BenchPlan(
        **model,
        frames=[n for n in FRAMES if n <= args.longest],
        sizes=[(side * n, side * n) for n in CROPS if n <= most and n * n <= args.longest],
        methods="globalcom2",
        retention_ratios=[0.1],
        baseline=not args.no_baseline,
        rounds=args.rounds,
        new_tokens=[2],
        device="cpu",
    )


def main() -> None:
    """Run what is missing, fit, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--geometry", help="a named shape with random weights instead of the embedded model")
    parser.add_argument("--scale", choices=("full", "tiny"), default="full", help="of the geometry")
    parser.add_argument("--no-baseline", action="store_true", help="leave the uncompressed model out")
    parser.add_argument("--longest", type=int, default=512, help="most frames and crops (default 512)")
    parser.add_argument("--rounds", type=int, default=3, help="timed runs per row (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument("--minutes", type=float, help="stop in time; the same command goes on")
    parser.add_argument("--journals", type=Path, default=Path("runs/bench"), help="folder of the journals")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results"), help="folder of length.json and length.png"
    )
    parser.add_argument("--draw-only", action="store_true", help="draw the result that is there once more")
    args = parser.parse_args()
    name = "length" if args.geometry is None else f"length-{args.geometry}"
    if args.draw_only:
        result = json.loads((args.out / f"{name}.json").read_text())
        draw(result, result["growth"], args.geometry, args.out / f"{name}.png")
        return
    torch.set_num_threads(args.threads)
    plan = make_plan(args)
    with measurement_progress() as on_step:
        result = summarise(
            run_bench(
                plan,
                journal=args.journals / f"{name}-{args.scale}.jsonl",
                seconds=None if args.minutes is None else args.minutes * 60,
                on_step=on_step,
            )
        )
    print(render(result))
    if not result["complete"]:
        raise SystemExit("not everything was measured; the same command goes on")
    found = growth(result)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(result, found, args.geometry, args.out / f"{name}.png")
    for modality, quantities in found.items():
        for quantity in QUANTITIES:
            for row, curve in quantities.get(quantity, {}).items():
                print(
                    f"{modality}: {quantity} of {row}: exponent {curve['exponent']:.2f}, R2 {curve['r2']:.4f}"
                )
    text = json.dumps({**result, "growth": found}) + "\n"
    (args.out / f"{name}.json").write_text(text)
    print(f"wrote {args.out / name}.json and .png")


def draw(result: dict[str, Any], found: dict[str, Any], geometry: str | None, path: Path) -> None:
    """Draw the fits of a result."""
    title = f"{geometry or 'tiny-onevision'}: {depth(result['model'])}, {result['model']['dtype']}, CPU"
    draw_growth(found, path, QUANTITIES, title)


if __name__ == "__main__":
    main()

"""Profile of one answer: time by phase and by function, and the effect of a change on it.

    python scripts/profile_path.py --json docs/results/profile_path.json
    python scripts/profile_path.py --against ../older-checkout --json docs/results/profile_path.json

Random models of real width with few layers (`CASES` says how many), and the embedded tiny-onevision with a picture and
a clip from files. With `--against` every case runs in two processes, one per checkout, in turns, and ratios are of
medians of the same run: above 1 this checkout is faster. `--functions` and `--copies` list, for this checkout, the
functions with most time of their own and the bytes that copying operations write in one run. `--clock cpu` counts the
processor time of the process instead of wall time, which on a machine that others use measures the others.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("decode", "preprocess", "encode", "compress", "splice", "prefill", "generate")
ONEVISION = {"family": "llava_onevision", "encoder": 2, "decoder": 2}
NEXT = {"family": "llava_next", "encoder": 3, "decoder": 1}
CASES: dict[str, dict[str, Any]] = {
    "onevision-0.5b image": {**ONEVISION, "image": (768, 768), "method": "globalcom2", "ratio": 0.25},
    "onevision-0.5b clip": {**ONEVISION, "frames": 8, "method": "vidcom2", "ratio": 0.25},
    "next-7b image, fastervlm": {**NEXT, "image": (672, 672), "method": "fastervlm", "ratio": 0.1},
    "next-7b image, globalcom2": {**NEXT, "image": (672, 672), "method": "globalcom2", "ratio": 0.1},
    "next-7b image, all of the encoder": {
        **NEXT,
        "encoder": 24,
        "image": (672, 672),
        "method": "fastervlm",
        "ratio": 0.1,
    },
    "tiny, 8 pictures": {
        "tiny": "tiny-next",
        "image": (300, 500),
        "batch": 8,
        "method": "globalcom2",
        "ratio": 0.25,
    },
    "tiny, 8 pictures, fastervlm": {
        "tiny": "tiny-next",
        "image": (300, 500),
        "batch": 8,
        "method": "fastervlm",
        "ratio": 0.25,
    },
    "tiny, 8 clips": {"tiny": "tiny-onevision", "frames": 8, "batch": 8, "method": "vidcom2", "ratio": 0.25},
    "embedded ask image": {"ask": "image", "method": "globalcom2", "ratio": 0.25},
    "embedded ask clip": {"ask": "video", "method": "globalcom2", "ratio": 0.25},
}
"""What is run: a random model and how many of its layers, or an embedded one, and what it is given."""
COPYING = frozenset(
    "clone copy_ _to_copy cat stack index index_select index_copy_ gather constant_pad_nd contiguous repeat".split()
)


def build(case: dict[str, Any]) -> Any:
    """A random float32 model, as wide as LLaVA-OneVision-0.5B or LLaVA-NeXT-7B, with few layers."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    torch.manual_seed(0)
    vision = {"patch_size": 14, "num_hidden_layers": case["encoder"], "num_attention_heads": 16}
    text = {"num_hidden_layers": case["decoder"], "vocab_size": 2000, "pad_token_id": 0}
    if case["family"] == "llava_next":
        config = LlavaNextConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=1024, intermediate_size=4096, image_size=336, **vision
            ),
            text_config=LlamaConfig(
                hidden_size=4096, intermediate_size=11008, num_attention_heads=32, **text
            ),
            image_grid_pinpoints=[[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
            image_token_id=1990,
        )
        return LlavaNextForConditionalGeneration(config).eval()
    wide = {"hidden_size": 1152, "intermediate_size": 4304, "image_size": 384, "vision_use_head": False}
    heads = {"num_attention_heads": 14, "num_key_value_heads": 2}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**wide, **vision),
        text_config=Qwen2Config(hidden_size=896, intermediate_size=4864, **heads, **text),
        image_token_id=1990,
        video_token_id=1991,
    )
    return LlavaOnevisionForConditionalGeneration(config).eval()


def inputs_of(model: Any, case: dict[str, Any]) -> dict[str, Any]:
    """What a processor would make: random pixels, placeholders and forty words of text, `batch` rows of them."""
    import torch

    from vidcompress.adapters.base import adapter_for

    adapter, rows = adapter_for(model), case.get("batch", 1)
    side = int(model.config.vision_config.image_size)
    if "frames" in case:
        pixels = torch.randn(rows, case["frames"], 3, side, side)
        made: dict[str, Any] = {"pixel_values_videos": pixels}
        length, token = len(adapter.visuals(made)[1][0].layout), adapter.video_token_id
    else:
        layout = adapter.image_layout(case["image"], False, "cpu")
        pixels = torch.randn(rows, len(layout.views), 3, side, side)
        made = {"pixel_values": pixels, "image_sizes": torch.tensor([case["image"]] * rows)}
        length, token = len(layout), adapter.image_token_id
    word = next(n for n in range(20, 30) if n not in (adapter.image_token_id, adapter.video_token_id))
    row = torch.cat((torch.full((10,), word), torch.full((length,), token), torch.full((30,), word)))
    return {
        "input_ids": row.expand(rows, -1).clone(),
        "attention_mask": torch.ones(rows, len(row)).long(),
        **made,
    }


def path_of(case: dict[str, Any]) -> Callable[[], dict[str, float]]:
    """A function that runs a case once and returns milliseconds per phase."""
    import torch

    import vidcompress

    budget = {"method": case["method"], "retention_ratio": case["ratio"]}
    if "ask" in case:
        qa = vidcompress.VisualQA.from_pretrained(**budget)
        file = ROOT / "examples" / {"image": "scene.png", "video": "clip.mp4"}[case["ask"]]

        def ask() -> dict[str, float]:
            timing = qa.ask("what digit is shown?", **{case["ask"]: str(file)}).timing_ms
            return {phase: timing.get(phase, 0.0) for phase in PHASES}

        return ask
    if "tiny" in case:
        from vidcompress.loading.load import load_model

        model = load_model(case["tiny"], device="cpu")
    else:
        model = build(case)
    inputs = inputs_of(model, case)

    def run() -> dict[str, float]:
        with torch.inference_mode():
            start = time.perf_counter()
            short = vidcompress.compress_inputs(model, inputs, **budget)
            made = time.perf_counter()
            model(**short, logits_to_keep=1)
            done = time.perf_counter()
        timing = dict(short.report.timing_ms)
        splice = (made - start) * 1e3 - sum(timing.values())
        return {**timing, "splice": splice, "prefill": (done - made) * 1e3}

    return run


def serve(case: dict[str, Any], threads: int, clock: str) -> None:
    """Run a case once for every line on stdin and print the phases as JSON."""
    import torch

    torch.set_num_threads(threads)
    if clock == "cpu":
        time.perf_counter = time.process_time
    run = path_of(case)
    for line in sys.stdin:
        if line.strip() == "run":
            print(json.dumps(run()), flush=True)


class Worker:
    """A process that serves one case with the package of one checkout."""

    def __init__(self, checkout: Path, case: dict[str, Any], args: argparse.Namespace) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(args.threads)}
        options = ["--threads", str(args.threads), "--clock", args.clock]
        command = [sys.executable, __file__, "--serve", json.dumps(case), *options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=checkout,
        )

    def run(self) -> dict[str, float]:
        """One run: milliseconds per phase."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print("run", file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with {self.process.wait()}: {self.process.args}")
        return {phase: float(ms) for phase, ms in json.loads(line).items()}

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(checkouts: dict[str, Path], case: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Medians per phase and checkout, of runs in turns, after one that is not counted; and the ratios."""
    workers = {name: Worker(path, case, args) for name, path in checkouts.items()}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for number in range(args.repeats + 1):
        # There and back, so that a machine that grows slower or faster favours no one.
        for name, worker in list(workers.items())[:: 1 if number % 2 else -1]:
            found = worker.run()
            if number:
                times[name].append({**found, "all": sum(found.values())})
    for worker in workers.values():
        worker.close()
    rows = {
        name: {phase: statistics.median(run[phase] for run in runs) for phase in runs[0]}
        for name, runs in times.items()
    }
    made: dict[str, Any] = {"ms": {n: {p: round(ms, 3) for p, ms in row.items()} for n, row in rows.items()}}
    if "before" in rows:
        pairs = {phase: (rows["before"][phase], ms) for phase, ms in rows["now"].items()}
        made["before_over_now"] = {
            p: round(old / new, 3) for p, (old, new) in pairs.items() if min(old, new) > 0.02
        }
    return made


def functions(case: dict[str, Any], repeats: int, count: int) -> list[dict[str, Any]]:
    """Functions with most time of their own over some runs: name, share of all, calls per run."""
    run = path_of(case)
    run()
    profile = cProfile.Profile()
    for _ in range(repeats):
        profile.runcall(run)
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    rows = sorted(stats.items(), key=lambda entry: -entry[1][2])[:count]
    return [
        {
            "function": f"{Path(file).name}:{name}" if line else name,
            "share": round(own / total, 4),
            "calls": round(calls / repeats, 1),
        }
        for (file, line, name), (_, calls, own, _, _) in rows
    ]


def copies(case: dict[str, Any]) -> dict[str, int]:
    """Bytes that copying operations write in one run, by operation."""
    from torch.utils._python_dispatch import TorchDispatchMode

    written: Counter[str] = Counter()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            name = func.overloadpacket.__name__
            if name in COPYING and hasattr(out, "untyped_storage"):
                written[name] += out.numel() * out.element_size()
            return out

    run = path_of(case)
    run()
    with Watch():
        run()
    return dict(written.most_common())


def commit_of(checkout: Path) -> str:
    """The commit that is checked out there."""
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def show(name: str, found: dict[str, Any]) -> None:
    """Print the phases of a case."""
    from vidcompress.table import Table, terminal_width

    phases = [p for p in (*PHASES, "all") if any(row.get(p, 0) > 0.02 for row in found["ms"].values())]
    lines = []
    for who, row in found["ms"].items():
        lines.append([f"{who}, ms", *(f"{row[phase]:,.1f}" for phase in phases)])
        lines.append([f"{who}, share", *(f"{row[phase] / row['all']:.1%}" for phase in phases)])
    if "before_over_now" in found:
        ratios = found["before_over_now"]
        lines.append(["before / now", *(f"{ratios[p]:.2f}" if p in ratios else "" for p in phases)])
    print(Table.of_lines(["", *phases], lines, title=name).text(terminal_width()))
    for entry in found.get("functions", []):
        print(f"  {entry['share']:7.2%}  {entry['calls']:8.1f} calls  {entry['function']}")
    if "copies" in found:
        print("  copied, MB:", ", ".join(f"{op} {size / 1e6:.2f}" for op, size in found["copies"].items()))


def main() -> None:
    """Run the cases, print tables, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--against", type=Path, help="another checkout of this repository, measured in turns with it"
    )
    parser.add_argument("--repeats", type=int, default=7, help="counted runs (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="what is counted (default wall)"
    )
    parser.add_argument("--functions", type=int, default=0, help="how many functions to list (default 0)")
    parser.add_argument(
        "--copies", action="store_true", help="also count bytes that copying operations write"
    )
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument(
        "--add", action="store_true", help="keep the other cases of the file that --json names"
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(json.loads(args.serve), args.threads, args.clock)
        return
    from vidcompress.tools.runs.provenance import provenance

    source = provenance()
    checkouts = {"before": args.against.resolve()} if args.against else {}
    checkouts["now"] = ROOT
    results: dict[str, Any] = json.loads(args.json.read_text())["cases"] if args.add else {}
    commits = {name: commit_of(path) for name, path in checkouts.items()}
    for name in args.cases:
        case = CASES[name]
        found = results[name] = {"case": case, "repeats": args.repeats, "commits": commits}
        found |= measure(checkouts, case, args)
        if args.functions:
            found["functions"] = functions(case, 3, args.functions)
        if args.copies:
            found["copies"] = copies(case)
        show(name, found)
        if args.json:  # after every case, for those who stop it
            how = {"threads": args.threads, "clock": args.clock}
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps({**how, "cases": results, "provenance": source}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Benchmark of masses in attention: prefill and decoding with and without them, in turns, on this machine.

    python scripts/bench_mass.py --json docs/results/mass/cost.json

A random decoder of real width (Qwen2, 896 wide, as in LLaVA-OneVision 0.5B) with few layers takes one unpadded prompt,
then one token after another over its cache. With masses, every attention has its hook and every column a mass. Times
on a CPU are the processor's; the smallest of some rounds counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from vidcompress.adapters.traits import read_traits
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.llm_pruning.mass import MassHooks, MassPlan
from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.runs.provenance import provenance


def decoder(layers: int, device: str, dtype: torch.dtype) -> Any:
    """Return a random language model with the width of Qwen2-0.5B."""
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=1000,
        max_position_embeddings=32768,
        attn_implementation="sdpa",
    )
    return Qwen2ForCausalLM(config).eval().to(device, dtype)


@contextmanager
def masses(model: Any, columns: int) -> Iterator[None]:
    """Context in which every attention of the model weighs `columns` columns."""
    adapter = SimpleNamespace(model=model, decoder=model.model, traits=read_traits(model.model.layers))
    hooks = MassHooks(adapter)
    mass = torch.rand((1, columns), generator=torch.Generator().manual_seed(0)) * 9 + 1
    with hooks.attached(), hooks.armed(MassPlan(mass.to(model.device))):
        yield


def clock(device: str) -> float:
    """Return seconds: of the processor on a CPU, of the wall behind a device that has finished."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def once(model: Any, columns: int, steps: int, *, mass: bool) -> tuple[float, float]:
    """Return milliseconds of the prefill, and of one decoding step on average."""
    ids = torch.arange(columns, device=model.device)[None] % 1000
    device = model.device.type
    with torch.no_grad(), masses(model, columns) if mass else nullcontext():
        began = clock(device)
        cache = returned_cache(model(input_ids=ids, use_cache=True, logits_to_keep=1))
        prefill = clock(device) - began
        began = clock(device)
        for _ in range(steps):
            cache = returned_cache(model(input_ids=ids[:, :1], **{cache_name(): cache}, use_cache=True))
        return 1e3 * prefill, 1e3 * (clock(device) - began) / steps


def measure(model: Any, columns: int, steps: int, rounds: int, tick: Any) -> dict[str, Any]:
    """Return the smallest times with and without masses, taken in turns, and their ratios."""
    times: dict[str, list[tuple[float, float]]] = {"off": [], "on": []}
    for number in range(rounds + 1):
        for name in list(times)[:: 1 if number % 2 else -1]:
            taken = once(model, columns, steps, mass=name == "on")
            if number:
                times[name].append(taken)
        tick()
    row: dict[str, Any] = {"columns": columns}
    for index, what in enumerate(("prefill", "decode")):
        off, on = (min(pair[index] for pair in times[name]) for name in ("off", "on"))
        row |= {
            f"{what}_off_ms": round(off, 2),
            f"{what}_on_ms": round(on, 2),
            f"{what}_ratio": round(on / off, 3),
        }
    row["mask_mb"] = round(columns * columns * model.dtype.itemsize / 1e6, 1)
    return row


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--columns", type=int, nargs="+", default=[1300, 6000], help="lengths of the prompt")
    parser.add_argument("--layers", type=int, default=2, help="decoder layers (default 2)")
    parser.add_argument("--steps", type=int, default=16, help="decoding steps (default 16)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both, in turns (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where_from = provenance()
    dtype = torch.float32 if options.device == "cpu" else torch.bfloat16
    model = decoder(options.layers, options.device, dtype)
    with counting_bar() as bar:
        task = bar.add_task("with and without masses", total=len(options.columns) * (options.rounds + 1))
        rows = [
            measure(model, columns, options.steps, options.rounds, lambda: bar.update(task, advance=1))
            for columns in options.columns
        ]
    lines = [
        [
            f"{row['columns']:,}",
            *(
                f"{row[f'{what}_{key}']:.3g}"
                for what in ("prefill", "decode")
                for key in ("off_ms", "on_ms", "ratio")
            ),
            f"{row['mask_mb']:.1f}",
        ]
        for row in rows
    ]
    head = ["columns", "prefill off, ms", "on", "ratio", "step off, ms", "on", "ratio", "mask, MB"]
    print(Table.of_lines(head, lines).text(terminal_width()))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        settings = {
            name: getattr(options, name) for name in ("layers", "steps", "rounds", "threads", "device")
        }
        content = {"provenance": where_from, "settings": settings, "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How long compression itself takes: from evidence to gathered features, on this machine.

    python scripts/bench_select.py --threads 2 --json runs/bench_select.json

Every number is the median of `--repeats` runs. Next to each method stand a loop-style transcription of the same
formulas (what a straightforward port costs) and the encoder's own time for the same input, with random weights.
Layouts are made anew in every run, so nothing that a cache would hide is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from attention_loops import LOOPS, attention_image
from bench_loops import loop_cdpruner, loop_divprune, loop_dycoke, loop_evs, loop_fastvid
from vidcompress.adapters.geometry import image_layout, video_layout
from vidcompress.budget import Budget, make_plan
from vidcompress.evaluate.provenance import provenance
from vidcompress.methods.base import Method
from vidcompress.registry import get_method
from vidcompress.views import Evidence, Layout, VisualTokens

RATIO = Fraction(1, 4)
Bench = tuple[str, str, Callable[[VisualTokens], Tensor] | None, dict[str, Any]]
GREEDY: tuple[Bench, ...] = (
    ("DivPrune", "divprune", loop_divprune, {}),
    ("DivPrune per view", "divprune", None, {"scope": "view"}),
    ("CDPruner", "cdpruner", loop_cdpruner, {}),
)
TEMPORAL: tuple[Bench, ...] = (
    ("EVS", "evs", loop_evs, {}),
    ("DyCoke, window 8", "dycoke", loop_dycoke, {"window": 8}),
    ("FastVID", "fastvid", loop_fastvid, {}),
)


@dataclass
class Row:
    """One line of the table; times in milliseconds."""

    what: str
    select_ms: float
    loop_ms: float | None
    encoder_ms: float | None
    target_ms: float | None
    note: str = ""


def median_ms(run: Callable[[], Any], repeats: int, warmup: int = 2) -> float:
    """Median wall time of `run`, in milliseconds."""
    for _ in range(warmup):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def time_method(method: Method, tokens: VisualTokens, repeats: int) -> float:
    """Evidence to gathered features, with a layout whose derived tables are not there yet."""

    def run() -> Tensor:
        layout = replace(tokens.layout)
        budget = Budget(RATIO).split([layout.full_length])[0]
        plan = make_plan(layout, budget, ratio=RATIO)
        fresh = replace(tokens, layout=layout)
        return method.select(fresh, plan).gather(fresh)

    return median_ms(run, repeats)


def loop_globalcom2_image(tokens: VisualTokens) -> Tensor:
    """The image formulas token by token, the way they read on paper."""
    layout, logits = tokens.layout, next(iter(tokens.evidence.values()))
    rows, cols = layout.grid
    position = {}
    for i in range(len(layout)):
        position[int(layout.view[i]), int(layout.row[i]), int(layout.col[i])] = i
    grid = torch.zeros(rows, cols)
    for r in range(rows):
        for c in range(cols):
            grid[r, c] = logits[position[0, r, c]]
    kept = []
    order = torch.argsort(grid.flatten(), descending=True)
    for k in range(int(rows * cols * float(RATIO))):
        kept.append(position[0, int(order[k]) // cols, int(order[k]) % cols])
    worth = []
    for view in layout.views[1:]:
        assert view.box is not None
        total = 0.0
        for r in range(int(view.box[0]), int(view.box[2])):
            for c in range(int(view.box[1]), int(view.box[3])):
                total += grid[r, c].item()
        worth.append(total)
    power = torch.exp((torch.tensor(worth, dtype=torch.float64) - max(worth)) / 10)
    sigma = power / (power.sum() + 1e-8)
    assert layout.canvas is not None
    large = torch.nn.functional.interpolate(grid[None, None], size=layout.canvas, mode="bilinear")[0, 0]
    for j in range(1, len(layout.views)):
        places = [i for i in range(len(layout)) if int(layout.view[i]) == j]
        own = torch.stack([logits[i] for i in places])
        ours = torch.stack([large[int(layout.row[i]), int(layout.col[i])] for i in places])
        score = own / own.norm() + ours / ours.norm()
        rate = min(1.0, float(RATIO) * (1 + sigma[j - 1].item() - sigma.mean().item()))
        best = torch.argsort(score, descending=True)[: int(len(places) * rate)]
        kept += [places[int(b)] for b in best]
    kept += [i for i in range(len(layout)) if bool(layout.separator[i])]
    return torch.stack([tokens.features[i] for i in sorted(kept)])


def loop_vidcom2(tokens: VisualTokens) -> Tensor:
    """The VidCom2 formulas frame by frame."""
    layout, frames = tokens.layout, len(tokens.layout.views)
    flat = torch.stack([tokens.features[i] for i in range(len(layout)) if not bool(layout.separator[i])])
    channels = torch.argsort(flat.var(0, correction=0))[: flat.shape[1] // 2]
    unit = torch.nn.functional.normalize(flat[:, channels], dim=-1).view(frames, -1, len(channels))
    clip, kept, similar, worth = unit.mean((0, 1)), [], [], []
    for t in range(frames):
        to_clip, to_frame = torch.zeros(unit.shape[1]), torch.zeros(unit.shape[1])
        for a in (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0):
            to_clip += torch.exp(-(unit[t] - clip).square().sum(-1) / (2 * a))
            to_frame += torch.exp(-(unit[t] - unit[t].mean(0)).square().sum(-1) / (2 * a))
        similar.append(to_clip + to_frame)
        worth.append(-to_clip.mean().item())
    share = torch.softmax((torch.tensor(worth) - max(worth)) / 0.01, 0)
    for t in range(frames):
        rate = min(1.0, float(RATIO) * (1 + share[t].item() - share.mean().item()))
        best = torch.argsort(similar[t])[: max(1, round(rate * unit.shape[1]))]
        kept += [t * unit.shape[1] + int(b) for b in sorted(best)]
    return torch.stack([tokens.features[i] for i in kept])


def loop_globalcom2_video(tokens: VisualTokens) -> Tensor:
    """The video form of GlobalCom2 frame by frame."""
    layout, frames = tokens.layout, len(tokens.layout.views)
    flat = torch.stack([tokens.features[i] for i in range(len(layout)) if not bool(layout.separator[i])])
    unit = torch.nn.functional.normalize(flat, dim=-1).view(frames, -1, flat.shape[1])
    clip = torch.nn.functional.normalize(unit.mean((0, 1)), dim=0)
    far, own, worth, kept = [], [], [], []
    for t in range(frames):
        far.append(-(unit[t] @ clip))
        own.append(-(unit[t] @ torch.nn.functional.normalize(unit[t].mean(0), dim=0)))
        worth.append(sum(x.item() for x in far[-1]))
    power = torch.exp((torch.tensor(worth, dtype=torch.float64) - max(worth)) / 10)
    sigma = power / (power.sum() + 1e-8)
    for t in range(frames):
        score = far[t] / far[t].norm() + own[t] / own[t].norm()
        rate = min(1.0, float(RATIO) * (1 + sigma[t].item() - sigma.mean().item()))
        best = torch.argsort(score, descending=True)[: int(unit.shape[1] * rate)]
        kept += [t * unit.shape[1] + int(b) for b in sorted(best)]
    return torch.stack([tokens.features[i] for i in kept])


def encoder_ms(name: str, views: int, repeats: int) -> float:
    """Time of a randomly initialised vision tower on `views` views, float32, in milliseconds."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

    common = {"patch_size": 14, "num_attention_heads": 16}
    if name == "clip":
        sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 336}
        model: Any = CLIPVisionModel(CLIPVisionConfig(**common, **sizes))
    else:
        sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "image_size": 384}
        model = SiglipVisionModel(SiglipVisionConfig(**common, **sizes, vision_use_head=False))
    pixels = torch.rand(views, 3, sizes["image_size"], sizes["image_size"])
    with torch.inference_mode():
        return median_ms(lambda: model(pixel_values=pixels), repeats, warmup=1)


def tokens_for(layout: Layout, dim: int) -> VisualTokens:
    """Seeded features (N, dim), CLS logits and attention (N,), and a question of 20 tokens."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(layout), dim, generator=generator)
    evidence = {
        Evidence("cls_logits"): torch.randn(len(layout), generator=generator),
        Evidence("attention_received"): torch.rand(len(layout), generator=generator),
        Evidence("question"): torch.randn(20, dim, generator=generator),
    }
    return VisualTokens(features, layout, evidence)


def main() -> None:
    """Print the table, and write it as JSON when asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20, help="runs per number (default 20)")
    parser.add_argument(
        "--loop-repeats", type=int, default=3, help="runs of the loop-style transcriptions (default 3)"
    )
    parser.add_argument("--encoder-repeats", type=int, default=3, help="runs of the encoders (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument(
        "--no-encoder", action="store_true", help="leave the encoders out (they take minutes)"
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    load = os.getloadavg()[0]  # other work on the machine stretches two-thread runs many times over

    clip_ms = siglip_ms = None
    if not args.no_encoder:
        clip_ms = encoder_ms("clip", 5, args.encoder_repeats)
        siglip_ms = encoder_ms("siglip", 1, args.encoder_repeats) * 64
    scaled = "encoder: 1 SigLIP-so400m frame x 64" if siglip_ms else ""
    image = tokens_for(image_layout((24, 24), (2, 2)), 4096)
    rows = [
        Row(
            "GlobalCom2, image 5 x 576 x 4096, CLS logits",
            time_method(get_method("globalcom2"), image, args.repeats),
            median_ms(lambda image=image: loop_globalcom2_image(image), args.loop_repeats, 1),
            clip_ms,
            4.0,
            "encoder: CLIP-L/14-336, 5 views" if clip_ms else "",
        ),
        Row(
            "GlobalCom2, the same image, distance",
            time_method(get_method("globalcom2", evidence="distance"), image, args.repeats),
            None,
            clip_ms,
            None,
        ),
    ]
    attention = attention_image(image)
    for name, loop in LOOPS.items():
        rows.append(
            Row(
                f"{name}, the same image, without the projector",
                time_method(get_method(name), attention, args.repeats),
                median_ms(
                    lambda loop=loop, given=attention: loop(given, float(RATIO)), min(1, args.loop_repeats), 0
                ),
                clip_ms,
                None,
            )
        )
    for title, name, loop, options in GREEDY:
        rows.append(
            Row(
                f"{title}, image 5 x 576 x 4096",
                time_method(get_method(name, **options), image, args.repeats),
                None if loop is None else median_ms(partial(loop, image), args.loop_repeats, 1),
                clip_ms,
                None,
            )
        )
    del image, attention
    video = tokens_for(video_layout(64, (14, 14), "none"), 3584)
    for name, loop, target in (("vidcom2", loop_vidcom2, 500.0), ("globalcom2", loop_globalcom2_video, None)):
        rows.append(
            Row(
                f"{'VidCom2' if name == 'vidcom2' else 'GlobalCom2'}, video 64 x 196 x 3584",
                time_method(get_method(name), video, args.repeats),
                median_ms(lambda loop=loop: loop(video), args.loop_repeats, 1),
                siglip_ms,
                target,
                scaled,
            )
        )
    for title, name, loop, options in (*TEMPORAL, *GREEDY[1:]):
        slow = None if loop is None else median_ms(partial(loop, video), args.loop_repeats, 1)
        ours = time_method(get_method(name, **options), video, args.repeats)
        rows.append(Row(f"{title}, video 64 x 196 x 3584", ours, slow, siglip_ms, None, scaled))
    table = Table(
        title=f"evidence to gathered features, R = {float(RATIO)}, float32, {args.threads} threads, median ms, "
        f"load average before: {load:.1f}"
    )
    for column in ("what", "vidcompress", "loop-style", "encoder", "target", "note"):
        table.add_column(column, justify="left" if column in ("what", "note") else "right")
    for row in rows:
        numbers = (row.select_ms, row.loop_ms, row.encoder_ms, row.target_ms)
        table.add_row(row.what, *("-" if x is None else f"{x:,.1f}" for x in numbers), row.note)
    Console(width=140).print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps({"rows": [asdict(row) for row in rows], "provenance": provenance()}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()

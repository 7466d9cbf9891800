"""Benchmark of streams: what they keep beside the whole clip, what they hold, and time and memory without an end.

    python scripts/bench_stream.py --endless 0 --json docs/results/stream.json
    python scripts/bench_stream.py --clips 0 --frames 0 --json docs/results/stream_endless.json

Needle clips are drawn as the suite draws them (other seeds, not compressed as H.264) and encoded by tiny-onevision; the
others are features that `stream_clips` makes up. Every clip is given to streams of hold 2, 4 and 8, and the tokens kept
are compared with those of `select` on the whole clip. A row is the mean over its clips: the overlap of the kept sets,
the covering radius (largest distance of a token to its nearest kept one, in direction, place and time) over that of the
whole clip's, the share of frames whose choice is certified, and how many of 64 stretches of the clip keep something. An
endless stream of features then states, as it goes on, processor time per frame, bytes of tensors and resident memory.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from bench_encode_memory import memory
from shapes_accuracy.measure import load
from stream_clips import KINDS, clip, endless
from vidcompress.adapters.base import adapter_for
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.stream.stream import ROWS, Kept, Stream, StreamSize, frames_layout
from vidcompress.core.tokens import VisualTokens
from vidcompress.methods.census import places_of
from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.evaluation.shapes import paint_clip
from vidcompress.tools.evaluation.suite.needle import POSITIONS, haystack, with_needle
from vidcompress.tools.runs.provenance import provenance

METHODS: dict[str, dict[str, Any]] = {
    "evs": {},
    "globalcom2": {},
    "vidcom2": {},
    "census": {},
    "dycoke": {},
    "random": {"rule": "hash"},
    "uniform": {"rule": "golden"},
}
COVERED = {"globalcom2, coverage 0.5": ("globalcom2", {"coverage": 0.5})}
RADIUS = ("census", "random")
"""Methods whose covering radius is stated: it takes longer than the streams."""
HOLDS = (2, 4, 8)
NEEDLE_SEED, NEEDLE_FRAMES, NEEDLE_BUDGETS = 900_000, 256, (64, 409)
STRETCHES = 64
ENDLESS = ("globalcom2", "vidcom2", "census", "evs")
ENDLESS_SIZE = StreamSize(256, 4, rows=ROWS)
CHUNK, TOKENS, CHANNELS = 100, 16, 64
GRID = (4, 4)


def needle_clips(count: int) -> Iterator[Tensor]:
    """Yield features (256, 16, 192) of needle clips, with the needle in one place after the other."""
    model, processor = load(Path(__file__).resolve().parent.parent / "models" / "tiny-onevision")
    adapter, seeds = adapter_for(model), itertools.count(NEEDLE_SEED)
    for number in range(count):
        scene = with_needle(haystack(seeds, NEEDLE_FRAMES), POSITIONS[number % len(POSITIONS)], number % 10)
        inputs = processor(text=["<video>"], videos=[paint_clip(scene)], num_frames=NEEDLE_FRAMES)
        with torch.inference_mode():
            (tokens,) = adapter.encode(adapter.visuals(inputs)[1], set())
        layout = tokens.layout
        yield tokens.features[layout.token_index].view(len(layout.views), layout.sizes[0], -1).clone()


def offline(method: Method, x: Tensor, count: int) -> Tensor:
    """Return the positions that `select` keeps of features (frames, tokens, channels)."""
    tokens = VisualTokens(x.flatten(0, 1), frames_layout(len(x), GRID))
    return method.select(VisualBatch([tokens]), [visual_budget(tokens.layout, count)])[0].index


def radius(x: Tensor, index: Tensor) -> float:
    """Return the largest distance of a token to its nearest kept one (K,), as census measures it."""
    where = places_of(frames_layout(len(x), GRID)) * torch.tensor([1.0, 1.0, 0.3]).sqrt()
    points = torch.cat((normalize(x.flatten(0, 1), dim=1), where.float()), 1)
    return max(float(torch.cdist(part, points[index]).amin(1).max()) for part in points.split(4096))


def compared(
    method: Method, x: Tensor, most: int, hold: float, whole: Tensor, covers: float
) -> dict[str, float]:
    """Return what a stream keeps beside what the whole clip keeps, `whole` (K,) with its covering radius."""
    stream = method.stream(StreamSize(most, hold, GRID))
    start = time.process_time()
    for part in x.split(64):
        stream.add(part)
    kept = stream.keep(most)
    spent = time.process_time() - start
    index = kept.frame * x.shape[1] + kept.place
    stretch = (kept.frame * STRETCHES // len(x)).unique()
    row = {
        "overlap": float(torch.isin(whole, index).double().mean()),
        "equal": float(torch.equal(whole, index)),
        "count": float(len(index)),
        "stretches": float(len(stretch)),
        "held": float(stream.largest),
        "evictions": float(stream.evictions),
        "ms_per_frame": 1000 * spent / len(x),
    }
    if covers:
        row["radius"] = radius(x, index) / covers
    if kept.certified is not None:
        row["certified"] = float(kept.certified.double().mean())
    return row


def rows_of(
    kind: str, clips: Sequence[Tensor], budgets: Sequence[int], names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row per budget, method and hold: means over the clips."""
    for most, label in itertools.product(budgets, names):
        name, options = COVERED.get(label, (label, METHODS.get(label, {})))
        method = get_method(name, **options)
        whole = [offline(method, x, most) for x in clips]
        covers = [radius(x, index) if label in RADIUS else 0.0 for x, index in zip(clips, whole, strict=True)]
        reached = [
            len((index // x.shape[1] * STRETCHES // len(x)).unique())
            for x, index in zip(clips, whole, strict=True)
        ]
        for hold in HOLDS:
            each = [
                compared(method, x, most, hold, index, cover)
                for x, index, cover in zip(clips, whole, covers, strict=True)
            ]
            means = {key: round(sum(one[key] for one in each) / len(each), 4) for key in each[0]}
            yield {
                "clip": kind,
                "frames": len(clips[0]),
                "clips": len(clips),
                "budget": most,
                "method": label,
                "hold": hold,
                **means,
                "stretches_whole": round(sum(reached) / len(reached), 2),
            }


def live_bytes() -> int:
    """Bytes of the storages of all tensors that are referenced."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if type(one) is Tensor]
    return sum({one.data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


def without_end(name: str, frames: int, marks: int) -> list[dict[str, float]]:
    """Feed a stream, and return the time of `add` in each of `marks` parts, and the memory after it."""
    stream: Stream = get_method(name, **METHODS[name]).stream(ENDLESS_SIZE)
    source, rows = endless(CHUNK, TOKENS, CHANNELS), []
    for _ in range(marks):
        spent = 0.0
        for part in itertools.islice(source, frames // marks // CHUNK):
            start = time.process_time()
            stream.add(part)
            spent += time.process_time() - start
        rows.append(
            {
                "frames": stream.frames,
                "us_per_frame": round(1e6 * spent / (frames // marks), 1),
                "live_bytes": live_bytes(),
                "resident_mib": round(memory("VmRSS") / 2**20, 1),
                "held": stream.held,
            }
        )
        del part
    kept: Kept = stream.keep(ENDLESS_SIZE.most)
    if len(kept.frame) != ENDLESS_SIZE.most:
        raise SystemExit(f"{name} keeps {len(kept.frame)} tokens, not {ENDLESS_SIZE.most}")
    return rows


def show(result: dict[str, Any]) -> str:
    """Return the tables of a result."""
    head = ("clip", "budget", "method", "hold", "overlap %", "radius", "certified %", "stretches", "of whole")
    lines = []
    for row in result["rows"]:
        sure, far = row.get("certified"), row.get("radius")
        marks = (
            f"{100 * row['overlap']:.1f}",
            "" if far is None else f"{far:.2f}",
            "" if sure is None else f"{100 * sure:.0f}",
        )
        names = (row["clip"], row["budget"], row["method"], row["hold"])
        lines.append([*map(str, names), *marks, str(row["stretches"]), str(row["stretches_whole"])])
    keys = ("frames", "us_per_frame", "live_bytes", "resident_mib")
    flat = [
        [name, *(str(mark[key]) for key in keys)]
        for name, marks in result["endless"].items()
        for mark in marks
    ]
    tables = (
        Table.of_lines(head, lines, title="Streams beside the whole clip", keys=4, words=("method",)),
        Table.of_lines(("method", *keys), flat, title="A stream without an end", keys=2),
    )
    return "\n\n".join(table.text(terminal_width()) for table in tables)


def main() -> None:
    """Measure, print the tables, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=18, help="needle clips")
    parser.add_argument("--frames", type=int, default=2048, help="frames of a made-up clip")
    parser.add_argument("--budgets", type=int, nargs="+", default=[500, 3276], help="of a made-up clip")
    parser.add_argument("--endless", type=int, default=200_000, help="frames of the endless stream")
    parser.add_argument("--marks", type=int, default=8, help="parts of the endless stream")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write the result")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    where_from, rows, unending = provenance(), [], {}
    made_up = [kind for kind in KINDS if kind != "needle" and asked.frames]
    with counting_bar() as bar:
        task = bar.add_task("streams", total=None)
        needles = list(needle_clips(asked.clips)) if asked.clips else []
        jobs = [("needle", needles, NEEDLE_BUDGETS, list(METHODS))] if needles else []
        for kind in made_up:
            x = clip(kind, asked.frames, TOKENS, CHANNELS)
            jobs.append((kind, [x], asked.budgets, [*METHODS, *COVERED]))
        for job in jobs:
            for row in rows_of(*job):
                rows.append(row)
                bar.update(task, completed=len(rows))
        for name in ENDLESS:
            unending[name] = without_end(name, asked.endless, asked.marks) if asked.endless else []
            bar.update(task, description=f"endless stream of {name}")
    result = {
        "rows": rows,
        "endless": unending,
        "endless_size": {"most": ENDLESS_SIZE.most, "hold": ENDLESS_SIZE.hold, "rows": ENDLESS_SIZE.rows},
        "features": {"tokens": TOKENS, "channels": CHANNELS, "chunk": CHUNK},
        "provenance": where_from,
    }
    print(show(result))
    if asked.json:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

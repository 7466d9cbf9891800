"""Benchmark of long clips: resident memory and processor time of `vidcompress ask`, with and without `--hold`.

    python scripts/bench_long.py --json docs/results/long.json

Every row is one process of `vidcompress ask` about a clip file that is drawn for it (H.264, a background that moves).
Stated are its peak of resident memory and its processor seconds, both as the system counts them, decoder threads and
loading of the model among them; and what the report says was held. A limit is checked: memory for the longest large
clip is at most 1.3 times that for the shortest, both with `--hold`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.runs.provenance import provenance

SMALL, LARGE = (320, 240), (1280, 720)
HELD = {SMALL: (500, 2_000, 10_000, 20_000), LARGE: (500, 10_000)}
WHOLE = {SMALL: (500, 2_000, 10_000)}
LIMIT = 1.3
MIB = 2**20
ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Settings of every process: glibc's arenas, and one torch thread."""


def draw(path: Path, frames: int, size: tuple[int, int]) -> None:
    """Write a clip of blocks that move by a pixel a frame.

    Args:
        path: of the file.
        frames: their number.
        size: (width, height) in pixels.
    """
    import av

    width, height = size
    blocks = np.random.default_rng(0).integers(0, 256, (height // 16, width // 16 + 64, 3), dtype=np.uint8)
    ground = blocks.repeat(16, 0).repeat(16, 1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "250"}
        for number in range(frames):
            shift = number % 960
            picture = np.ascontiguousarray(ground[:, shift : shift + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def ask(clip: Path, case: dict[str, Any], model: str) -> dict[str, Any]:
    """Ask about a clip in a process of its own; return the case with what it took."""
    words = [sys.executable, "-m", "vidcompress", "ask", "what is shown?", "-v", str(clip), "--model", model]
    words += ["--num-frames", "all", "--max-frames", "20000", "--max-tokens", str(case["max_tokens"])]
    words += ["--method", case["method"], "--max-new-tokens", "4", "--json"]
    words += [] if case["hold"] is None else ["--hold", str(case["hold"])]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        child = subprocess.Popen(words, stdout=out, stderr=said, env={**os.environ, **ALLOCATOR})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said.seek(0)
        if child.returncode:
            raise SystemExit(f"{case} failed:\n{said.read().decode()}")
        entry = json.loads(out.read())
    return {
        **case,
        "peak": usage.ru_maxrss * 1024,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "seconds": round(entry["timing_ms"]["total"] / 1e3, 2),
        "kept": entry["visual_tokens"]["kept"],
        "notes": [note for note in entry["notes"] if "held" in note],
    }


def ratio(rows: Sequence[dict[str, Any]]) -> float | None:
    """Peak of the longest large clip over that of the shortest, with hold; None where they were not run."""
    held = [row for row in rows if row["hold"] is not None and row["size"] == list(LARGE)]
    if len({row["frames"] for row in held}) < 2:
        return None
    least, most = (pick(held, key=lambda row: row["frames"]) for pick in (min, max))
    return round(most["peak"] / least["peak"], 3)


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """The rows in MiB and seconds."""
    head = ("size", "frames", "hold", "peak, MiB", "processor, s", "answer, s", "kept")
    lines = [
        [
            f"{row['size'][0]} x {row['size'][1]}",
            f"{row['frames']:,}",
            "whole" if row["hold"] is None else f"{row['hold']:g}",
            f"{row['peak'] / MIB:,.0f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['seconds']:.1f}",
            str(row["kept"]),
        ]
        for row in rows
    ]
    return Table.of_lines(head, lines, title="vidcompress ask about long clips", keys=3)


def main() -> None:
    """Measure every case, print the table, write it as JSON; exit code 1 when the ratio is above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", default="evs", help="a method that streams (default evs)")
    parser.add_argument("--max-tokens", type=int, default=1000, help="budget (default 1000)")
    parser.add_argument("--hold", type=float, default=4.0, help="tokens held per token of it (default 4)")
    parser.add_argument("--most", type=int, default=20_000, help="leave out longer clips (default 20000)")
    parser.add_argument("--model", default="tiny-onevision", help="default tiny-onevision")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    args = parser.parse_args()
    source = provenance()  # as of the start
    shared = {"method": args.method, "max_tokens": args.max_tokens}
    cases = [
        {"size": list(size), "frames": frames, "hold": hold, **shared}
        for sizes, hold in ((HELD, args.hold), (WHOLE, None))
        for size, lengths in sizes.items()
        for frames in lengths
        if frames <= args.most
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder, counting_bar() as bar:
        for case in bar.track(cases, description="asking"):
            clip = Path(folder) / f"{case['size'][0]}-{case['frames']}.mp4"
            if not clip.exists():
                draw(clip, case["frames"], tuple(case["size"]))
            rows.append(ask(clip, case, args.model))
    print(table(rows).text(terminal_width()))
    growth = ratio(rows)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "limit": LIMIT,
            "ratio": growth,
            "environment": ALLOCATOR,
            "rows": rows,
            "provenance": source,
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if growth is not None and growth > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

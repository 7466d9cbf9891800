"""Benchmark of `encoder_saving`: encoding clips of 64 frames and images with it and without, in turns.

    python scripts/bench_saving.py --json docs/results/encoder_saving.json

Clips go through an H.264 file, so copies are as alike as coding leaves them: a still picture under sensor noise, a
talking head (it sways, its mouth opens, it blinks, before a still background) and hard cuts between different pictures.
The encoder has the real width and random weights; timed is the phase `encode`, looking for alike frames included.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image, ImageDraw

from bench_encode_memory import build
from vidcompress import compress_inputs
from vidcompress.media import read_video
from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.evaluation.shapes.clip import write_frames
from vidcompress.tools.evaluation.shapes.examples import image_example
from vidcompress.tools.runs.provenance import provenance

FRAMES = 64
CROPS = "globalcom2:allocation=gated"


def picture(seed: int, side: int) -> Image.Image:
    """A scene of coloured shapes on a grainy background."""
    return Image.fromarray(np.asarray(image_example(seed, (side, side)).image)).convert("RGB")


def still(side: int, frames: int) -> np.ndarray:
    """(frame, row, col, 3) one picture with sensor noise of deviation 3."""
    rng = np.random.default_rng(0)
    one = np.asarray(picture(1, side), dtype=np.float32)
    noisy = one + rng.normal(0, 3, (frames, *one.shape)).astype(np.float32)
    return noisy.clip(0, 255).astype(np.uint8)


def oval(
    draw: ImageDraw.ImageDraw,
    unit: float,
    shape: tuple[float, float, float, float],
    color: tuple[int, int, int],
) -> None:
    """Fill an ellipse given by its centre and radii, (x, y, rx, ry) in units."""
    x, y, rx, ry = shape
    draw.ellipse([v * unit for v in (x - rx, y - ry, x + rx, y + ry)], fill=color)


def talking(side: int, frames: int) -> np.ndarray:
    """A head that sways by 1 %, opens its mouth and blinks, before a still background."""
    rng, out = np.random.default_rng(0), []
    background, unit = picture(2, side), side / 100
    for t in range(frames):
        frame = background.copy()
        draw = ImageDraw.Draw(frame)
        x, y = 50 + math.sin(t / 5), 55 + 0.5 * math.sin(t / 3)
        oval(draw, unit, (x, y, 18, 25), (220, 180, 150))
        for side_of in (-7, 7):
            lid = 0.3 if rng.random() < 0.08 else 1.4
            oval(draw, unit, (x + side_of, y - 6, 2.2, lid), (40, 40, 60))
        oval(draw, unit, (x, y + 10, 5, 0.4 + 2.2 * abs(math.sin(1.7 * t))), (120, 40, 50))
        noisy = np.asarray(frame, dtype=np.float32) + rng.normal(0, 3, (side, side, 3))
        out.append(noisy.clip(0, 255).astype(np.uint8))
    return np.stack(out)


def cuts(side: int, frames: int) -> np.ndarray:
    """A different picture in every frame."""
    return np.stack([np.asarray(picture(100 + t, side)) for t in range(frames)])


def pixels_of(frames: np.ndarray, side: int) -> torch.Tensor:
    """(1, frame, 3, side, side) as SigLIP's processor makes them, through an H.264 file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_frames(frames, path)
        read = torch.as_tensor(np.asarray(read_video(path, num_frames=len(frames)).frames))
    if read.shape[-1] == 3:
        read = read.permute(0, 3, 1, 2)
    assert read.shape[-2:] == (side, side)
    return (read.float() / 127.5 - 1)[None]


def clip_inputs(model: Any, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """A prompt about one clip."""
    from vidcompress.adapters.base import adapter_for

    count = len(adapter_for(model).visuals({"pixel_values_videos": pixels})[1][0].layout)
    ids = [5, *[model.config.video_token_id] * count, 6]
    return {"input_ids": torch.tensor([ids]), "pixel_values_videos": pixels}


def image_inputs(model: Any, side: int) -> dict[str, torch.Tensor]:
    """A prompt about one image of 2 x 2 crops."""
    from vidcompress.adapters.base import adapter_for

    views = [
        picture(3, side),
        *(
            picture(3, 2 * side).crop((c * side, r * side, (c + 1) * side, (r + 1) * side))
            for r in (0, 1)
            for c in (0, 1)
        ),
    ]
    pixels = (
        torch.from_numpy(np.stack([np.asarray(view) for view in views])).permute(0, 3, 1, 2).float()[None]
        / 127.5
        - 1
    )
    inputs = {"pixel_values": pixels, "image_sizes": torch.tensor([[2 * side, 2 * side]])}
    count = len(adapter_for(model).visuals(inputs)[0][0].layout)
    return {"input_ids": torch.tensor([[5, *[model.config.image_token_id] * count, 6]]), **inputs}


def encode_ms(
    model: Any, inputs: dict[str, torch.Tensor], label: str, ratio: float, saving: str
) -> tuple[float, int]:
    """Milliseconds of the phase `encode`, and how many views were encoded."""
    from vidcompress.core.method_spec import parse_method_spec

    method, options = parse_method_spec(label)
    report = compress_inputs(
        model, inputs, method, retention_ratio=ratio, encoder_saving=saving, **options
    ).report
    return report.timing_ms["encode"], sum(visual.encoded for visual in report.visuals)


def main(
    layers: Annotated[int, typer.Option(min=1, help="Encoder layers; the real one has 27.")] = 4,
    side: Annotated[int, typer.Option(min=28, help="Side of a view, in pixels; the real one is 384.")] = 384,
    frames: Annotated[int, typer.Option(min=2, help="Frames per clip.")] = FRAMES,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds, after one that is not counted.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of torch.")] = 2,
    out: Annotated[Path | None, typer.Option("--json", help="Result file.")] = None,
) -> None:
    """Time every case with and without, in turns, and print the ratios."""
    torch.set_num_threads(threads)
    where_from = provenance()
    model = build("llava_onevision", layers, side)
    model.config.image_grid_pinpoints = [[2 * side, 2 * side]]
    cases = [
        (name, clip_inputs(model, pixels_of(make(side, frames), side)), "globalcom2", 0.1, "frames")
        for name, make in (("still picture", still), ("talking head", talking), ("hard cuts", cuts))
    ]
    cases += [("image of 5 views", image_inputs(model, side), CROPS, ratio, "crops") for ratio in (0.25, 0.1)]
    times: dict[tuple[int, str], list[float]] = {}
    views: dict[tuple[int, str], int] = {}
    plan = [(r, n, on) for r in range(rounds + 1) for n in range(len(cases)) for on in ("off", "on")]
    with counting_bar() as bar:
        for turn, number, state in bar.track(plan, description="rounds"):
            _, inputs, label, ratio, saving = cases[number]
            spent, seen = encode_ms(model, inputs, label, ratio, "off" if state == "off" else saving)
            views[number, state] = seen
            if turn:
                times.setdefault((number, state), []).append(spent)
    rows = []
    for number, (name, _, label, ratio, saving) in enumerate(cases):
        off, on = (min(times[number, state]) for state in ("off", "on"))
        pairs = [a / b for a, b in zip(times[number, "off"], times[number, "on"], strict=True)]
        rows.append(
            {
                "input": name,
                "method": label,
                "retention_ratio": ratio,
                "encoder_saving": saving,
                "views": views[number, "off"],
                "encoded": views[number, "on"],
                "off_ms": round(off, 1),
                "on_ms": round(on, 1),
                "speed_up": round(off / on, 3),
                "speed_up_median": round(statistics.median(pairs), 3),
            }
        )
    lines = [list(map(str, row.values())) for row in rows]
    print(Table.of_lines(list(rows[0]), lines).text(terminal_width()))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        settings = {
            "encoder_layers": layers,
            "side": side,
            "frames": frames,
            "rounds": rounds,
            "threads": threads,
        }
        out.write_text(
            json.dumps({"rows": rows, "settings": settings, "provenance": where_from}, indent=1) + "\n"
        )
        print(f"wrote {out}")


if __name__ == "__main__":
    typer.run(main)

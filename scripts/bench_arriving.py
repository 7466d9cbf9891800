"""Benchmark of decoding a clip while it is encoded: the same question with and without, in turns.

    python scripts/bench_arriving.py --json docs/results/arriving.json

A drawn H.264 clip, and two models: the embedded tiny-onevision, whose encoder takes less time than decoding does, and
a random one (`middle`) that takes about as long. "Without" the clip is read whole before the encoder begins, as for
models whose adapter cannot ask for frames one by one. "Busy" is processor time, which
other work on the machine does not lengthen; "allowed" is the ratio by that time if the shorter of reading (`decode` and
`preprocess`) and encoding were hidden behind the other, on a core of its own. A machine without one hides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np


def middle() -> Any:
    """A random float32 OneVision: 3 encoder layers 192 wide, 196 patches a frame; 2 decoder layers 128 wide."""
    import torch
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    from vidcompress import VisualQA, load_processor

    tiny = VisualQA.from_pretrained("tiny-onevision", device="cpu")
    known = tiny.model.config
    torch.manual_seed(0)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=3,
            num_attention_heads=3,
            image_size=224,
            patch_size=16,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=known.text_config.vocab_size,
            max_position_embeddings=8192,
        ),
        image_token_id=known.image_token_id,
        video_token_id=known.video_token_id,
        image_grid_pinpoints=[[224, 224]],
    )
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    processor = load_processor(model, tokenizer=tiny.processor.tokenizer)
    processor.chat_template = tiny.processor.chat_template
    return VisualQA(model, processor)


def draw(path: Path, frames: int, size: tuple[int, int]) -> None:
    """Write a moving picture with grain as H.264, a key frame every 48 frames, three frames for each that is taken."""
    import av

    width, height = size
    grain = np.random.default_rng(0).integers(-8, 9, (height, width, 1))
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x * (1 + c) * np.pi * 8 / width + y * (2 - c) / 37) for c in range(3)]
    picture = ((np.stack(waves, axis=-1) + 1) * 119.5 + 8 + grain).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "veryfast", "g": "48"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames * 3):
            moved = np.roll(picture, (3 * number, 7 * number), axis=(0, 1))
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def once(qa: Any, path: Path, ahead: bool, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Milliseconds on a clock of one question, by phase, processor time of them all, and the answer."""
    from vidcompress.adapters.llava import LlavaAdapter

    LlavaAdapter.reads_ahead = ahead
    wall, time.perf_counter = time.perf_counter, clock
    begun, busy = clock(), time.process_time()
    try:
        answer = qa.ask("what digit is shown?", video=path, max_new_tokens=1)
        took, busy = clock() - begun, time.process_time() - busy
    finally:
        time.perf_counter = wall
    return {**answer.timing_ms, "all": took * 1e3, "busy": busy * 1e3, "text": answer.text}


def in_phases(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Medians."""
    return {key: round(statistics.median(run[key] for run in runs), 1) for key in runs[0] if key != "text"}


def measure(qa: Any, path: Path, repeats: int) -> dict[str, Any]:
    """Medians with and without, of runs in turns after one of each that is not counted, and the ratio of each turn."""
    runs: dict[str, list[dict[str, Any]]] = {"with": [], "without": []}
    for number in range(repeats + 1):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            found = once(qa, path, name == "with")
            if number:
                runs[name].append(found)
    texts = {run["text"] for made in runs.values() for run in made}
    if len(texts) > 1:
        raise SystemExit(f"the answers differ: {texts}")
    busy = in_phases([once(qa, path, False, time.process_time) for _ in range(3)])
    hidden = min(busy["decode"] + busy["preprocess"], busy["encode"])
    ratios = [a["all"] / b["all"] for a, b in zip(runs["without"], runs["with"], strict=True)]
    fastest = {name: round(min(run["all"] for run in made), 1) for name, made in runs.items()}
    return {
        "ms": {name: in_phases(made) for name, made in runs.items()},
        "busy_ms_without": busy,
        "fastest_ms": fastest,
        "without_over_with": {
            "median_of_turns": round(statistics.median(ratios), 3),
            "fastest": round(fastest["without"] / fastest["with"], 3),
            "allowed": round(busy["all"] / (busy["all"] - hidden), 3),
        },
        "turns": [round(ratio, 3) for ratio in ratios],
    }


def show(name: str, found: dict[str, Any]) -> None:
    """Print one model's figures."""
    from vidcompress.table import Table, terminal_width

    rows = {**found["ms"], "without, processor time": found["busy_ms_without"]}
    phases = [key for key, ms in rows["without"].items() if ms > 0.5 and key != "total"]
    lines = [[who, *(f"{row[phase]:,.0f}" for phase in phases)] for who, row in rows.items()]
    print(Table.of_lines(["ms", *phases], lines, title=name).text(terminal_width()))
    print("fastest", found["fastest_ms"], "without / with", found["without_over_with"], found["turns"])


def main() -> None:
    """Measure both models, print tables, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=64, help="frames taken of the clip (default 64)")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), help="width and height of the clip")
    parser.add_argument("--repeats", type=int, default=7, help="counted turns (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    args = parser.parse_args()
    import torch

    from vidcompress import VisualQA
    from vidcompress.tools.runs.provenance import provenance

    torch.set_num_threads(args.threads)
    sampling = {"num_frames": args.frames, "method": "globalcom2", "retention_ratio": 0.25}
    tiny = VisualQA.from_pretrained("tiny-onevision", device="cpu", **sampling)
    wider = middle()
    models = {"tiny-onevision": tiny, "middle": VisualQA(wider.model, wider.processor, **sampling)}
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        draw(path, args.frames, tuple(args.size))
        for name, qa in models.items():
            found[name] = measure(qa, path, args.repeats)
            show(name, found[name])
    if args.json:
        plan = {key: value for key, value in vars(args).items() if key != "json"}
        whole = {"plan": {**plan, "cores": len(os.sched_getaffinity(0))}, "models": found}
        args.json.write_text(json.dumps({**whole, "provenance": provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()

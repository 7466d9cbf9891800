"""Benchmark of encoding memory beside the clip and its features, for 64 and for 256 frames.

    python scripts/bench_encode_memory.py --json docs/results/encode_memory.json

Every case runs in a process of its own, which makes a model of the real width (random weights, few encoder layers,
smaller frames, which save time) and the pixels of a clip, then encodes it. Stated are the resident memory before, the
peak during `adapter.encode` (VmHWM, reset before; Linux only), what is kept per frame (the features and the evidence
that `encode` returns; the pixels were there before) and what is left of the peak beside these. The last, for 256
frames, over that for 64 is the claim: at most 1.3.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.runs.provenance import provenance

LIMIT = 1.3
FRAMES = (64, 256)
FAMILIES = ("llava_onevision", "llava_video", "llava_next_video")
ATTENTION = "attention_received"
# Evidence and the methods that ask for it: globalcom2 and vidcom2 need none on clips by default.
EVIDENCE: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "none": [("globalcom2", {}), ("vidcom2", {})],
    ATTENTION: [("globalcom2", {"evidence": ATTENTION})],
}
MIB = 2**20


def build(family: str, layers: int, side: int) -> Any:
    """A model as wide as the 7B one, with `layers` encoder layers, one small decoder layer and random weights.

    Args:
        family: its `model_type`.
        layers: encoder layers.
        side: of a frame, in pixels.
    """
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    from vidcompress.adapters.llava_video.model import LlavaVideoConfig, LlavaVideoForConditionalGeneration

    torch.manual_seed(0)
    text = {"intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 32, "vocab_size": 128}
    vision = {"patch_size": 14, "num_hidden_layers": layers, "num_attention_heads": 16, "image_size": side}
    tokens = {"image_token_id": 120, "video_token_id": 121}
    if family == "llava_next_video":
        wide = {"hidden_size": 1024, "intermediate_size": 4096}
        config = LlavaNextVideoConfig(
            vision_config=CLIPVisionConfig(**vision, **wide),
            text_config=LlamaConfig(hidden_size=4096, num_key_value_heads=32, **text),
            **tokens,
        )
        return LlavaNextVideoForConditionalGeneration(config).eval()
    classes = {
        "llava_onevision": (LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration),
        "llava_video": (LlavaVideoConfig, LlavaVideoForConditionalGeneration),
    }
    wide = {"hidden_size": 1152, "intermediate_size": 4304, "vision_use_head": False}
    text["num_attention_heads"] = 28
    config = classes[family][0](
        vision_config=SiglipVisionConfig(**vision, **wide),
        text_config=Qwen2Config(hidden_size=3584, num_key_value_heads=4, **text),
        **tokens,
    )
    return classes[family][1](config).eval()


def memory(field: str) -> int:
    """Bytes of one line of /proc/self/status, such as VmRSS (now) or VmHWM (the peak since the last reset)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}; this measurement needs Linux")


class Peak:
    """Resident memory before a block and its peak within, in bytes."""

    def __enter__(self) -> Peak:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self.before = memory("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = memory("VmHWM")


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """One case, in this process: numbers of bytes."""
    import torch

    from vidcompress.adapters.base import adapter_for
    from vidcompress.core.method_lookup import get_method

    torch.set_num_threads(case["threads"])
    model = build(case["family"], case["layers"], case["side"])
    adapter = adapter_for(model)
    methods = [get_method(name, **options) for name, options in EVIDENCE[case["evidence"]]]
    wanted = {method.needs("video", adapter.has_cls) for method in methods}
    assert len(wanted) == 1, "the methods of a case ask for different evidence"

    def clip(frames: int) -> Any:
        return adapter.visuals({"pixel_values_videos": torch.rand(1, frames, 3, case["side"], case["side"])})[
            1
        ]

    with torch.inference_mode():
        evidence = wanted.pop()
        adapter.encode(clip(2), evidence)  # libraries set themselves up in the first call
        clips = clip(case["frames"])
        with Peak() as encoding:
            (tokens,) = adapter.encode(clips, evidence, max_views=case["max_views"])
        kept = tokens.features.nbytes + sum(values.nbytes for values in tokens.evidence.values())
        return {
            "pixels": clips[0].pixels.nbytes,
            "before": encoding.before,
            "peak": encoding.peak,
            "kept": kept,
            "beside": encoding.peak - encoding.before - kept,
        }


def run(case: dict[str, Any]) -> dict[str, Any]:
    """One case in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    return case | json.loads(done.stdout.splitlines()[-1])


def growth(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the longest clip needs beside its features over what the shortest needs, per family and evidence."""
    found = []
    for family, evidence in dict.fromkeys((row["family"], row["evidence"]) for row in rows):
        mine = [row for row in rows if (row["family"], row["evidence"]) == (family, evidence)]
        least, most = (pick(mine, key=lambda row: row["frames"]) for pick in (min, max))
        ratio = round(most["beside"] / least["beside"], 3)
        found.append({"family": family, "evidence": evidence, "ratio": ratio, "within": ratio <= LIMIT})
    return found


def table(rows: list[dict[str, Any]], ratios: list[dict[str, Any]]) -> Table:
    """The rows in MiB, each pair followed by its ratio."""
    head = (
        "family",
        "evidence",
        "frames",
        "pixels",
        "before",
        "peak",
        "kept",
        "beside",
        "ratio",
    )
    lines = []
    by_pair = {(entry["family"], entry["evidence"]): entry["ratio"] for entry in ratios}
    for row in rows:
        numbers = [f"{row[key] / MIB:,.0f}" for key in ("pixels", "before", "peak", "kept", "beside")]
        last = row["frames"] == max(other["frames"] for other in rows)
        ratio = f"{by_pair[row['family'], row['evidence']]:.2f}" if last else ""
        lines.append([row["family"], row["evidence"], str(row["frames"]), *numbers, ratio])
    return Table.of_lines(head, lines, title="resident memory of adapter.encode, MiB", keys=2)


def main() -> None:
    """Measure every case, print the table, write it as JSON; exit code 1 when a ratio is above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--frames", nargs="+", type=int, default=list(FRAMES), help="lengths of the clip")
    parser.add_argument("--layers", type=int, default=2, help="encoder layers, at least 2 (default 2)")
    parser.add_argument(
        "--max-views", type=int, default=16, help="frames in the encoder at once (default 16)"
    )
    parser.add_argument(
        "--side",
        type=int,
        default=224,
        help="of a frame in pixels (default 224; the real encoders take 384 and 336)",
    )
    parser.add_argument("--threads", type=int, default=2, help="torch threads (default 2)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(json.loads(args.case))))
        return
    source = provenance()  # as of the start
    cases = [
        {
            "family": family,
            "evidence": evidence,
            "frames": frames,
            "layers": args.layers,
            "side": args.side,
            "max_views": args.max_views,
            "threads": args.threads,
        }
        for family in args.families
        for evidence in EVIDENCE
        for frames in args.frames
    ]
    with counting_bar() as bar:
        rows = [run(case) for case in bar.track(cases, description="encoding")]
    ratios = growth(rows)
    print(table(rows, ratios).text(terminal_width()))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        result = {"unit": "bytes", "limit": LIMIT, "growth": ratios, "rows": rows, "provenance": source}
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if not all(entry["within"] for entry in ratios):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

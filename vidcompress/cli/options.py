"""Options that several commands share, each described once."""

from __future__ import annotations

import re
from typing import Annotated

import typer

Question = Annotated[str, typer.Option("--question", "-q", help="What to ask.")]
# Text, not Path, which would take a slash from a URL and have it called a missing file.
Images = Annotated[
    list[str] | None,
    typer.Option("--image", "--images", help="A picture; repeat it for several.", show_default=False),
]
Video = Annotated[str | None, typer.Option(help="A video file, or a folder of frames.")]
Model = Annotated[
    str | None,
    typer.Option(help="Embedded model (see `models`), folder, or hub id.", show_default="tiny-onevision"),
]
NumFrames = Annotated[
    int | None, typer.Option(help="Frames taken from a video.", show_default="the checkpoint's, else 32")
]
Fps = Annotated[float | None, typer.Option(help="Frames taken per second, instead.")]
Backend = Annotated[str, typer.Option(help="Video decoder: auto, pyav, decord, torchcodec or pillow.")]
TimeInstruction = Annotated[
    bool, typer.Option(help="Tell LLaVA-Video when its frames were taken, as in its training.")
]
MaxNewTokens = Annotated[int, typer.Option(help="Longest answer, in tokens.")]
Policy = Annotated[str, typer.Option(help="exact (the budget to the token) or reference (as published).")]
Separators = Annotated[
    str | None, typer.Option(help="Newline tokens: keep, thin or drop.", show_default="the policy's")
]
Positions = Annotated[str | None, typer.Option(help="contiguous or original.", show_default="the method's")]
EncoderSaving = Annotated[
    str,
    typer.Option(
        help="off; frames: frames like an earlier one are not encoded, `frames:0.2:0.05` sets how like; crops: nor are "
        "crops that globalcom2:allocation=gated gives nothing; frames+crops."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of whatever is drawn at random.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...", show_default="cuda if any")]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, float16, bfloat16 or auto.", show_default="float32 on cpu, else auto"),
]
Attention = Annotated[
    str | None, typer.Option(help="sdpa, eager, flash_attention_2, ...", show_default="transformers' choice")
]
DeviceMap = Annotated[
    str | None, typer.Option(help="auto, ...: spread the model over devices.", show_default=False)
]
Quantization = Annotated[
    str | None, typer.Option(help="4bit or 8bit decoder; needs bitsandbytes.", show_default=False)
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Lay pictures out as published numbers do: 2880 (LLaVA-NeXT; 672 x 672, no unpadding, no newlines).",
        show_default="the model's own layout",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_size(name: str, text: str) -> tuple[int, int]:
    """(height, width) from "640x480"."""
    from vidcompress.errors import ArgumentError

    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip(), re.IGNORECASE)
    if found is None:
        raise ArgumentError(f"{name}={text!r}: must be WIDTHxHEIGHT in pixels, such as 640x480")
    return int(found[2]), int(found[1])

"""`vidcompress cost`: operations, memory and roofline time on paper, from a config alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.cli.library_output import quiet
from vidcompress.cli.options import (
    COMPRESSION,
    INPUT,
    MODEL,
    OUTPUT,
    Json,
    MethodOption,
    Preset,
    compression_config,
    read_options,
    read_size,
)
from vidcompress.cli.show import show

if TYPE_CHECKING:
    from vidcompress.core.config import CompressionConfig

HEADLINE = {"method": "globalcom2", "retention_ratio": "0.1"}
"""Row of the table beside the uncompressed model where no method is named."""


def cost(
    visual_tokens: Annotated[
        int | None,
        typer.Option(
            help="Visual tokens of a prompt, without separators.", show_default="2880", rich_help_panel=INPUT
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--image",
            "--size",
            "-i",
            help="Instead of those, a picture of this size in pixels.",
            metavar="<w>x<h>",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="How many such pictures.", rich_help_panel=INPUT)] = 1,
    preset: Preset = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            "-n",
            help="Instead, or beside the picture, a clip of so many frames.",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    frame_size: Annotated[
        str | None,
        typer.Option(
            help="Width and height of its frames in pixels, of families that take any (Qwen-VL).",
            metavar="<w>x<h>",
            show_default="640x480",
            rich_help_panel=INPUT,
        ),
    ] = None,
    text_tokens: Annotated[
        int, typer.Option(help="Tokens of the prompt's text.", rich_help_panel=INPUT)
    ] = 64,
    batch_size: Annotated[int, typer.Option(help="Prompts at once.", rich_help_panel=INPUT)] = 1,
    method: Annotated[
        str | None,
        typer.Option(
            help="How tokens are chosen (see `methods`).", show_default="none", rich_help_panel=COMPRESSION
        ),
    ] = None,
    option: MethodOption = None,
    retention_ratio: Annotated[
        str | None,
        typer.Option(
            "--retention-ratio",
            "-r",
            help="Share of the visual tokens to keep.",
            metavar="<float>",
            show_default=False,
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Visual tokens to keep, instead of a share.", show_default=False, rich_help_panel=COMPRESSION
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Embedded model, folder, or hub id (only its config.json).",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    geometry: Annotated[
        str | None,
        typer.Option(
            "--geometry",
            "-g",
            help="Instead, a named one: llava-next-7b, llava-next-13b, llava-next-mistral-7b, llava-onevision-0.5b, "
            "llava-onevision-7b, llava-video-7b, llava-1.5-7b, internvl3.5-8b, qwen2.5-vl-7b, qwen3-vl-8b, "
            "qwen3.5-27b or gemma-3-4b.",
            show_default="llava-next-7b",
            rich_help_panel=MODEL,
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, float16 or bfloat16.", rich_help_panel=MODEL)
    ] = "bfloat16",
    new_tokens: Annotated[int, typer.Option(help="Tokens that are generated.", rich_help_panel=OUTPUT)] = 1,
    as_json: Json = False,
) -> None:
    """Say what a run costs on paper: operations by three conventions, memory, and roofline time by device.

    Nothing is loaded or run: a config is enough. Without a method the table has globalcom2 at 10 % beside the
    uncompressed model, and --json describes the uncompressed model.
    """
    from vidcompress.errors import ArgumentError

    if model is not None and geometry is not None:
        raise ArgumentError(
            f"--model={model!r} and --geometry={geometry!r} exclude each other; pass one of them"
        )
    named = method is not None or retention_ratio is not None or max_tokens is not None
    name = method or HEADLINE["method"]
    options = read_options(name, option or [])
    asked: dict[str, Any] = {
        "visual_tokens": visual_tokens,
        "size": None if size is None else read_size("--image", size),
        "images": images,
        "preset": preset,
        "frames": frames,
        "frame_size": None if frame_size is None else read_size("--frame-size", frame_size),
        "text_tokens": text_tokens,
        "new_tokens": new_tokens,
        "batch_size": batch_size,
        "dtype": dtype,
    }
    with quiet():
        from vidcompress.tools.cost import estimate
        from vidcompress.tools.cost.model import check_geometry
        from vidcompress.tools.cost.table import cost_tables

        if geometry is not None:
            check_geometry(geometry)
        of = next((name for name in (model, geometry) if name is not None), "llava-next-7b")
        whole = estimate(of, **asked)
        rows = [whole]
        if named and method != "none" or not (named or as_json):
            config = _config(name, options, retention_ratio=retention_ratio, max_tokens=max_tokens)
            rows.append(estimate(of, **asked, config=config))
    if as_json:
        typer.echo(json.dumps(_entry(rows), ensure_ascii=False))
        return
    for number, block in enumerate(cost_tables(rows)):
        if number:
            typer.echo()
        show(block)


def _config(method: str, options: dict[str, Any], **budget: Any) -> CompressionConfig:
    """Return the configuration of the last row, at the headline's share where no budget is stated."""
    if set(budget.values()) == {None} and method != "none":
        budget["retention_ratio"] = HEADLINE["retention_ratio"]
    return compression_config(method, options, None, **budget)


def _entry(rows: list[Any]) -> dict[str, Any]:
    """Return the last row; where it compresses, with the uncompressed one and the speed-up that operations allow."""
    entry: dict[str, Any] = rows[-1].to_dict()
    if len(rows) > 1:
        first = rows[0].to_dict()
        entry["uncompressed"] = first
        entry["allowed_ratio"] = first["prefill_flops"]["everything"] / entry["prefill_flops"]["everything"]
    return entry

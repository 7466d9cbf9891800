"""`vidcompress compare`: one input, several methods and budgets side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vidcompress.cli.ask import (
    check_media,
    check_numbers,
    check_overlay,
    check_page,
    save_pictures,
    save_text,
    say_remarks,
)
from vidcompress.cli.library_output import loading, quiet
from vidcompress.cli.options import (
    COMPRESSION,
    FILE,
    OUTPUT,
    Attention,
    Backend,
    Device,
    DeviceMap,
    Dtype,
    EncoderSaving,
    Fps,
    FramesOrAll,
    Images,
    Json,
    Masks,
    Mass,
    MassCap,
    MassStrength,
    MaxNewTokens,
    Methods,
    Model,
    Only,
    Page,
    Policy,
    Positions,
    Preset,
    Quantization,
    Seed,
    Separators,
    TimeInstruction,
    Video,
    ViewText,
    check_masks,
)
from vidcompress.cli.question import Media, Questions, Text, read_asked
from vidcompress.cli.show import show
from vidcompress.progress import decoding_progress


def compare(
    text: Text = None,
    media: Media = None,
    question: Questions = None,
    image: Images = None,
    video: Video = None,
    num_frames: FramesOrAll = None,
    fps: Fps = None,
    backend: Backend = "auto",
    time_instruction: TimeInstruction = True,
    preset: Preset = None,
    methods: Methods = None,
    only: Only = False,
    retention_ratios: Annotated[
        str | None,
        typer.Option(
            "--retention-ratios",
            "-r",
            help="Shares of the visual tokens to try.",
            metavar="<r,r,...>",
            show_default="0.5,0.25,0.1",
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    max_tokens: Annotated[
        str | None,
        typer.Option(
            help="Numbers of visual tokens to try, instead.", metavar="<n,n,...>", rich_help_panel=COMPRESSION
        ),
    ] = None,
    policy: Policy = "exact",
    separators: Separators = None,
    positions: Positions = None,
    encoder_saving: EncoderSaving = "off",
    view_text: ViewText = "keep",
    mass: Mass = None,
    mass_strength: MassStrength = 1.0,
    mass_cap: MassCap = None,
    seed: Seed = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    attn_implementation: Attention = None,
    device_map: DeviceMap = None,
    quantization: Quantization = None,
    repeats: Annotated[
        int,
        typer.Option(
            help="Runs of every row; the first of several is not counted, a single one is.",
            rich_help_panel=OUTPUT,
        ),
    ] = 3,
    max_new_tokens: MaxNewTokens = 64,
    overlay: Annotated[
        Path | None,
        typer.Option(
            "--overlay",
            "-o",
            help="Write one picture of what every method kept at every budget.",
            metavar=FILE,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    html: Page = None,
    masks: Masks = False,
    as_json: Json = False,
) -> None:
    """Ask one question with several methods and budgets, beside the uncompressed model, and time them in turns."""
    check_numbers(max_new_tokens, seed)
    check_masks(masks, as_json)
    one = read_asked("compare", text, media, question, image, video)
    check_overlay(overlay, bool(one.images) or one.video is not None)
    check_page(html, bool(one.images) or one.video is not None)
    check_media(one.images, one.video)
    given = {
        "policy": policy,
        "separators": separators,
        "positions": positions,
        "encoder_saving": encoder_saving,
        "view_text": view_text,
        "mass": mass,
        "mass_strength": mass_strength,
        "mass_cap": mass_cap,
    }
    common: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    asked: dict[str, Any] = {
        "methods": None if not methods else ",".join(methods),
        "retention_ratios": None if retention_ratios is None else _listed(retention_ratios),
        "max_tokens": None if max_tokens is None else [_whole(part) for part in _listed(max_tokens)],
        "controls": not only,
        "repeats": repeats,
        "seed": seed,
    }
    about: dict[str, Any] = {"images": one.images or None, "video": one.video}
    with quiet():
        with loading(model):
            if seed is not None:
                from transformers import set_seed

                set_seed(seed)
            from vidcompress.qa import VisualQA
            from vidcompress.qa.compare.grid import plan_comparison
            from vidcompress.tools.runs.provenance import provenance

            # Errors that need no model are raised before one is loaded.
            plan_comparison({"question": one.question, **about}, common=common, **asked)
            qa = VisualQA.from_pretrained(
                model,
                device=device,
                dtype=dtype,
                attn_implementation=attn_implementation,
                device_map=device_map,
                quantization=quantization,
                preset=preset,
                num_frames=num_frames,
                fps=fps,
                backend=backend,
                time_instruction=time_instruction,
                **common,
            )
        with decoding_progress():
            comparison = qa.compare(one.question, **about, **asked, max_new_tokens=max_new_tokens)
        if overlay is not None:
            save_pictures([comparison.overlay()], overlay)
        if html is not None:
            save_text("--html", comparison.html(), html)
        entry = comparison.to_dict(provenance(), masks=masks) if as_json else {}
    if as_json and comparison.baseline.answer is not None:  # else below the table
        say_remarks(comparison.baseline.answer.report.notes)
    if as_json:
        files = {"overlay": overlay, "html": html}
        files_said = {name: None if path is None else str(path) for name, path in files.items()}
        typer.echo(json.dumps({**entry, **files_said}, ensure_ascii=False))
        return
    show(comparison.table())
    for path in filter(None, (overlay, html)):
        typer.echo(f"wrote {path}", err=True)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(text: str) -> int:
    from vidcompress.errors import ArgumentError

    try:
        return int(text)
    except ValueError:
        raise ArgumentError(
            f"--max-tokens={text!r}: must be whole numbers with commas between them, as 128,64"
        ) from None

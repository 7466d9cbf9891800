"""`vidcompress ask`: one question about an image, several images or a video."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.checks import DEFAULT_MAX_FRAMES
from vidcompress.cli.library_output import loading, quiet
from vidcompress.cli.options import (
    COMPRESSION,
    FILE,
    INPUT,
    OUTPUT,
    Attention,
    Backend,
    Device,
    DeviceMap,
    Dtype,
    EncoderSaving,
    Fps,
    FramesOrAll,
    Hold,
    Images,
    Json,
    Masks,
    Mass,
    MassCap,
    MassStrength,
    MaxFrames,
    MaxNewTokens,
    MethodOption,
    Model,
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
    compression_config,
    read_options,
)
from vidcompress.cli.question import Media, Questions, Text, read_asked
from vidcompress.progress import decoding_progress

if TYPE_CHECKING:
    from PIL.Image import Image

    from vidcompress.qa import Answer, VisualQA
    from vidcompress.qa.animation import Animation

STILL = (".png", ".jpg", ".jpeg", ".webp")


def ask(
    text: Text = None,
    media: Media = None,
    question: Questions = None,
    image: Images = None,
    video: Video = None,
    memory: Annotated[
        Path | None,
        typer.Option(
            help="A memory of a clip, from `vidcompress remember`, instead of --video.",
            metavar=FILE,
            rich_help_panel=INPUT,
        ),
    ] = None,
    num_frames: FramesOrAll = None,
    fps: Fps = None,
    max_frames: MaxFrames = None,
    backend: Backend = "auto",
    time_instruction: TimeInstruction = True,
    preset: Preset = None,
    method: Annotated[
        str, typer.Option(help="How tokens are chosen (see `methods`).", rich_help_panel=COMPRESSION)
    ] = "globalcom2",
    retention_ratio: Annotated[
        str | None,
        typer.Option(
            "--retention-ratio",
            "-r",
            help="Share of the visual tokens to keep, above 0 and up to 1.",
            metavar="<float>",
            show_default="0.25",
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Visual tokens to keep, instead of a share.", rich_help_panel=COMPRESSION),
    ] = None,
    policy: Policy = "exact",
    separators: Separators = None,
    positions: Positions = None,
    encoder_saving: EncoderSaving = "off",
    view_text: ViewText = "keep",
    hold: Hold = None,
    mass: Mass = None,
    mass_strength: MassStrength = 1.0,
    mass_cap: MassCap = None,
    option: MethodOption = None,
    seed: Seed = None,
    model: Model = None,
    device: Device = None,
    dtype: Dtype = None,
    attn_implementation: Attention = None,
    device_map: DeviceMap = None,
    quantization: Quantization = None,
    max_new_tokens: MaxNewTokens = 64,
    overlay: Annotated[
        Path | None,
        typer.Option(
            "--overlay",
            "-o",
            help="Write a picture of what was kept: .png, .jpg, .webp; of a clip also .gif, .mp4.",
            metavar=FILE,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    html: Page = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Print what the commander said of each view and what the view got, to stderr.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    masks: Masks = False,
    as_json: Json = False,
) -> None:
    """Ask a question about pictures, a clip or both; with none of them, about text only.

    The answer goes to stdout, the report to stderr.
    """
    check_numbers(max_new_tokens, seed)
    check_masks(masks, as_json)
    asked = read_asked("ask", text, media, question, image, video)
    clip_alone = asked.video is not None and not asked.images
    check_overlay(overlay, bool(asked.images) or asked.video is not None, animated=clip_alone)
    check_page(html, bool(asked.images) or asked.video is not None)
    check_media(asked.images, asked.video)
    options = read_options(method, option or [])
    with quiet():
        with loading(model):
            if seed is not None:
                from transformers import set_seed

                set_seed(seed)
            from vidcompress.qa import VisualQA

            config = compression_config(
                method,
                options,
                seed,
                retention_ratio=retention_ratio,
                max_tokens=max_tokens,
                policy=policy,
                separators=separators,
                positions=positions,
                encoder_saving=encoder_saving,
                view_text=view_text,
                hold=hold,
                mass=mass,
                mass_strength=mass_strength,
                mass_cap=mass_cap,
            )
            qa = VisualQA.from_pretrained(
                model,
                config=config,
                device=device,
                dtype=dtype,
                attn_implementation=attn_implementation,
                device_map=device_map,
                quantization=quantization,
                preset=preset,
                num_frames=num_frames,
                fps=fps,
                max_frames=DEFAULT_MAX_FRAMES if max_frames is None else max_frames,
                backend=backend,
                time_instruction=time_instruction,
            )
        with decoding_progress():
            answer = qa.ask(
                asked.question,
                images=asked.images or None,
                video=asked.video,
                memory=memory,
                max_tokens=max_tokens if memory is not None else None,
                max_new_tokens=max_new_tokens,
            )
        from vidcompress.qa.animation import ENDINGS

        draw = answer.animation if overlay and overlay.suffix.lower() in ENDINGS else answer.overlay
        pictures = [draw(index) for index in range(len(answer.media))] if overlay else []
        drawn = save_pictures(pictures, overlay) if overlay else []
        if html is not None:
            save_text("--html", answer.html(), html)
    said = say_remarks(answer.report.notes)
    entry = _entry(answer, qa, model, drawn, masks)
    entry["html"] = None if html is None else str(html)
    if as_json:
        typer.echo(json.dumps(entry, ensure_ascii=False))
    else:
        _print(answer, entry, said)
    if explain:
        from vidcompress.table import terminal_width

        print(answer.report.explain(terminal_width(stderr=True)), file=sys.stderr)


def check_numbers(max_new_tokens: int, seed: int | None) -> None:
    """Refuse bad numbers before a model is loaded."""
    from vidcompress.checks import whole_number

    whole_number("max_new_tokens", max_new_tokens)
    if seed is not None:
        whole_number("seed", seed, least=0, most=2**32 - 1)


def check_media(images: list[str], video: str | None) -> None:
    """Refuse missing files before a model is loaded."""
    from vidcompress.media.images.image import local_path

    for path in images:
        local_path(path, "image")
    if video is not None and not Path(video).is_dir():
        local_path(video, "video")


def say_remarks(notes: list[str]) -> list[str]:
    """Print to stderr the note that no model was named, if it is among the notes; return the printed notes."""
    from vidcompress.qa.question import REMARK

    if REMARK not in notes:
        return []
    print(f"vidcompress: note: {REMARK}", file=sys.stderr)
    return [REMARK]


def check_overlay(path: Path | None, media: bool, *, animated: bool | None = None) -> None:
    """Refuse a picture that cannot be written or drawn, before a model is loaded.

    Args:
        path: the file to write; None for no picture.
        media: whether there is an image or a clip to draw over.
        animated: whether .gif and .mp4 are allowed; None for a command that writes neither.
    """
    from vidcompress.errors import ArgumentError

    if path is None:
        return
    from vidcompress.qa.animation import ENDINGS

    if not media:
        raise ArgumentError(
            f"--overlay={str(path)!r}: there is nothing to draw over; add a picture or a clip"
        )
    if path.suffix.lower() in ENDINGS and animated is False:
        raise ArgumentError(
            f"--overlay={str(path)!r}: a picture is not animated, only a clip alone is; name a .png, .jpg or .webp, or "
            "ask about a clip without pictures"
        )
    if path.suffix.lower() not in (*STILL, *(ENDINGS if animated else ())):
        more = "" if animated is None else ", or for a clip in .gif or .mp4"
        raise ArgumentError(f"--overlay={str(path)!r}: must end in .png, .jpg or .webp{more}")
    check_place("--overlay", path)


def check_page(path: Path | None, media: bool) -> None:
    """Refuse a page that cannot be written or shows nothing, before a model is loaded.

    Args:
        path: the file to write; None for no page.
        media: whether there is an image or a clip to show.
    """
    from vidcompress.errors import ArgumentError

    if path is None:
        return
    if not media:
        raise ArgumentError(f"--html={str(path)!r}: there is nothing to show; add a picture or a clip")
    check_place("--html", path, (".html", ".htm"))


def check_place(option: str, path: Path, suffixes: Sequence[str] = ()) -> None:
    """Refuse a file whose folder does not exist or may not be written to, or that ends in none of the suffixes."""
    from vidcompress.errors import ArgumentError

    if path.is_dir() or not path.absolute().parent.is_dir():
        what = (
            "is a folder; name a file in it" if path.is_dir() else "its folder does not exist; make it first"
        )
        raise ArgumentError(f"{option}={str(path)!r}: {what}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise ArgumentError(f"{option}={str(path)!r}: its folder may not be written to; name another")
    if suffixes and path.suffix.lower() not in suffixes:
        raise ArgumentError(f"{option}={str(path)!r}: must end in {' or '.join(suffixes)}")


def save_text(option: str, text: str, path: Path) -> None:
    """Write the file of an option, whole or not at all."""
    from vidcompress.errors import VidcompressError, one_line

    part = path.with_stem(f".{path.stem}-part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise VidcompressError(
            f"{option}={str(path)!r}: cannot be written ({one_line(error)}); name another file"
        ) from error


def save_pictures(pictures: Sequence[Image | Animation], path: Path) -> list[str]:
    """Write kept.png, kept-1.png, ...: all of them, or none if one cannot be written."""
    from vidcompress.errors import VidcompressError, one_line

    targets = [path, *(path.with_stem(f"{path.stem}-{index}") for index in range(1, len(pictures)))]
    parts = [target.with_stem(f".{target.stem}-part") for target in targets]
    try:
        for picture, part in zip(pictures, parts, strict=False):
            picture.save(part)
    except (OSError, ValueError) as error:
        for part in parts:
            part.unlink(missing_ok=True)
        raise VidcompressError(
            f"--overlay={str(path)!r}: cannot be written ({one_line(error)}); name another file"
        ) from error
    for part, target in zip(parts, targets, strict=True):
        part.replace(target)
    return [str(target) for target in targets]


def _entry(answer: Answer, qa: VisualQA, model: str | None, drawn: list[str], masks: bool) -> dict[str, Any]:
    from vidcompress.core.devices import input_device
    from vidcompress.loading.load import DEFAULT_MODEL

    details = answer.to_dict(masks=masks)
    return {
        "answer": details.pop("answer"),
        "question": details.pop("question"),
        "model": model or DEFAULT_MODEL,
        **details,
        "device": str(input_device(qa.model)),
        "dtype": str(qa.model.dtype).removeprefix("torch."),
        "attn_implementation": str(getattr(qa.model.config, "_attn_implementation", "")),
        "overlay": drawn,
    }


def _print(answer: Answer, entry: dict[str, Any], said: list[str]) -> None:
    """Print only the answer to stdout, and the report to stderr.

    Args:
        answer: the answer.
        entry: from `_entry`.
        said: notes that were printed to stderr before.
    """
    from rich.console import Console

    from vidcompress.table import terminal_width

    # Lines are not broken: in a pipe the answer would be broken at 80 columns.
    out, err = (
        Console(stderr=stderr, highlight=False, emoji=False, soft_wrap=True) for stderr in (False, True)
    )
    out.print(answer.text, style="bold", markup=False)
    if not answer.text:
        err.print("(no words)", style="dim", markup=False)
    report = replace(answer.report, notes=[note for note in answer.report.notes if note not in said])
    err.print(report.text(terminal_width(stderr=True)), style="dim", markup=False)
    for path in (*entry["overlay"], *filter(None, [entry.get("html")])):
        err.print(f"wrote {path}", style="dim", markup=False)

"""Options that several commands share, each described once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vidcompress.core.config import CompressionConfig

INPUT, COMPRESSION, MODEL, OUTPUT = "Input", "Compression", "Model", "Output"
"""Panels of the help, in this order."""
FILE = "<file>"
PLACE = "<file|folder>"
PLOT_PATH = (
    "A folder gets .svg and .png, a path with a suffix (.png, .pdf, ...) is one file. Needs matplotlib."
)
"""Help of --plot in every command that has it."""

# Text, not Path, which would change the slashes of a URL and report it as a missing file.
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        "--images",
        "-i",
        help="A picture; repeat it for several.",
        metavar=FILE,
        show_default=False,
        rich_help_panel=INPUT,
    ),
]
Video = Annotated[
    str | None,
    typer.Option(
        "--video", "-v", help="A video file, or a folder of frames.", metavar=FILE, rich_help_panel=INPUT
    ),
]
NumFrames = Annotated[
    int | None,
    typer.Option(
        "--num-frames",
        "-n",
        help="Frames taken from a video.",
        show_default="the checkpoint's, else 32",
        rich_help_panel=INPUT,
    ),
]


def _frames_or_all(text: str) -> int | str:
    """Read `--num-frames`: a whole number, or "all"."""
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no whole number of frames, and not 'all'") from None


FramesOrAll = Annotated[
    Any,
    typer.Option(
        "--num-frames",
        "-n",
        parser=_frames_or_all,
        help="Frames taken from a video; 'all' for every one, up to the most.",
        metavar="<int|all>",
        show_default="the checkpoint's, else 32",
        rich_help_panel=INPUT,
    ),
]
MaxFrames = Annotated[
    int | None,
    typer.Option(help="Most frames of a video.", show_default="300", rich_help_panel=INPUT),
]
Hold = Annotated[
    float | None,
    typer.Option(
        help="For clips, tokens held per token of the budget, 2 or more: memory stays bounded.",
        show_default="the whole clip",
        rich_help_panel=COMPRESSION,
    ),
]
Fps = Annotated[float | None, typer.Option(help="Frames taken per second, instead.", rich_help_panel=INPUT)]
Backend = Annotated[
    str,
    typer.Option(help="Video decoder: auto, pyav, decord, torchcodec or pillow.", rich_help_panel=INPUT),
]
TimeInstruction = Annotated[
    bool,
    typer.Option(
        help="Tell the model when its frames were taken, as in its training.",
        rich_help_panel="LLaVA-Video",  # with others, names of such a length would be cut at 80 columns
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Lay pictures out as published numbers do: 2880 (LLaVA-NeXT; 672 x 672, no unpadding, no newlines).",
        show_default="the model's own layout",
        rich_help_panel=INPUT,
    ),
]
MethodOption = Annotated[
    list[str] | None,
    typer.Option(
        help="An option of the method, such as tau=5; repeatable.",
        metavar="<name>=<value>",
        show_default=False,
        rich_help_panel=COMPRESSION,
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="Methods, with commas between them or one at a time; options as in globalcom2:tau=5.",
        metavar="<m,m,...>",
        show_default="all that serve the input",
        rich_help_panel=COMPRESSION,
    ),
]
Only = Annotated[
    bool,
    typer.Option(
        "--only",
        help="Leave out the controls random and uniform unless named.",
        rich_help_panel=COMPRESSION,
    ),
]
Policy = Annotated[
    str,
    typer.Option(
        help="exact (the budget to the token) or reference (as published).", rich_help_panel=COMPRESSION
    ),
]
Separators = Annotated[
    str | None,
    typer.Option(
        help="Newline tokens: keep, thin or drop.", show_default="the policy's", rich_help_panel=COMPRESSION
    ),
]
Positions = Annotated[
    str | None,
    typer.Option(
        help="contiguous, original or scaled.", show_default="the method's", rich_help_panel=COMPRESSION
    ),
]
EncoderSaving = Annotated[
    str,
    typer.Option(
        help="off; frames: frames like an earlier one are not encoded, `frames:threshold=0.2,area=0.05` sets how like; "
        "crops: nor are crops that globalcom2:allocation=gated gives nothing; frames+crops.",
        rich_help_panel=COMPRESSION,
    ),
]
_VIEW_TEXT = "keep; drop: times of frames and the like leave the prompt with views that keep nothing."
ViewText = Annotated[str, typer.Option(help=_VIEW_TEXT, rich_help_panel=COMPRESSION)]
SweepViewText = Annotated[
    str | None, typer.Option(help=_VIEW_TEXT, show_default="keep", rich_help_panel=COMPRESSION)
]
Mass = Annotated[
    str | None,
    typer.Option(
        help="on: attention weighs a kept token by the number of tokens it stands for; off.",
        show_default="the method's",
        rich_help_panel=COMPRESSION,
    ),
]
_MASS_STRENGTH = "Factor of the mass, at least 0; 0 is off."
MassStrength = Annotated[float, typer.Option(help=_MASS_STRENGTH, rich_help_panel=COMPRESSION)]
SweepMassStrength = Annotated[
    float | None, typer.Option(help=_MASS_STRENGTH, show_default="1.0", rich_help_panel=COMPRESSION)
]
MassCap = Annotated[
    float | None,
    typer.Option(
        help="Largest mass that counts, in tokens, at least 1.",
        show_default="no limit",
        rich_help_panel=COMPRESSION,
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Seed of whatever is drawn at random.", rich_help_panel=COMPRESSION)
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Embedded model (see `models`), folder, or hub id.",
        show_default="tiny-onevision",
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, ...", show_default="cuda if any", rich_help_panel=MODEL),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float32, float16, bfloat16, or auto: the checkpoint's own.",
        show_default="float32 on cpu, else auto",
        rich_help_panel=MODEL,
    ),
]
Attention = Annotated[
    str | None,
    typer.Option(
        help="sdpa, eager, flash_attention_2, ...", show_default="transformers' choice", rich_help_panel=MODEL
    ),
]
DeviceMap = Annotated[
    str | None,
    typer.Option(help="auto, ...: spread the model over devices.", show_default=False, rich_help_panel=MODEL),
]
Quantization = Annotated[
    str | None,
    typer.Option(help="4bit or 8bit decoder; needs bitsandbytes.", show_default=False, rich_help_panel=MODEL),
]
MaxNewTokens = Annotated[int, typer.Option(help="Longest answer, in tokens.", rich_help_panel=OUTPUT)]
Masks = Annotated[
    bool,
    typer.Option(
        "--masks",
        help="With --json: add the kept tokens of each view, as lengths of runs.",
        rich_help_panel=OUTPUT,
    ),
]
Page = Annotated[
    Path | None,
    typer.Option(
        "--html",
        help="Write a page to look at what was kept: one .html file that needs no other.",
        metavar=FILE,
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.", rich_help_panel=OUTPUT)]


def check_masks(masks: bool, as_json: bool) -> None:
    """Refuse --masks where nothing shows them.

    Raises:
        ArgumentError: masks without JSON.
    """
    from vidcompress.errors import ArgumentError

    if masks and not as_json:
        raise ArgumentError("--masks goes with --json only; add --json, or use --overlay for a picture")


def read_size(name: str, text: str) -> tuple[int, int]:
    """Return (height, width) from "640x480"."""
    from vidcompress.errors import ArgumentError

    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip(), re.IGNORECASE)
    if sides is None:
        raise ArgumentError(f"{name}={text!r}: must be WIDTHxHEIGHT in pixels, such as 640x480")
    return int(sides[2]), int(sides[1])


def read_list(text: str | None) -> list[str]:
    """Return the parts between commas; none of None."""
    return [] if text is None else [part.strip() for part in text.split(",") if part.strip()]


def read_numbers(name: str, text: str | None) -> list[int]:
    """Return whole numbers between commas.

    Args:
        name: of the parameter, for the message.
        text: of its option; None gives no numbers.

    Raises:
        ArgumentError: one is none.
    """
    from vidcompress.errors import ArgumentError

    try:
        return [int(part) for part in read_list(text)]
    except ValueError:
        raise ArgumentError(
            f"--{name.replace('_', '-')}={text!r}: must be whole numbers with commas between them, as 8,32"
        ) from None


def compression_config(
    method: str, options: dict[str, Any], seed: int | None, **fields: Any
) -> CompressionConfig:
    """Return the configuration of a command line.

    Args:
        method: its name, or a text with options.
        options: of the method, from `read_options`.
        seed: used where the method has such an option and it is not set otherwise.
        fields: of `CompressionConfig`.

    Raises:
        ArgumentError, BudgetError: as `CompressionConfig`.
    """
    from vidcompress.core.config import DEFAULT_RATIO, read_config, takes_seed

    config = read_config({"method": method, **options, **fields}, default_ratio=DEFAULT_RATIO)
    if seed is not None and "seed" not in options and takes_seed(config, method):
        return config.replace(seed=seed)
    return config


def read_options(method: str, pairs: list[str]) -> dict[str, Any]:
    """Read the options of a method from NAME=VALUE pairs, values as JSON where they are JSON.

    Raises:
        ArgumentError: a pair of another form, or an option that the method does not have.
    """
    from vidcompress.core.method import METHODS
    from vidcompress.core.method_lookup import options_of
    from vidcompress.core.method_spec import read_value
    from vidcompress.errors import ArgumentError, nearest

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ArgumentError(f"--option={pair!r}: must look like NAME=VALUE, for example --option tau=5")
        allowed = options_of(method) if method in METHODS.names() else {name}
        if name not in allowed:
            raise ArgumentError(
                f"--option={pair!r}: method {method!r} has no option {name!r}; {nearest(name, allowed)} (what is "
                "not an option of the method has a flag of its own: see vidcompress ask --help)"
            )
        options[name] = read_value(value)
    return options

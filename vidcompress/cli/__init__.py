"""Command line of `vidcompress`; `vidcompress --help` lists its commands.

Results go to stdout, everything else to stderr. Exit codes: 0 for success, 1 for a failure, 2 for bad usage, 130 after
Ctrl-C.
VIDCOMPRESS_TRACEBACK=1 shows where an error comes from; VIDCOMPRESS_LOG=INFO (or DEBUG) writes to stderr which model is
loaded and which tokens are kept.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated

import typer

from vidcompress.cli.ask import ask
from vidcompress.cli.bench import bench
from vidcompress.cli.clips.remember import remember
from vidcompress.cli.clips.watch import watch
from vidcompress.cli.compare import compare
from vidcompress.cli.cost import cost
from vidcompress.cli.doctor import doctor
from vidcompress.cli.eval import evaluate
from vidcompress.cli.help_text import Command, Group, examples
from vidcompress.cli.interrupt import INTERRUPTED, say_interrupted
from vidcompress.cli.listings import methods, models
from vidcompress.cli.payoff.tune import tune
from vidcompress.cli.results import results
from vidcompress.cli.serve import serve
from vidcompress.cli.serving.serve_model import serve_model
from vidcompress.cli.suite import suite

HUB = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
EXAMPLES = {
    "ask": (
        'vidcompress ask "what digit is shown?" examples/scene.png -r 0.1',
        f'vidcompress ask -m {HUB} \\\n    "what happens?" clip.mp4 -n 16 -r 0.25 -o kept.png',
    ),
    "remember": (
        "vidcompress remember examples/clip.mp4 -o clip.memory --max-tokens 60",
        f"vidcompress remember day.mp4 -m {HUB} \\\n    --fps 1 --max-frames 20000 -o day.memory",
    ),
    "watch": (
        "vidcompress watch live.ts --fps 2 --max-tokens 500",
        f"vidcompress watch live.ts -m {HUB} \\\n    --idle 5 --at-end --json",
    ),
    "compare": (
        'vidcompress compare "what digit is shown?" examples/scene.png',
        f'vidcompress compare -m {HUB} \\\n    "what is this?" photo.jpg --methods globalcom2,fastv -r 0.25,0.1',
    ),
    "bench": (
        "vidcompress bench -g llava-onevision-0.5b --frames 8 --methods globalcom2",
        "vidcompress bench -m tiny-onevision --sizes 672x672 -r 0.25,0.1 -o bench.json",
    ),
    "cost": (
        "vidcompress cost -g llava-next-7b -i 672x672 --method globalcom2 -r 0.1",
        f"vidcompress cost -m {HUB} -n 32 -r 0.25",
    ),
    "eval": (
        "vidcompress eval -t shapes:image --limit 100 -r 0.25,0.1 -o runs/first",
        f"vidcompress eval -m {HUB} \\\n    -d my-benchmark/ --methods globalcom2,random",
    ),
    "tune": (
        "vidcompress tune -t shapes:image --limit 300 --method census",
        f"vidcompress tune -m {HUB} \\\n    -d my-questions/ -r 0.5,0.25,0.1 --agreement 0.95",
    ),
    "results": (
        "vidcompress results runs/first --against published --plot plots",
        "vidcompress results runs/second --baseline runs/first --format latex",
    ),
    "app": ("vidcompress app", f"vidcompress app -m {HUB} \\\n    --port 8000 --open"),
    "serve": (
        "vidcompress serve tiny-onevision -r 0.25",
        f"vidcompress serve {HUB} -r 0.25 \\\n    --tensor-parallel 2 -- --api-key SECRET",
    ),
    "doctor": (
        "vidcompress doctor",
        f"vidcompress doctor -m {HUB} \\\n    --size 1280x720 -n 32",
    ),
    "methods": ("vidcompress methods", "vidcompress methods globalcom2"),
    "models": ("vidcompress models", "vidcompress models --json"),
}
"""Examples at the end of each command's help; lines of at most 78 columns, so that they are not broken."""

app = typer.Typer(
    name="vidcompress",
    cls=Group,
    help="Ask vision-language models about images and videos with fewer visual tokens.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _name, _command in (
    ("ask", ask),
    ("remember", remember),
    ("watch", watch),
    ("compare", compare),
    ("bench", bench),
    ("cost", cost),
    ("eval", evaluate),
    ("tune", tune),
    ("results", results),
    ("app", serve),
    ("serve", serve_model),
    ("doctor", doctor),
    ("methods", methods),
    ("models", models),
):
    _passes_on = {"allow_extra_args": True} if _name == "serve" else None  # vLLM's arguments, behind --
    app.command(_name, cls=Command, epilog=examples(*EXAMPLES[_name]), context_settings=_passes_on)(_command)
app.add_typer(suite)


def _print_version(wanted: bool) -> None:
    if wanted:
        from vidcompress import __version__

        typer.echo(f"vidcompress {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: words after the program's name; None takes them from the shell.
    """
    try:
        _log_to_stderr(os.environ.get("VIDCOMPRESS_LOG"))
        code = app(arguments, standalone_mode=False, prog_name="vidcompress")
    except KeyboardInterrupt:
        say_interrupted()
        sys.exit(INTERRUPTED)
    except Exception as error:
        if os.environ.get("VIDCOMPRESS_TRACEBACK"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # has printed the help
            sys.exit(2)
        _fail(_message(error), _exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)


def _log_to_stderr(level: str | None) -> None:
    """Show the package's log, from a level on; None or an empty text shows nothing."""
    if not level:
        return
    import logging

    from vidcompress.errors import ArgumentError

    if level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ArgumentError(f"VIDCOMPRESS_LOG={level!r}: must be DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("vidcompress")
    logger.addHandler(handler)
    logger.setLevel(level.upper())


def _fail(message: str, code: int) -> None:
    print(f"vidcompress: error: {message}", file=sys.stderr)
    sys.exit(code)


def _message(error: Exception) -> str:
    """Return an error as one line."""
    usage = getattr(error, "format_message", None)
    foreign = _foreign(str(getattr(error, "option_name", "")))
    if foreign is not None:
        return foreign
    text = str(usage() if callable(usage) else error).strip() or type(error).__name__
    ours = usage is not None or type(error).__module__.startswith("vidcompress")
    return " ".join(text.split()) if ours else f"{type(error).__name__}: {' '.join(text.split())}"


def _foreign(option: str) -> str | None:
    """Return advice on an option of other programs, such as --load-in-4bit; None for any other."""
    from vidcompress.core.foreign_arguments import LOADING

    advice = LOADING.get(option.removeprefix("--").replace("-", "_"))
    if advice is None or "(" in advice and "qa" in advice.lower():  # advice for Python callers
        return None
    advice = re.sub(
        r"\b([a-z_]+)='(\w+)'", lambda found: f"--{found[1].replace('_', '-')} {found[2]}", advice
    )
    return f"No such option: {option}; {advice}"


def _exit_code(error: Exception) -> int:
    """Return 2 where the caller can correct the command, 1 for an error of the machine, a file or the model."""
    if hasattr(error, "format_message"):
        return int(getattr(error, "exit_code", 2))
    from vidcompress.errors import ArgumentError, UnsupportedInputError

    return 2 if isinstance(error, (ArgumentError, UnsupportedInputError)) else 1

"""The command line: `vidcompress ask | bench | compare | cost | eval | results | suite | doctor | methods | models`.

Results go to stdout, everything else to stderr. Exit codes: 0 for success, 1 for a failure, 2 for bad usage.
Set VIDCOMPRESS_TRACEBACK=1 to see where an error comes from.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .ask import ask
from .bench import bench
from .compare import compare
from .cost import cost
from .doctor import doctor
from .eval import evaluate
from .listings import methods, models
from .results import results
from .suite import suite

app = typer.Typer(
    name="vidcompress",
    help="Ask vision-language models about images and videos with fewer visual tokens.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(ask)
app.command()(compare)
app.command()(bench)
app.command()(cost)
app.command("eval")(evaluate)
app.command()(results)
app.command()(doctor)
app.command()(methods)
app.command()(models)
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
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: words after the program's name; None takes them from the shell.
    """
    try:
        code = app(arguments, standalone_mode=False)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        if os.environ.get("VIDCOMPRESS_TRACEBACK"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # has printed the help
            sys.exit(2)
        _fail(_message(error), _exit_code(error))
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"vidcompress: error: {message}", file=sys.stderr)
    sys.exit(code)


def _message(error: Exception) -> str:
    """One line that says what happened."""
    usage = getattr(error, "format_message", None)
    text = str(usage() if callable(usage) else error).strip() or type(error).__name__
    known = usage is not None or type(error).__module__.startswith("vidcompress")
    return " ".join(text.split()) if known else f"{type(error).__name__}: {' '.join(text.split())}"


def _exit_code(error: Exception) -> int:
    """2 where the caller can mend the command, 1 where the machine, a file or the model is at fault."""
    if hasattr(error, "format_message"):
        return int(getattr(error, "exit_code", 2))
    from vidcompress.errors import ArgumentError, UnsupportedInputError

    return 2 if isinstance(error, (ArgumentError, UnsupportedInputError)) else 1

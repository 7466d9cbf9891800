"""Layout of `--help`: flags without a type, no panel for `--help` alone, and examples at the end."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

from vidcompress.cli.interrupt import interruptible

HELP = {"help_option_names": ["-h", "--help"]}


class Command(TyperCommand):
    """Command whose help fits 80 columns."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(
            *args, **{**given, "context_settings": {**HELP, **(given.get("context_settings") or {})}}
        )
        paragraphs = (self.help or "").split("\n\n")
        self.help = "\n\n".join(
            " ".join(paragraph.split()) for paragraph in paragraphs
        )  # lines are broken again

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` last."""
        return _tidied(super().get_params(ctx))


class Group(TyperGroup):
    """Group of commands, with one line after Ctrl-C and a help that fits 80 columns."""

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(
            *args, **{**given, "context_settings": {**HELP, **(given.get("context_settings") or {})}}
        )

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with interruptible():
            return super().invoke(ctx)

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, `--help` last."""
        return _tidied(super().get_params(ctx))


def _tidied(parameters: list[Any]) -> list[Any]:
    """Hide the type of flags, since they take no value, and move `--help` to the last panel."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    if len(parameters) > 1:
        *_, before, last = parameters
        last.rich_help_panel = getattr(before, "rich_help_panel", None)
    return parameters


def examples(*commands: str) -> str:
    """Return the end of a command's help: examples of commands.

    Args:
        commands: each of one line, or of several that end in a backslash.
    """
    return "\n".join(("Examples:", *commands))

"""Chat templates of checkpoints, which are programs: they run in transformers' sandbox, here with a limit on lines.

The sandbox keeps a template from files and from Python's insides, but not from running for ever. So rendering is
watched line by line, and given up when it takes too many lines, too long, or makes too much text. What one single
expression makes cannot be watched; the ways that are obvious (powers, huge numbers, a repeated text) are refused when
the template is read.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, ValuesView
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vidcompress.checks import unicode_text
from vidcompress.errors import MediaError, one_line, shown

MAX_TEMPLATE = 200_000
"""Longest template, in characters; those of known models have up to 30,000."""

MAX_NUMBER = 1_000_000
"""Largest whole number that may stand in a template."""

MAX_LINES = 200_000
"""Lines of a compiled template that one rendering may execute; an ordinary one takes hundreds."""

MAX_SECONDS = 10.0
"""Longest rendering."""

MAX_ADDED = 20_000
"""Longest prompt in characters, beyond four times the text of the conversation."""

MAX_HELD = 1_000_000
"""Longest text that a template may hold in between, counted likewise."""


def check_template(template: str, origin: str) -> str:
    """Refuse a template that cannot be read, or that makes huge values in one expression.

    Args:
        template: Jinja.
        origin: what it is called in messages.

    Raises:
        MediaError: it is too long, is not Jinja, or holds a power, a huge number or a text times something.
    """
    from jinja2 import Environment, TemplateSyntaxError

    if len(template) > MAX_TEMPLATE:
        raise MediaError(f"{origin}: {len(template)} characters, more than {MAX_TEMPLATE}; fetch it again")
    try:
        tokens = [token for token in Environment().lex(template) if token[1] != "whitespace"]
    except TemplateSyntaxError as error:
        raise MediaError(f"{origin} is not Jinja ({one_line(error)}); fetch the checkpoint again") from error
    for number, (line, kind, text) in enumerate(tokens):
        around = [other[1] for other in tokens[max(0, number - 1) : number + 2]]
        huge = kind == "integer" and int(text.replace("_", ""), 0) > MAX_NUMBER
        if huge or (kind == "operator" and (text == "**" or (text == "*" and "string" in around))):
            raise MediaError(
                f"{origin}: {shown(text)} in line {line} may make a value of any size; fetch the checkpoint again, or "
                "write the prompt yourself"
            )
    return template


def check_conversation(conversation: Any) -> None:
    """Refuse values that are no conversation.

    Raises:
        MediaError: neither a list of messages nor a list of such lists, or a text in it is no Unicode.
    """
    nested = isinstance(conversation, (list, tuple)) and any(
        isinstance(m, (list, tuple)) for m in conversation
    )
    for messages in conversation if nested else [conversation]:
        fine = isinstance(messages, (list, tuple)) and len(messages) > 0
        if not fine or not all(isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in messages):
            raise MediaError(
                f"conversation={shown(conversation)}: must be a list of messages such as "
                "{'role': 'user', 'content': 'what is this?'}, or a list of such lists"
            )
    for text in _texts(conversation):
        unicode_text("conversation", text, error=MediaError)


@contextmanager
def bounded_template(conversation: Any) -> Iterator[None]:
    """Watch a template that is rendered over a conversation inside the block.

    Args:
        conversation: its length decides how much text is plausible.

    Raises:
        MediaError: it fails, does what the sandbox forbids, or does not come to an end.
    """
    before = sys.gettrace()
    sys.settrace(_Watch(_length(conversation)))
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(
            f"the chat template fails over this conversation ({one_line(error)}); see what it expects in the "
            "checkpoint's chat_template.jinja, or write the prompt yourself"
        ) from error
    finally:
        sys.settrace(before)


class _Watch:
    """A trace function of this thread that follows frames of compiled templates and no others."""

    def __init__(self, length: int) -> None:
        self.deadline, self.lines = time.monotonic() + MAX_SECONDS, MAX_LINES
        self.room, self.held = MAX_ADDED + 4 * length, MAX_HELD + 4 * length

    def __call__(self, frame: FrameType, event: str, value: Any) -> Any:
        """Decide, for every function that is entered, whether to follow it."""
        return self._step if frame.f_code.co_filename == "<template>" else None

    def _step(self, frame: FrameType, event: str, value: Any) -> Any:
        self.lines -= 1
        if event == "return" and isinstance(value, str):  # a template yields its text in pieces
            self.room -= len(value)
        held = max((len(text) for text in _values(frame.f_locals) if isinstance(text, str)), default=0)
        if self.lines < 0 or self.room < 0 or held > self.held or time.monotonic() > self.deadline:
            raise MediaError(
                f"the chat template does not come to an end within {MAX_LINES} lines and {MAX_SECONDS:g} seconds, or "
                "makes far more text than it was given; take the template of another checkpoint of this family, or "
                "write the prompt yourself"
            )
        return self._step


def _length(conversation: Any) -> int:
    """Characters of all texts in a conversation."""
    return sum(map(len, _texts(conversation)))


def _texts(conversation: Any) -> Iterator[str]:
    """All texts in a conversation."""
    if isinstance(conversation, str):
        yield conversation
    parts = conversation.values() if isinstance(conversation, Mapping) else conversation
    for part in parts if isinstance(parts, (list, tuple, ValuesView)) else ():
        yield from _texts(part)


def _values(names: Mapping[str, Any]) -> Iterator[Any]:
    """Values of a template's variables, those inside a `namespace()` too."""
    for value in names.values():
        if type(value).__name__.endswith("Namespace"):
            inside = object.__getattribute__(value, "__dict__")
            for kept in (inside, *inside.values()):
                yield from kept.values() if isinstance(kept, dict) else ()
        else:
            yield value

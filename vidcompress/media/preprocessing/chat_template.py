"""Chat templates of checkpoints, which are programs: transformers renders them in a sandbox.

The sandbox keeps a template from files and from Python's insides, but not from running for ever or from filling memory.
Powers, huge numbers and a repeated text are refused when the template is read, and a prompt that is much longer than
its conversation when it is rendered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, ValuesView
from typing import Any

from vidcompress.checks import unicode_text
from vidcompress.errors import MediaError, one_line, shown

MAX_TEMPLATE = 200_000
"""Longest template, in characters; those of known models have up to 30,000."""

MAX_NUMBER = 1_000_000
"""Largest whole number that may stand in a template."""

MAX_ADDED = 20_000
"""Longest prompt in characters, beyond four times the text of the conversation."""


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


def render_template(tokenizer: Any, conversation: Any, **options: Any) -> Any:
    """Prompt of a conversation, or a list of prompts of several, as the tokenizer's `apply_chat_template` renders it.

    Args:
        tokenizer: of transformers.
        conversation: a list of messages, or a list of such lists; its length decides how much text is plausible.
        **options: of `apply_chat_template`.

    Raises:
        MediaError: the template fails, does what the sandbox forbids, or makes far more text than it was given.
    """
    try:
        prompts = tokenizer.apply_chat_template(conversation, tokenize=False, **options)
    except Exception as error:
        raise MediaError(
            f"the chat template fails over this conversation ({one_line(error)}); see what it expects in the "
            "checkpoint's chat_template.jinja, or write the prompt yourself"
        ) from error
    length, most = _length(prompts), MAX_ADDED + 4 * _length(conversation)
    if length > most:
        raise MediaError(
            f"the chat template makes {length} characters of this conversation, more than {most}; take the template of "
            "another checkpoint of this family, or write the prompt yourself"
        )
    return prompts


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

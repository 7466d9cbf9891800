"""Conversations, and chat templates of checkpoints, which write them as prompts.

A template is a program: transformers renders it in a sandbox.

The sandbox keeps a template from files and from Python's internals, but not from running for ever or filling memory.
Powers, huge numbers and a repeated text are refused when the template is read, and a prompt that is much longer than
its conversation is refused when it is rendered.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, ValuesView
from typing import Any, NamedTuple

from vidcompress.checks import unicode_text
from vidcompress.errors import MediaError, one_line, shown

_SOURCES = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}
"""Keys under which a part of a message may hold its picture or clip."""

MAX_TEMPLATE = 200_000
"""Longest template, in characters; known models have up to 30,000."""

MAX_NUMBER = 1_000_000
"""Largest whole number allowed in a template."""

MAX_ADDED = 20_000
"""Longest prompt in characters, beyond four times the text of the conversation."""


def check_template(template: str, origin: str) -> str:
    """Refuse a template that cannot be read, or that makes huge values in one expression.

    Args:
        template: Jinja.
        origin: its name in messages.

    Raises:
        MediaError: the template is too long, is not Jinja, or holds a power, a huge number or a multiplied text.
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
        MediaError: neither a list of messages nor a list of such lists, or a text that is not Unicode.
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
    """Render a conversation to a prompt, or several to a list, with the tokenizer's `apply_chat_template`.

    Args:
        tokenizer: of transformers.
        conversation: a list of messages, or a list of such lists; its length bounds that of the prompt.
        **options: of `apply_chat_template`.

    Raises:
        MediaError: the template fails, violates the sandbox, or makes far more text than the conversation has.
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
    """Count the characters of all texts in a conversation."""
    return sum(map(len, _texts(conversation)))


def _texts(conversation: Any) -> Iterator[str]:
    """Yield all texts in a conversation."""
    if isinstance(conversation, str):
        yield conversation
    parts = conversation.values() if isinstance(conversation, Mapping) else conversation
    for part in parts if isinstance(parts, (list, tuple, ValuesView)) else ():
        yield from _texts(part)


class Parted(NamedTuple):
    """Conversations without their media.

    Attributes:
        conversation: the argument without the sources of pictures and clips.
        batched: whether it is a list of conversations.
        images: sources of the pictures, per conversation.
        videos: sources of the clips, of all conversations in order.
    """

    conversation: Any
    batched: bool
    images: list[list[Any]]
    videos: list[Any]


def part_media(conversation: Any) -> Parted:
    """Take pictures and clips out of a conversation; nothing is opened and the argument is not changed.

    Args:
        conversation: messages, or a list of conversations. A part of a message's content such as
            `{"type": "image", "image": source}` may hold what `load_image` takes, also under `url`, `path` or `base64`,
            or as `{"type": "image_url", "image_url": {"url": source}}`; one of type "video" what `read_video` takes,
            under `video`, `url` or `path`.

    Raises:
        MediaError: invalid base64.
    """
    nested = isinstance(conversation, (list, tuple)) and any(
        isinstance(entry, (list, tuple)) for entry in conversation
    )
    images: list[list[Any]] = []
    videos: list[Any] = []
    written = []
    for messages in conversation if nested else [conversation]:
        if not isinstance(messages, (list, tuple)):
            return Parted(conversation, nested, [], [])  # no conversation; reported elsewhere
        images.append([])
        written.append([_message(message, images[-1], videos) for message in messages])
    return Parted(written if nested else written[0], nested, images, videos)


def _message(message: Any, images: list[Any], videos: list[Any]) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, (list, tuple)):
        return message
    return {**message, "content": [_part(part, images, videos) for part in content]}


def _part(part: Any, images: list[Any], videos: list[Any]) -> Any:
    if not isinstance(part, Mapping):
        return part
    kind = part.get("type")
    if kind == "image_url" and "image_url" in part:
        link = part["image_url"]
        return _part(
            {"type": "image", "url": link.get("url") if isinstance(link, Mapping) else link}, images, videos
        )
    if kind not in ("image", "video"):
        return part
    names = _SOURCES[kind]
    for name in names:
        if part.get(name) is not None:
            (images if kind == "image" else videos).append(_source(part[name], name))
            break
    return {key: value for key, value in part.items() if key not in names}


def _source(value: Any, name: str) -> Any:
    """Return the source of a picture; text in base64 becomes bytes."""
    if not isinstance(value, str):
        return value
    text = value
    if value.startswith("data:"):
        _, encoded, text = value.partition(";base64,")
        if not encoded:
            return value
    elif name != "base64":
        return value
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(
            f"{name}={shown(value)} in the conversation is not base64; pass a path or bytes"
        ) from error

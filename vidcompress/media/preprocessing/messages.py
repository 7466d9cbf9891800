"""Pictures and clips that stand inside a conversation, as transformers' pipelines put them there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from vidcompress.errors import MediaError, shown

_SOURCES = {"image": ("image", "url", "path", "base64"), "video": ("video", "url", "path")}


class Parted(NamedTuple):
    """Conversations without their media.

    Attributes:
        conversation: as it was passed, without the sources of pictures and clips.
        batched: whether it is a list of conversations.
        images: sources of the pictures, per conversation.
        videos: sources of the clips, of all conversations in order.
    """

    conversation: Any
    batched: bool
    images: list[list[Any]]
    videos: list[Any]


def part_media(conversation: Any) -> Parted:
    """Take pictures and clips out of a conversation; nothing is opened and nothing passed in is changed.

    Args:
        conversation: messages, or a list of conversations. A part of a message's content such as
            `{"type": "image", "image": source}` may hold what `load_image` takes, also under `url`, `path` or `base64`,
            or as `{"type": "image_url", "image_url": {"url": source}}`; one of type "video" what `read_video` takes,
            under `video`, `url` or `path`.

    Raises:
        MediaError: base64 that is none.
    """
    nested = isinstance(conversation, (list, tuple)) and any(
        isinstance(entry, (list, tuple)) for entry in conversation
    )
    images: list[list[Any]] = []
    videos: list[Any] = []
    written = []
    for messages in conversation if nested else [conversation]:
        if not isinstance(messages, (list, tuple)):
            return Parted(conversation, nested, [], [])  # no conversation, which is said elsewhere
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
    """What a picture is read from; text in base64 becomes bytes."""
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

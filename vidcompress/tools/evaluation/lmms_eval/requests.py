"""Prompts of lmms-eval requests: text, pictures and a clip as a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np

from vidcompress.errors import UnsupportedInputError
from vidcompress.media import Processor
from vidcompress.qa.question import Media, Question
from vidcompress.tools.evaluation.lmms_eval.frame_rules import FrameRule

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
PLACEHOLDER = "<image>"
"""Placeholder of a picture in the texts of tasks, and in the prompts of the LLaVA families."""
_SOUNDS = {".wav", ".mp3", ".flac", ".ogg", ".m4a", ".opus"}


@dataclass(frozen=True, eq=False)
class RequestPrompt(Question):
    """Prompt of a request: a question in the form of the harness.

    Attributes:
        rule: for its pictures and its clip.
        turns: the conversation of the chat form, for the chat template; empty for the simple form, which is one user
            turn of pictures, clip and text, with placeholders in the text at the places of the pictures.
        placed: whether the text holds the placeholders already.
        system: text of a system turn before all others, or None.
    """

    rule: FrameRule = FrameRule()
    turns: tuple[Mapping[str, Any], ...] = ()
    placed: bool = False
    system: str | None = None

    @property
    def streams(self) -> bool:
        """False: its clip is read by `rule`."""
        return False

    def check_text(self, processor: Any) -> None:
        """Accept any text: placeholders in it are the task's."""

    def open(self, **sampling: Any) -> Media:
        """Open the media by `rule`."""
        pictures = [self.rule.picture(image) for image in self.images]
        return pictures, None if self.video is None else self.rule.read(self.video)

    def messages(self, note: str = "") -> list[dict[str, Any]]:
        """Return the conversation for a chat template; `note` stands before the text of the turn with the clip."""
        before = [] if self.system is None else [_turn("system", self.system)]
        if self.turns:
            return before + _with_note(self.turns, note)
        if self.placed:
            return [*before, _turn("user", f"{note}\n{self.text}" if note else self.text)]
        return before + super().messages(note)


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def simple_prompt(
    text: str,
    visuals: Any,
    rule: FrameRule,
    processor: Processor,
    metadata: Mapping[str, Any],
    system: str | None = None,
) -> RequestPrompt:
    """Make the prompt of a simple request.

    Args:
        text: of the task, with its instructions.
        visuals: from `doc_to_visual`: PIL images, paths, or nothing.
        rule: for pictures and clips.
        processor: its placeholders may stand in the text; else the media stand before it, and `<image>`, the
            placeholder of tasks, is left out, as in lmms-eval's Qwen models.
        metadata: of the request; `task_type: video` with `sample_frames` makes a clip of a list of pictures, of which
            that many are taken, as LLaVA-OneVision's own evaluation does.
        system: text of a system turn before the question, or None.

    Raises:
        UnsupportedInputError: sound, or more than one clip.
    """
    listed = _flat(visuals)
    if PLACEHOLDER not in (processor.image_token, processor.video_token):
        text = text.replace(PLACEHOLDER, "")
    if metadata.get("task_type") == "video" and "sample_frames" in metadata and listed:
        chosen = np.linspace(0, len(listed) - 1, int(metadata["sample_frames"]), dtype=int)
        return RequestPrompt(
            text,
            (),
            [listed[i] for i in chosen],
            rule=replace(rule, frames=len(chosen), fps=None),
            system=system,
        )
    kinds = [_kind(entry) for entry in listed]
    images, video = _sorted_out(listed, kinds)
    image, clip = processor.image_token, processor.video_token
    if video is not None and clip and clip not in text and not images:
        text = text.replace(image, clip)  # tasks have one placeholder for both
    placed = image in text or bool(clip and clip in text)
    return RequestPrompt(text, images, video, rule=rule, placed=placed, system=system)


def chat_prompt(
    messages: Sequence[Mapping[str, Any]], rule: FrameRule, system: str | None = None
) -> RequestPrompt:
    """Make the prompt of a chat request.

    Args:
        messages: `role` and `content`, a list of `{"type": "text", "text"}` and `{"type": "image" | "video", "url"}`.
        rule: for pictures and clips.
        system: text of a system turn before the conversation, or None.

    Raises:
        UnsupportedInputError: sound, or more than one clip.
    """
    turns, media, texts = [], [], []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        written: list[dict[str, Any]] = []
        for part in parts:
            if part["type"] == "text":
                written.append({"type": "text", "text": part["text"]})
                texts.append(part["text"])
            else:
                written.append({"type": part["type"]})
                media.append((part["url"], part["type"]))
        turns.append({"role": message["role"], "content": written})
    images, video = _sorted_out([url for url, _ in media], [kind for _, kind in media])
    return RequestPrompt("\n".join(texts), images, video, rule=rule, turns=tuple(turns), system=system)


def _with_note(turns: Sequence[Mapping[str, Any]], note: str) -> list[dict[str, Any]]:
    """Insert a note before the first text behind the clip, or before the first text of its turn."""
    written = []
    for turn in turns:
        parts = [dict(part) for part in turn["content"]]
        kinds = [part["type"] for part in parts]
        if note and "video" in kinds and "text" in kinds:
            after = kinds.index("video")
            where = kinds.index("text", after) if "text" in kinds[after:] else kinds.index("text")
            parts[where]["text"] = f"{note}\n{parts[where]['text']}"
        written.append({"role": turn["role"], "content": parts})
    return written


def _flat(visuals: Any) -> list[Any]:
    """Flat list of media; tasks return a list of lists, a single picture or path, or nothing."""
    if visuals is None:
        return []
    if not isinstance(visuals, (list, tuple)):
        return [visuals]
    return [inner for entry in visuals for inner in _flat(entry)]


def _kind(entry: Any) -> str:
    """Kind of a medium, as lmms-eval decides: pictures by type or file suffix, every other file is a clip."""
    if hasattr(entry, "getbands"):
        return "image"
    if isinstance(entry, (str, PurePath)):
        ending = PurePath(entry).suffix.lower()
        return "image" if ending in _PICTURES else "audio" if ending in _SOUNDS else "video"
    return "audio" if isinstance(entry, dict) else type(entry).__name__


def _sorted_out(entries: Sequence[Any], kinds: Sequence[str]) -> tuple[tuple[Any, ...], Any]:
    """Split media into the pictures and the clip, if there is one."""
    other = sorted({kind for kind in kinds if kind not in ("image", "video")})
    if other:
        raise UnsupportedInputError(
            f"the question comes with {other[0]}; models here take pictures and clips"
        )
    clips = [entry for entry, kind in zip(entries, kinds, strict=True) if kind == "video"]
    if len(clips) > 1:
        raise UnsupportedInputError(f"the question comes with {len(clips)} clips; a prompt here holds one")
    images = tuple(entry for entry, kind in zip(entries, kinds, strict=True) if kind == "image")
    return images, clips[0] if clips else None

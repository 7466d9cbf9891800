"""Folder benchmarks: a folder with `questions.jsonl` and media beside it."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from vidcompress.checks import flag, one_of, unicode_text, whole_number, word
from vidcompress.errors import ArgumentError, nearest, one_line, shown
from vidcompress.tools.evaluation.metrics import letter_of
from vidcompress.tools.evaluation.tasks.base import METRICS, Item

QUESTIONS, SETTINGS = "questions.jsonl", "benchmark.toml"
KEYS = ("id", "image", "images", "video", "question", "answer", "choices", "kind", "group", "facts", "metric")
SETTING_KEYS = ("name", "metric", "prompt_suffix", "max_new_tokens", "split", "list_choices")
MAX_LINE_BYTES = 1024**2
MAX_QUESTIONS = 1_000_000
MAX_CHOICES = 26
CHOICE_SUFFIX = "\nAnswer with the option's letter from the given choices directly."
DEFAULT_LENGTH = 32


class FolderTask:
    """A folder benchmark.

    A line of `questions.jsonl` is an object: `id`, `question`, at most one of `image` and `images`, and `video` (paths
    within the folder), `answer` (a text, or a list of all that are accepted; with `choices` a letter or the text of an
    option), and optionally `choices`, `kind`, `group`, `facts` and `metric`. `benchmark.toml` may hold `name`, `split`,
    `metric`, `max_new_tokens`, `prompt_suffix`, put behind every question, and `list_choices`: unless it is false, the
    options are written behind a question as "A. red", a line each, followed by `prompt_suffix` or the line of
    LLaVA's evaluation.

    Args:
        folder: where it is.

    Attributes:
        folder, name, split, revision, metric, max_new_tokens: see `Task`. The revision covers both files and the
            names and sizes of the media.

    Raises:
        ArgumentError: the folder or a line of its files is not as described; the message names file and line.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / QUESTIONS).is_file():
            raise ArgumentError(
                f"data={str(folder)!r}: holds no {QUESTIONS}; pass a folder that has it, with its media"
            )
        settings, toml = _settings(self.folder)
        self.split = settings.get("split", "test")
        self.max_new_tokens: int = settings.get("max_new_tokens", DEFAULT_LENGTH)
        self.name = settings.get("name", self.folder.resolve().name)
        self._settings = settings
        digest = hashlib.sha256(toml)
        self._items = list(self._read(digest))
        if not self._items:
            raise ArgumentError(f"data={str(folder)!r}: {QUESTIONS} holds no questions; write one per line")
        kinds = {item.metric for item in self._items}
        self.metric = kinds.pop() if len(kinds) == 1 else "mixed"
        for path in sorted({path for item in self._items for path in _media(item)}):
            digest.update(f"\n{path.relative_to(self.folder)} {_size(path)}".encode())
        self.revision = digest.hexdigest()

    def items(self) -> list[Item]:
        """The questions, in the order of the file."""
        return list(self._items)

    def _read(self, digest: Any) -> Iterator[Item]:
        path, seen, groups = self.folder / QUESTIONS, set[str](), dict[str, tuple[Path, ...]]()
        for number, line in _lines(path):
            digest.update(line)
            if not line.strip():
                continue
            where = f"{path}, line {number}: "
            item = item_of_line(_object(line, where), where, self.folder, self._settings)
            if item.id in seen:
                raise ArgumentError(
                    f"{where}id={shown(item.id)} is there already; give every question its own"
                )
            if item.group and groups.setdefault(item.group, _media(item)) != _media(item):
                raise ArgumentError(
                    f"{where}group={shown(item.group)} began with other media; questions of a group share them"
                )
            seen.add(item.id)
            if len(seen) > MAX_QUESTIONS:
                raise ArgumentError(f"{where}more than {MAX_QUESTIONS} questions; split the folder")
            yield item


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise ArgumentError(
                        f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes; shorten it"
                    )
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read ({one_line(error)}); check the file") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON number")

    try:
        value = json.loads(line, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{where}not JSON ({one_line(error)}); write one object per line") from error
    if not isinstance(value, dict):
        raise ArgumentError(f"{where}must be an object with the keys {', '.join(KEYS)}, got {shown(value)}")
    known_keys(value, KEYS, where)
    for name, entry in value.items():
        unicode_text(
            f"{where}{name}", entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
        )
    return value


def known_keys(settings: Mapping[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Refuse unknown keys.

    Raises:
        ArgumentError: with the nearest known key.
    """
    for name in settings:
        if name not in keys:
            raise ArgumentError(f"{where}unknown key {shown(name)}; {nearest(name, keys)}")


def _settings(folder: Path) -> tuple[dict[str, Any], bytes]:
    path = folder / SETTINGS
    if not path.exists():
        return {}, b""
    try:
        content = path.read_bytes()
        settings = tomllib.loads(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"{path} is no TOML file that can be read ({one_line(error)}); check its syntax"
        ) from error
    where = f"{path}: "
    known_keys(settings, SETTING_KEYS, where)
    for name in ("name", "split"):
        if name in settings:
            word(f"{where}{name}", settings[name], "test")
    if "metric" in settings:
        one_of(f"{where}metric", settings["metric"], (*METRICS, "mixed"))
    if "max_new_tokens" in settings:
        whole_number(f"{where}max_new_tokens", settings["max_new_tokens"])
    if "list_choices" in settings:
        flag(f"{where}list_choices", settings["list_choices"])
    if not isinstance(settings.get("prompt_suffix", ""), str):
        raise ArgumentError(f"{where}prompt_suffix={shown(settings['prompt_suffix'])}: must be a text")
    return settings, content


def item_of_line(line: Mapping[str, Any], where: str, folder: Path, settings: Mapping[str, Any]) -> Item:
    """Item of one line of questions.

    Args:
        line: see `FolderTask`.
        where: put before messages.
        folder: that the paths of media are in.
        settings: of `benchmark.toml`, checked.

    Raises:
        ArgumentError: a value is missing or not allowed.
    """
    name = line.get("id")
    name = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    choices = _texts(line, "choices", where)
    answers = _texts(
        {"answer": [line["answer"]] if is_plain(line.get("answer")) else line.get("answer")}, "answer", where
    )
    if len(choices) > MAX_CHOICES:
        raise ArgumentError(f"{where}choices: {len(choices)} of them; at most {MAX_CHOICES}, one per letter")
    if not answers:
        raise ArgumentError(f"{where}answer is missing; give a text or a list of all that are accepted")
    if "image" in line and "images" in line:
        raise ArgumentError(f"{where}image and images exclude each other; list all pictures in images")
    pictures = (line["image"],) if line.get("image") is not None else _texts(line, "images", where)
    clip = line.get("video")
    item = Item(
        id=word(f"{where}id", name, "q1"),
        question=word(f"{where}question", line.get("question"), "what is this?"),
        images=tuple(path_within(folder, path, f"{where}image") for path in pictures),
        video=None if clip is None else path_within(folder, clip, f"{where}video"),
        answers=answers,
        choices=choices,
        kind=_text(line, "kind", where),
        group=_text(line, "group", where),
        facts=line.get("facts") or {},
    )
    if not isinstance(item.facts, dict):
        raise ArgumentError(f"{where}facts={shown(item.facts)}: must be an object, such as {{'frames': 8}}")
    metric = _metric(line, where, settings, choices)
    if metric == "choice" and (len(choices) < 2 or any(letter_of(choices, text) is None for text in answers)):
        raise ArgumentError(
            f"{where}answer={shown(list(answers))}: must be a letter or the text of one of at least two choices, which "
            f"are {shown(list(choices))}"
        )
    return replace(item, question=_prompt(item, settings), metric=metric)


def _metric(
    line: Mapping[str, Any], where: str, settings: Mapping[str, Any], choices: tuple[str, ...]
) -> str:
    common = settings.get("metric", "mixed")
    fallback = ("choice" if choices else "exact") if common == "mixed" else common
    metric: str = line.get("metric") or fallback
    one_of(f"{where}metric", metric, METRICS)
    return metric


def _prompt(item: Item, settings: Mapping[str, Any]) -> str:
    listed = bool(item.choices) and settings.get("list_choices", True)
    options = "".join(f"\n{chr(65 + n)}. {text}" for n, text in enumerate(item.choices)) if listed else ""
    suffix: str = settings.get("prompt_suffix", CHOICE_SUFFIX if listed else "")
    return item.question + options + suffix


def is_plain(value: Any) -> bool:
    """Whether a value is a text or a number, which are read as text."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _text(line: Mapping[str, Any], key: str, where: str) -> str:
    value = line.get(key, "")
    if not isinstance(value, str):
        raise ArgumentError(f"{where}{key}={shown(value)}: must be a text")
    return value


def _texts(line: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    values = line.get(key)
    if values is None:
        return ()
    if not isinstance(values, list) or not values or not all(is_plain(value) for value in values):
        raise ArgumentError(f"{where}{key}={shown(values)}: must be a list of texts that is not empty")
    return tuple(str(value) for value in values)


def path_within(folder: Path, name: Any, called: str) -> Path:
    """Return a path within the folder, also behind links; a missing file is reported when it is opened.

    Args:
        folder: the folder.
        name: path from there.
        called: put before messages.

    Raises:
        ArgumentError: it is no text or leads out of the folder.
    """
    if not isinstance(name, str) or not name or "\0" in name or "://" in name:
        raise ArgumentError(
            f"{called}={shown(name)}: must be a path within the folder, such as 'media/1.png'"
        )
    path = folder / PurePosixPath(name)
    try:
        leaves = not path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        leaves = True
    if leaves or ".." in PurePosixPath(name).parts or os.path.isabs(name):
        raise ArgumentError(f"{called}={shown(name)} leads out of the folder; put the file into it")
    return path


def _media(item: Item) -> tuple[Path, ...]:
    return (*item.images, *(() if item.video is None else (item.video,)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1

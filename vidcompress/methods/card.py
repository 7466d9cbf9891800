"""Method cards: paper, code, defaults and description of each method, as Markdown under a TOML head.

A card is the file `cards/<name>.md` in the package of the method's module, here or elsewhere: a TOML head between two
lines `+++`, then half a page of prose.
"""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vidcompress.errors import ArgumentError, one_line, shown

if TYPE_CHECKING:
    from vidcompress.core.method import Method

FENCE = "+++\n"
_HEAD = {
    "name": str,
    "effect": str,
    "paper": str,
    "code": str,
    "modalities": list,
    "needs": str,
    "defaults": dict,
    "stream": str,
}
_NOUNS = {str: "text", list: "list", dict: "table"}


@dataclass(frozen=True)
class Card:
    """One method card.

    Attributes:
        name: name of the method.
        effect: what the method does, in one sentence.
        paper: title, venue and arXiv number; empty for controls.
        code: the authors' repository and its commit; empty where there is none.
        modalities: `image`, `video` or both.
        needs: evidence that the method reads, in words.
        defaults: default value by option name.
        text: the prose, Markdown.
        stream: how it takes frames as they come; empty where it needs the whole clip.
    """

    name: str
    effect: str
    paper: str
    code: str
    modalities: tuple[str, ...]
    needs: str
    defaults: dict[str, Any]
    text: str
    stream: str = ""


def card_of(method: type[Method]) -> Card | None:
    """Return the card of a method, or None when its package has none.

    Args:
        method: the class; its card is `cards/<name>.md` beside its module.

    Raises:
        ArgumentError: the card is malformed, or states the name or modalities of another method.
    """
    package = getattr(sys.modules.get(method.__module__), "__package__", None)
    card = read_card(method.name, package) if package else None
    if card is not None and (card.name != method.name or set(card.modalities) != method.modalities):
        raise ArgumentError(
            f"card {method.name!r} states name {card.name!r} and modalities {list(card.modalities)}, the method has "
            f"{method.name!r} and {sorted(method.modalities)}; make them alike"
        )
    return card


def read_card(name: str, package: str = __package__) -> Card | None:
    """Return the card `cards/<name>.md` of a package, or None when there is none.

    Raises:
        ArgumentError: the card is malformed.
    """
    path = files(package).joinpath("cards", f"{name}.md")
    if not path.is_file():
        return None
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ArgumentError(f"card {name!r} is not UTF-8: {error}") from None
    return parse_card(name, source)


def parse_card(name: str, source: str) -> Card:
    """Parse the text of a card.

    Raises:
        ArgumentError: the head is missing or lacks a key; the message names the card and the key.
    """
    before, _, rest = source.partition(FENCE)
    head_text, fence, text = rest.partition(FENCE)
    if before or not fence:
        raise ArgumentError(f"card {name!r} must begin with a TOML head between two lines '+++'")
    try:
        head = tomllib.loads(head_text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ArgumentError(f"card {name!r} has a head that is not TOML: {one_line(error)}") from None
    head.setdefault("stream", "")
    for key, kind in _HEAD.items():
        if key not in head:
            raise ArgumentError(f"card {name!r} lacks the key {key!r} in its head")
        if not isinstance(head[key], kind):
            raise ArgumentError(
                f"card {name!r} has {key} = {shown(head[key])} in its head; it must be a {_NOUNS[kind]}"
            )
    fields = {key: head[key] for key in _HEAD}
    return Card(**{**fields, "modalities": tuple(map(str, head["modalities"]))}, text=text.strip() + "\n")

"""Method cards: what is known about each method, as text with a head that machines read.

A card is `cards/<name>.md` beside this module: a TOML head between two lines `+++`, then half a page of prose.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ..errors import ArgumentError, one_line, shown

FENCE = "+++\n"


@dataclass(frozen=True)
class Card:
    """One method card.

    Attributes:
        name: of the method.
        effect: one sentence.
        paper: title, venue and arXiv number; empty for controls.
        code: the authors' repository and the commit read; empty where there is none.
        modalities: `image`, `video` or both.
        needs: evidence it reads, in words.
        defaults: option name to default value.
        text: the prose, Markdown.
    """

    name: str
    effect: str
    paper: str
    code: str
    modalities: tuple[str, ...]
    needs: str
    defaults: dict[str, Any]
    text: str


def read_card(name: str) -> Card | None:
    """Return the card of an in-tree method, or None when it has none (third-party methods bring their own).

    Raises:
        ArgumentError: the card is there and malformed.
    """
    path = files(__package__).joinpath("cards", f"{name}.md")
    if not path.is_file():
        return None
    return parse_card(name, path.read_text(encoding="utf-8"))


def parse_card(name: str, source: str) -> Card:
    """Read the text of a card.

    Raises:
        ArgumentError: no head, or a head without one of the keys; the message names the card and the key.
    """
    before, _, rest = source.partition(FENCE)
    head_text, fence, text = rest.partition(FENCE)
    if before or not fence:
        raise ArgumentError(f"card {name!r} must begin with a TOML head between two lines '+++'")
    try:
        head = tomllib.loads(head_text)
        kinds = {"modalities": list, "defaults": dict}
        for key in ("name", "effect", "paper", "code", "modalities", "needs", "defaults"):
            if not isinstance(head[key], kinds.get(key, str)):
                raise ArgumentError(
                    f"card {name!r}: {key}={shown(head[key])}, must be a {kinds.get(key, str).__name__}"
                )
        return Card(
            name=head["name"],
            effect=head["effect"],
            paper=head["paper"],
            code=head["code"],
            modalities=tuple(head["modalities"]),
            needs=head["needs"],
            defaults=dict(head["defaults"]),
            text=text.strip() + "\n",
        )
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ArgumentError(f"card {name!r} has a head that is not TOML: {one_line(error)}") from None
    except KeyError as error:
        raise ArgumentError(f"card {name!r} lacks the key {error.args[0]!r} in its head") from None

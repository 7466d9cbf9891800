"""The table of sentences, and how a document is searched for them and for figures that no "
"sentence of it covers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from documents import documents, name_of

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
NO_FIGURES_OF_OURS = ("docs/reproduce.md", "CHANGELOG.md")
"""What these state is the papers' own, or was true when it was written."""
PAGES = (
    *(name for name in map(name_of, documents()) if name not in NO_FIGURES_OF_OURS),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "vidcompress/methods/cards").glob("*.md"))),
)
"""Documents whose figures are looked at."""


class NotSo(AssertionError):
    """What a sentence claims beside its figures does not follow from the result files."""


@dataclass(frozen=True)
class Sentence:
    """One passage of one document.

    Attributes:
        page: path of the document from the root.
        name: of the function that recomputes it.
        text: returns the passage as it must stand there, figures and names of methods filled in from result files;
            raises `NotSo` where a claim without a figure does not hold.
    """

    page: str
    name: str
    text: Callable[[], str]


TABLE: list[Sentence] = []


def says(page: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Enter a function into the table: it returns a passage of `page`."""

    def enter(function: Callable[[], str]) -> Callable[[], str]:
        TABLE.append(Sentence(page, function.__name__, function))
        return function

    return enter


def holds(claim: bool, what: str) -> None:
    """Raise `NotSo` unless the result files bear out `what`."""
    if not claim:
        raise NotSo(what)


@lru_cache(maxsize=64)
def result(name: str) -> Any:
    """docs/results/NAME.json."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def span(values: Any, form: str = "{:.0f}", word: str = "to") -> str:
    """The smallest and the largest of some values: "31 to 55"."""
    found = list(values)
    return f"{form.format(min(found))} {word} {form.format(max(found))}"


# -- documents ---------------------------------------------------------------------------------------------------------

_GENERATED = re.compile(r"<!-- (?!/)[^>]*-->\n.*?<!-- /[^>]*-->", re.DOTALL)
_CODE = re.compile(r"^```.*?^```|^\+\+\+\n.*?^\+\+\+|^---\n.*?^---|^\|.*?$", re.DOTALL | re.MULTILINE)
FIGURE = re.compile(
    r"""(?<![\w.,-])[+-]?\d[\d,]*(?:\.\d+)?               # a number
        (?:\s(?:to|and)\s[+-]?\d[\d,]*(?:\.\d+)?)*        # or several
        \s(?:%|x(?!\s\d)|ms|s|points?|times|TFLOPs?|GFLOP|[GM]i?B)(?![\w.])""",
    re.VERBOSE,
)
"""A figure as results are stated: a number, or a range, and a unit of share, time, memory or operations."""


def words(text: str) -> str:
    """The text with single spaces, so that line breaks do not matter."""
    return " ".join(text.split())


def read(page: str) -> str:
    """A document as it is."""
    return (ROOT / page).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """A document without generated blocks, code, tables and heads of cards, as `words`."""
    return words(_CODE.sub(" ", _GENERATED.sub(" ", text)))


def missing(text: str, page: str, table: Sequence[Sentence] = TABLE) -> list[str]:
    """Passages of the table that do not stand in the text of a page, and claims that do not hold."""
    found, text = [], words(text)
    for sentence in table:
        if sentence.page == page:
            try:
                wanted = words(sentence.text())
            except NotSo as error:
                found.append(f"{sentence.name}: not so: {error}")
                continue
            if wanted not in text:
                found.append(f"{sentence.name}: expected: {wanted}")
    return found


@lru_cache(maxsize=1)
def passages() -> frozenset[str]:
    """The passages of the whole table, as `words`."""
    return frozenset(words(sentence.text()) for sentence in TABLE)


def uncovered(text: str, page: str, exempt: tuple[str, ...]) -> Iterator[str]:
    """Figures of a text that stand in no passage of the table and in no exempt phrase, with what is around them.

    A passage covers its figures in every document, so that one may quote another; what was changed in the quotation is
    not covered.
    """
    text = prose(text)
    covered = [False] * len(text)
    for passage in (*passages(), *map(words, exempt)):
        at = text.find(passage)
        while at >= 0:
            covered[at : at + len(passage)] = [True] * len(passage)
            at = text.find(passage, at + 1)
    for match in FIGURE.finditer(text):
        if not all(covered[match.start() : match.end()]):
            yield text[max(0, match.start() - 60) : match.end() + 30]

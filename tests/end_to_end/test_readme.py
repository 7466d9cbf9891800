"""What the README owes a newcomer: it is short, and the first snippet comes early. See test_documents for the rest."""

from __future__ import annotations

from documents import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 560
"""It only gets smaller."""


def test_it_is_short() -> None:
    assert README.count("\n") <= MOST_LINES


def test_first_snippet_is_short_and_early() -> None:
    before, _, rest = README.partition("```python")
    assert before.count("\n") + 1 <= 40
    assert rest.partition("```")[0].count("\n") <= 17

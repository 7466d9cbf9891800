"""The tests of errors themselves: nearly every `pytest.raises` looks at the message."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
LEAST = 0.95
"""Share of `pytest.raises` that match text; the others look at the caught error themselves."""


def found_in(tree: ast.AST) -> Iterator[tuple[int, bool]]:
    """(line, whether it matches text) of every call of `pytest.raises`, and of `raises` imported from pytest."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "raises":
                yield (
                    node.lineno,
                    any(keyword.arg == "match" and _says(keyword.value) for keyword in node.keywords),
                )


def _says(pattern: ast.expr) -> bool:
    """An empty pattern matches everything, so it counts for nothing."""
    return not (isinstance(pattern, ast.Constant) and not pattern.value)


def test_raises_match_text() -> None:
    found = [
        (f"{path.relative_to(TESTS)}:{line}", matched)
        for path in sorted(TESTS.rglob("*.py"))
        for line, matched in found_in(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(found) > 100
    without = [place for place, matched in found if not matched]
    share = 1 - len(without) / len(found)
    assert share >= LEAST, f"{share:.1%} of {len(found)} match text; these do not: {without}"


def test_what_counts_as_matching() -> None:
    source = (
        "pytest.raises(A)\npytest.raises(A, match='')\npytest.raises(A, match='b')\nraises(A, match=c)\n"
        "with pytest.raises(A) as caught: pass\n"
    )
    assert [matched for _, matched in found_in(ast.parse(source))] == [False, False, True, True, False]

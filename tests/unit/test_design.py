"""docs/design.md and the top of CONTRIBUTING: what they name exists, and the first half hour stays half an hour."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vidcompress"
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TOP = CONTRIBUTING.partition("## Adding a method")[0]

FIRST_FILES = [
    "vidcompress/core/layout.py",
    "vidcompress/core/tokens.py",
    "vidcompress/core/budget.py",
    "vidcompress/core/selection.py",
    "vidcompress/core/method.py",
    "vidcompress/adapters/base.py",
    "vidcompress/session/compress.py",
]
MOST_LINES = 1800
"""Of the seven files together, so that they can be read in half an hour."""

NAME = re.compile(r"[A-Z][a-z]\w*")
PATH = re.compile(r"[\w.*-]+(?:/[\w.*-]*)+|[\w-]+\.(?:py|md|toml|json)")
DOTTED = re.compile(r"vidcompress(?:\.\w+)+")
ROW = re.compile(r"^\|[^|\n]*\| `(\w+)` \| `([\w/]+\.py)` \|$", re.MULTILINE)


@cache
def classes() -> dict[str, set[str]]:
    """Names of classes to the files of the package, from its root, that define them."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, set()).add(str(path.relative_to(ROOT)))
    return found


def missing(text: str) -> list[str]:
    """What a document puts in backticks and does not exist: paths, classes, dotted names, and classes elsewhere."""
    words = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    gone = [word for word in words if PATH.fullmatch(word) and not _is_there(word)]
    gone += [word for word in words if NAME.fullmatch(word) and word not in classes()]
    gone += [word for word in words if DOTTED.fullmatch(word) and not _importable(word)]
    return gone + [
        f"{name} in {path}" for name, path in ROW.findall(text) if path not in classes().get(name, ())
    ]


def _is_there(path: str) -> bool:
    """From the root, or from the package's folder, as `core/` is written; with a star, at least one of them."""
    return any(next(folder.glob(path.rstrip("/")), None) is not None for folder in (ROOT, PACKAGE))


def _importable(name: str) -> bool:
    module, _, last = name.rpartition(".")
    try:
        return hasattr(import_module(module), last) or bool(import_module(name))
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("text", [DESIGN, TOP], ids=["design", "contributing"])
def test_what_is_named_exists(text: str) -> None:
    assert missing(text) == []


def test_the_nouns_of_the_design_have_a_row() -> None:
    rows = ROW.findall(DESIGN)
    assert len(rows) > 15 and len({name for name, _ in rows}) == len(rows)
    assert {
        "View",
        "Layout",
        "VisualTokens",
        "Evidence",
        "Commander",
        "Budget",
        "VisualBudget",
        "Selection",
    } <= {name for name, _ in rows}
    assert {"Method", "Report", "CompressionConfig", "Adapter", "Family", "Processor", "VisualQA"} <= {
        name for name, _ in rows
    }


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("see `core/layouts.py`", ["core/layouts.py"]),
        ("see `tests/contract/test_nothing_*.py`", ["tests/contract/test_nothing_*.py"]),
        ("see `vidcompress/core/layout.py`, `methods/` and `pyproject.toml`", []),
        ("a `Layouts` has views", ["Layouts"]),
        ("`vidcompress.core.layout.Layouts`", ["vidcompress.core.layout.Layouts"]),
        ("`vidcompress.cores.Layout`", ["vidcompress.cores.Layout"]),
        ("`vidcompress.core.layout`, `vidcompress.core.layout.Layout`", []),
        ("| a noun | `Layout` | `vidcompress/core/budget.py` |", ["Layout in vidcompress/core/budget.py"]),
        ("`exact`, `input_ids`, `generate`, `max_tokens`", []),
    ],
)
def test_what_does_not_exist_is_found(line: str, gone: list[str]) -> None:
    assert missing(f"{DESIGN}\n{line}\n") == gone


def test_the_design_is_short() -> None:
    assert len(DESIGN.splitlines()) <= 250


def test_every_folder_of_the_package_is_in_the_design() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert not [name for name in folders if f"`{name}/" not in DESIGN]
    layers = DESIGN.partition("    cli\n")[2].partition("    errors\n")[0]
    assert folders - {"cli"} <= set(re.findall(r"\w+", layers))


def test_the_first_half_hour_is_seven_files() -> None:
    assert re.findall(r"^\d\. `([^`]+)`", TOP, flags=re.MULTILINE) == FIRST_FILES
    lines = sum(len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in FIRST_FILES)
    assert 1000 < lines <= MOST_LINES

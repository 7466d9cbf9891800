"""The table of mutants still fits the code, and the script that tries them can tell caught from survived."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from mutation.table import KINDS, Mutant, TableError, check, load, pick
from mutation.trial import BrokenRun, Workspace, fingerprint, left_out

ROOT = Path(__file__).resolve().parents[3]
NEEDED = KINDS[:7]


@pytest.fixture
def script() -> ModuleType:
    """scripts/mutants.py as a module."""
    spec = importlib.util.spec_from_file_location("mutants_script", ROOT / "scripts" / "mutants.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- the table ---------------------------------------------------------------------------------------------------------


def test_every_mutant_applies_to_the_code_as_it_is() -> None:
    check(load(), ROOT)


def test_there_are_several_of_each_kind_all_over_the_package() -> None:
    mutants = load()
    counts = Counter(mutant.kind for mutant in mutants)
    assert all(counts[kind] >= 3 for kind in NEEDED), counts
    assert len({mutant.file for mutant in mutants}) >= 15


ENTRY = {
    "name": "one",
    "kind": "off by one",
    "file": "toy/__init__.py",
    "old": "a",
    "new": "b",
    "why": "x",
    "tests": ["t"],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{"kind": "typo"}], r"mutant 'one': kind='typo' is none of reverse the sort"),
        ([{"extra": "x"}], r"mutant 'one' has the keys .*'extra'.*; expected \['name'"),
        ([{"new": "a"}], "needs an old text, another new one"),
        ([{"why": ""}], "a reason and tests"),
        ([{}, {}], "mutant 'one' is there twice"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    changes: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    lines = []
    for change in changes:
        lines += ["[[mutant]]", *(f"{key} = {json.dumps(value)}" for key, value in (ENTRY | change).items())]
    (tmp_path / "table.toml").write_text("\n".join(lines))
    with pytest.raises(TableError, match=message):
        load(tmp_path / "table.toml")


def test_words_pick_by_name_kind_and_file() -> None:
    mutants = load()
    assert {mutant.kind for mutant in pick(mutants, ["off by one"])} == {"off by one"}
    assert {mutant.file for mutant in pick(mutants, ["budget.py"])} == {"vidcompress/core/budget.py"}
    assert pick(mutants, []) == mutants
    with pytest.raises(TableError, match="--only 'no such' matches no name"):
        pick(mutants, ["no such"])


# -- trying them, on a toy that starts fast ----------------------------------------------------------------------------

TOY = "def add(a, b):\n    return a + b\n\n\ndef double(a):\n    return add(a, a)\n"
ADD = Mutant(
    "minus", "off by one", "toy/__init__.py", "a + b", "a - b", "sums are wrong", ("tests/test_add.py",)
)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A checkout of a package `toy` with two test files, of which one looks at add and one at double."""
    root = tmp_path / "checkout"
    (root / "toy").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "toy" / "__init__.py").write_text(TOY)
    (root / "tests" / "test_add.py").write_text(
        "import toy\n\n\ndef test_zero():\n    assert toy.add(2, 0) == 2\n\n\n"
        "def test_sum():\n    assert toy.add(2, 1) == 3\n"
    )
    (root / "tests" / "test_double.py").write_text(
        "import toy\n\n\ndef test_double():\n    assert toy.double(4) == 8\n"
    )
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\ntestpaths = ['tests']\n")
    return root


@pytest.fixture
def workspace(toy: Path, tmp_path: Path) -> Workspace:
    return Workspace(toy, tmp_path / "work", package="toy")


def attempt(workspace: Workspace, mutant: Mutant, limit: float = 60) -> tuple[bool, str | None]:
    """What became of a mutant; the copy is as it was afterwards."""
    try:
        result = workspace.attempt(mutant, limit, 60, suite_jobs=1)
    finally:
        assert (workspace.folder / "toy" / "__init__.py").read_text() == TOY
    return result.caught, result.by


def test_only_what_is_made_is_left_out(tmp_path: Path) -> None:
    kept = ("vidcompress/tools/runs/journal.py", "vidcompress/build/x.py", "tests/test_a.py")
    made = ("runs/a.jsonl", "build/x.py", ".venv/x", "tests/__pycache__/a.pyc", ".git/HEAD")
    for name in (*kept, *made):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).touch()
    shutil.copytree(tmp_path / "tree", tmp_path / "copy", ignore=left_out(tmp_path / "tree"))
    copied = {
        path.relative_to(tmp_path / "copy").as_posix()
        for path in (tmp_path / "copy").rglob("*.*")
        if path.is_file()
    }
    assert copied == set(kept)


def test_caught_survived_and_caught_by_the_rest_of_the_suite(workspace: Workspace, toy: Path) -> None:
    assert workspace.baseline(["tests/test_add.py"], 60) > 0
    assert attempt(workspace, ADD) == (True, "tests/test_add.py::test_sum")
    unseen = replace(ADD, old="a + b", new="b + a")
    assert attempt(workspace, unseen) == (False, None)
    elsewhere = replace(ADD, old="add(a, a)", new="add(a, 0)")
    assert attempt(workspace, elsewhere) == (True, "tests/test_double.py::test_double")
    assert (toy / "toy" / "__init__.py").read_text() == TOY
    assert not list(toy.rglob("__pycache__"))


def test_a_hang_is_caught_and_said_so(workspace: Workspace) -> None:
    endless = replace(ADD, old="return a + b", new="while True:\n        pass")
    caught, by = attempt(workspace, endless, limit=8)
    assert caught and by == "no end within 8 s of tests/test_add.py"


def test_what_says_nothing_is_no_catch(workspace: Workspace) -> None:
    with pytest.raises(BrokenRun, match="mutant 'minus': the tests cannot be run:(.|\n)*NameError"):
        attempt(workspace, replace(ADD, old="def double(a):", new="undefined\n\n\ndef double(a):"))
    failing = workspace.folder / "tests" / "test_double.py"
    failing.write_text("def test_never():\n    assert False\n")
    with pytest.raises(
        BrokenRun, match=r"test_double.py::test_never fails without mutant 'minus' too; mend it"
    ):
        attempt(workspace, replace(ADD, old="a + b", new="b + a"))
    with pytest.raises(BrokenRun, match="the tests do not pass without any mutant"):
        workspace.baseline(["tests/test_double.py"], 60)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "a * b",
            "x",
            r"mutant 'minus': its old text occurs 0 times in toy/__init__.py, expected once; .*moved on",
        ),
        ("return", "x", "occurs 2 times"),
        ("a + b", "a +", "mutant 'minus' is no Python"),
    ],
)
def test_a_mutant_that_does_not_apply_is_refused(old: str, new: str, message: str, toy: Path) -> None:
    with pytest.raises(TableError, match=message):
        check([replace(ADD, old=old, new=new)], toy)


def test_tests_that_are_gone_are_named(toy: Path) -> None:
    with pytest.raises(TableError, match=r"names tests that are not there: \['tests/test_gone.py'\]"):
        check([replace(ADD, tests=("tests/test_gone.py",))], toy)


def test_a_package_from_elsewhere_is_refused(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(BrokenRun, match="json is imported from .*, not from the copy"):
        Workspace(toy, tmp_path / "work", package="json")


# -- the script --------------------------------------------------------------------------------------------------------


def test_a_stopped_run_goes_on_where_it_was(script: ModuleType, toy: Path, tmp_path: Path) -> None:
    path, code = tmp_path / "runs" / "journal.jsonl", fingerprint(ROOT)
    unseen = replace(ADD, name="same", new="b + a")
    journal, results = script.journal_of(path, code), []
    for result in script.attempts([ADD, unseen], toy, jobs=2, limit=60, suite_limit=60, package="toy"):
        script.keep(journal, result)
        results.append(result)
    with path.open("a") as file:
        file.write('{"id": "same')  # the kill came while a line was written
    later = script.journal_of(path, code)
    caught = script.caught_before(later, ADD)
    assert caught in results and caught.by == "tests/test_add.py::test_sum"
    assert script.caught_before(later, unseen) is None, "a survivor is tried again"
    assert script.caught_before(later, replace(ADD, new="a * b")) is None, "another mutation of the same name"
    assert not script.journal_of(path, "other code").done
    (lines,) = script.table(results).groups
    assert [line[2] for line in lines] == [
        ("tests/test_add.py::test_sum", False),
        ("nothing: it survived", True),
    ]


@pytest.mark.slow
def test_one_mutant_of_the_package(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--only",
        "halves-down",
        "--journal",
        str(tmp_path / "journal.jsonl"),
        "--json",
        str(tmp_path / "r.json"),
    ]
    assert script.main(words) == 0
    written = json.loads((tmp_path / "r.json").read_text())
    assert (written["mutants"], written["caught"]) == (1, 1)
    assert written["results"][0]["by"].startswith("tests/unit/core/test_budget.py::")
    assert "1 of 1 caught" in capsys.readouterr().out
    start = (ROOT / "vidcompress" / "core" / "budget.py").read_text()
    assert script.main(words) == 0, "from the journal"
    assert "1 of 1 are in" in capsys.readouterr().err.replace("\n", " ")
    assert (ROOT / "vidcompress" / "core" / "budget.py").read_text() == start

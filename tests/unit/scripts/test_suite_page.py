"""docs/suite.md says what the committed result files say, and the command line of the suite what there is."""

from __future__ import annotations

import importlib.util
import json
import re
from itertools import groupby
from pathlib import Path
from types import ModuleType

import pytest

from vidcompress.cli import main
from vidcompress.tools.evaluation.suite import BENCHMARKS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "suite.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("suite_page", ROOT / "scripts" / "suite_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_result_files(script: ModuleType) -> None:
    marks = re.findall(r"<!-- suite:(\S+) -->\n(.*?)<!-- /suite -->", PAGE, flags=re.DOTALL)
    rows = groupby(script.results(), key=lambda row: f"{row['model']['name']}/{row['task']['name']}")
    assert dict(marks) == {name: f"{script.table(list(found))}\n" for name, found in rows}


def test_results_are_whole_and_state_where_they_come_from(script: ModuleType) -> None:
    rows = script.results()
    ids = {row["row"] for row in rows}
    for row in rows:
        assert not row["failed"] and row["provenance"]["commit"] and not row["provenance"]["dirty"]
        assert row["baseline"] is None or row["baseline"] in ids
        assert len(row["samples"]["score"]) == row["task"]["questions"]
    assert {row["task"]["name"] for row in rows} <= set(BENCHMARKS)


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    for name in BENCHMARKS:
        assert f"| `{name}` |" in PAGE


def words(capsys: pytest.CaptureFixture[str], *given: str) -> str:
    with pytest.raises(SystemExit, match="^0$"):
        main(["suite", *given])
    written = capsys.readouterr()
    assert written.err == ""
    return written.out


def test_the_command_line_lists_makes_and_points(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    listed = words(capsys, "list")
    assert all(f"{name}\n" in listed for name in BENCHMARKS) and "num_frames = 256" in listed
    found = json.loads(words(capsys, "list", "--json"))["benchmarks"]
    assert {entry["name"]: entry["questions"] for entry in found} == {
        name: benchmark.questions for name, benchmark in BENCHMARKS.items()
    }
    given = (
        "make",
        "detail",
        "--out",
        str(tmp_path / "new"),
        "--questions",
        "2",
        "--seed",
        "5",
        "--view",
        "84",
    )
    made = json.loads(words(capsys, *given, "--json"))
    assert (made["questions"], made["files"], made["benchmark"]) == (2, 2, "detail")
    assert made["revision"] in words(capsys, *given)
    recipe = json.loads((tmp_path / "new" / "manifest.json").read_text())["recipe"]
    assert (recipe["seed"], recipe["view"]) == (5, 84)
    folder = Path(words(capsys, "path").strip())
    assert (folder / "shapes_image.yaml").is_file()

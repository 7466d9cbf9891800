"""A table of questions is evaluated like the same questions from the package, and its page shows its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from table_files import shapes_rows, write_table
from vidcompress.cli import app


def evaluated(out: Path, *words: str) -> dict[str, dict[str, Any]]:
    """Results by method."""
    result = CliRunner().invoke(app, ["eval", *words, "--methods", "random", "-r", "0.25", "--out", str(out)])
    assert result.exit_code == 0, result.output
    results = [json.loads(path.read_text()) for path in out.glob("*/result.json")]
    return {result["method"]: result for result in results}


def test_a_table_gives_the_scores_of_its_questions(tmp_path: Path) -> None:
    rows = shapes_rows(12)
    table = write_table(tmp_path / "shapes.parquet", rows)
    ours = evaluated(tmp_path / "ours", "--task", f"parquet:{table}")
    drawn = evaluated(tmp_path / "drawn", "--task", "shapes:image", "--limit", "12")
    assert ours["none"]["samples"]["score"] == drawn["none"]["samples"]["score"]
    assert ours["none"]["samples"]["question"] == drawn["none"]["samples"]["question"]
    assert ours["none"]["per_kind"] == drawn["none"]["per_kind"]
    wrong = write_table(tmp_path / "wrong.parquet", [{**row, "answer": "a bicycle"} for row in rows])
    assert set(evaluated(tmp_path / "off", "--task", f"parquet:{wrong}")["none"]["samples"]["score"]) == {0.0}
    page = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["results", str(tmp_path / "ours"), "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert page.read_text(encoding="utf-8").count('id="v-0-') == 12

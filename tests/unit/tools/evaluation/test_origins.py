"""Long form and origins of rows: what a data frame gets, and what the line of a run says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from result_files import marks, row, run_of, write
from vidcompress.tools.evaluation.report.leaderboard import leaderboards_of
from vidcompress.tools.evaluation.report.load import ResultRow, read_rows
from vidcompress.tools.evaluation.report.long_form import score_records, score_table
from vidcompress.tools.evaluation.report.origins import differences_of_origins, origin_of, run_origins

PROVENANCE: dict[str, Any] = {
    "command": "python -m vidcompress eval -t shapes:image",
    "commit": "41363b4eee723b3d1bf4ae03d1446478248d7020",
    "dirty": True,
    "vidcompress": "0.2.0",
    "python": "3.11.7",
    "versions": {"torch": "2.13.0", "transformers": "5.24.0", "av": "18.1.0"},
    "machine": "a CPU, 2 cores",
    "device": "cpu",
    "threads": 1,
    "head": {"limit": None},
}


def rows_of(folder: Path, *entries: dict[str, Any]) -> list[ResultRow]:
    return read_rows([write(folder, entries)])[0]


def test_a_line_per_row_and_score(tmp_path: Path) -> None:
    kinds = {"colour": {"questions": 30, "value": 0.8}, "digit": {"questions": 10, "value": None}}
    scores = {"accuracy": 0.5, "yes_rate": 0.25}
    rows = rows_of(
        tmp_path / "run",
        row("d", score=marks(40, 1.0, 0)),
        row(
            "d",
            "globalcom2",
            0.25,
            score=marks(40, 0.5, 0),
            scores=scores,
            per_kind=kinds,
            provenance=PROVENANCE,
        ),
        row("d", "fastv", 0.1, unreachable="its floor is 25 %"),
    )
    boards = leaderboards_of(rows)
    records = score_records(boards)
    assert [(r["method"], r["score"], r["is_main"]) for r in records] == [
        ("none", "accuracy", True),
        ("globalcom2", "accuracy", True),
        ("globalcom2", "yes_rate", False),
        ("fastv", "accuracy", True),
    ]
    none, main, other, empty = records
    assert main["value"] == 0.5 and main["low"] < 0.5 < main["high"] and main["per_cent_of_all_tokens"] == 50
    assert main["difference"] == -0.5 and main["difference_low"] < -0.5 < main["difference_high"] < 0
    assert (main["questions"], main["tokens_kept"], main["first_token_ms"], main["prefill_ms"]) == (
        40,
        720,
        40,
        2.5,
    )
    assert main["commit"] == "41363b4eee (edited)" and main["torch"] == "2.13.0" and none["commit"] is None
    assert other["value"] == 0.25 and other["low"] is None and other["difference"] is None
    assert none["difference"] is None, "nothing is compared with itself"
    assert (
        empty["value"] is None and empty["unreachable"] == "its floor is 25 %" and main["unreachable"] is None
    )
    assert len({tuple(record) for record in records}) == 1, "one set of keys"
    with_kinds = score_records(boards, kinds=True)
    assert [(r["kind"], r["questions"], r["value"]) for r in with_kinds if r["kind"]] == [("colour", 30, 0.8)]
    table = score_table(boards)
    lines = [[text for text, _ in line] for group in table.groups for line in group]
    cell = dict(zip(table.head, lines[1], strict=True))
    assert (
        cell["value"] == "0.5"
        and cell["kind"] == ""
        and float(cell["difference_low"]) == main["difference_low"]
    )
    assert score_table([]).groups == [[]] and "method" in score_table([]).head


def test_a_score_that_is_no_mean_over_questions_has_no_interval(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path / "run", row("d", score=[1.0, 0.0]), row("d", "random", 0.5, scores={"accuracy": 0.9})
    )
    assert rows[0].limits is not None and rows[1].limits is None


def test_one_line_per_run_says_where_it_comes_from(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path / "a", row(provenance=PROVENANCE), row(method="random", ratio=0.5, provenance=PROVENANCE)
    )
    later = {
        **PROVENANCE,
        "command": "python -m vidcompress eval --methods evs",
        "dirty": False,
        "threads": 2,
    }
    rows += rows_of(tmp_path / "b", row(method="evs", ratio=0.5, provenance=later))
    one, two = run_origins(rows)
    assert one.text() == (
        f"{tmp_path / 'a'} (2 rows): vidcompress 0.2.0 at 41363b4eee (edited), torch 2.13.0, transformers 5.24.0, "
        "python 3.11.7, float32 on cpu, a CPU, 2 cores, 1 thread; python -m vidcompress eval -t shapes:image"
    )
    assert "(1 row)" in two.text() and "(edited)" not in two.text() and "2 threads" in two.text()
    entry = one.to_dict()
    assert entry["provenance"] == {key: value for key, value in PROVENANCE.items() if key != "head"}
    assert entry["rows"] == [rows[0].id, rows[1].id] and entry["dtype"] == "float32"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"command": 5, "commit": [], "versions": "1", "threads": True, "machine": {}},
        {"versions": {"torch": None}, "machine": "", "python": ["3"]},
    ],
)
def test_what_is_not_stated_or_of_another_form_is_left_out(tmp_path: Path, given: dict[str, Any]) -> None:
    (origin,) = run_origins(rows_of(tmp_path / "run", row(provenance=given, settings={"dtype": None})))
    assert origin.text() == f"{tmp_path / 'run'} (1 row): states no versions and no machine"
    assert origin.stated == {}


def test_signs_that_cannot_be_printed_do_not_reach_the_terminal(tmp_path: Path) -> None:
    hostile = {**PROVENANCE, "command": "a\x1b[31m\nb" + "c" * 1000, "machine": "\x07bell"}
    (origin,) = run_origins(rows_of(tmp_path / "run", row(provenance=hostile)))
    assert origin.text().isprintable() and "a [31m b" in origin.text() and origin.text().endswith("...")
    assert origin_of(origin.rows[0])["machine"] == "bell"


def test_rows_of_other_versions_dtypes_or_machines_are_noted(tmp_path: Path) -> None:
    def of(method: str, **given: Any) -> dict[str, Any]:
        versions = {**PROVENANCE["versions"], **given.pop("versions", {})}
        settings = {"dtype": given.pop("dtype", "float32")}
        return row(
            "d", method, 0.5, provenance={**PROVENANCE, **given, "versions": versions}, settings=settings
        )

    alike = rows_of(tmp_path / "alike", of("a"), of("b"), row("d", "c", 0.5, provenance={}))
    assert differences_of_origins(alike) == [], "a row that states nothing does not differ"
    other = rows_of(
        tmp_path / "other",
        of("a"),
        of("b"),
        of("c", dtype="bfloat16", machine="another", versions={"torch": "2.6.0"}),
    )
    assert differences_of_origins(other) == [
        "rows differ in dtype (float32: 2, bfloat16: 1), torch (2.13.0: 2, 2.6.0: 1), machine (a CPU, 2 cores: 2, "
        "another: 1); compare their times with care"
    ]


def test_rows_that_two_runs_share_are_noted_once(tmp_path: Path) -> None:
    run_of(tmp_path / "a", questions=20)
    run_of(tmp_path / "b", questions=20)
    _, notes = read_rows([tmp_path / "a", tmp_path / "b"])
    assert notes == [f"20 rows are in {tmp_path / 'a'} and in {tmp_path / 'b'}, alike; the first are shown"]
    run_of(tmp_path / "c", questions=10)
    _, notes = read_rows([tmp_path / "a", tmp_path / "c"])
    assert (
        len(notes) == 1 and "and the scores of" in notes[0] and notes[0].endswith("--baseline compares them")
    )

"""Runs against a baseline: what is paired, what is refused, and what the table and its long form say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from result_files import marks, row, write
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.comparison.pairing import pair_rows
from vidcompress.tools.evaluation.report.comparison.table import comparison_records, comparison_tables
from vidcompress.tools.evaluation.report.differences import difference
from vidcompress.tools.evaluation.report.load import ResultRow, read_rows


def rows_of(folder: Path, *entries: dict[str, Any]) -> list[ResultRow]:
    return read_rows([write(folder, entries)])[0]


def answer(row: ResultRow, answers: Mapping[str, str], errors: Sequence[str] = ()) -> None:
    """Write a journal beside a result file."""
    lines: list[dict[str, Any]] = [{"head": {}}]
    lines += [{"id": key, "answer": text} for key, text in answers.items()]
    lines += [{"id": key, "answer": "", "error": "broken"} for key in errors]
    (row.path.parent / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def sides(tmp_path: Path, **other: Any) -> tuple[list[ResultRow], list[ResultRow]]:
    """The uncompressed model, globalcom2 and random at two budgets; `other` goes over the baseline's rows."""
    both = []
    for place, loss in (("new", 0.0), ("old", 0.3)):
        more = other if place == "old" else {}
        entries = [row("d", score=marks(40, 0.9, 0), **more)]
        for ratio in (0.1, 0.5):
            entries += [
                row("d", "random", ratio, score=marks(40, 0.3, 1), **more),
                row("d", "globalcom2", ratio, score=marks(40, 0.9 - loss, 0), **more),
            ]
        both.append(rows_of(tmp_path / place, *entries))
    return both[0], both[1]


def test_rows_of_one_task_method_and_budget_are_paired(tmp_path: Path) -> None:
    pairs, notes = pair_rows(*sides(tmp_path))
    assert [(pair.row.method, pair.base.budget) for pair in pairs] == [
        ("none", "100 %"),
        ("globalcom2", "50 %"),
        ("random", "50 %"),
        ("globalcom2", "10 %"),
        ("random", "10 %"),
    ]
    assert notes == []
    for pair in pairs:
        assert (pair.row.task, pair.row.method, pair.row.budget) == (
            pair.base.task,
            pair.base.method,
            pair.base.budget,
        )
        gap = pair.difference
        assert gap == difference(pair.row.question_scores, pair.base.question_scores)
        assert gap is not None and gap.is_clear == (pair.row.method == "globalcom2")
    assert pairs[1].difference is not None and pairs[1].difference.mean == pytest.approx(0.3)


def test_the_table_and_the_long_form_say_the_same(tmp_path: Path) -> None:
    slower = {"time_to_first_token_ms": {"mean": 240.0, "median": 240.0}, "total": 1000.0}
    rows, base_rows = sides(tmp_path, **slower)
    answer(rows[2], {"0": "red", "1": "ring", "2": "six"})
    answer(base_rows[2], {"0": "red", "1": "Ring", "3": "six"}, errors=["2"])
    pairs, _ = pair_rows(rows, base_rows)
    (table,) = comparison_tables(pairs)
    assert table.title == "llava-hf/llava-v1.6-vicuna-7b-hf: d"
    lines = {(line[0][0], line[1][0]): line for group in table.groups for line in group}
    assert list(lines)[0] == ("all tokens", "none")
    cells = lines["10 %", "globalcom2"]
    gap = next(pair for pair in pairs if pair.row is rows[2]).difference
    assert gap is not None
    assert [text for text, _ in cells[2:4]] == ["90.0 %", "60.0 %"]
    assert cells[4] == (f"+30.0 [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]", True)
    assert cells[5][0] == "50.0 %", "of the two questions that both answered"
    assert [text for text, _ in cells[6:]] == ["288.0", "100.0", "28.0", "240.0", "8.57 x"]
    assert lines["10 %", "random"][4][1] is False, "not clear, not bold"
    assert lines["10 %", "random"][5][0] == "" and any("answers.jsonl" in note for note in table.notes)
    record = next(
        r for r in comparison_records(pairs) if (r["method"], r["retention_ratio"]) == ("globalcom2", 0.1)
    )
    assert (record["answers_alike"], record["answers_in_both"]) == (1, 2)
    assert (record["difference"], record["difference_low"]) == (gap.mean, gap.low)
    assert (record["better"], record["worse"], record["questions"]) == (12, 0, 40)
    assert record["low"] < record["value"] < record["high"]
    assert record["speed_up"] == pytest.approx(240 / 28)
    assert all(r.keys() == record.keys() for r in comparison_records(pairs))


def test_other_questions_are_refused_with_the_number_that_is_shared(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "new", row("d", score=marks(40, 0.9, 0)), row("e", score=marks(9, 0.9, 0)))
    few = rows_of(tmp_path / "few", row("d", score=marks(30, 0.9, 0)), row("e", score=marks(9, 0.9, 0)))
    with pytest.raises(
        ArgumentError, match=r"baseline: its questions are others, d: 40 and 30 questions, 30 ids shared; "
    ):
        pair_rows(rows, few)
    entry = row("d", score=marks(40, 0.9, 0))
    entry["samples"]["id"][0] = "forty"
    with pytest.raises(
        ArgumentError, match=r"d: 40 and 40 questions, 39 ids shared; run `vidcompress eval` on the same"
    ):
        pair_rows(rows, rows_of(tmp_path / "one", entry))
    other = row("d", score=marks(40, 0.9, 0))
    other["task"]["revision"] = "cd34"
    with pytest.raises(ArgumentError, match=r"40 ids shared, of other data \(revision ab12 and cd34\)"):
        pair_rows(rows, rows_of(tmp_path / "data", other))
    points = row("d", score=marks(40, 0.9, 0), main="points")
    with pytest.raises(ArgumentError, match="40 ids shared, scored by accuracy and by points"):
        pair_rows(rows, rows_of(tmp_path / "points", points))
    shuffled = row("d", score=marks(40, 0.9, 0)[::-1])
    shuffled["samples"]["id"].reverse()
    (pair,), _ = pair_rows(rows, rows_of(tmp_path / "order", shuffled))
    assert pair.difference is not None and (pair.difference.mean, pair.difference.better) == (0, 0), (
        "paired by id"
    )


def test_many_tasks_with_other_questions_are_counted(tmp_path: Path) -> None:
    rows, few = (
        rows_of(tmp_path / str(n), *(row(f"t{i}", score=marks(n, 0.5, i)) for i in range(7)))
        for n in (20, 10)
    )
    with pytest.raises(ArgumentError, match="t4: 20 and 10 questions, 10 ids shared; and 2 more tasks; run"):
        pair_rows(rows, few)


def test_what_has_no_pair_is_named(tmp_path: Path) -> None:
    reason = "its floor is 25 %"
    rows = rows_of(
        tmp_path / "new",
        row("d"),
        row("d", "fastv", 0.1, unreachable=reason),
        row("d", "fastv", 0.2, unreachable=reason),
        row("d", "random", 0.5),
        row("d", "evs", 0.5),
    )
    base = rows_of(
        tmp_path / "old", row("d"), row("d", "fastv", 0.1), row("d", "fastv", 0.2), row("e", "random", 0.5)
    )
    pairs, notes = pair_rows(rows, base)
    assert [pair.row.method for pair in pairs] == ["none"]
    assert notes == [
        "fastv at 20 %, 10 % on d is empty in the runs: its floor is 25 %",
        "only in the runs: evs at 50 % on d, random at 50 % on d",
        "only in the baseline: random at 50 % on e",
    ]
    _, back = pair_rows(base, rows)
    assert back[0] == "fastv at 20 %, 10 % on d is empty in the baseline: its floor is 25 %"
    with pytest.raises(
        ArgumentError, match=r"the runs have evs at 50 % on d; it has random at 50 % on e; name two methods"
    ):
        pair_rows([rows[4]], [base[3]])


def test_two_methods_are_compared_where_they_are_named(tmp_path: Path) -> None:
    rows, base_rows = sides(tmp_path)
    pairs, notes = pair_rows(rows, base_rows, [("globalcom2", "random")])
    assert [(pair.row.method, pair.base.method, pair.row.budget) for pair in pairs] == [
        ("globalcom2", "random", "50 %"),
        ("globalcom2", "random", "10 %"),
    ]
    assert notes == []
    assert comparison_tables(pairs)[0].groups[0][0][1][0] == "globalcom2 / random"
    with pytest.raises(
        ArgumentError, match=r"pairs: no row of the baseline is of method 'fastv'; known: globalcom2, "
    ):
        pair_rows(rows, base_rows, [("random", "fastv")])
    with pytest.raises(ArgumentError, match="pairs: no row of the runs is of method 'fastv'"):
        pair_rows(rows, base_rows, [("fastv", "random")])


def test_models_are_told_apart_only_where_both_sides_have_several(tmp_path: Path) -> None:
    one = rows_of(tmp_path / "one", row("d", model="a"))
    other = rows_of(tmp_path / "other", row("d", model="b"))
    (pair,), _ = pair_rows(one, other)
    assert comparison_tables([pair])[0].title == "a against b: d"
    both = rows_of(tmp_path / "both", row("d", model="a"), row("d", model="b"))
    pairs, _ = pair_rows(both, both)
    assert [(pair.row.model, pair.base.model) for pair in pairs] == [("a", "a"), ("b", "b")]
    with pytest.raises(
        ArgumentError, match=r"runs: none at 100 % on d is in .*000/result.json and in .*001/result.json"
    ):
        pair_rows(both, one)
    with pytest.raises(ArgumentError, match=r"baseline: none at 100 % on d is in .*; name one of these runs"):
        pair_rows(one, both)

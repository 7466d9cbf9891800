"""Result files read into leaderboards and tables, and paired differences."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from result_files import marks, row, run_of, write
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.differences import difference, interval
from vidcompress.tools.evaluation.report.leaderboard import leaderboards_of
from vidcompress.tools.evaluation.report.load import ResultRow, read_row, read_rows
from vidcompress.tools.evaluation.report.statistics import paired_limits
from vidcompress.tools.evaluation.report.tables import markdown, report_tables, text, to_dict

FIT = "pdrop:schedule=fit"
REASON = "its floor is 25 %; pass schedule='fit'"


def rows_of(folder: Path, *entries: dict[str, Any]) -> list[ResultRow]:
    return read_rows([write(folder, entries)])[0]


@pytest.fixture
def two_tasks(tmp_path: Path) -> list[ResultRow]:
    """A right-or-wrong task and one in points; pdrop does not reach a tenth, its fitted form does."""
    points = {"main": "points", "scores": {"points": 1500.0}}
    less = {"main": "points", "scores": {"points": 1200.0}}
    return rows_of(
        tmp_path / "run",
        row("lmms:gqa", score=marks(100, 0.8, 0)),
        row("lmms:mme", score=marks(100, 0.7, 1), **points),
        row("lmms:gqa", "random", 0.1, score=marks(100, 0.4, 0)),
        row("lmms:mme", "random", 0.1, score=marks(100, 0.5, 1), **less),
        row("lmms:gqa", "globalcom2", 0.1, score=marks(100, 0.6, 0)),
        row("lmms:mme", "globalcom2", 0.1, score=marks(100, 0.6, 1), **less),
        row("lmms:gqa", "pdrop", 0.1, unreachable=REASON),
        row("lmms:mme", "pdrop", 0.1, unreachable=REASON),
        row("lmms:gqa", FIT, 0.1, score=[*marks(99, 0.7, 0), None]),
        row("lmms:gqa", "globalcom2", 0.5, score=marks(100, 0.7, 0)),
    )


def line_of(table: str, method: str, budget: str = "10 %") -> list[str]:
    found = [
        line for line in table.splitlines() if re.match(rf"{budget} +{re.escape(method)}  ", line + "  ")
    ]
    return re.split(r"  +", found[0].strip())


def test_scores_and_shares_of_the_uncompressed_model(two_tasks: list[ResultRow]) -> None:
    table = text(two_tasks)
    assert line_of(table, "none", "all tokens") == ["all tokens", "none", "100.0", "80.0", "1500.0", "100.0"]
    random = line_of(table, "random")
    assert random == ["10 %", "random", "10.0", "40.0 (50.0)", "1200.0 (80.0)*", "65.0"]
    assert line_of(table, "globalcom2")[-1] == "77.5*"  # of 75 and 80
    assert line_of(table, "globalcom2", "50 %") == [
        "50 %",
        "globalcom2",
        "50.0",
        "70.0 (87.5)*",
        "87.5 (of 1)",
    ]
    assert table.index("50 %  ") < table.index("10 %  "), "groups by falling budget"
    assert table.index("pdrop †") < table.index("random"), "controls come last in their group"


def test_the_unreachable_is_empty_with_its_reason_and_the_fitted_is_marked(
    two_tasks: list[ResultRow],
) -> None:
    table = text(two_tasks)
    assert line_of(table, "pdrop") == ["10 %", "pdrop"]
    assert f"pdrop at 10 % is empty: {REASON}" in table
    assert "†: schedule=fit" in table
    assert f"{FIT} at 10 %: questions that failed and are in no score: 1 on lmms:gqa" in table
    assert line_of(table, "pdrop †")[3] == "69.7 (87.1), 1 failed*"


def test_methods_that_are_empty_for_one_reason_are_named_in_one_note(tmp_path: Path) -> None:
    def empty(method: str, ratio: float, reason: str) -> dict[str, Any]:
        return row("d", method, ratio, unreachable=f"method {method!r} {reason}")

    videos = ("dycoke", "evs", "vidcom2")
    entries = [empty(m, r, "serves video inputs only") for m in videos for r in (0.5, 0.1)]
    found = rows_of(tmp_path / "run", row("d"), *entries, empty("fastv", 0.1, "cannot keep 2 of 7"))
    notes = [note for note in leaderboards_of(found)[0].notes if "empty" in note]
    assert notes == [
        "dycoke, evs, vidcom2 at 50 %, 10 % are empty: serves video inputs only",
        "fastv at 10 % is empty: method 'fastv' cannot keep 2 of 7",
    ]


def test_the_best_of_a_group_is_bold_and_ties_are_all(two_tasks: list[ResultRow]) -> None:
    scores = report_tables(two_tasks)[0]
    bold = {line[1][0]: [cell for cell, is_bold in line if is_bold] for line in scores.groups[2]}
    assert bold == {
        "globalcom2": ["1200.0 (80.0)", "77.5"],
        "pdrop": [],
        "pdrop †": ["69.7 (87.1), 1 failed"],  # its average is of one task only
        "random": ["1200.0 (80.0)"],
    }
    assert not any(is_bold for _, is_bold in scores.groups[0][0]), "the uncompressed model has no competitor"


def test_differences_are_paired_and_clear_ones_are_bold(two_tasks: list[ResultRow]) -> None:
    _, to_all, pair = report_tables(two_tasks, [("globalcom2", "random")])
    lines = {line[1][0]: line for line in to_all.groups[1]}
    assert lines["globalcom2"][2][0].startswith("-20.0 [")
    assert lines["globalcom2"][2][1]
    assert "pdrop" not in lines
    assert [cell for cell, _ in pair.groups[-1][0]][:2] == ["10 %", "globalcom2"]
    assert pair.groups[-1][0][2][0].startswith("+20.0 [")
    assert any("not the mean over questions" in note and "mme" in note for note in to_all.notes)


def test_what_stdout_and_markdown_show_is_the_same(two_tasks: list[ResultRow]) -> None:
    styled = "\n".join(table.text(400, styled=True) for table in report_tables(two_tasks))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", styled)
    unmarked = text(two_tasks).replace("*: ", "Bold: ").replace("*", "")  # no terminal: stars for bold
    assert plain != styled and plain.split() == unmarked.split()
    written = markdown(two_tasks)
    assert "| 10 % | globalcom2 | 10.0 | 60.0 (75.0) | **1200.0 (80.0)** | **77.5** |" in written


def test_markdown_shows_a_hostile_label_as_it_is(tmp_path: Path) -> None:
    found = rows_of(tmp_path / "run", row(), row(method="a|b`*[x](y)<i>", ratio=0.5))
    line = next(line for line in markdown(found).splitlines() if line.startswith("| 50 %"))
    assert r"a\|b\`\*\[x\](y)\<i\>" in line
    assert len(re.findall(r"(?<!\\)\|", line)) == 6


def test_json_says_the_same(two_tasks: list[ResultRow]) -> None:
    entry = to_dict(leaderboards_of(two_tasks)[0])
    line = next(row for row in entry["rows"] if (row["method"], row["budget"]) == ("random", "10 %"))
    assert line["scores"] == {"gqa": 0.4, "mme": 1200.0}
    assert line["average_per_cent"] == pytest.approx(65)
    assert line["differences"]["gqa"]["mean"] == pytest.approx(-0.4)
    assert line["differences"]["gqa"]["questions"] == 100
    json.dumps(entry, allow_nan=False)


def test_what_failed_and_what_it_counts_is_said(tmp_path: Path) -> None:
    """Two rows whose files broke at different questions are compared on all questions, where failures are wrong."""
    broken = [{"id": "1", "error": "broken file"}]
    wrong = {"settings": {"failed": "wrong"}, "failed": broken}
    rows = rows_of(
        tmp_path / "run",
        row(score=[1.0, 0.0, 1.0, 1.0], **wrong),
        row(
            method="random",
            ratio=0.1,
            score=[0.0, 1.0, 1.0, 0.0],
            **{**wrong, "failed": [{**broken[0], "id": "0"}]},
        ),
        row(method="uniform", ratio=0.1, score=[0.0, None, 1.0, 0.0]),  # of before it was a choice
    )
    assert [found.leaves_out_failed for found in rows] == [False, False, True]
    table = text(rows)
    assert line_of(table, "none", "all tokens")[3] == "75.0, 1 failed"
    assert "none at 100 %: questions that failed and count as wrong: 1 on lmms:gqa" in table
    assert "uniform at 10 %: questions that failed and are in no score: 1 on lmms:gqa" in table
    assert (
        "count in some rows of lmms:gqa and not in others, which cannot be compared; run `vidcompress eval`"
        in table
    )
    assert "cannot be compared" not in text(rows[:2])
    entries = to_dict(leaderboards_of(rows)[0])["rows"]
    assert [line["failed"]["gqa"]["left_out"] for line in entries] == [False, False, True]
    assert entries[1]["differences"]["gqa"]["questions"] == 4
    assert entries[1]["differences"]["gqa"]["mean"] == -0.25
    assert entries[2]["differences"]["gqa"]["questions"] == 3


def test_rows_of_lmms_eval_count_their_failures(tmp_path: Path) -> None:
    entry = row(score=[1.0, 0.0], failed=[{"id": "1", "error": "broken file"}])
    entry["task"]["harness"] = "lmms-eval 0.7.3"
    assert not rows_of(tmp_path / "run", entry)[0].leaves_out_failed


def test_rows_that_differ_in_frames_get_tables_of_their_own(tmp_path: Path) -> None:
    entries = []
    for frames in (8, 32):
        entries += [
            row("d", method, ratio, settings={"num_frames": frames}, row=f"{method}{frames}")
            for method, ratio in (("none", 1.0), ("random", 0.5))
        ]
    titles = [leaderboard.title for leaderboard in leaderboards_of(rows_of(tmp_path / "run", *entries))]
    assert [title.rpartition(", ")[2] for title in titles] == ["num_frames 8", "num_frames 32"]


def test_other_data_under_one_name_is_another_column(tmp_path: Path) -> None:
    other = row("d", row="again")
    other["task"]["revision"] = "cd34"
    leaderboard = leaderboards_of(rows_of(tmp_path / "run", row("d"), other, row("d", "random", 0.5)))[0]
    assert [column.data for column in leaderboard.columns] == ["ab12", "cd34"]
    assert len(text(read_rows([tmp_path / "run"])[0]).splitlines()) > 4


def test_a_row_without_its_baseline_has_no_share(tmp_path: Path) -> None:
    table = text(rows_of(tmp_path / "run", row("d", "random", 0.5)))
    assert line_of(table, "random", "50 %") == ["50 %", "random", "50.0", "50.0*"]
    assert "no row of the uncompressed model: d; nothing is compared with it there" in table


def test_two_runs_share_their_baseline(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a", [row(), row(method="random", ratio=0.5)]), write(tmp_path / "b", [row()])
    rows, notes = read_rows([one, two])
    assert len(rows) == 2
    assert re.search(
        r"is in .*/a/000/result.json and .*/b/000/result.json, alike; the first is shown", notes[0]
    )
    write(tmp_path / "c", [row(score=[0.0, 0.0])])
    assert "and their scores differ" in read_rows([one, tmp_path / "c"])[1][0]


def test_what_was_begun_is_said(tmp_path: Path) -> None:
    run = write(tmp_path / "run", [row()])
    (run / "009").mkdir()
    (run / "009" / "answers.jsonl").write_text("{}\n")
    assert re.search(r"/009 has no result yet; .* goes on", read_rows([run])[1][0])


def broken(change: dict[str, Any]) -> dict[str, Any]:
    entry = row()
    for place, value in change.items():
        target = entry
        *path, last = place.split(".")
        for part in path:
            target = target[part]
        target[last] = value
    return entry


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schema": 2}, "schema must be 1, the one this version reads"),
        ({"row": ""}, "row must be text"),
        ({"method": "\x1b[31mred"}, "method must be text of 1 to 2000 printable"),
        ({"method": ["random"]}, "method must be text"),
        ({"model": None}, "model.name is missing; add it"),
        ({"retention_ratio": 2}, "retention_ratio must be a finite number from 0 to 1"),
        ({"retention_ratio": True}, "retention_ratio must be a finite"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number"),
        ({"scores": {"accuracy": "high"}}, "scores.accuracy must be a finite number"),
        ({"scores": [1]}, "scores must be a valid object, got [1]"),
        ({"samples.score": [1.0]}, "samples: its lists must be of one length"),
        ({"samples.id": ["0", "0"]}, "with no id twice"),
        ({"samples.score": [1.0, "x"]}, "samples.score.1 must be a finite number, got 'x'"),
        ({"samples.facts": [1, 2]}, "samples.facts.0 must be a valid object, got 1"),
        ({"tokens": {"kept": -1}}, "tokens.kept must be a finite number from 0"),
        ({"failed": {}}, "failed must be a valid list, got {}"),
        ({"time_to_first_token_ms": {"median": -5}}, "time_to_first_token_ms.median must be"),
        ({"provenance": {"head": {"limit": 0.5}}}, "provenance.head.limit must be a whole number, got 0.5"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "run", [broken(change)]) / "000" / "result.json"
    with pytest.raises(ArgumentError, match=re.escape(message)) as caught:
        read_row(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"schema": NaN}', b'{"schema": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_result_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(content)
    with pytest.raises(ArgumentError, match=r"is no result file \(|the file must be an object, got \[1\]"):
        read_row(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
NESTED = ("model", "task", "samples", "settings", "tokens")
PLACES = [*row(), *(f"{top}.{name}" for top in NESTED for name in row()[top])]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(PLACES), JSON)
def test_any_field_may_hold_anything(
    tmp_path_factory: pytest.TempPathFactory, place: str, value: Any
) -> None:
    """Read and shown, or refused by name; never another error."""
    path = tmp_path_factory.mktemp("hostile") / "result.json"
    path.write_text(json.dumps(broken({place: value})))
    try:
        found = read_row(path)
    except ArgumentError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert text([found])
        json.dumps(to_dict(leaderboards_of([found])[0]), allow_nan=False)


def test_a_published_example() -> None:
    """Tango's interval of 1 and 7 discordant pairs of 21, as Fagerland, Lydersen and Laake (2014) have it."""
    low, high = paired_limits(1, 7, 21, correction=0)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@settings(max_examples=200)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400))
def test_clear_is_what_mcnemar_s_test_rejects(better: int, worse: int, others: int) -> None:
    of = max(1, better + worse + others)
    low, high = paired_limits(better, worse, of)
    surplus, spread = abs(better - worse) - 1, 1.96 * math.sqrt(better + worse)
    assert (low > 0 or high < 0) == (surplus > spread)


@pytest.mark.parametrize("of", [1, 2, 3, 5, 10, 30])
def test_a_handful_of_questions_is_covered_as_often_as_is_said(of: int) -> None:
    """By adding up every outcome: at least 95 %, whatever the shares of questions that differ are."""
    outcomes = np.array([(b, c) for b in range(of + 1) for c in range(of + 1 - b)])
    ends = np.array([paired_limits(b, c, of) for b, c in outcomes.tolist()])
    counts = np.column_stack((outcomes, of - outcomes.sum(axis=1)))
    ways = np.array([math.factorial(of) / math.prod(map(math.factorial, row)) for row in counts.tolist()])
    for first in np.linspace(0, 1, 41):
        for second in np.linspace(0, 1 - first, 21):
            shares = np.array([first, second, max(0.0, 1 - first - second)])
            chances = ways * (shares**counts).prod(axis=1)
            held = (ends[:, 0] <= first - second + 1e-9) & (first - second - 1e-9 <= ends[:, 1])
            assert chances.sum() == pytest.approx(1)
            assert chances[held].sum() >= 0.95 - 1e-6, (first, second)


@pytest.mark.parametrize("of", [3, 5, 10, 30])
def test_graded_marks_of_a_handful_are_covered_too(of: int) -> None:
    """Marks as ANLS gives them, 0 or from 0.5 to 1, half of the pairs alike; at 3 a bootstrap covers half the time."""
    draw = np.random.default_rng(of)

    def marks(count: int) -> Any:
        return np.where(draw.random(count) < 0.35, 0, draw.uniform(0.5, 1, count))

    first, second = marks(200_000), marks(200_000)
    alike = draw.random(200_000) < 0.5
    second[alike] = first[alike]
    truth, held = (first - second).mean(), 0
    for start in range(0, 500 * of, of):
        pair = [dict(enumerate(map(float, one[start : start + of]))) for one in (first, second)]
        gap = difference(*({str(key): mark for key, mark in one.items()} for one in pair))
        assert gap is not None
        held += gap.low <= truth <= gap.high
    assert held / 500 >= 0.95 - 0.02  # two standard errors of 500 draws


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("of", [3, 5, 10, 30])
def test_small_gaps_of_a_handful_do_not_rule_out_large_ones(of: int, sign: int) -> None:
    """One question of ten tells the two apart wholly, the others by 0.3: what few draws show is mostly 0.3 alone."""
    draw = np.random.default_rng(of)
    held = 0
    for _ in range(500):
        marks = {str(i): float(mark) for i, mark in enumerate(np.where(draw.random(of) < 0.1, 1.0, 0.3))}
        nothing = dict.fromkeys(marks, 0.0)
        gap = difference(*((marks, nothing) if sign == 1 else (nothing, marks)))
        assert gap is not None
        held += gap.low <= sign * 0.37 <= gap.high
    assert held / 500 >= 0.95 - 0.02


def test_of_many_questions_it_is_the_normal_interval() -> None:
    low, high = paired_limits(120, 80, 1000)
    half = 1.96 * math.sqrt((0.2 - 0.04**2) / 1000)
    assert low == pytest.approx(0.04 - half, abs=2e-3)  # the correction alone is 1e-3
    assert high == pytest.approx(0.04 + half, abs=2e-3)


def test_the_unit_of_the_marks_does_not_matter() -> None:
    first = {str(i): (i * 7 % 5) / 4 for i in range(9)}
    second = {str(i): (i * 3 % 4) / 4 for i in range(9)}
    small = difference(first, second)
    large = difference({k: 100 * v for k, v in first.items()}, {k: 100 * v for k, v in second.items()})
    assert small is not None and large is not None
    assert (large.low, large.high) == pytest.approx((100 * small.low, 100 * small.high))


def test_two_alike_are_not_called_certain() -> None:
    same = {str(i): 1.0 for i in range(20)}
    gap = difference(same, same)
    assert gap is not None
    assert gap.mean == 0
    assert gap.low < -0.05 and gap.high > 0.05
    assert not gap.is_clear


def test_graded_marks_of_many_questions_have_the_normal_interval() -> None:
    first = {str(i): (i % 11) / 10 for i in range(2000)}
    second = {str(i): (i % 7) / 10 for i in range(2000)}
    gap, again = difference(first, second), difference(first, second)
    assert gap is not None
    assert gap == again
    gaps = [first[key] - second[key] for key in first]
    mean = sum(gaps) / len(gaps)
    half = 1.96 * math.sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
    assert gap.mean == pytest.approx(mean)
    assert gap.low == pytest.approx(mean - half, abs=0.1 * half)
    assert gap.high == pytest.approx(mean + half, abs=0.1 * half)


def test_only_shared_answers_are_compared() -> None:
    gap = difference({"a": 1.0, "b": 0.0, "c": None, "d": 1.0}, {"a": 0.0, "b": 0.0, "c": 1.0, "e": 1.0})
    assert gap is not None
    assert (gap.questions, gap.mean) == (2, 0.5)
    assert difference({"a": 1.0}, {"b": 1.0}) is None


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_intervals_hold_their_mean_and_mirror(pairs: list[tuple[int, int]]) -> None:
    first = {str(i): float(a) for i, (a, _) in enumerate(pairs)}
    second = {str(i): float(b) for i, (_, b) in enumerate(pairs)}
    gap, back = difference(first, second), difference(second, first)
    assert gap is not None and back is not None
    assert -1 <= gap.low <= gap.mean <= gap.high <= 1
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low))
    low, high = interval(list(first.values()))
    assert 0 <= low <= sum(first.values()) / len(first) <= high <= 1


def test_a_run_of_twenty_rows_reads_whole(tmp_path: Path) -> None:
    rows, notes = read_rows([run_of(tmp_path / "run", questions=10)])
    assert (len(rows), notes) == (20, [])
    assert [entry.method for entry in leaderboards_of(rows)[0].entries] == [
        "globalcom2",
        "random",
        "uniform",
    ] * 3

"""The published figures: read, checked against their own averages, and put beside ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from result_files import row, write
from vidcompress.core.config import read_config
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.load import ResultRow, read_rows
from vidcompress.tools.evaluation.report.published import PublishedTable, published_tables, read_table
from vidcompress.tools.evaluation.report.published_comparison import (
    Match,
    PublishedComparison,
    compare_with_published,
)
from vidcompress.tools.evaluation.report.published_comparison_table import (
    comparison_notes,
    comparison_table,
    has_matches,
    reason_without_match,
    to_dict,
)

TABLES = {table.name: table for table in published_tables()}
ROUNDING = 0.1
"""Scores and averages are published to a tenth; of the averages that follow none is further off."""


def test_every_average_follows_from_its_scores_or_says_that_it_does_not() -> None:
    checked = 0
    for table in TABLES.values():
        for line in table.rows:
            if line.average is None or not line.scores:
                continue
            mean = table.mean_share(line, list(line.scores))
            follows = mean is not None and abs(mean - line.average) <= ROUNDING
            assert follows != bool(line.average_note), (table.name, line, mean)
            if mean is not None and not follows:
                assert f"{mean:.1f}" in line.average_note, (table.name, line)
            checked += mean is not None
    assert checked >= 40


def test_a_note_is_given_only_where_it_is_needed() -> None:
    notes = [(t.name, line.method) for t in TABLES.values() for line in t.rows if line.average_note]
    assert ("globalcom2-ablation-allocation", "top-k") in notes
    assert not [name for name, _ in notes if name in ("globalcom2-llava-next-7b", "holitom-llava-onevision")]


@pytest.mark.parametrize(
    "name, method, ratio, scores, average",
    [
        ("globalcom2-llava-next-7b", "GlobalCom2", 0.25, "61.5 55.7 68.1 65.9 87.6 60.9 1493.5 40.7", 96.7),
        ("globalcom2-llava-next-7b", "PruMerge", 0.1, "53.6 54.0 66.4 61.3 60.8 50.6 1149.3 25.5", 80.6),
        ("globalcom2-llava-next-7b", "FastV", 0.5, "61.8 54.9 69.0 67.4 85.5 59.6 1490.3 37.6", 95.5),
        ("globalcom2-ablation-score", "global only", 0.25, "67.9 86.4 60.2 1488.5 37.8", 94.7),
        ("vidcom2-llava-onevision", "VidCom2", 0.25, "57.2 54.9 62.5 58.6", 99.6),
        ("vidcom2-llava-onevision", "DyCoke", 0.3, "56.6 54.7 60.3 56.1", 96.5),
        ("vidcom2-llava-video", "FastV", 0.15, "44.0 44.6 53.8 51.3", None),
        ("vidcom2-qwen3-vl-8b", "VidCom2", 0.25, "67.5 64.0", 96.3),
        ("vidcom2-qwen3-vl-8b", "FastVID", 0.25, "66.8 65.0", 94.2),
        ("fastvid-qwen2.5-vl-7b", "FastVID", 0.27, "62.9", None),
    ],
)
def test_figures_are_those_of_the_papers(
    name: str, method: str, ratio: float, scores: str, average: float | None
) -> None:
    table = TABLES[name]
    line = next(r for r in table.rows if (r.method, r.retention_ratio) == (method, ratio))
    assert [line.scores[task.key] for task in table.tasks] == [float(score) for score in scores.split()]
    assert line.average == average


def test_every_table_states_its_source_and_its_convention() -> None:
    for table in TABLES.values():
        assert table.models and table.convention and table.table
        assert re.fullmatch(r"\d{4}\.\d{5}", table.arxiv) or all(line.source for line in table.rows), (
            table.name
        )
        assert table.rows or table.absent, table.name


def test_every_label_is_a_method_that_exists() -> None:
    labels = {label for table in TABLES.values() for method in table.methods for label in method.ours}
    assert len(labels) > 15
    for label in labels:
        method, options = parse_method_spec(label)
        assert read_config({"method": method, "retention_ratio": 0.25, **options}).method.name == method


NEXT = "globalcom2-llava-next-7b"


def against(
    tmp_path: Path, *entries: dict[str, Any], table: str | PublishedTable = NEXT
) -> PublishedComparison:
    rows: list[ResultRow] = read_rows([write(tmp_path / "run", entries)])[0]
    return compare_with_published(TABLES[table] if isinstance(table, str) else table, rows)


def match_of(comparison: PublishedComparison, method: str, ratio: float, task: str) -> Match:
    return next(
        m
        for m in comparison.matches
        if (m.row.method, m.row.retention_ratio, m.task.key) == (method, ratio, task)
    )


def gqa(share: float, **given: Any) -> dict[str, Any]:
    return {"main": "exact_match", "scores": {"exact_match,none": share}, **given}


def test_ours_theirs_and_the_difference(tmp_path: Path) -> None:
    mme = {
        "main": "mme_cognition_score",
        "scores": {"mme_cognition_score": 300.0, "mme_perception_score": 1500.0},
    }
    found = against(
        tmp_path,
        row("lmms:gqa", **gqa(0.64)),
        row("lmms:mme", **mme),
        row("lmms:gqa", "globalcom2", 0.25, **gqa(0.608)),
        row("lmms:mme", "globalcom2", 0.25, **{**mme, "scores": {"mme_perception_score": 1350.0}}),
    )
    match = match_of(found, "GlobalCom2", 0.25, "gqa")
    assert match.value == pytest.approx(60.8)
    assert match.theirs == 61.5
    assert match_of(found, "GlobalCom2", 0.25, "mme").value == 1350
    assert match_of(found, "uncompressed", 1, "gqa").value == pytest.approx(64.0)
    ours, theirs, count = next((o, t, c) for r, o, t, c in found.averages if r.method == "GlobalCom2" and c)
    assert (ours, count) == (pytest.approx((95 + 90) / 2), 2)
    assert theirs == pytest.approx(100 * (61.5 / 64.2 + 1493.5 / 1519.0) / 2), "theirs over the same tasks"
    sheet = comparison_table(found)
    line = next(
        cells
        for group in sheet.groups
        for cells in group
        if cells[0][0] == "25 %" and "Global" in cells[1][0]
    )
    assert line[2][0] == "60.8 / 61.5 (-0.7)"
    assert line[3][0] == "– / 55.7"
    entry = json.loads(json.dumps(to_dict(found), allow_nan=False))
    assert [s["difference"] for s in entry["scores"] if s["ours"] is not None][1] == pytest.approx(-19.0)


@pytest.mark.parametrize(
    "entry, method, why",
    [
        (row("lmms:gqa", "globalcom2", 0.2, **gqa(0.6)), "GlobalCom2", "another budget: 20 %"),
        (
            row("lmms:gqa_lite", "globalcom2", 0.25, **gqa(0.6)),
            "GlobalCom2",
            "another split or variant: lmms:gqa_lite",
        ),
        (row("lmms:pope", "globalcom2", 0.25), "GlobalCom2", "task not run: lmms:gqa"),
        (
            row("lmms:gqa", "globalcom2:tau=5", 0.25, **gqa(0.6)),
            "GlobalCom2",
            "other options: globalcom2:tau=5",
        ),
        (
            row("lmms:gqa", "random", 0.25, **gqa(0.6)),
            "GlobalCom2",
            "not run: globalcom2 or globalcom2:policy=reference",
        ),
        (row("lmms:gqa", "globalcom2", 0.25, model="tiny-next"), "GlobalCom2", "no row of this model"),
        (row("lmms:gqa", "fastv", 0.25, unreachable="floor"), "FastV", "out of reach: floor"),
        (row("lmms:gqa", "globalcom2", 0.25), "GlobalCom2", "no score exact_match"),
    ],
)
def test_why_a_figure_has_no_counterpart(
    tmp_path: Path, entry: dict[str, Any], method: str, why: str
) -> None:
    found = against(tmp_path, entry)
    match = match_of(found, method, 0.25, "gqa")
    assert (match.ours, match.value, match.why) == (None, None, why)
    assert any(why in note and f"{method} at 25 %" in note for note in comparison_notes(found))
    assert not has_matches(found)
    assert reason_without_match(found).startswith("nothing to compare with GlobalCom2 on LLaVA-NeXT-7B")


def test_rows_of_two_numbers_of_frames_stand_beside_their_own(tmp_path: Path) -> None:
    """The sweep gives one model two labels, which end as its name does."""
    mine = [
        row(
            "lmms:mlvu_dev",
            "vidcom2",
            0.25,
            model=f"{frames}-frames/Qwen3-VL-8B-Instruct",
            settings={"num_frames": frames},
            main="mlvu_percetion_score",
            scores={"mlvu_percetion_score": float(frames)},
        )
        for frames in (64, 32)
    ]
    compared = against(tmp_path, *mine, table=TABLES["vidcom2-qwen3-vl-8b"])
    pairs = {(m.row.num_frames, m.value, m.theirs) for m in compared.matches if m.ours is not None}
    assert pairs == {(64, 64.0, 64.0), (32, 32.0, 60.6)}


def test_another_number_of_frames_or_another_split(tmp_path: Path) -> None:
    model, scores = "llava-hf/llava-onevision-qwen2-7b-ov-hf", {"lvb_acc": 0.55}
    entry = {"model": model, "main": "lvb_acc", "scores": scores, "total": 6273.0}
    name = "lmms:longvideobench_val_v"
    table = TABLES["vidcom2-llava-onevision"]
    few = against(
        tmp_path / "a", row(name, "vidcom2", 0.25, settings={"num_frames": 8}, **entry), table=table
    )
    match = match_of(few, "VidCom2", 0.25, "longvideobench")
    assert match.why == "another number of frames: 8, theirs 32"
    unsaid = against(tmp_path / "b", row(name, "vidcom2", 0.25, **entry), table=table)
    assert match_of(unsaid, "VidCom2", 0.25, "longvideobench").value == pytest.approx(55.0)
    assert "theirs has 32 frames; our rows do not say how many" in list(comparison_notes(unsaid))
    path = tmp_path / "own.toml"
    path.write_text(
        'title = "t"\npaper = "p"\ntable = "1"\nconvention = "c"\nmodels = ["m"]\n'
        '[[tasks]]\nkey = "a"\nname = "A"\ntasks = ["data:a"]\nscores = ["accuracy"]\nsplit = "val"\nscale = 100\n'
        '[[methods]]\nname = "R"\nours = ["random"]\n'
        '[[rows]]\nmethod = "R"\nretention_ratio = 0.5\nscores = { a = 40.0 }\n'
    )
    own = against(tmp_path / "c", row("data:a", "random", 0.5, model="x/m"), table=read_table(path))
    assert own.matches[0].why == "another split: test, theirs val"


def test_what_is_not_like_for_like_is_said(tmp_path: Path) -> None:
    entry = row("lmms:gqa", "globalcom2", 0.25, **gqa(0.6, total=2340.0))
    entry["provenance"] = {"head": {"limit": 50}}
    notes = "\n".join(comparison_notes(against(tmp_path, entry)))
    assert 'theirs 2880, ours GQA 2340; preset = "2880" on the model makes them alike' in notes
    assert "not all questions were asked: GQA 2" in notes
    assert "not held here: PruMerge at 0.5 and 0.25" in notes
    entry["failed"] = [{"id": "1", "error": "broken file"}]
    assert "questions of ours that failed: GlobalCom2 GQA 1" in list(
        comparison_notes(against(tmp_path / "c", entry))
    )
    whole = "\n".join(
        comparison_notes(against(tmp_path / "b", row("lmms:gqa", "globalcom2", 0.25, **gqa(0.6))))
    )
    assert "ours GQA" not in whole
    assert "not all" not in whole


def test_the_closest_label_and_task_are_taken(tmp_path: Path) -> None:
    found = against(
        tmp_path,
        row("lmms:gqa", "globalcom2:policy=reference", 0.25, **gqa(0.5)),
        row("lmms:gqa", "globalcom2", 0.25, **gqa(0.6)),
        row("lmms:gqa", "fastv:schedule=fit", 0.25, **gqa(0.4)),
    )
    assert match_of(found, "GlobalCom2", 0.25, "gqa").value == pytest.approx(60)
    assert match_of(found, "FastV", 0.25, "gqa").value == pytest.approx(40)


TABLE = 'title = "t"\npaper = "p"\ntable = "1"\nconvention = "c"\nmodels = ["m"]\n'


@pytest.mark.parametrize(
    "content, message",
    [
        ("title = ", "is no TOML table ("),
        ("", "title is missing; add it"),
        (TABLE + "tittle = 1", "'tittle' is no key here; known: "),
        (TABLE + "visual_tokens = 1.5", "visual_tokens must be a whole number"),
        (TABLE + "models = 5".replace("models", "absent"), "absent must be a valid list, got 5"),
        (
            TABLE + '[[rows]]\nmethod = "R"\nretention_ratio = 0.5',
            "method 'R' must have an entry under methods",
        ),
        (
            TABLE + '[[rows]]\nmethod = "R"\nretention_ratio = 0',
            "rows.0.retention_ratio must be a share above 0 and not above 1, got 0",
        ),
        (
            TABLE + '[[rows]]\nmethod = "R"\nretention_ratio = 1\nscores = { a = "x" }',
            "rows.0.scores.a must be a finite number, got 'x'",
        ),
        (
            TABLE
            + '[[methods]]\nname = "R"\n[[rows]]\nmethod = "R"\nretention_ratio = 1\nscores = { a = 1 }',
            "['a'] must have entries under tasks",
        ),
        (TABLE + '[[tasks]]\nkey = "a"\nkee = 1', "did you mean 'key'?"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(ArgumentError, match=re.escape(message)) as caught:
        read_table(path)
    assert str(path) in str(caught.value)

"""Names of tasks that were typed without a prefix, or with a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcompress.tools.evaluation.tasks import spelling
from vidcompress.tools.evaluation.tasks.spelling import harness_tasks, meant_task


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pope", "lmms:pope"),
        ("POPE", "lmms:pope"),
        ("lmm:pope", "lmms:pope"),
        ("imag", "shapes:image"),
        ("shape:clip", "shapes:clip"),
        ("textvqa", "lmms:textvqa"),
        ("no such thing at all", None),
    ],
)
def test_the_nearest_name(typed: str, meant: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "harness_tasks", lambda: ("gqa", "pope", "textvqa"))
    assert meant_task(typed) == meant


def test_a_folder_of_questions_is_data(tmp_path: Path) -> None:
    (tmp_path / "pope").mkdir()
    assert meant_task(str(tmp_path / "pope")) is None
    (tmp_path / "pope" / "questions.jsonl").write_text("")
    assert meant_task(str(tmp_path / "pope")) == f"data:{tmp_path / 'pope'}"


def test_names_of_published_tables_and_of_the_suite_need_no_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "find_spec", lambda name: None)
    harness_tasks.cache_clear()
    try:
        assert {"pope", "videomme", "mvbench", "vidcompress_needle"} <= set(harness_tasks())
        assert "shapes" not in harness_tasks()
    finally:
        harness_tasks.cache_clear()

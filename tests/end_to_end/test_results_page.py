"""The page of `vidcompress results --html`: scores, plots, and what one row lost and another kept, with its mask."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from browser import chromium, open_file, watched_page  # noqa: F401
from vidcompress.cli import app
from vidcompress.core.report.maps import ViewMap
from vidcompress.tools.evaluation.report.load import read_rows
from vidcompress.tools.evaluation.report.page.masks import viewer_of
from vidcompress.tools.evaluation.report.page.questions import QuestionGroup, question_groups

LOST, KEPT = "globalcom2 at 10 %", "random at 10 %"


def run(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the embedded model on pictures and clips."""
    out = tmp_path_factory.mktemp("runs") / "small"
    words = "eval --task shapes:image --task shapes:clip --limit 40 --methods globalcom2,random -r 0.1"
    run(*words.split(), "--out", str(out))
    return out


@pytest.fixture(scope="module")
def page_file(runs: Path) -> Path:
    path = runs.parent / "page.html"
    run("results", str(runs), "--html", str(path))
    return path


def data_of(path: Path, name: str = "data") -> Any:
    text = path.read_text(encoding="utf-8")
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def clip_group(runs: Path) -> QuestionGroup:
    rows, _ = read_rows([runs])
    return next(group for group in question_groups(rows) if "clip" in group.title)


def test_the_page_has_what_the_runs_have(runs: Path, page_file: Path) -> None:
    text = page_file.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text)
    assert text.count("data:image/svg+xml;base64,") >= 4
    assert "where it comes from" in text.lower() and "torch" in text
    groups = data_of(page_file)
    assert [group["asked"] for group in groups] == [40, 40]
    for group in groups:
        rows, _ = read_rows([runs])
        mine = next(one for one in question_groups(rows) if one.title == group["title"])
        for place, row in enumerate(mine.rows):
            right = [question["right"][place] for question in group["questions"]]
            assert sum(right) / len(right) == pytest.approx(row.value)
        assert all(question["text"] and question["expected"] for question in group["questions"])


def test_masks_are_those_of_the_journal(runs: Path) -> None:
    group = clip_group(runs)
    name = group.ids[3]
    shown = viewer_of(group, name)
    assert isinstance(shown, dict)
    assert len(shown["visuals"][0]["views"]) == 8 == len(shown["pictures"])
    for place, lines in enumerate(group.lines):
        (views,) = lines[name]["views"]
        for told, drawn in zip(views, shown["rows"][place]["visuals"][0]["views"], strict=True):
            bits = np.unpackbits(np.frombuffer(base64.b64decode(shown["blobs"][drawn["kept"]]), np.uint8))
            assert np.array_equal(bits[:16].astype(bool), ViewMap.from_dict(told).kept.ravel())
    other = viewer_of(group, group.ids[4])
    assert isinstance(other, dict) and other["pictures"] != shown["pictures"]


def test_questions_that_tell_rows_apart_come_first(runs: Path) -> None:
    group = clip_group(runs)
    lost, kept = group.names.index("all tokens"), group.names.index(KEPT)
    right = {name: [group.is_right(row, name) for row in group.rows] for name in group.ids}
    telling = {name for name, of in right.items() if of[kept] is False and of[lost]}
    assert telling, "random loses some question at a tenth"
    assert telling & set(group.telling(2))
    assert group.telling(0) == [] and group.telling(100) == list(group.ids)


def test_media_outside_the_run_are_not_shown(runs: Path, tmp_path: Path) -> None:
    """Results of a stranger cannot bring pictures of this machine into a page."""
    copy = tmp_path / "copy"
    shutil.copytree(runs, copy)
    secret = tmp_path / "secret.png"
    shutil.copy("examples/scene.png", secret)
    for result in copy.glob("*image*/result.json"):
        content = json.loads(result.read_text())
        content["samples"]["media"] = [["../secret.png"] for _ in content["samples"]["media"]]
        result.write_text(json.dumps(content))
    rows, _ = read_rows([copy])
    group = next(group for group in question_groups(rows) if "image" in group.title)
    why = viewer_of(group, group.ids[0])
    assert isinstance(why, str) and "lies outside the folders of the run and of its data" in why
    assert isinstance(viewer_of(clip_group(copy), clip_group(copy).ids[0]), dict)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mask": [1, 2]}, "must be whole numbers of at least 0 that sum to"),
        ({"grid": [4, -4]}, "must be .rows, cols., whole numbers"),
        ({"grid": [10**9, 1]}, "must be .rows, cols., whole numbers"),
        ({"kind": "poster"}, "kind must be one of .*, got 'poster'"),
        ({"place": [0, 1]}, "must be .top, left, bottom, right., numbers"),
        ({"time": "soon"}, "must be a number of seconds"),
        ({"stages": {"x": []}}, "must be masks by the number of a layer"),
        ({"mass": [1.0]}, "must be a number for each of"),
    ],
)
def test_a_damaged_journal_costs_its_question(
    runs: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs, copy)
    (journal,) = copy.glob("*clip*random*/answers.jsonl")
    head, *lines = journal.read_text().splitlines()
    first = json.loads(lines[0])
    first["views"][0][0] = {**first["views"][0][0], "mask": [0, 16], **change}
    journal.write_text("\n".join([head, json.dumps(first), *lines[1:], ""]))
    group = clip_group(copy)
    why = viewer_of(group, first["id"])
    assert isinstance(why, str) and re.search(f"the journal of {KEPT} is damaged: .*{says}", why)
    assert isinstance(viewer_of(group, json.loads(lines[1])["id"]), dict)


def test_texts_of_questions_are_never_html(runs: Path, tmp_path: Path) -> None:
    copy, path = tmp_path / "copy", tmp_path / "page.html"
    shutil.copytree(runs, copy)
    for result in copy.glob("*/result.json"):
        content = json.loads(result.read_text())
        content["samples"]["question"] = [
            "</script><img src=x onerror=alert(1)>" for _ in content["samples"]["id"]
        ]
        content["model"]["name"] = "<b>tiny</b>"
        result.write_text(json.dumps(content))
    run("results", str(copy), "--html", str(path), "--questions", "1")
    text = path.read_text(encoding="utf-8")
    assert "<img src=x" not in text and "<b>tiny</b>" not in text and "&lt;b&gt;tiny" in text


def test_a_reader_opens_what_one_row_lost_and_another_kept(page_file: Path, chromium: Any) -> None:  # noqa: F811
    groups = data_of(page_file)
    lost, kept = (groups[0]["rows"].index(name) for name in (LOST, KEPT))
    fits = [
        [q for q in group["questions"] if q["right"][lost] is False and q["right"][kept]] for group in groups
    ]
    number = max(range(2), key=lambda number: len(fits[number]))
    assert fits[number], "random keeps something that globalcom2 loses"
    with watched_page(chromium, width=1280) as (page, watch):
        address = open_file(page, page_file)
        page.select_option("#group", label=groups[number]["title"])
        assert page.locator("#lost").input_value() == str(lost), "what the page shows first"
        assert page.locator("#kept").input_value() == str(kept)
        lines = page.locator("#list tbody tr")
        assert lines.count() == sum("viewer" in question for question in fits[number]) >= 1
        assert lines.first.locator(".wrong").count() == 1 == lines.first.locator(".right").count()
        lines.first.locator("button").click()
        viewer = page.frame_locator("#look iframe")
        viewer.locator(".kept-viewer[data-ready]").wait_for()
        rows = viewer.locator("input.rows")
        assert rows.input_value() == str(lost), "the row that lost it is shown first"
        canvas = viewer.locator("canvas").last
        before = canvas.screenshot()
        rows.fill(str(kept))
        assert canvas.screenshot() != before
        page.select_option("#kept", label=LOST)
        assert lines.count() == 0, "the control: no row loses what it keeps"
        assert watch.strangers(address) == [] and watch.complaints == []


def test_without_matplotlib_the_page_says_so(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "page.html"
    assert "plots need matplotlib" in " ".join(run("results", str(runs), "--html", str(path)).split())
    assert "data:image/svg+xml" not in path.read_text(encoding="utf-8")

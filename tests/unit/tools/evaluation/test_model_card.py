"""Scores in the metadata of a model card, read back with the hub's own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from result_files import row, run_of, write
from vidcompress.cli import app
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.load import ResultRow, read_rows
from vidcompress.tools.evaluation.report.model_card import read_card, with_model_index

CARD = """---
license: mit
tags: [video]
model-index:
- name: mine
  results:
  - task: {type: visual-question-answering}
    dataset: {name: VQAv2, type: vqa}
    metrics:
    - {type: accuracy, value: 0.5, name: of another harness}
---
# Mine

A line --- with dashes.
"""


def rows_of(place: Path, *entries: dict[str, Any]) -> list[ResultRow]:
    return read_rows([write(place, entries)])[0]


def results_in(card: str) -> list[Any]:
    return ModelCard(card).data.eval_results or []


def test_a_new_card_has_each_main_score_with_how_it_was_measured(tmp_path: Path) -> None:
    rows = read_rows([run_of(tmp_path / "run", questions=40)])[0]
    card, notes = with_model_index("", rows)
    assert notes == []
    results = results_in(card)
    assert ModelCard(card).data.model_name == "llava-v1.6-vicuna-7b-hf"
    assert {(r.dataset_type, r.metric_name, r.metric_value) for r in results} == {
        (r.task, f"{r.main} ({'all tokens' if r.is_baseline else f'{r.method}, {r.budget}'})", r.value)
        for r in rows
    }
    chosen = ("lmms:gqa", "accuracy (globalcom2, 25 %)")
    (one,) = (result for result in results if (result.dataset_type, result.metric_name) == chosen)
    assert one.metric_args["retention_ratio"] == 0.25 and one.metric_args["questions"] == 40
    assert one.metric_args["low"] < one.metric_value < one.metric_args["high"]
    assert (one.task_type, one.dataset_split, one.dataset_revision) == (
        "visual-question-answering",
        "test",
        "ab12",
    )


def test_text_and_other_metadata_and_results_stay(tmp_path: Path) -> None:
    right = row("hub:owner/name", score=[1.0, 1.0])
    (first,) = rows_of(tmp_path / "first", right)
    card, notes = with_model_index(CARD, [first])
    assert notes == ["the card names its model mine, the runs llava-v1.6-vicuna-7b-hf; the card's name stays"]
    made = ModelCard(card)
    assert made.text == ModelCard(CARD).text
    assert (made.data.license, made.data.tags, made.data.model_name) == ("mit", ["video"], "mine")
    assert [(r.dataset_type, r.metric_value) for r in results_in(card)] == [("vqa", 0.5), ("owner/name", 1.0)]
    # The same row measured anew takes the place of the old one, another method stands beside it.
    again = row("hub:owner/name", score=[1.0, 0.0])
    other = row("hub:owner/name", "random", 0.25, score=[0.0, 0.0])
    card, _ = with_model_index(card, rows_of(tmp_path / "second", again, other))
    assert [r.metric_value for r in results_in(card)] == [0.5, 0.5, 0.0]
    same, _ = with_model_index(card, rows_of(tmp_path / "third", again, other))
    assert same == card


def test_rows_of_other_settings_stand_beside_one_another(tmp_path: Path) -> None:
    card = ""
    for number, frames in enumerate((8, 32, 8)):
        measured = row("lmms:mvbench", score=[1.0, float(frames == 32), float(number > 1)])
        measured["settings"] = {**measured.get("settings", {}), "num_frames": frames, "mass": "off"}
        card, _ = with_model_index(card, rows_of(tmp_path / str(number), measured))
    found = {(r.metric_args["num_frames"], r.metric_args["mass"]): r.metric_value for r in results_in(card)}
    assert len(results_in(card)) == 2  # the third row takes the place of the first
    assert found == {(8, "off"): pytest.approx(2 / 3), (32, "off"): pytest.approx(2 / 3)}


def test_clips_are_another_task_and_rows_without_a_score_are_named(tmp_path: Path) -> None:
    clip = row("data:clips", score=[1.0])
    clip["samples"]["media"] = [["/data/a.mp4"]]
    out_of_reach = row("data:clips", "fastv", 0.1, unreachable="its layer keeps more")
    card, notes = with_model_index("", rows_of(tmp_path, clip, out_of_reach))
    assert [result.task_type for result in results_in(card)] == ["video-text-to-text"]
    assert len(notes) == 1 and notes[0].endswith("has no score and is not in the card")


@pytest.mark.parametrize(
    "text", ["# Plain\n\nText.\n", "", "--- a rule, no metadata\n", "---\n\n---\nText.\n"]
)
def test_cards_without_metadata(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, _ = with_model_index(text, rows_of(tmp_path, row()))
    assert len(results_in(card)) == 1
    assert card.endswith(text.removeprefix("---\n\n---\n"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "head",
    [
        "a: [",
        "- 1",
        "model-index: 5",
        "model-index:\n- name: x\n  results:\n  - task: 3",
        "x: !!python/name:os.system",
    ],
)
def test_broken_metadata_is_one_error(head: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^mine\.md: its metadata cannot be read \(") as caught:
        with_model_index(f"---\n{head}\n---\n", rows_of(tmp_path, row()), "mine.md")
    assert "\n" not in str(caught.value)


def test_rows_of_several_models_and_rows_without_scores_are_refused(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "two", row(model="a/one"), row(model="a/two"))
    with pytest.raises(ArgumentError, match=r"these are of 2 \(a/one, a/two\); pass the runs of one"):
        with_model_index("", rows)
    empty = rows_of(tmp_path / "empty", row(method="fastv", ratio=0.1, unreachable="its layer keeps more"))
    with pytest.raises(ArgumentError, match="no row of .* has a score"):
        with_model_index("", empty)


def test_files_that_are_no_card(tmp_path: Path) -> None:
    assert read_card(tmp_path / "none.md") == ""
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArgumentError, match="is no model card"):
        read_card(tmp_path / "binary.md")
    (tmp_path / "large.md").write_text("a" * (2**20 + 1))
    with pytest.raises(ArgumentError, match="is larger than 1048576 bytes"):
        read_card(tmp_path / "large.md")


def test_the_command_writes_and_goes_on_with_a_card(tmp_path: Path) -> None:
    run = str(run_of(tmp_path / "run", questions=40))
    path = tmp_path / "README.md"
    path.write_text(CARD)
    for _ in range(2):
        result = CliRunner().invoke(app, ["results", run, "--model-index", str(path)])
        assert result.exit_code == 0, result.output
        assert f"wrote {path}" in result.output and "the card's name stays" in " ".join(result.output.split())
    head = yaml.safe_load(path.read_text().split("---\n")[1])
    assert head["license"] == "mit" and len(head["model-index"]) == 1
    values = [
        r.metric_value for r in results_in(path.read_text()) if r.metric_name == "accuracy (all tokens)"
    ]
    assert values and all(0 < value <= 1 for value in values)
    assert not list(tmp_path.glob(".*part*"))

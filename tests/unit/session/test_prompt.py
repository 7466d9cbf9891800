"""Prompts whose visuals stand in several runs of placeholders: parsed, shortened, and counted in columns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vidcompress.core.prompt import Prompt, parse_prompt, runs_of_visuals
from vidcompress.errors import UnsupportedInputError
from vidcompress.session.columns import ShortColumns
from vidcompress.session.prompt import questions, splice

IMAGE, VIDEO = 90, 91
ROWS = [
    [5, VIDEO, VIDEO, 6, VIDEO, VIDEO, 7, IMAGE, 8],
    [0, 0, IMAGE, IMAGE, IMAGE, 9, IMAGE, 4, 4],
]
IDS = torch.tensor(ROWS)
MASK = torch.tensor([[1] * 9, [0, 0] + [1] * 7])
RUNS = {"image": [(1,), (2, 1), (1,)], "video": [(2, 2)]}
KEPT = {
    ("video", 0): torch.tensor([1, 2]),
    ("image", 0): torch.tensor([0]),
    ("image", 1): torch.tensor([0, 2]),
    ("image", 2): torch.tensor([], dtype=torch.int64),
}
COLUMNS = [[0, 2, 3, 4, 6, 7, 8], [0, 2, 3, 5, 6]]  # that stay, by hand


def parsed() -> Prompt:
    return parse_prompt(IDS, MASK, {"image": IMAGE, "video": VIDEO}, RUNS)


def test_runs_are_consumed_in_order() -> None:
    spans = parsed().spans
    assert [(s.modality, s.number, s.columns.tolist()) for s in spans[0]] == [
        ("video", 0, [1, 2, 4, 5]),
        ("image", 0, [7]),
    ]
    assert [(s.modality, s.number, s.columns.tolist()) for s in spans[1]] == [
        ("image", 1, [0, 1, 2]),
        ("image", 2, [4]),
    ]


def test_runs_belong_to_one_visual_where_little_text_stands_between_them() -> None:
    ids = torch.tensor([[5, 9, 9, 1, 9, 9, 1, 4, 9, 9], [9, 1, 9, 1, 1, 9, 1, 1, 1, 9]])
    assert runs_of_visuals(ids, 9) == [(2, 2), (2,), (1, 1), (1,), (1,)]
    assert runs_of_visuals(ids, 9, between=2) == [(2, 2, 2), (1, 1, 1), (1,)]
    assert runs_of_visuals(ids, 8) == []


def test_text_between_runs_is_no_question() -> None:
    assert questions(parsed())["video", 0].tolist() == [7, 8]


def test_an_unfinished_visual_is_refused() -> None:
    runs = {**RUNS, "video": [(2, 2, 2)]}
    with pytest.raises(UnsupportedInputError, match="row 0 ends before video 0 does: 2 of its 3 runs"):
        parse_prompt(IDS, MASK, {"image": IMAGE, "video": VIDEO}, runs)


def shortened(**more: Any) -> dict[str, torch.Tensor]:
    inputs = {"input_ids": IDS, "labels": IDS + 100, **more}
    ids = {"image": IMAGE, "video": VIDEO}
    positions = more.pop("positions", None)
    inputs.pop("positions", None)
    return splice(
        inputs,
        parsed(),
        KEPT,
        placeholders=ids,
        pad_token_id=0,
        original_positions=True,
        positions=positions,
    )


def test_every_per_token_input_is_gathered_alike() -> None:
    """Text and surviving placeholders stay, those of positions along the last axis."""
    positions = torch.arange(3 * 18).view(3, 2, 9)
    out = shortened(moe_mm_token_type_ids=IDS % 7, positions=positions)
    for row, columns in enumerate(COLUMNS):
        full = [column + 2 * row for column in columns]
        real = out["attention_mask"][row].bool()
        assert int(real.sum()) == len(columns) and bool(real[-1])
        assert out["input_ids"][row][real].tolist() == IDS[row][full].tolist()
        assert out["labels"][row][real].tolist() == (IDS[row][full] + 100).tolist()
        assert out["moe_mm_token_type_ids"][row][real].tolist() == (IDS[row][full] % 7).tolist()
        assert torch.equal(out["position_ids"][:, row, real], positions[:, row, full])


def test_the_text_axis_of_four_is_renumbered() -> None:
    positions = torch.arange(4 * 18).view(4, 2, 9)
    out = shortened(positions=positions)["position_ids"]
    assert out[0].tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 2, 3, 4]]
    assert torch.equal(out[1:, 0], positions[1:, 0, COLUMNS[0]])


def test_columns_of_text_between_runs_are_known() -> None:
    columns = ShortColumns(parsed(), KEPT, 9)
    assert [columns.column(0, at) for at in (0, 3, 6, 8)] == [0, 2, 4, 6]
    assert columns.column(1, 5) == 4
    with pytest.raises(UnsupportedInputError, match="column 4 of row 0"):
        columns.column(0, 4)


def test_short_columns_are_those_of_the_spliced_placeholders() -> None:
    video, image = parsed().spans[0]
    assert video.short_columns(1, KEPT["video", 0]).tolist() == [1, 3]
    assert image.short_columns(5, KEPT["image", 0]).tolist() == [5]

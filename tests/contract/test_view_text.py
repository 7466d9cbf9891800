"""`view_text`: text of views that keep nothing leaves the prompt, everything else stays as and where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mrope_family import VIDEO, MropeAdapter, mrope_inputs, mrope_model
from tiny_models import Scene, batch, tiny_model
from vidcompress import (
    ArgumentError,
    CompressionConfig,
    UnsupportedInputError,
    compress,
    compress_inputs,
    testing,
)
from vidcompress.adapters import text_between_runs
from vidcompress.adapters.internvl import frame_text
from vidcompress.adapters.llava_onevision import LlavaOnevisionAdapter
from vidcompress.core.budget import VisualBudget
from vidcompress.core.method import PerVisualMethod
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import VisualTokens
from vidcompress.session.kv_cache import open_transcript

CLIP, LONG, PICTURE = ("video", (3, 4, 4)), ("video", (4, 4, 4)), ("image", (1, 8, 12))
PER_FRAME, MARK = 4, (19,)
ROWS: dict[str, list[list[Any]]] = {
    "one": [[5, 6, CLIP, 7, 8]],
    "several": [[5, CLIP, 6, PICTURE, 6, LONG, 7], [4, LONG, 9, 9, 9]],
    "ragged": [[5, CLIP, CLIP, 7, 8], [4, 4, LONG], [3, 2, 5], [1, PICTURE, 2]],
}


pytestmark = pytest.mark.usefixtures("mrope_adapter")


@dataclass(frozen=True)
class Picked(PerVisualMethod):
    """Keeps of every clip the first token of the frames named, and all of a picture."""

    name: ClassVar[str] = "picked"
    modalities: ClassVar[Any] = frozenset({"image", "video"})
    frames_kept: tuple[int, ...] = (1,)

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        if tokens.layout.modality == "image":
            return Selection(torch.arange(len(tokens)))
        return Selection(torch.tensor([PER_FRAME * frame for frame in self.frames_kept]))


@pytest.fixture
def model() -> Any:
    return mrope_model("qwen3_vl")


def inputs_of(model: Any, scene: str = "one", mark: Sequence[int] = MARK) -> dict[str, Any]:
    return mrope_inputs(model, ROWS[scene], mark=mark)


def words(inputs: Any, row: int = 0) -> list[int]:
    out: list[int] = inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist()
    return out


def short_of(model: Any, inputs: Any, method: Any = None, what: Any = "drop", **options: Any) -> Any:
    given = {"retention_ratio": 0.25} | options
    return compress_inputs(model, inputs, Picked() if method is None else method, view_text=what, **given)


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


def stays(model: Any, inputs: Any, short: Any, *, text: bool = True) -> Tensor:
    """(row, column) bool: what of the full prompt survives, worked out token by token from the report and the ids.

    Args:
        text: whether the text of views that keep nothing is left out.
    """
    ids, real = inputs["input_ids"], inputs["attention_mask"].bool().clone()
    visuals = list(short.report.visuals)
    for row in range(len(ids)):
        for visual in [v for v in visuals if v.row == row]:
            token = VIDEO if visual.modality == "video" else model.config.image_token_id
            before = sum(
                v.total
                for v in visuals[: visuals.index(visual)]
                if v.row == row and v.modality == visual.modality
            )
            places = (ids[row] == token).nonzero().flatten()[before : before + visual.total].tolist()
            kept = set(visual.kept_positions.tolist())
            for number, column in enumerate(places):
                real[row, column] = number in kept
            if visual.modality == "image" or not text:
                continue
            for frame in range(visual.total // PER_FRAME):
                if not kept & set(range(PER_FRAME * frame, PER_FRAME * (frame + 1))):
                    first, last = places[PER_FRAME * frame], places[PER_FRAME * (frame + 1) - 1]
                    if last + 2 == ids.shape[1]:
                        continue  # what ends a prompt stays
                    real[row, [first - 3, first - 2, first - 1, last + 1]] = (
                        False  # 19, 20 + frame, 92 and 93
                    )
    return real


def test_exactly_the_text_of_empty_views_leaves(model: Any) -> None:
    inputs = inputs_of(model)
    assert words(short_of(model, inputs)) == [5, 6, 19, 21, 92, VIDEO, 93, 7, 8]
    assert words(short_of(model, inputs, Picked((0,)))) == [5, 6, 19, 20, 92, VIDEO, 93, 7, 8]
    assert words(short_of(model, inputs, Picked((0, 2)))) == [
        *(5, 6, 19, 20, 92, VIDEO, 93),
        *(19, 22, 92, VIDEO, 93, 7, 8),
    ]
    kept = short_of(model, inputs, what="keep")
    assert words(kept) == [5, 6, 19, 20, 92, 93, 19, 21, 92, VIDEO, 93, 19, 22, 92, 93, 7, 8]


@pytest.mark.parametrize("scene", ROWS)
@pytest.mark.parametrize("frames", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_every_per_token_input_is_gathered_alike(model: Any, scene: str, frames: tuple[int, ...]) -> None:
    inputs = inputs_of(model, scene)
    inputs["labels"] = torch.arange(inputs["input_ids"].numel()).view_as(inputs["input_ids"])
    full = MropeAdapter(model).positions(inputs, inputs["input_ids"], inputs["attention_mask"])
    assert full is not None
    short = short_of(model, inputs, Picked(frames))
    real = stays(model, inputs, short)
    for row, mask in enumerate(real):
        there = short["attention_mask"][row].bool()
        assert words(short, row) == inputs["input_ids"][row, mask].tolist()
        assert short["labels"][row, there].tolist() == inputs["labels"][row, mask].tolist()
        assert (
            short["mm_token_type_ids"][row, there].tolist() == inputs["mm_token_type_ids"][row, mask].tolist()
        )
        assert torch.equal(short["position_ids"][1:, row, there], full[1:, row, mask])
        assert short["position_ids"][0, row, there].tolist() == list(range(int(mask.sum())))
    assert short["input_ids"].shape[1] == int(real.sum(1).max())


@pytest.mark.parametrize("scene", ROWS)
def test_the_rest_is_the_stock_model_with_what_left_masked(model: Any, scene: str) -> None:
    """At the same columns under the stock positions; a mask that leaves the text in, and positions that close up after
    it, are other models."""
    inputs = inputs_of(model, scene)
    short = short_of(model, inputs, Picked((1, 2)))
    full = compress_inputs(model, inputs, "none")

    def expected(real: Tensor) -> Tensor:
        return logits(model, {**full, "attention_mask": real.long()})

    real = stays(model, inputs, short)
    there = short["attention_mask"].bool()
    got = logits(model, short)[there]
    assert torch.allclose(got, expected(real)[real], atol=1e-5)
    with_text = expected(stays(model, inputs, short, text=False))[real]
    assert float((with_text - got).abs().max()) > 1e-3
    closed = compress_inputs(
        model, {**inputs, **_closed(model, inputs, real)}, Picked((1, 2)), retention_ratio=0.25
    )
    assert closed["position_ids"].shape == short["position_ids"].shape
    assert float((logits(model, closed)[closed["attention_mask"].bool()] - got).abs().max()) > 1e-3


def _closed(model: Any, inputs: Any, real: Tensor) -> dict[str, Tensor]:
    """Per-token inputs of a prompt without the text, as if it had never been there."""
    visual = (inputs["input_ids"] == VIDEO) | (inputs["input_ids"] == model.config.image_token_id)
    keys = ("input_ids", "attention_mask", "mm_token_type_ids")
    rows = [[inputs[key][row, mask] for key in keys] for row, mask in enumerate(real | visual)]
    width = max(len(row[0]) for row in rows)
    return {
        key: torch.stack([torch.nn.functional.pad(row[n], (width - len(row[n]), 0)) for row in rows])
        for n, key in enumerate(keys)
    }


@pytest.mark.parametrize("scene", ROWS)
@pytest.mark.parametrize("method", ["uniform", "globalcom2", "random"])
def test_nothing_leaves_where_every_view_keeps_something(model: Any, scene: str, method: str) -> None:
    inputs = inputs_of(model, scene)
    dropped = short_of(model, inputs, method, retention_ratio=0.75)
    default = compress_inputs(model, inputs, method, retention_ratio=0.75)
    assert all(view.kept for visual in dropped.report.visuals for view in visual.views)
    assert dropped.report.view_text_dropped == 0 < dropped.report.view_text_total
    for key in default["input_ids"], default["position_ids"]:
        assert any(torch.equal(key, value) for value in dict(dropped).values() if isinstance(value, Tensor))
    assert torch.equal(logits(model, dropped), logits(model, default))


def test_the_report_counts(model: Any) -> None:
    inputs = inputs_of(model, "several")
    report = short_of(model, inputs).report
    assert [(v.view_text, v.view_text_dropped) for v in report.visuals] == [
        (12, 8),
        (0, 0),
        (16, 12),
        (16, 12),
    ]
    assert (report.view_text_total, report.view_text_dropped) == (44, 32)
    assert "view_text=12 of 44" in repr(report)
    text = report.text()
    assert "view text 12 of 44" in text.splitlines()[0] and "view text    4/12" in text
    assert report.for_row(1).view_text == "drop"
    assert (report.for_row(1).view_text_total, report.for_row(1).view_text_dropped) == (16, 12)
    entry = json.loads(json.dumps(report.to_dict()))
    assert entry["view_text"] == {"what": "drop", "total": 44, "dropped": 32}
    assert [v.get("view_text") for v in entry["visuals"]] == [
        {"total": 12, "dropped": 8},
        None,
        {"total": 16, "dropped": 12},
        {"total": 16, "dropped": 12},
    ]
    kept = short_of(model, inputs, what="keep").report
    assert (kept.view_text_total, kept.view_text_dropped) == (44, 0)
    assert kept.to_dict()["view_text"] == {"what": "keep", "total": 44, "dropped": 0}


def test_the_report_is_silent_where_there_is_no_such_text() -> None:
    onevision = tiny_model("llava_onevision")
    report = compress_inputs(onevision, _clip_of(onevision), retention_ratio=0.5).report
    assert report.view_text_total == 0 and "view_text" not in report.to_dict()
    assert "view text" not in report.text() and "view_text" not in repr(report)


def _clip_of(model: Any) -> Any:
    return batch(model, [Scene((("video", 3),))])


def test_batches_are_their_rows(model: Any) -> None:
    """A row among others keeps the same columns and gets the same logits; padding stays on its side."""
    whole = inputs_of(model, "ragged")
    together = short_of(model, whole)
    got = logits(model, together)
    for number, rows in enumerate(ROWS["ragged"][:2]):
        alone = mrope_inputs(model, [rows], mark=MARK)
        frames = sum(
            part[1][0] for row in ROWS["ragged"][:number] for part in row if not isinstance(part, int)
        )
        of_row = slice(frames * 16, (frames + sum(p[1][0] for p in rows if not isinstance(p, int))) * 16)
        alone["pixel_values_videos"] = whole["pixel_values_videos"][of_row]
        single = short_of(model, alone)
        there = together["attention_mask"][number].bool()
        assert words(together, number) == words(single)
        assert torch.allclose(got[number, there], logits(model, single)[0], atol=1e-5)
    assert words(together, 2) == [3, 2, 5]


@pytest.mark.parametrize("method", ["frames", "uniform", "globalcom2", "random"])
def test_methods_serve(model: Any, method: str) -> None:
    inputs = mrope_inputs(model, ROWS["ragged"][:3], mark=MARK)
    budget = {"retention_ratio": 0.34} if method == "frames" else {"max_tokens": 5, "retention_ratio": None}
    short = short_of(model, inputs, method, **budget)
    real = stays(model, inputs, short)
    assert short.report.view_text_dropped > 0
    assert [words(short, row) for row in range(3)] == [
        inputs["input_ids"][row, mask].tolist() for row, mask in enumerate(real)
    ]


def test_generation_beams_and_later_turns(model: Any) -> None:
    """Cached steps are those of a recompute, beams come of a batch, and a second turn on the cache is that of a
    recompute, though the text behind the last visual token left too."""
    options: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "suppress_tokens": [90, 91]}
    inputs = mrope_inputs(model, [[5, CLIP, 7, 8], [4, 4, LONG, 9]], mark=MARK)
    short = short_of(model, inputs)
    cached = model.generate(**short, **options)
    assert torch.equal(cached, model.generate(**short, **options, use_cache=False))
    assert model.generate(**short, **options, num_beams=2).shape == cached.shape
    with compress(model, Picked(), retention_ratio=0.25, view_text="drop") as session:
        first = model.generate(**inputs, **options, return_dict_in_generate=True)
        assert session.report is not None and session.report.view_text_dropped == 20
        length = inputs["input_ids"].shape[1]
        assert torch.equal(first.sequences[:, :length], inputs["input_ids"])
        assert torch.equal(first.sequences[:, length:], cached[:, short["input_ids"].shape[1] :])
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        ones = torch.ones(2, 7, dtype=torch.int64)
        later = {**inputs, "input_ids": turn}
        later["attention_mask"] = torch.cat((inputs["attention_mask"], ones), dim=1)
        later["mm_token_type_ids"] = torch.cat((inputs["mm_token_type_ids"], 0 * ones), dim=1)
        key = next(name for name in ("cache", "past_key_values") if name in first)
        again = model.generate(**later, **options, cache=first[key])
        assert torch.equal(again, model.generate(**later, **options))


def test_what_ends_a_prompt_stays(model: Any) -> None:
    """An answer's positions go on from the last column: it is that of the whole prompt."""
    inputs = mrope_inputs(model, [[5, 7, CLIP]], mark=MARK)
    short = short_of(model, inputs)
    assert words(short) == [5, 7, 19, 21, 92, VIDEO, 93, 19, 22, 92, 93]
    full = MropeAdapter(model).positions(inputs, inputs["input_ids"], inputs["attention_mask"])
    assert full is not None and torch.equal(short["position_ids"][1:, :, -1], full[1:, :, -1])
    assert words(short_of(model, inputs, Picked((2,)))) == [5, 7, 19, 22, 92, VIDEO, 93]


def test_a_transcript_is_cut_behind_the_text_that_left(model: Any) -> None:
    """What a chat reuses with another question ends at the same token of the two prompts."""
    inputs = mrope_inputs(model, [[5, CLIP, 7, 8]], mark=MARK)
    short = short_of(model, inputs)
    whole = open_transcript(inputs, inputs["attention_mask"], short, (VIDEO,))
    cut = whole.cut_behind_visuals()
    assert cut.mask.shape[1] == inputs["input_ids"].shape[1] - 2  # behind the last 93
    assert cut.short["input_ids"][0].tolist() == words(short)[:-2]
    assert cut.text_positions is not None
    assert torch.equal(cut.text_positions, short["position_ids"][..., -2:-1])
    assert (cut.settled, cut.shift) == (whole.settled, whole.shift)


def test_columns_are_named_in_the_callers_prompt(model: Any) -> None:
    """`logits_to_keep` finds what stays, and text that left is refused by name."""
    inputs = inputs_of(model)
    whole = logits(model, short_of(model, inputs))
    ids = inputs["input_ids"][0].tolist()
    last, second = ids.index(8), ids.index(21)
    for columns in ([last], [second - 1, second, last - 1]):
        named = short_of(model, {**inputs, "logits_to_keep": torch.tensor(columns)})
        expected = [words(short_of(model, inputs)).index(ids[column]) for column in columns]
        assert torch.allclose(logits(model, named)[0], whole[0, expected], atol=1e-6)
    with pytest.raises(UnsupportedInputError, match=r"column 3 of row 0: .*view_text='drop'"):
        short_of(model, {**inputs, "logits_to_keep": torch.tensor([ids.index(20)])})


def around(row: Tensor, runs: Sequence[range]) -> list[list[range]]:
    """The token before and the one behind each run."""
    return [[range(run.start - 1, run.start), range(run.stop, run.stop + 1)] for run in runs]


def test_pruning_inside_goes_on_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that leaves a picture nothing: what prunes inside Qwen2.5-VL finds the tokens of the clip behind it."""
    model = mrope_model("qwen2_5_vl")
    monkeypatch.setattr(MropeAdapter, "_view_text", property(lambda self: around))
    small, big = ("image", (1, 4, 4)), ("video", (6, 8, 8))
    inputs = mrope_inputs(model, [[5, small, 6, big, 7, 8]])
    both, budget = "uniform+fastv:before_ratio=0.1", {"max_tokens": 8, "retention_ratio": None}
    got = short_of(model, inputs, both, **budget)
    picture, clip = got.report.visuals
    assert (picture.kept, picture.view_text_dropped, clip.view_text_dropped) == (0, 2, 0)
    assert words(got)[:4] == [5, 6, 92, VIDEO]
    assert got.report.inside is not None and got.report.mean_kept < clip.kept
    (columns,) = got.inside.plan.columns[0][1:]
    assert columns.tolist() == [n for n, token in enumerate(words(got)) if token == VIDEO]
    with got.pruning():
        assert logits(model, got).isfinite().all()
    kept = short_of(model, inputs, both, what="keep", **budget)
    assert torch.equal(kept.inside.plan.columns[0][1], columns + 2)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_families_that_name_none_refuse(family: str) -> None:
    known = family == "qwen2_5_vl"
    model = mrope_model(family) if known else tiny_model(family)
    inputs = mrope_inputs(model, ROWS["one"]) if known else _clip_of(model)
    adapter = "MropeAdapter" if known else "LlavaOnevisionAdapter"
    says = f"view_text='drop' cannot go with {type(model).__name__}: {adapter} names no text that belongs to the views"
    with pytest.raises(ArgumentError, match=says + " of a video; use view_text='keep'"):
        compress_inputs(model, inputs, retention_ratio=0.5, view_text="drop")
    with compress(model, retention_ratio=0.5, view_text="drop"), pytest.raises(ArgumentError, match=says):
        model.generate(**inputs, max_new_tokens=1)
    with pytest.raises(ArgumentError, match="view_text must be one of keep, drop, got 'all'"):
        compress_inputs(model, inputs, retention_ratio=0.5, view_text="all")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        [[range(0, 1)]],  # of fewer runs
        [[range(2, 6)], [], []],  # a placeholder among it
        [[range(0, 1)], [range(0, 1)], []],  # twice
        [[range(-1, 1)], [], []],
        [[range(900, 901)], [], []],
        [[range(0, 4, 2)], [], []],
    ],
)
def test_columns_that_are_no_text_of_one_run_are_refused(
    model: Any, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MropeAdapter, "_view_text", property(lambda self: lambda row, runs: wrong))
    with pytest.raises(
        UnsupportedInputError,
        match="of MropeAdapter must give for each of the 3 runs of video 0",
    ):
        short_of(model, inputs_of(model, mark=()))


def test_the_contract_is_kept_with_it_named(model: Any) -> None:
    testing.check_adapter(model, inputs_of(model, "several"), ["uniform", "globalcom2"])


@pytest.mark.parametrize(
    ("row", "runs", "after", "expected"),
    [
        ([5, 1, 2, 90, 3, 1, 4, 90, 3, 6], [(3, 4), (7, 8)], 1, [[(1, 3), (4, 5)], [(5, 7), (8, 9)]]),
        ([5, 1, 2, 90, 3, 1, 4, 90], [(3, 4), (7, 8)], 1, [[(1, 3), (4, 5)], [(5, 7)]]),  # nothing behind
        ([5, 1, 2, 90, 3, 1, 4, 90, 6], [(3, 4), (7, 8)], 1, [[(1, 3), (4, 5)], [(5, 7)]]),  # something else
        ([1, 2, 90, 3, 3, 1, 90, 3, 6], [(2, 3), (6, 7)], 2, [[(3, 5)], [(5, 6), (7, 8)]]),
        ([5, 7, 2, 90, 3, 1, 4, 90, 3], [(3, 4), (7, 8)], 1, [[(4, 5)], [(5, 7), (8, 9)]]),  # no mark before
        ([1, 5, 2, 90, 3, 1, 4, 90, 3], [(3, 4), (7, 8)], 1, [[(4, 5)], [(5, 7), (8, 9)]]),  # too far off
        ([1, 1, 2, 90, 3, 3, 1, 4, 90, 3, 3], [(3, 4), (8, 9)], 2, [[(1, 3), (4, 6)], [(6, 8), (9, 11)]]),
        ([1, 90, 90, 2], [(1, 2), (2, 3)], 1, [[], []]),  # no text between
        ([1, 90, 3, 2], [(1, 2)], 1, [[]]),  # one run
    ],
)
def test_text_between_runs(row: list[int], runs: Any, after: int, expected: Any) -> None:
    got = text_between_runs(torch.tensor(row), [range(*run) for run in runs], after)
    assert got == [[range(*part) for part in parts] for parts in expected]


def test_a_configuration_holds_it() -> None:
    config = CompressionConfig("globalcom2:view_text=drop", retention_ratio=0.5)
    assert config.view_text == "drop" and "view_text='drop'" in repr(config)
    assert CompressionConfig.from_dict(config.to_dict()) == config != config.replace(view_text="keep")
    old = {name: value for name, value in config.to_dict().items() if name != "view_text"}
    assert CompressionConfig.from_dict(old).view_text == CompressionConfig("random", 0.5).view_text == "keep"


@pytest.mark.parametrize("pad", ["left", "right"])
def test_positions_of_one_axis(pad: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OneVision, with text around its pictures: `original` leaves gaps where text left, `contiguous` none."""
    model = tiny_model("llava_onevision")
    visuals = LlavaOnevisionAdapter.visuals

    def with_text(self: Any, inputs: Any) -> Any:
        return tuple([replace(one, view_text=around) for one in part] for part in visuals(self, inputs))

    monkeypatch.setattr(LlavaOnevisionAdapter, "visuals", with_text)
    size = ("image", (56, 56))
    inputs = dict(batch(model, [Scene((size, size)), Scene((size,))]))
    if pad == "right":
        lengths = inputs["attention_mask"].sum(1).tolist()
        for key in ("input_ids", "attention_mask"):
            inputs[key] = torch.stack([r.roll(int(n), 0) for r, n in zip(inputs[key], lengths, strict=True)])
    ids, real = inputs["input_ids"], inputs["attention_mask"].bool()
    budget: Any = {"max_tokens": 1, "retention_ratio": None}
    got = {p: short_of(model, inputs, "uniform", positions=p, **budget) for p in ("original", "contiguous")}
    assert [visual.kept for visual in got["original"].report.visuals] == [1, 0, 1]
    assert got["original"].report.view_text_dropped == 2
    alone = (ids == model.config.image_token_id)[0].nonzero().flatten().tolist()
    half = len(alone) // 2
    survives = real.clone()
    survives[0, alone] = False
    survives[0, alone[int(got["original"].report.visuals[0].kept_positions)]] = True
    survives[0, [alone[half] - 1, alone[-1] + 1]] = False  # around the second
    columns = survives[0].nonzero().flatten()
    first = int(real[0].nonzero()[0])
    for policy, short in got.items():
        there = short["attention_mask"][0].bool()
        assert short["input_ids"][0, there].tolist() == ids[0, columns].tolist()
        expected = columns - first if policy == "original" else torch.arange(len(columns))
        places = short.get("position_ids", short["attention_mask"].cumsum(-1) - 1)
        assert places[0, there].tolist() == expected.tolist()


def test_names_of_frames_leave_internvl() -> None:
    """`Frame2: <img>` before a run (11, n, 12, 13), `</img>` and the end of the line behind it (14, 15)."""
    model = tiny_model("internvl")
    made = batch(model, [Scene((("video", 3),), before=0, after=0)])
    image, tokens = (
        model.config.image_token_id,
        int((made["input_ids"] == model.config.image_token_id).sum()) // 3,
    )

    def frame(number: int, run: int) -> list[int]:
        return [11, 20 + number, 12, 13, *[image] * run, 14, 15]

    row = [15, 5, *frame(1, tokens), *frame(2, tokens), *frame(3, tokens)[:-1], 6, 7]
    ids = torch.tensor([row])
    inputs = {**made, "input_ids": ids, "attention_mask": torch.ones_like(ids)}

    @dataclass(frozen=True)
    class Second(Picked):
        def select_visual(self, visual: VisualTokens, budget: VisualBudget) -> Selection:
            return Selection(torch.arange(tokens, tokens + 2))

    dropped = short_of(model, inputs, Second())
    assert words(dropped) == [15, 5, *frame(2, 2), 6, 7]
    kept = short_of(model, inputs, Second(), what="keep")
    assert words(kept) == [15, 5, *frame(1, 0), *frame(2, 2), *frame(3, 0)[:-1], 6, 7]
    (visual,) = dropped.report.visuals
    assert (visual.view_text, visual.view_text_dropped) == (17, 11)


def test_names_of_frames_without_line_ends_are_found_whole() -> None:
    """Of a tokenizer that has no token for the end of a line: `Frame 2 : <img>` before a run, `</img>` behind it."""
    row = torch.tensor([5, *(11, 21, 12, 13, 90, 90, 14), *(11, 22, 12, 13, 90, 90, 14), 6])
    runs = [range(5, 7), range(12, 14)]
    expected = [[range(1, 5), range(7, 8)], [range(8, 12), range(14, 15)]]
    assert frame_text(row, runs) == expected
    assert text_between_runs(row, runs, after=2) != expected

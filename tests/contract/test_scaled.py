"""`positions="scaled"` on models: batches, later turns, what is refused, and what the report says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from qwen_models import qwen_inputs, qwen_model
from tiny_models import VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress import ArgumentError, UnsupportedInputError, compress, compress_inputs, testing
from vidcompress.llm_pruning.cache_names import returned_cache
from vidcompress.session import prompt, scaled_positions

pytestmark = pytest.mark.transformers

HOMES = {"llava_next_video": 15, "llava_onevision": 15, "llava_video": 15, "internvl": 60}
"""Visual tokens of a clip of the training: three quarters of a clip of five frames."""
CLIP, PICTURE = ("video", 5), ("image", (112, 80))
STEPS: dict[str, Any] = {
    "max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True
}  # fmt: skip
TURN = torch.tensor([[7, 8, 9, 10, 11]])
SHRINKS: dict[str, Any] = {"retention_ratio": 0.4, "positions": "scaled"}


def model_of(family: str) -> Any:
    return tiny_model(family, home_tokens=HOMES[family])


def rows_of(family: str) -> list[Scene]:
    """A clip, text alone, a picture and two clips; InternVL's pictures stand between marks."""
    return [
        Scene((CLIP,), before=3, seed=1),
        Scene((), before=5, seed=2),
        Scene((CLIP, PICTURE, CLIP), before=11, between=2, seed=3),
    ]


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


def places(short: Any) -> list[list[int]]:
    pairs = zip(short["position_ids"], short["attention_mask"].bool(), strict=True)
    return [row[real].tolist() for row, real in pairs]


@pytest.mark.parametrize("pad_right", [False, True])
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_a_row_is_the_same_alone_and_beside_others(family: str, pad_right: bool) -> None:
    model, rows = model_of(family), rows_of(family)
    together = compress_inputs(model, batch(model, rows, pad_right=pad_right), "uniform", **SHRINKS)
    real = together["attention_mask"].bool()
    found = logits(model, together)
    for number, scene in enumerate(rows):
        alone = compress_inputs(model, batch(model, [scene]), "uniform", **SHRINKS)
        assert places(alone)[0] == places(together)[number] if scene.visuals else "position_ids" in together
        assert (found[number][real[number]] - logits(model, alone)[0]).abs().max() <= 1e-5
    raw = batch(model, rows, pad_right=pad_right)
    whole = compress_inputs(model, raw, "uniform", retention_ratio=0.4, positions="original")
    assert places(whole)[1] == places(together)[1] and places(whole)[2] != places(together)[2]
    assert (logits(model, whole)[2][real[2]] - found[2][real[2]]).abs().max() > 1e-3, "the control"


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_answers_of_a_ragged_batch_equal_single_runs(family: str, beams: int) -> None:
    model, rows = model_of(family), rows_of(family)
    options = {"max_new_tokens": 5, "do_sample": False, "num_beams": beams}

    def answers(scenes: list[Scene]) -> list[list[int]]:
        short = compress_inputs(model, batch(model, scenes), "globalcom2", **SHRINKS)
        out: list[list[int]] = model.generate(**short, **options)[:, short["input_ids"].shape[1] :].tolist()
        return out

    assert answers(rows) == [answers([scene])[0] for scene in rows]


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_clips_of_the_training_and_pictures_have_original_positions(family: str) -> None:
    model = model_of(family)
    scenes = [Scene((PICTURE,), seed=1), Scene((("video", 1), PICTURE), seed=2)]
    short = {
        name: compress_inputs(model, batch(model, scenes), "uniform", retention_ratio=0.4, positions=name)
        for name in ("scaled", "original")
    }
    assert torch.equal(short["scaled"]["position_ids"], short["original"]["position_ids"])
    assert not short["scaled"].scaled
    longer = compress_inputs(model, batch(model, [Scene((CLIP,))]), "uniform", **SHRINKS)
    assert longer.scaled, "the control"


@pytest.mark.parametrize("method", ["uniform", "globalcom2", "pool"])
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_later_turns_equal_a_recompute(family: str, method: str) -> None:
    model = model_of(family)
    raw = batch(model, [rows_of(family)[2]])
    with compress(model, method, **SHRINKS) as session:
        out = model.generate(**raw, **STEPS)
        for _ in range(2):
            ids = torch.cat((out.sequences, TURN), dim=1)
            whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            again = model.generate(**{**raw, **whole}, **STEPS)
            assert session.report is not None and session.report.positions == "scaled"
            out = model.generate(**whole, past_key_values=returned_cache(out), **STEPS)
            assert out.sequences.tolist() == again.sequences.tolist()
            for one, other in zip(out.logits, again.logits, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    with compress(model, method, retention_ratio=0.4, positions="original"):
        original = model.generate(**{**raw, **whole}, **STEPS)
    assert (original.logits[0] - again.logits[0]).abs().max() > 1e-3, "the control"


def test_what_holds_for_gaps_holds_for_these() -> None:
    model = model_of("llava_onevision")
    raw = batch(model, [Scene((CLIP,))])
    assert compress_inputs(model, raw, "uniform", **SHRINKS)["use_cache"] is True
    with compress(model, "uniform", **SHRINKS):
        with pytest.raises(UnsupportedInputError, match="use_cache=False cannot go with positions='scaled'"):
            model.generate(**raw, use_cache=False, max_new_tokens=2)
        with torch.no_grad():
            assert torch.allclose(model(**raw, use_cache=False).logits, model(**raw).logits, atol=1e-6)


def test_positions_of_the_caller() -> None:
    """Refused beside a clip that shrinks, in the first turn and later; else as under `original`."""
    model = model_of("llava_onevision")
    raw = batch(model, [Scene((CLIP,))])
    own = (raw["attention_mask"].cumsum(-1) - 1) * 2
    with pytest.raises(
        UnsupportedInputError, match="position_ids=.*'scaled' and a clip that shrinks to 15 .*'original'"
    ):
        compress_inputs(model, {**raw, "position_ids": own}, "uniform", **SHRINKS)
    still = batch(model, [Scene((PICTURE,))])
    own = (still["attention_mask"].cumsum(-1) - 1) * 2
    short = {
        name: compress_inputs(
            model, {**still, "position_ids": own}, "uniform", retention_ratio=0.4, positions=name
        )["position_ids"]
        for name in ("scaled", "original", "contiguous")
    }
    assert torch.equal(short["scaled"], short["original"])
    assert not torch.equal(short["scaled"], short["contiguous"])
    for inputs, refused in ((raw, True), (still, False)):
        with compress(model, "uniform", **SHRINKS):
            out = model.generate(**inputs, **STEPS)
            ids = torch.cat((out.sequences, TURN), dim=1)
            more = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            more |= {
                "past_key_values": returned_cache(out),
                "position_ids": more["attention_mask"].cumsum(-1) - 1,
            }
            if refused:
                with pytest.raises(
                    UnsupportedInputError, match="position_ids=.*'scaled', under which the positions"
                ):
                    model.generate(**more, **STEPS)
            else:
                model.generate(**more, **STEPS)


def test_without_a_known_length_the_report_says_what_to_do() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [Scene((CLIP, PICTURE))])
    short = compress_inputs(model, raw, "uniform", **SHRINKS)
    original = compress_inputs(model, raw, "uniform", retention_ratio=0.4, positions="original")
    assert torch.equal(short["position_ids"], original["position_ids"])
    (note,) = short.report.notes
    assert "as 'original' does" in note and "set model.config.home_tokens" in note
    for silent in (
        original,
        compress_inputs(model, raw, "none", positions="scaled"),  # nothing was cut
        compress_inputs(model, batch(model, [Scene((PICTURE,))]), "uniform", **SHRINKS),
        compress_inputs(model_of("llava_onevision"), raw, "uniform", **SHRINKS),
    ):
        assert silent.report.notes == []


def test_the_report_says_the_policy_and_the_scale() -> None:
    model = model_of("llava_onevision")
    report = compress_inputs(model, batch(model, [Scene((CLIP, PICTURE))]), "uniform", **SHRINKS).report
    clip, picture = report.visuals
    assert report.positions == report.to_dict()["positions"] == "scaled"
    assert clip.position_scale == 15 / 21 and picture.position_scale is None
    assert report.to_dict()["visuals"][0]["position_scale"] == 0.714286
    assert "position_scale" not in report.to_dict()["visuals"][1]
    assert "    positions    x 0.714" in str(report).splitlines()
    assert report.for_row(0).visuals[0].position_scale == clip.position_scale


@pytest.mark.parametrize("method", ["uniform", "globalcom2+fastv"])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_positions_with_axes_are_not_scaled(family: str, method: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, [[5, ("video", (3, 8, 4)), 7, 8, 9]])
    with pytest.raises(
        ArgumentError, match="'scaled' cannot go with Qwen.*4 axes: .*'original', or leave it out"
    ):
        compress_inputs(model, inputs, method, retention_ratio=0.5, positions="scaled")
    assert compress_inputs(model, inputs, method, retention_ratio=0.5).report.positions == "original"


@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_the_contract_of_methods_holds(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(family)
    inputs = batch(model, [Scene((CLIP,), before=3, seed=1), Scene((CLIP, CLIP), seed=2)])
    testing.check_masked(model, inputs, "globalcom2", positions="scaled")
    places = scaled_positions.scaled_places
    slips = lambda own, clips: places(own, clips).clamp(max=12)  # noqa: E731
    monkeypatch.setattr(prompt, "scaled_places", slips)
    with pytest.raises(testing.ContractError, match="scaled positions do not rise"):
        testing.check_masked(model, inputs, "globalcom2", positions="scaled")


@pytest.mark.parametrize(("home", "shrinks"), [(19, True), (20, False), (21, False)])
def test_a_clip_shrinks_when_it_is_longer_than_those_of_the_training(home: int, shrinks: bool) -> None:
    """Five frames of four tokens; the newline behind them does not count."""
    model = tiny_model("llava_onevision", home_tokens=home)
    raw = batch(model, [Scene((CLIP,), seed=1)])
    short = compress_inputs(model, raw, "uniform", **SHRINKS)
    original = compress_inputs(model, raw, "uniform", retention_ratio=0.4, positions="original")
    assert short.scaled is shrinks
    assert torch.equal(short["position_ids"], original["position_ids"]) is not shrinks

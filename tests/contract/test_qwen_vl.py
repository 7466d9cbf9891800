"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and its MoE, judged by the stock model on all pixels with its own positions."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from qwen_models import (
    DEEP,
    FAMILIES,
    HYBRIDS,
    IMAGE,
    SCENES,
    VALUES,
    VIDEO,
    one_row,
    qwen_inputs,
    qwen_model,
)
from vidcompress import ArgumentError, UnsupportedInputError, compress, compress_inputs, testing
from vidcompress.adapters import stock_positions
from vidcompress.adapters.base import adapter_for
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.session.generation_options import CHUNKED_PREFILL_SINCE, transformers_version
from vidcompress.testing import models as judges

pytestmark = pytest.mark.transformers

BEFORE = [name for name in available_methods() if METHODS.get(name).where == "before"]
STEPS: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [IMAGE, VIDEO]}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_methods_that_merge_along_time_keep_the_contract(family: str) -> None:
    """Positions are those of the centres, and companions go with them, in clips of two lengths in one batch."""
    model = qwen_model(family)
    rows = [[5, ("video", (3, 8, 4)), 7, 8], [4, ("video", (5, 4, 4)), 9]]
    methods = ["vcast", "vispruner", "prunevid", "holitom", "flashvid"]
    testing.check_adapter(model, qwen_inputs(model, rows), methods)


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def masked(model: Any, inputs: dict[str, Any], short: Any, **changes: Any) -> Tensor:
    """Logits of the stock model on all pixels with the columns masked that `short` dropped, at those it kept.

    Positions are explicit and the stock function's own.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"].clone()
    placed = stock_positions(model, inputs, ids, inputs["attention_mask"])
    spans = {
        row: [(ids[row] == token).nonzero().flatten() for token in (IMAGE, VIDEO)] for row in range(len(ids))
    }
    before = {(row, kind): 0 for row in spans for kind in ("image", "video")}
    for row, (images, videos) in spans.items():
        mask[row, images] = mask[row, videos] = 0
    for visual in short.report.visuals:
        where = spans[visual.row][visual.modality == "video"]
        at = before[visual.row, visual.modality]
        mask[visual.row, where[at + visual.kept_positions]] = 1
        before[visual.row, visual.modality] += visual.total
    given = {**inputs, "attention_mask": mask, "position_ids": placed, **changes}
    return logits(model, given)[mask.bool()]


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract_is_kept_by_every_method(family: str, scene: str) -> None:
    """Everything kept: the stock model to the bit, in chunks of one view and of all; part kept: counts, the masked
    model, rows alone and in a batch; the block; refusals."""
    model = qwen_model(family)
    methods = None if scene != "mixed" else ["globalcom2", "visionzip", "random", "pool"]
    testing.check_adapter(model, qwen_inputs(model, SCENES[scene]), methods)


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_kept_is_the_stock_model_to_the_bit(family: str) -> None:
    model = qwen_model(family)
    for scene in SCENES.values():
        inputs = qwen_inputs(model, scene)
        stock = logits(model, inputs)
        for most in (1, 100, 16384):
            for method in ("none", "globalcom2"):
                whole = compress_inputs(model, inputs, method, retention_ratio=1.0, max_patches=most)
                assert torch.equal(logits(model, whole), stock), (most, method)


@pytest.mark.parametrize("family", FAMILIES)
def test_part_kept_is_the_stock_model_with_the_rest_masked(family: str) -> None:
    model = qwen_model(family)
    for name, scene in SCENES.items():
        inputs = qwen_inputs(model, scene)
        for method in ("globalcom2", "uniform"):
            short = compress_inputs(model, inputs, method, retention_ratio=0.4)
            got = logits(model, short)[short["attention_mask"].bool()]
            assert apart(got, masked(model, inputs, short)) < 1e-5, (name, method)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_model_is_known_by_that_judge(family: str) -> None:
    """Without positions, with two-dimensional ones, without companions, without token types: another model each."""
    model = qwen_model(family)
    for scene in SCENES.values():
        inputs = qwen_inputs(model, scene)
        short = compress_inputs(model, inputs, "uniform", retention_ratio=0.4)
        real, right = short["attention_mask"].bool(), masked(model, inputs, short)
        flat = short["position_ids"][0]
        bare = {key: value for key, value in short.items() if key != "position_ids"}
        untyped = {**inputs, "mm_token_type_ids": torch.zeros_like(inputs["mm_token_type_ids"])}
        other = compress_inputs(model, untyped, "uniform", retention_ratio=0.4)
        wrong = {
            "without positions": bare,
            "two-dimensional positions": dict(short) | {"position_ids": flat},
            "without token types": other,
        }
        if family in DEEP:
            emptied = dict(short)
            for out in emptied["mm_encoder_outputs"].values():
                out.deepstack_features = []
            wrong["without companions"] = emptied
        for what, given in wrong.items():
            assert apart(logits(model, given)[real], right) > 1e-3, what


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_those_of_the_stock_model_at_surviving_columns(family: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"])
    held = model.model.rope_deltas
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    assert model.model.rope_deltas is held, "which belongs to whatever the model ran last"
    assert short.report.positions == "original" and short["position_ids"].shape[0] == 4
    full = stock_positions(model, inputs, inputs["input_ids"], inputs["attention_mask"])
    for row in range(3):
        mine = short["position_ids"][:, row, short["attention_mask"][row].bool()]
        assert mine[0].tolist() == list(range(mine.shape[1]))
        stock = {tuple(column) for column in full[1:, row].T.tolist()}
        assert all(tuple(column) in stock for column in mine[1:].T.tolist())
    assert {IMAGE, VIDEO} <= set(short["input_ids"][0].tolist())


@pytest.mark.parametrize("family", FAMILIES)
def test_decoding_beams_sequences_and_caches(family: str) -> None:
    """Steps on the cache are those of a recompute; a row among others answers as it does alone."""
    model = qwen_model(family)
    rows = SCENES["mixed"][:2]
    short = compress_inputs(model, qwen_inputs(model, rows), "globalcom2", retention_ratio=0.5)
    alone = [
        compress_inputs(model, one_row(model, rows, number), "globalcom2", retention_ratio=0.5)
        for number in range(2)
    ]
    greedy = model.generate(**short, **STEPS)
    assert torch.equal(greedy, model.generate(**short, **STEPS, use_cache=False))
    if transformers_version() >= CHUNKED_PREFILL_SINCE:  # a block refuses it before
        assert torch.equal(greedy, model.generate(**short, **STEPS, prefill_chunk_size=7))
    assert torch.equal(greedy, model.generate(**short, **STEPS, cache_implementation="static"))
    for options in ({"num_beams": 2}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        together = model.generate(**short, **STEPS, **options)[:, -5:]
        apiece = [model.generate(**one, **STEPS, **options)[:, -5:] for one in alone]
        assert torch.equal(together, torch.cat(apiece)), options


@pytest.mark.parametrize("family", FAMILIES)
def test_a_second_turn_on_the_cache_is_that_of_a_recompute(family: str) -> None:
    """Also after another input ran on the same model, which leaves an offset of its own behind."""
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"][:2])
    with compress(model, "globalcom2", retention_ratio=0.5):
        first = model.generate(**inputs, **STEPS, return_dict_in_generate=True)
        model.generate(**qwen_inputs(model, SCENES["clip"], seed=3), **STEPS)
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        more = turn.shape[1] - inputs["input_ids"].shape[1]
        later = {
            **inputs,
            "input_ids": turn,
            "attention_mask": torch.cat(
                (inputs["attention_mask"], torch.ones(2, more, dtype=torch.int64)), 1
            ),
            "mm_token_type_ids": torch.cat(
                (inputs["mm_token_type_ids"], torch.zeros(2, more, dtype=torch.int64)), 1
            ),
        }
        scored: dict[str, Any] = {**STEPS, "output_logits": True, "return_dict_in_generate": True}
        anew = model.generate(**later, **scored)
        again = model.generate(**later, **scored, **{cache_name(): returned_cache(first)})
    assert torch.equal(again.sequences, anew.sequences)
    assert apart(torch.stack(again.logits), torch.stack(anew.logits)) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_and_text_alone_pass(family: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"])
    inputs["labels"] = inputs["input_ids"].clone()
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    assert short["labels"].shape == short["input_ids"].shape == short["mm_token_type_ids"].shape
    assert bool(((short["mm_token_type_ids"] == 2) == (short["input_ids"] == VIDEO)).all())
    text = {"input_ids": torch.tensor([[3, 2, 5]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    assert torch.equal(logits(model, compress_inputs(model, text, "none")), logits(model, text))


# -- layouts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_one_view_and_a_clip_one_per_temporal_patch(family: str) -> None:
    model = qwen_model(family)
    adapter = adapter_for(model)
    images, clips = adapter.visuals(qwen_inputs(model, SCENES["mixed"]))
    assert [[(v.kind, v.rows, v.cols) for v in image.layout.views] for image in images] == [
        [("image", 4, 6)],
        [("image", 2, 7)],
    ]
    assert [image.layout.grid for image in images] == [(4, 6), (2, 7)]
    assert [len(clip.layout.views) for clip in clips] == [3, 3, 4]
    assert {(v.kind, v.rows, v.cols) for v in clips[0].layout.views} == {("frame", 4, 2)}
    assert not any(visual.layout.num_separators for visual in (*images, *clips))
    runs = [clip.placeholder_runs for clip in clips]
    assert runs == ([(8,) * 3, (8,) * 3, (9,) * 4] if family in DEEP else [(24,), (24,), (36,)])
    assert adapter.traits.axes == 4 and adapter.traits.deep_levels == (2 if family in DEEP else 0)
    assert adapter.traits.qk_norm == (family in DEEP)


def test_the_time_of_a_temporal_patch_is_the_mean_of_its_frames() -> None:
    """Frames of the first clip are a quarter of a second apart, those of the second three eighths."""
    model = qwen_model("qwen2_5_vl")
    inputs = qwen_inputs(model, SCENES["mixed"])
    assert inputs["second_per_grid_ts"].tolist() == [0.5, 0.75, 1.0]
    _, clips = adapter_for(model).visuals(inputs)
    assert [view.time for view in clips[0].layout.views] == [0.125, 0.625, 1.125]
    assert [view.time for view in clips[1].layout.views] == pytest.approx([0.1875, 0.9375, 1.6875])
    listed = adapter_for(model).visuals({**inputs, "second_per_grid_ts": [0.5, 0.75, 1]})[1]
    assert [[v.time for v in clip.layout.views] for clip in listed] == [
        [v.time for v in clip.layout.views] for clip in clips
    ]
    one, other = clips[0].layout, clips[1].layout
    assert one is not other and one.view is other.view and one.table is other.table, (
        "of one shape, one geometry"
    )
    for family in ("qwen2_vl", "qwen3_vl"):
        untimed = qwen_model(family)
        (clip,) = adapter_for(untimed).visuals(qwen_inputs(untimed, SCENES["clip"]))[1]
        assert {view.time for view in clip.layout.views} == {None}
    for wrong in (torch.tensor([0.5]), [0.5, 1.0, "x"], 0.5):
        with pytest.raises(
            UnsupportedInputError, match="second_per_grid_ts=.* one number of seconds per clip, 3 here"
        ):
            compress_inputs(model, {**inputs, "second_per_grid_ts": wrong}, "uniform", retention_ratio=0.5)


# -- frames that look alike -----------------------------------------------------------------------------------------


def still(model: Any) -> dict[str, Any]:
    """A clip of four temporal patches whose third looks as its first and whose fourth as its second."""
    inputs = qwen_inputs(model, [[5, ("video", (4, 8, 8)), 6, 7]])
    patches = inputs["pixel_values_videos"].view(4, 64, VALUES)
    patches[1] += 3.0
    patches[2:] = patches[:2]
    return inputs


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_temporal_patches_that_look_alike_are_encoded_once(family: str) -> None:
    """At 1.0 the stock model: alike is equal here; one changed cell of the picture is seen."""
    model = qwen_model(family)
    inputs = still(model)
    seen: list[int] = []
    handle = model.model.visual.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[0]))
    try:
        spared = compress_inputs(model, inputs, "none", encoder_saving="frames")
        assert seen.pop() == 2 * 64 and spared.report.visuals[0].encoded == 2
        assert torch.equal(logits(model, spared), logits(model, inputs))
        seen.clear()
        changed = {**inputs, "pixel_values_videos": inputs["pixel_values_videos"].clone()}
        changed["pixel_values_videos"][2 * 64 : 2 * 64 + 8] += 1.0  # two tokens of the third patch
        compress_inputs(model, changed, "none", encoder_saving="frames")
        assert seen.pop() == 3 * 64
        compress_inputs(model, changed, "none", encoder_saving="frames:threshold=2.0")
        assert seen.pop() == 2 * 64
        for method in ("globalcom2", "fastvid", "frames", "visionzip"):
            short = compress_inputs(model, inputs, method, retention_ratio=0.5, encoder_saving="frames")
            plain = compress_inputs(model, inputs, method, retention_ratio=0.5)
            assert apart(logits(model, short), logits(model, plain)) < 1e-5, method
    finally:
        handle.remove()


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_where_no_patch_looks_like_another_nothing_changes_to_the_bit(family: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"])
    for method, ratio in (("none", 1.0), ("globalcom2", 0.5)):
        off, spared = (
            compress_inputs(model, inputs, method, retention_ratio=ratio, encoder_saving=saving)
            for saving in ("off", "frames")
        )
        assert all(v.encoded == len(v.views) for v in spared.report.visuals)
        assert torch.equal(off["input_ids"], spared["input_ids"])
        assert torch.equal(logits(model, off), logits(model, spared))


@pytest.mark.parametrize("family", [*FAMILIES, *HYBRIDS])
def test_a_skipped_patch_keeps_its_place_its_time_and_its_companions(family: str) -> None:
    """Prompt and positions are those of the whole clip; features and companions those of the patch it looks like."""
    model = qwen_model(family)
    inputs = still(model)
    spared = compress_inputs(model, inputs, "none", encoder_saving="frames")
    assert torch.equal(spared["input_ids"], inputs["input_ids"])  # the text of times among them
    stock = stock_positions(model, inputs, inputs["input_ids"], inputs["attention_mask"])
    assert torch.equal(spared["position_ids"][-3:], stock[-3:])
    sent = spared["mm_encoder_outputs"]["video"]
    levels = [sent.pooler_output[0], *(level[0] for level in getattr(sent, "deepstack_features", None) or ())]
    assert len(levels) == (3 if family in DEEP else 1)
    for level in levels:
        first, second, third, fourth = level.unflatten(0, (4, -1))
        assert torch.equal(first, third) and torch.equal(second, fourth)
        assert apart(first, second) > 1e-3
    # Patches that follow the wrong one would show.
    wrong = still(model)
    wrong["pixel_values_videos"].view(4, 64, VALUES)[2:] = wrong["pixel_values_videos"].view(4, 64, VALUES)[
        [1, 0]
    ]
    other = compress_inputs(model, wrong, "none", encoder_saving="frames")
    assert other.report.visuals[0].encoded == 2
    assert apart(logits(model, spared), logits(model, other)) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["globalcom2", "frames", "uniform"])
def test_a_compressed_clip_with_skipped_patches_is_the_stock_model_with_dropped_tokens_masked(
    family: str, method: str
) -> None:
    model = qwen_model(family)
    inputs = still(model)
    short = compress_inputs(model, inputs, method, retention_ratio=0.5, encoder_saving="frames")
    (visual,) = short.report.visuals
    assert visual.encoded <= 2 and visual.kept == 32
    ours, stock = logits(model, short), masked(model, inputs, short)
    assert apart(ours[0], stock) < 1e-5
    flat = torch.arange(short["input_ids"].shape[1])[None]
    with torch.no_grad():
        moved = model(**{**short, "position_ids": flat}).logits
    assert apart(moved[0], stock) > 1e-3


def test_crops_are_refused_where_there_are_none() -> None:
    model = qwen_model("qwen3_vl")
    arguments: dict[str, Any] = {
        "retention_ratio": 0.5,
        "encoder_saving": "frames+crops",
        "allocation": "gated",
    }
    compress_inputs(model, qwen_inputs(model, SCENES["clip"]), "globalcom2", **arguments)
    with pytest.raises(
        UnsupportedInputError, match="'crops' cannot go with Qwen3VLFor.* one view without crops"
    ):
        compress_inputs(model, qwen_inputs(model, SCENES["image"]), "globalcom2", **arguments)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_that_do_not_fit_are_named(family: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"])
    pixels, grids = inputs["pixel_values"], inputs["image_grid_thw"]
    clip_pixels, clip_grids = inputs["pixel_values_videos"], inputs["video_grid_thw"]
    odd = torch.tensor([[1, 8, 12], [1, 7, 8]])
    rows: list[tuple[dict[str, Any], str]] = [
        (
            {"mm_token_type_ids": None},
            "image_grid_thw without mm_token_type_ids: positions of Qwen.*pass the proc",
        ),
        (
            {"image_grid_thw": None},
            r"image_grid_thw must be \(visual, 3\).* beside pixel_values, got nothing",
        ),
        ({"image_grid_thw": grids[0]}, r"image_grid_thw must be \(visual, 3\).* got \(3,\)"),
        ({"image_grid_thw": grids.tolist()}, r"image_grid_thw must be \(visual, 3\).* got list"),
        ({"image_grid_thw": odd}, r"image_grid_thw has \(1, 7, 8\): .* in multiples of 2"),
        ({"image_grid_thw": grids * 0}, r"image_grid_thw has \(0, 0, 0\): at least one temporal patch"),
        ({"image_grid_thw": grids[:1]}, "image_grid_thw adds up to 96 patches, but pixel_values holds 152"),
        (
            {"image_grid_thw": torch.tensor([[2, 4, 12], [1, 4, 14]])},
            r"has \(2, 4, 12\): a picture has 1 temporal",
        ),
        (
            {"pixel_values": pixels[:, :-1]},
            rf"pixel_values must be \(patch, value\) with {VALUES} values, got \(152",
        ),
        ({"pixel_values": pixels[None]}, r"pixel_values must be \(patch, value\).* got \(1, 152, 96\)"),
        ({"pixel_values": [pixels]}, r"pixel_values must be \(patch, value\).* got list"),
        (
            {"pixel_values_videos": clip_pixels[1:]},
            "video_grid_thw adds up to 336 patches, but pixel_values_videos",
        ),
        ({"video_grid_thw": None}, r"video_grid_thw must be \(visual, 3\)"),
        ({"video_grid_thw": clip_grids[:, :2]}, r"video_grid_thw must be \(visual, 3\).* got \(3, 2\)"),
    ]
    for change, message in rows:
        with pytest.raises(UnsupportedInputError, match=message):
            compress_inputs(model, {**inputs, **change}, "uniform", retention_ratio=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_contiguous_positions_are_refused(family: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["image"])
    for method in ("uniform", "fastv"):
        with pytest.raises(ArgumentError, match="'contiguous' cannot go with Qwen.*4 axes: .*'original'"):
            compress_inputs(model, inputs, method, retention_ratio=0.5, positions="contiguous")
    for wrong in (inputs["input_ids"], torch.zeros(3, *inputs["input_ids"].shape, dtype=torch.int64)):
        with pytest.raises(UnsupportedInputError, match=r"position_ids must have shape \(4, 1, "):
            compress_inputs(model, {**inputs, "position_ids": wrong}, "uniform", retention_ratio=0.5)


# -- bounds of passes -------------------------------------------------------------------------------------------------


def test_max_patches_goes_the_way_of_max_views() -> None:
    model = qwen_model("qwen2_vl")
    inputs = qwen_inputs(model, SCENES["clip"])
    seen: list[int] = []
    handle = model.model.visual.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[0]))
    try:
        with compress(model, "uniform", retention_ratio=0.5, max_patches=72), torch.no_grad():
            model(**inputs)
        assert seen == [72, 72]
        seen.clear()
        compress_inputs(model, inputs, "uniform:max_patches=36", retention_ratio=0.5, max_views=1)
        assert seen == [36] * 4
        seen.clear()
        compress_inputs(model, inputs, "uniform", retention_ratio=0.5, max_views=1)
        assert seen == [144], "max_views is for encoders that take pictures"
    finally:
        handle.remove()


def test_an_adapter_that_only_knows_max_views_is_called_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base class hands over nothing but what `encode` has always taken."""
    from tiny_models import Scene, batch, tiny_model
    from vidcompress.adapters.llava_next import LlavaNextAdapter

    model, true, called = tiny_model("llava_next"), LlavaNextAdapter.encode, []

    def encode(self: Any, visuals: Any, evidence: Any = (), frames: Any = None, max_views: int = 16) -> Any:
        called.append(max_views)
        return true(self, visuals, evidence, frames, max_views)

    monkeypatch.setattr(LlavaNextAdapter, "encode", encode)
    inputs = batch(model, [Scene((("image", (56, 56)),))])
    compress_inputs(model, inputs, "uniform", retention_ratio=0.5, max_views=3, max_patches=5)
    assert called == [3]


# -- judges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_without_axes_or_companions_is_red(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwen_model(family)
    cls = type(adapter_for(model))
    inputs = qwen_inputs(model, SCENES["image"])
    true = cls.encode
    if family in DEEP:
        with monkeypatch.context() as patch:
            zero = lambda *a: [replace(t, deep=tuple(map(torch.zeros_like, t.deep))) for t in true(*a)]  # noqa: E731
            patch.setattr(cls, "encode", zero)
            with pytest.raises(testing.ContractError, match="at retention 1.0.*logits: differs"):
                judges.check_identity(model, inputs, "uniform")
    traits = adapter_for(model).traits
    monkeypatch.setattr(cls, "traits", property(lambda self: replace(traits, axes=1)))
    monkeypatch.setattr(cls, "positions", lambda self, inputs, ids, mask: None)
    with pytest.raises(testing.ContractError, match="at retention 1.0.*logits: differs"):
        judges.check_identity(model, inputs, "uniform")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_names_that_are_relied_on_exist_and_mean_the_same(family: str) -> None:
    model = qwen_model(family)
    inputs = qwen_inputs(model, SCENES["mixed"])
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    for name in (
        "_prepare_position_ids_for_generation",
        "_expand_multimodal_outputs",
    ):
        assert callable(getattr(model, name))
    assert callable(model.model.get_rope_index) and hasattr(model.model, "rope_deltas")
    placed = stock_positions(model, inputs, ids, mask)
    step = model.prepare_inputs_for_generation(
        ids, position_ids=placed, attention_mask=mask, is_first_iteration=True
    )
    assert torch.equal(step["position_ids"], placed), "generate uses the positions that it is given"
    # a picture of (1, 8, 12) at column 2 of the first row: time stands, rows and columns count up, text goes on
    column = int((ids[0] == IMAGE).nonzero()[0])
    start = placed[1:, 0, column]
    assert int((placed[0, 0] == 0).sum()) >= 1 and bool((start == start[0]).all())
    of_picture = placed[1:, 0, column : column + 24] - start[:, None]
    cells = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")).flatten(1)
    assert torch.equal(of_picture[0], torch.zeros(24, dtype=torch.int64))
    assert torch.equal(of_picture[1:], cells)
    assert placed[1:, 0, column + 24].tolist() == (start + 6).tolist()
    parameters = inspect.signature(model.model.visual.forward).parameters
    assert "grid_thw" in parameters

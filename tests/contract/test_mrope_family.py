"""Room for other families: axes of positions, several runs, companions; with controls that must fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mrope_family import FAMILIES, MropeAdapter, mrope_inputs, mrope_model
from vidcompress import (
    ArgumentError,
    UnsupportedInputError,
    compress,
    compress_inputs,
    testing,
)
from vidcompress.adapters.stock import encoded_visuals

PICTURE, CLIP = ("image", (1, 8, 12)), ("video", (3, 8, 4))
SCENES: dict[str, list[list[Any]]] = {
    "image": [[5, 6, PICTURE, 7, 8]],
    "clip": [[5, CLIP, 7, 8, 9]],
    "mixed": [[5, PICTURE, 6, CLIP, 7, 8], [4, 4, CLIP, 9], [3, 2, 5]],
}


pytestmark = pytest.mark.usefixtures("mrope_adapter")


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract_is_kept(family: str, scene: str) -> None:
    model = mrope_model(family)
    testing.check_adapter(model, mrope_inputs(model, SCENES[scene]), ["uniform", "random", "globalcom2"])


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_that_merge_over_time_keep_the_contract(family: str) -> None:
    """Positions are those of the centres, and companions go with them; the masked model is fed the merged features."""
    model = mrope_model(family)
    testing.check_adapter(model, mrope_inputs(model, SCENES["clip"]), ["vcast", "prunevid"])


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_those_of_the_stock_model(family: str) -> None:
    """At surviving columns, the text axis renumbered, with the modality's own placeholders; and two-dimensional ones
    are another model."""
    model = mrope_model(family)
    inputs = mrope_inputs(model, SCENES["mixed"])
    full = MropeAdapter(model).positions(inputs, inputs["input_ids"], inputs["attention_mask"])
    assert full is not None and full.shape == (4, *inputs["input_ids"].shape)
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    assert "use_cache" not in short and short.report.positions == "original"
    row = short["position_ids"][:, 0][:, short["attention_mask"][0].bool()]
    assert row[0].tolist() == list(range(row.shape[1]))
    columns = {tuple(column) for column in full[1:, 0].T.tolist()}
    assert all(tuple(column) in columns for column in row[1:].T.tolist())
    assert {90, 91} <= set(short["input_ids"][0].tolist())
    flat = dict(short) | {"position_ids": short["position_ids"][0]}
    whole = compress_inputs(model, inputs, "none")
    stock, real = logits(model, inputs), inputs["attention_mask"].bool()
    assert torch.equal(logits(model, whole), stock)
    wrong = logits(model, dict(whole) | {"position_ids": whole["position_ids"][0]})
    assert float((wrong - stock)[real].abs().max()) > 1e-3
    real = short["attention_mask"].bool()
    assert float((logits(model, flat) - logits(model, short))[real].abs().max()) > 1e-3


def test_an_adapter_without_axes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge that takes positions from the adapter still knows a wrong model."""
    model = mrope_model("qwen2_5_vl")
    traits = property(lambda self: replace(super(MropeAdapter, self).traits, axes=1))
    monkeypatch.setattr(MropeAdapter, "traits", traits)
    monkeypatch.setattr(MropeAdapter, "positions", lambda self, inputs, ids, mask: None)
    with pytest.raises(
        testing.ContractError, match="traits.axes is 1, and positions of Qwen2_5.* have 4 axes"
    ):
        testing.check_adapter(model, mrope_inputs(model, SCENES["image"]), ["uniform"])
    with pytest.raises(testing.ContractError, match="at retention 1.0.*logits: differs"):
        testing.check_identity(model, mrope_inputs(model, SCENES["image"]), "uniform")


@pytest.mark.parametrize("scene", ["image", "clip"])
def test_companions_that_are_empty_or_zero_are_another_model(
    scene: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mrope_model("qwen3_vl")
    inputs = mrope_inputs(model, SCENES[scene])
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    right = logits(model, short)
    key = "image" if scene == "image" else "video"
    for level in short.features.deep[key]:
        assert [part.shape for part in level] == [part.shape for part in short.features.rows[key]]
    emptied = dict(short)
    emptied["mm_encoder_outputs"][key].deepstack_features = []
    assert float((logits(model, emptied) - right).abs().max()) > 1e-3
    true = MropeAdapter.encode

    def without(self: MropeAdapter, *args: Any, **kwargs: Any) -> Any:
        tokens = true(self, *args, **kwargs)
        return [replace(one, deep=tuple(map(torch.zeros_like, one.deep))) for one in tokens]

    monkeypatch.setattr(MropeAdapter, "encode", without)
    with pytest.raises(testing.ContractError, match="at retention 1.0.*logits: differs"):
        testing.check_identity(model, inputs, "uniform")
    monkeypatch.setattr(MropeAdapter, "encode", lambda *a, **k: [replace(t, deep=()) for t in true(*a, **k)])
    with pytest.raises(testing.ContractError, match="companions for 0 layers, traits.deep_levels is 2"):
        testing.check_adapter(model, inputs, ["uniform"])


@pytest.mark.parametrize("family", FAMILIES)
def test_contiguous_positions_are_refused(family: str) -> None:
    model = mrope_model(family)
    inputs = mrope_inputs(model, SCENES["image"])
    for call in (compress_inputs, lambda *a, **k: compress(*a[:1], *a[2:], **k).__enter__()):
        with pytest.raises(ArgumentError, match="'contiguous' cannot go with Qwen.*4 axes: .*'original'"):
            call(model, inputs, "uniform", retention_ratio=0.5, positions="contiguous")
    for wrong in (inputs["input_ids"], torch.zeros(3, *inputs["input_ids"].shape, dtype=torch.int64)):
        with pytest.raises(UnsupportedInputError, match=r"position_ids must have shape \(4, 1, "):
            compress_inputs(model, {**inputs, "position_ids": wrong}, "uniform", retention_ratio=0.5)
    del inputs["mm_token_type_ids"]
    with pytest.raises(UnsupportedInputError, match="mm_token_type_ids must be among"):
        compress_inputs(model, inputs, "uniform", retention_ratio=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_beams_and_later_turns(family: str) -> None:
    """Greedy steps are those of a recompute without cache; beams of a batch those of single rows; a second turn on the
    cache is that of a recompute, also after another input ran on the same model."""
    model = mrope_model(family)
    inputs = mrope_inputs(model, SCENES["mixed"][:2])
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [90, 91]}
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    cached = model.generate(**short, **options)
    assert torch.equal(cached, model.generate(**short, **options, use_cache=False))
    beams = model.generate(**short, **options, num_beams=2)
    for number, scene in enumerate(SCENES["mixed"][:2]):
        single = mrope_inputs(model, SCENES["mixed"][:2])
        alone = compress_inputs(model, _row(single, number, scene), "uniform", retention_ratio=0.5)
        answer = model.generate(**alone, **options, num_beams=2)
        assert torch.equal(answer[0, -5:], beams[number, -5:])
    with compress(model, "uniform", retention_ratio=0.5):
        first = model.generate(**inputs, **options, return_dict_in_generate=True)
        model.generate(
            **mrope_inputs(model, SCENES["clip"], seed=3), **options
        )  # leaves rope_deltas of its own
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        mask = torch.cat((inputs["attention_mask"], torch.ones(2, 8, dtype=torch.int64)), dim=1)
        later = {**inputs, "input_ids": turn, "attention_mask": mask}
        types = inputs["mm_token_type_ids"]
        later["mm_token_type_ids"] = torch.cat((types, types.new_zeros(2, 8)), dim=1)
        again = model.generate(**later, **options, cache=first[_cache_key(first)])
        anew = model.generate(**later, **options)
    assert torch.equal(again, anew)


@pytest.mark.parametrize("container", ["list", "tensor", "hidden"])
def test_containers_hold_the_surviving_tokens(container: Any) -> None:
    """A list has one entry per prompt row; tensors have entries of one token, which beams cut at the right places."""
    rows, deep = [torch.randn(3, 8), torch.randn(2, 8)], [[torch.randn(3, 8), torch.randn(2, 8)]]
    out = encoded_visuals(rows, deep, container)
    if container == "list":
        assert out.pooler_output is not rows and all(map(torch.equal, out.pooler_output, rows))
        assert out.deepstack_features[0] is not deep[0]
    else:
        held = out.pooler_output if container == "tensor" else out.last_hidden_state
        assert torch.equal(held, torch.cat(rows)[:, None]) and held.shape == (5, 1, 8)


def test_beams_of_hidden_outputs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mrope_model("qwen2_5_vl")
    traits = property(lambda self: replace(super(MropeAdapter, self).traits, axes=4, container="hidden"))
    monkeypatch.setattr(MropeAdapter, "traits", traits)
    with (
        compress(model, "uniform", retention_ratio=0.5),
        pytest.raises(UnsupportedInputError, match="num_beams=2 cannot go with Qwen2_5_VLFor"),
    ):
        model.generate(**mrope_inputs(model, SCENES["image"]), num_beams=2, max_new_tokens=2)


def _cache_key(output: Any) -> str:
    return next(name for name in ("cache", "past_key_values") if name in output)


def _row(inputs: dict[str, Any], number: int, scene: list[Any]) -> dict[str, Any]:
    """One row of a batch with its own pixels."""
    real = inputs["attention_mask"][number].bool()
    out = {
        key: inputs[key][number : number + 1, real]
        for key in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    if any(part == PICTURE for part in scene):
        out |= {key: inputs[key] for key in ("pixel_values", "image_grid_thw")}
    patches = 3 * 8 * 4
    out["pixel_values_videos"] = inputs["pixel_values_videos"][patches * number : patches * (number + 1)]
    for key in ("video_grid_thw", "second_per_grid_ts"):
        if key in inputs:
            out[key] = inputs[key][number : number + 1]
    return out

"""GLM-4.1V and GLM-4.6V against the stock model: frames of clips behind the placeholder of pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.models.glm4v import modeling_glm4v

from glm_models import CLIP, CLIP_END, END, FAMILIES, IMAGE, SCENES, START, glm_inputs, glm_model
from vidcompress import (
    ArgumentError,
    UnsupportedInputError,
    UnsupportedModelError,
    compress,
    compress_inputs,
    cost,
    testing,
)
from vidcompress.adapters import Evidence, stock_positions
from vidcompress.adapters.base import adapter_for
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.session.generation_options import CHUNKED_PREFILL_SINCE, transformers_version

pytestmark = pytest.mark.transformers

STEPS: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
KINDS = ("pictures", "clips")


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract_is_kept_by_every_method(family: str, scene: str) -> None:
    several = scene in KINDS
    methods = ["globalcom2", "visionzip", "random", "pool"] if several or family == "glm46v" else None
    testing.check_adapter(glm_model(family), glm_inputs(SCENES[scene]), methods)


WRONG = {
    "none": lambda self, inputs, ids, mask: None,
    "columns on every axis": lambda self, inputs, ids, mask: stock_positions(self.model, inputs, ids, mask)[
        :1
    ].expand(4, -1, -1),
    "without types": lambda self, inputs, ids, mask: stock_positions(
        self.model, {key: value for key, value in inputs.items() if key != "mm_token_type_ids"}, ids, mask
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("scene", KINDS)
def test_wrong_positions_turn_red(scene: str, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = glm_model("glm4v")
    monkeypatch.setattr(type(adapter_for(model)), "positions", WRONG[wrong])
    with pytest.raises(testing.ContractError, match="Glm4vAdapter.positions (returns None|differs from)"):
        testing.check_adapter(model, glm_inputs(SCENES[scene]), ["uniform"])


@pytest.mark.parametrize("scene", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_everything_kept_is_the_stock_model_to_the_bit(family: str, scene: str) -> None:
    model, inputs = glm_model(family), glm_inputs(SCENES[scene])
    stock = logits(model, inputs)
    for most in (1, 100, 16384):
        whole = compress_inputs(model, inputs, "globalcom2", retention_ratio=1.0, max_patches=most)
        assert torch.equal(logits(model, whole), stock), most


@pytest.mark.parametrize("scene", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_steps_beams_sequences_and_later_turns(family: str, scene: str) -> None:
    model, rows = glm_model(family), SCENES[scene][:2]
    inputs = glm_inputs(rows)
    short = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.5)
    greedy = model.generate(**short, **STEPS)
    assert torch.equal(greedy, model.generate(**short, **STEPS, use_cache=False))
    assert torch.equal(greedy, model.generate(**short, **STEPS, cache_implementation="static"))
    if transformers_version() >= CHUNKED_PREFILL_SINCE:  # a block refuses it before
        assert torch.equal(greedy, model.generate(**short, **STEPS, prefill_chunk_size=7))
    key, grid_key = ("pixel_values_videos", "video_grid_thw")
    if scene == "pictures":
        key, grid_key = ("pixel_values", "image_grid_thw")
    parts = inputs[key].split(inputs[grid_key].prod(-1).tolist())
    for options in ({"num_beams": 2}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        together, apiece = model.generate(**short, **STEPS, **options)[:, -5:], []
        for number, own in enumerate((slice(0, 2), slice(2, 3))):
            real = inputs["attention_mask"][number].bool()
            texts = ("input_ids", "attention_mask", "mm_token_type_ids")
            one = {name: inputs[name][number : number + 1, real] for name in texts}
            one |= {key: torch.cat(parts[own]), grid_key: inputs[grid_key][own]}
            alone = compress_inputs(model, one, "globalcom2", retention_ratio=0.5)
            apiece.append(model.generate(**alone, **STEPS, **options)[:, -5:])
        assert torch.equal(together, torch.cat(apiece)), options
    more: dict[str, Any] = {**STEPS, "output_logits": True, "return_dict_in_generate": True}
    with compress(model, "globalcom2", retention_ratio=0.5):
        first = model.generate(**inputs, **more)
        model.generate(**glm_inputs(SCENES["picture"], seed=3), **STEPS)  # leaves an offset of its own behind
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        longer = turn.shape[1] - inputs["input_ids"].shape[1]
        later = {**inputs, "input_ids": turn}
        for name, fill in (("attention_mask", 1), ("mm_token_type_ids", 0)):
            later[name] = torch.cat((inputs[name], torch.full((2, longer), fill)), 1)
        anew = model.generate(**later, **more)
        again = model.generate(**later, **more, **{cache_name(): returned_cache(first)})
    assert torch.equal(again.sequences, anew.sequences)
    assert apart(torch.stack(again.logits), torch.stack(anew.logits)) < 1e-4


def test_attention_received_is_that_of_the_last_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """On pictures of unequal grids; its control is the first block."""
    model, asked = glm_model("glm4v"), Evidence("attention_received", -1)
    inputs, maps, eager = glm_inputs(SCENES["pictures"][:1]), [], modeling_glm4v.eager_attention_forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        output, weights = eager(*args, **kwargs)
        maps.append(weights)
        return output, weights

    adapter = adapter_for(model)
    with torch.no_grad():
        tokens = adapter.encode(adapter.visuals(inputs)[0], [asked])
        monkeypatch.setattr(modeling_glm4v, "eager_attention_forward", noted)
        monkeypatch.setattr(model.model.visual.config, "_attn_implementation", "eager")
        model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    pictures = len(tokens)
    for number, own in enumerate(tokens):
        first, last = (
            maps[pictures * block + number][0].mean((0, 1)).unflatten(0, (-1, 4)).mean(1) for block in (0, 1)
        )
        assert apart(own.evidence[asked], last) < 1e-6
        assert apart(own.evidence[asked], first) > 1e-5


def test_a_frame_that_keeps_nothing_may_lose_its_text() -> None:
    model, inputs = glm_model("glm4v"), glm_inputs([[5, (4, 4, 4), 7]])
    kept = compress_inputs(model, inputs, "frames", max_tokens=4)
    short = compress_inputs(model, inputs, "frames", max_tokens=4, view_text="drop")
    assert kept["input_ids"].shape[1] - short["input_ids"].shape[1] == 3 * 4
    (view,) = (number for number, view in enumerate(short.report.visuals[0].views) if view.kept)
    assert short["input_ids"][0].tolist() == [5, CLIP, START, *[IMAGE] * 4, END, 10, 20 + view, CLIP_END, 7]
    # Without the end of the clip there is only what stands between the frames.
    row = inputs["input_ids"][0].clone()
    row[row == CLIP_END] = 8
    (clip,) = adapter_for(model).visuals(inputs)[1]
    runs = [range(3 + 8 * number, 7 + 8 * number) for number in range(4)]
    assert clip.view_text is not None
    texts = [[row[list(part)].tolist() for part in parts] for parts in clip.view_text(row, runs)]
    assert texts[1] == [[10, 20, START], [END]]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_served_is_refused(family: str) -> None:
    model, inputs = glm_model(family), glm_inputs(SCENES["pictures"])
    with pytest.raises(UnsupportedInputError, match="image_grid_thw without mm_token_type_ids"):
        compress_inputs(model, {**inputs, "mm_token_type_ids": None}, retention_ratio=0.5)
    clip = {key: value for key, value in glm_inputs(SCENES["clips"]).items() if "video" in key}
    with pytest.raises(UnsupportedInputError, match="in one batch: Glm4.*takes one of both"):
        compress_inputs(model, inputs | clip, retention_ratio=0.5)
    with pytest.raises(ArgumentError, match="'contiguous' cannot go with Glm4"):
        compress_inputs(model, inputs, "uniform", retention_ratio=0.5, positions="contiguous")
    with (
        pytest.raises(UnsupportedModelError, match="rotates neighbouring channels"),
        compress(model, "fastv", retention_ratio=0.5),
    ):
        model(**inputs)
    with pytest.raises(UnsupportedModelError, match="glm4v_vision.* whose cost is not known"):
        cost.estimate(model)


def test_masses_are_served() -> None:
    model, inputs = glm_model("glm4v"), glm_inputs(SCENES["clips"])
    short = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="on")
    with short.pruning():
        weighed = logits(model, short)
    plain = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="off")
    assert torch.equal(plain["input_ids"], short["input_ids"])
    assert apart(weighed, logits(model, plain)) > 1e-3

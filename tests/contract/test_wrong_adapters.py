"""The checks of an adapter find each way to get a family with axes and companions wrong, and say which it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from cases import SCENES as OTHER_SCENES
from mrope_family import FAMILIES, MropeAdapter, mrope_inputs, mrope_model, served_by
from tiny_models import Scene, batch, tiny_model
from vidcompress import UnsupportedInputError, compress_inputs, testing
from vidcompress.adapters import stock_positions
from vidcompress.testing.entrance import at_entrance

pytestmark = pytest.mark.transformers

PICTURE, CLIP = ("image", (1, 8, 12)), ("video", (3, 8, 4))
SCENES: dict[str, list[list[Any]]] = {
    "image": [[5, 6, PICTURE, 7, 8]],
    "clip": [[5, CLIP, 7, 8, 9]],
    "mixed": [[5, PICTURE, 6, CLIP, 7, 8], [4, 4, CLIP, 9], [3, 2, 5]],
}


class SaysNoPositions(MropeAdapter):
    def positions(self, inputs: Any, ids: Any, mask: Any) -> Any:
        return None


class SaysColumns(SaysNoPositions):
    @property
    def traits(self) -> Any:
        return replace(super().traits, axes=1)


class SaysOneAxis(SaysColumns):
    def positions(self, inputs: Any, ids: Any, mask: Any) -> Any:
        return stock_positions(self.model, inputs, ids, mask)[:1]


class SaysTwoDimensions(MropeAdapter):
    def positions(self, inputs: Any, ids: Any, mask: Any) -> Any:
        return super().positions(inputs, ids, mask)[0]


class SaysTextOnEveryAxis(MropeAdapter):
    def positions(self, inputs: Any, ids: Any, mask: Any) -> Any:
        return super().positions(inputs, ids, mask)[:1].expand(4, -1, -1)


class ReadsNoTypes(MropeAdapter):
    def positions(self, inputs: Any, ids: Any, mask: Any) -> Any:
        bare = {key: value for key, value in inputs.items() if key != "mm_token_type_ids"}
        return stock_positions(self.model, bare, ids, mask)


class MissesNoTypes(MropeAdapter):
    def positions(self, inputs: Any, ids: Any, mask: Any) -> Any:
        return stock_positions(self.model, inputs, ids, mask)


class EncodesNoCompanions(MropeAdapter):
    def encode(self, *args: Any, **kwargs: Any) -> Any:
        return [replace(tokens, deep=()) for tokens in super().encode(*args, **kwargs)]


class KnowsNoCompanions(EncodesNoCompanions):
    deep_levels = 0

    def _clip(self, pixels: Any, grid: Any) -> Any:
        return replace(super()._clip(pixels, grid), runs=(grid[0] * grid[1],) * len(pixels))


class EncodesZeros(MropeAdapter):
    def encode(self, *args: Any, **kwargs: Any) -> Any:
        tokens = super().encode(*args, **kwargs)
        return [replace(one, deep=tuple(map(torch.zeros_like, one.deep))) for one in tokens]


class EncodesOthers(MropeAdapter):
    def encode(self, *args: Any, **kwargs: Any) -> Any:
        tokens = super().encode(*args, **kwargs)
        return [replace(one, deep=tuple(level.roll(1, 0) for level in one.deep)) for one in tokens]


class HandsOverNoCompanions(MropeAdapter):
    @classmethod
    def hand_over(cls, traits: Any, rows: Any, deep: Any) -> Any:
        out = super().hand_over(traits, rows, deep)
        for encoded in out.values():
            encoded.deepstack_features = []
        return out


class EncodesOtherFeatures(MropeAdapter):
    def encode(self, *args: Any, **kwargs: Any) -> Any:
        tokens = super().encode(*args, **kwargs)
        return [replace(one, features=one.features.roll(1, 0)) for one in tokens]


class HasFramesInAnotherOrder(MropeAdapter):
    def _clip(self, pixels: Any, grid: Any) -> Any:
        visual = super()._clip(pixels, grid)
        return replace(visual, layout=replace(visual.layout, view=visual.layout.view.flip(0)))


POSITIONS = [
    (SaysNoPositions, "SaysNoPositions.positions returns None, .* have 4 axes; return .*stock_positions"),
    (SaysColumns, "SaysColumns.traits.axes is 1, and positions of Qwen.* have 4 axes: fewer are another"),
    (SaysOneAxis, "SaysOneAxis.traits.axes is 1, and positions of Qwen.* have 4 axes: fewer are another"),
    (SaysTwoDimensions, r"SaysTwoDimensions.positions has shape \(\d, \d+\), expected .*= \(4, "),
    (
        SaysTextOnEveryAxis,
        r"SaysTextOnEveryAxis.positions differs from the positions of Qwen.* in \d+ places",
    ),
    (ReadsNoTypes, r"ReadsNoTypes.positions differs .*all inputs, grids and token types among them"),
    (MissesNoTypes, "inputs without mm_token_type_ids must raise UnsupportedInputError and did not"),
]
COMPANIONS = [
    (
        EncodesNoCompanions,
        "EncodesNoCompanions.encode gives companions for 0 layers, traits.deep_levels is 2",
    ),
    (KnowsNoCompanions, "does not take what KnowsNoCompanions gives it: TypeError"),
    (
        EncodesZeros,
        "deepstack_visual_embeds is neither that of the whole prompt nor that at surviving columns",
    ),
    (
        EncodesOthers,
        "deepstack_visual_embeds is neither that of the whole prompt nor that at surviving columns",
    ),
    (
        HandsOverNoCompanions,
        "deepstack_visual_embeds has 2 entries of the whole prompt and 0 of the compressed",
    ),
]
WRONG = [(family, *case) for family in FAMILIES for case in POSITIONS]
WRONG += [("qwen3_vl", *case) for case in COMPANIONS]
WRONG += [(family, EncodesOtherFeatures, "entrance.*: inputs_embeds is neither") for family in FAMILIES]


@pytest.mark.parametrize("scene", ["image", "mixed"])
@pytest.mark.parametrize(("family", "wrong", "message"), WRONG)
def test_a_wrong_adapter_turns_red(family: str, wrong: type[MropeAdapter], message: str, scene: str) -> None:
    model = mrope_model(family)
    with served_by(wrong), pytest.raises(testing.ContractError, match=message):
        testing.check_adapter(model, mrope_inputs(model, SCENES[scene]), ["uniform"])


@pytest.mark.parametrize("family", FAMILIES)
def test_views_in_another_order_are_found(family: str) -> None:
    model = mrope_model(family)
    message = "8 of 8 tokens that the layout says are of view 0 do not change with its pixels"
    with served_by(HasFramesInAnotherOrder), pytest.raises(testing.ContractError, match=message):
        testing.check_adapter(model, mrope_inputs(model, SCENES["clip"]), ["uniform"])


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_adapter_passes_each_check(family: str, scene: str) -> None:
    model = mrope_model(family)
    inputs = mrope_inputs(model, SCENES[scene])
    with served_by(MropeAdapter):
        testing.check_positions(model, inputs)
        testing.check_controls(model, inputs)
        for method in ("uniform", "globalcom2"):
            for ratio in ("0.1", "0.5", "1"):
                testing.check_entrance(model, inputs, method, ratio=ratio)


@pytest.mark.parametrize(("family", "modality"), list(OTHER_SCENES))
def test_families_without_axes_pass_each_check(family: str, modality: str) -> None:
    model = tiny_model(family)
    inputs = batch(model, [OTHER_SCENES[family, modality], Scene((), seed=7)])
    testing.check_positions(model, inputs)
    testing.check_controls(model, inputs)
    testing.check_entrance(model, inputs)


def test_axes_where_there_are_none_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidcompress.adapters.llava_next import LlavaNextAdapter

    model = tiny_model("llava_next")
    inputs = batch(model, [OTHER_SCENES["llava_next", "image"]])
    monkeypatch.setattr(
        LlavaNextAdapter, "positions", lambda self, inputs, ids, mask: torch.zeros_like(ids)[None]
    )
    with pytest.raises(testing.ContractError, match="LlavaNextAdapter.positions differs .* in .* places"):
        testing.check_positions(model, inputs)


def test_inputs_without_token_types_judge_nothing() -> None:
    model = mrope_model("qwen2_5_vl")
    inputs = mrope_inputs(model, SCENES["image"])
    del inputs["mm_token_type_ids"]
    with served_by(MissesNoTypes):
        compress_inputs(model, inputs, "uniform", retention_ratio=0.5)  # goes by columns, and says nothing
        with pytest.raises(testing.ContractError, match="have image_grid_thw and no mm_token_type_ids"):
            testing.check_adapter(model, inputs, ["uniform"])
    with served_by(MropeAdapter), pytest.raises(UnsupportedInputError, match="mm_token_type_ids must be"):
        compress_inputs(model, inputs, "uniform", retention_ratio=0.5)


def test_a_model_that_tells_nothing_apart_is_found() -> None:
    """Weights as small as they come: every control is within what rounding may do."""
    model = mrope_model("qwen3_vl")
    inputs = mrope_inputs(model, SCENES["image"])
    with served_by(MropeAdapter):
        testing.check_controls(model, inputs)
        weight = model.lm_head.weight
        held = weight.detach().clone()
        try:
            with torch.no_grad():
                weight.mul_(1e-4)
            with pytest.raises(testing.ContractError, match="no positions the logits .* use larger weights"):
                testing.check_controls(model, inputs)
        finally:
            with torch.no_grad():
                weight.copy_(held)


@pytest.mark.parametrize("key", ["mm_token_type_ids", "labels"])
def test_per_token_inputs_that_are_lost_or_cut_otherwise_are_found(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vidcompress.session import compress as session

    model = mrope_model("qwen2_5_vl")
    inputs = mrope_inputs(model, SCENES["mixed"])
    inputs["labels"] = torch.arange(inputs["input_ids"].numel()).view_as(inputs["input_ids"])
    true = session.splice

    def rolled(*args: Any, **kwargs: Any) -> Any:
        out = true(*args, **kwargs)
        return {**out, key: out[key].roll(1, 1)}

    def lost(*args: Any, **kwargs: Any) -> Any:
        return {name: value for name, value in true(*args, **kwargs).items() if name != key} | {key: None}

    with served_by(MropeAdapter):
        testing.check_entrance(model, inputs)
        for wrong in (rolled, lost):
            monkeypatch.setattr(session, "splice", wrong)
            with pytest.raises(testing.ContractError, match=f"{key} of the caller is not cut like input_ids"):
                testing.check_entrance(model, inputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_that_get_lost_behind_the_adapter_are_found(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flattened, shifted or with gaps in the text axis, between what the adapter says and what the model gets."""
    from vidcompress.session import compress as session

    model = mrope_model(family)
    inputs = mrope_inputs(model, SCENES["mixed"])
    true = session.splice

    def gaps(places: Any) -> Any:
        return torch.cat((places[1:2], places[1:]))

    cases = {
        r"position_ids of shape \(3, \d+\) where the stock model has 4 axes": lambda places: places[0],
        "position_ids are not those of the stock model at surviving columns": lambda places: places + 1,
        "the text axis of position_ids has gaps": gaps,
    }
    with served_by(MropeAdapter):
        for message, spoil in cases.items():

            def wrong(*args: Any, spoil: Any = spoil, **kwargs: Any) -> Any:
                out = true(*args, **kwargs)
                return {**out, "position_ids": spoil(out["position_ids"])}

            monkeypatch.setattr(session, "splice", wrong)
            with pytest.raises(testing.ContractError, match=message):
                testing.check_entrance(model, inputs)


def test_masked_and_rows_find_a_wrong_adapter_by_the_stock_positions() -> None:
    """They did not as long as they took positions from the adapter itself."""
    model = mrope_model("qwen3_vl")
    inputs = mrope_inputs(model, SCENES["image"])
    with (
        served_by(SaysTextOnEveryAxis),
        pytest.raises(testing.ContractError, match="masked: logits: differs"),
    ):
        testing.check_masked(model, inputs, "uniform", positions="original")
    with served_by(MropeAdapter):
        testing.check_masked(model, inputs, "uniform", positions="original")


def test_no_layer_runs_at_the_entrance() -> None:
    model = mrope_model("qwen3_vl")
    ran: list[int] = []
    decoder = model.model.language_model
    handle = decoder.layers[0].register_forward_pre_hook(lambda module, args: ran.append(1))
    try:
        with served_by(MropeAdapter):
            testing.check_entrance(model, mrope_inputs(model, SCENES["mixed"]))
        seen = at_entrance(model, decoder, mrope_inputs(model, SCENES["image"]))
    finally:
        handle.remove()
    assert not ran and not decoder._forward_pre_hooks
    assert seen["inputs_embeds"].ndim == 3 and len(seen["deepstack_visual_embeds"]) == 2


def test_per_token_inputs_of_neighbours_are_padded_alike() -> None:
    """Positions with axes too."""
    model = mrope_model("qwen2_5_vl")
    inputs = mrope_inputs(model, SCENES["mixed"])
    with served_by(MropeAdapter):
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        inputs["position_ids"] = stock_positions(model, inputs, ids, mask)
        inputs["labels"] = ids.clone()
        testing.check_rows(model, inputs, "uniform")
        testing.check_masked(model, inputs, "uniform", positions="original")

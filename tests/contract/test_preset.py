"""The 2880-token preset: exactly five views of tokens from any picture, as the authors' code lays them out."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch

import vidcompress
from tiny_models import IMAGE, PATCH, SIDE, SIZES, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.budget import half_up
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.errors import UnsupportedInputError
from vidcompress.session.compress import compress_inputs

GRID = SIDE // PATCH
FULL = 5 * GRID**2
FAMILIES = ("llava_next", "llava_next_video")
SERVED = [name for name in available_methods() if "image" in METHODS.get(name).modalities]
BEFORE = [name for name in SERVED if METHODS.get(name).where == "before" and METHODS.get(name).exact]
WIDE, TALL = Scene((("image", (40, 100)),), before=3, seed=1), Scene((("image", (300, 8)),), before=9, seed=2)
ROWS = [WIDE, Scene((), before=7, seed=5), Scene((TALL.visuals[0], WIDE.visuals[0]), seed=6)]


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def features_by_hand(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """(image, N, D): the thumbnail's patches, then row by row those of the 2 x 2 crops side by side."""
    config = model.config
    with torch.no_grad():
        states = model.model.vision_tower(pixels.flatten(0, 1), output_hidden_states=True).hidden_states
        patches = model.model.multi_modal_projector(states[config.vision_feature_layer][:, 1:])
    rows = []
    for views in patches.unflatten(0, pixels.shape[:2]):
        row = list(views[0])
        for r in range(2 * GRID):
            for c in range(2 * GRID):
                crop = 1 + 2 * (r // GRID) + c // GRID
                row.append(views[crop, r % GRID * GRID + c % GRID])
        rows.append(torch.stack(row))
    return torch.stack(rows)


def embedded(model: Any, inputs: Any, features: torch.Tensor) -> dict[str, torch.Tensor]:
    """Inputs of the stock model that holds these features where the placeholders are."""
    embeds = model.get_input_embeddings()(inputs["input_ids"]).detach().clone()
    embeds[inputs["input_ids"] == IMAGE] = features.flatten(0, 1)
    return {"inputs_embeds": embeds, "attention_mask": inputs["attention_mask"]}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["none", "globalcom2", "prumerge", "pool", "cdpruner"])
def test_full_retention_is_the_stock_model_fed_these_features(family: str, method: str) -> None:
    model = tiny_model(family)
    inputs = batch(model, ROWS, preset="2880")
    compressed = compress_inputs(model, inputs, method, retention_ratio=1.0)
    assert compressed["input_ids"].shape == inputs["input_ids"].shape
    assert "preset" not in dict(compressed)
    stock = embedded(model, inputs, features_by_hand(model, inputs["pixel_values"]))
    real = inputs["attention_mask"].bool()
    assert torch.equal(logits(model, compressed)[real], logits(model, stock)[real])
    own = dict(inputs, pixel_values=inputs["pixel_values"].flip(1))
    assert not torch.allclose(logits(model, compress_inputs(model, own, method, retention_ratio=1.0))[real],
                              logits(model, stock)[real])  # fmt: skip


@pytest.mark.parametrize("method", BEFORE)
def test_counts_are_exact_for_every_shape_and_dropped_tokens_are_masked(method: str) -> None:
    model = tiny_model("llava_next")
    for number, size in enumerate(SIZES):
        ratio = ("0.1", "0.25", "0.5", "0.77")[number % 4]
        inputs = batch(model, [Scene((("image", size),), seed=number)], preset="2880")
        shorter = compress_inputs(model, inputs, method, retention_ratio=ratio, mass="off")
        (visual,) = shorter.report.visuals
        budget = FULL if method == "none" else half_up(Fraction(ratio) * FULL)
        assert (visual.total, visual.kept, visual.separators_total) == (FULL, budget, 0)
        assert [view.total for view in visual.views] == [GRID**2] * 5
    positions, sent = visual.kept_positions, shorter["mm_encoder_outputs"]["image"].pooler_output[0]
    features = features_by_hand(model, inputs["pixel_values"])
    if not METHODS.get(method).merges:
        assert torch.allclose(sent, features[0, positions], atol=1e-6)
    features[0, positions] = sent
    slow = embedded(model, inputs, features)
    at = (inputs["input_ids"][0] == IMAGE).nonzero().flatten()
    alive = torch.ones_like(inputs["attention_mask"][0])
    alive[at] = 0
    alive[at[positions]] = 1
    places = alive.nonzero().flatten()
    slow["attention_mask"], slow["position_ids"] = alive[None], torch.arange(len(alive))[None]
    if "position_ids" not in dict(shorter):
        slow["position_ids"][0, places] = torch.arange(len(places))
    assert (logits(model, shorter)[0] - logits(model, slow)[0, places]).abs().max() <= 1e-5


@pytest.mark.parametrize("method", ["globalcom2", "fastervlm", "divprune", "random+pdrop", "sparsevlm"])
def test_a_row_is_the_same_alone_and_among_others(method: str) -> None:
    model, settings = tiny_model("llava_next"), {"retention_ratio": 0.5}
    if METHODS.get(method.rpartition("+")[2]).where == "inside":
        settings["schedule"] = "fit"
    together = compress_inputs(model, batch(model, ROWS, preset="2880"), method, **settings)
    alone = compress_inputs(model, batch(model, [WIDE], preset="2880"), method, **settings)
    with together.pruning():
        many = logits(model, together)
    with alone.pruning():
        one = logits(model, alone)
    assert (many[0, -1] - one[0, -1]).abs().max() <= 1e-5
    assert together.report.visuals[0].kept == alone.report.visuals[0].kept


def test_a_block_takes_the_preset_and_the_stock_model_refuses_it() -> None:
    model = tiny_model("llava_next")
    inputs = batch(model, [WIDE, TALL], preset="2880")
    plain = compress_inputs(model, inputs, retention_ratio=0.25)
    wanted = model.generate(**plain, max_new_tokens=4)[:, plain["input_ids"].shape[1] :]
    with vidcompress.compress(model, retention_ratio=0.25) as session:
        out = model.generate(**inputs, max_new_tokens=4)
    assert torch.equal(out[:, inputs["input_ids"].shape[1] :], wanted)
    assert session.report.kept == 2 * FULL // 4
    with pytest.raises(ValueError, match="preset"):
        model.generate(**inputs, max_new_tokens=1)


def test_the_crops_show_the_thumbnail_where_the_picture_is() -> None:
    """The commander's map goes onto the part of the canvas that is no padding."""
    adapter = adapter_for(tiny_model("llava_next"))
    (preset,) = adapter.presets
    wide = adapter.preset_layout(preset, (40, 160), "cpu")
    assert wide.picture == (3, 0, 2, 8) and wide.canvas == (8, 8)
    assert [view.box for view in wide.views[1:]] == [
        (0, 0, 2, 2), (0, 2, 2, 4), (2, 0, 4, 2), (2, 2, 4, 4)
    ]  # fmt: skip
    assert adapter.preset_layout(preset, (77, 77), "cpu").picture is None
    for size, picture in (((1, 1000), (3, 0, 2, 8)), ((1000, 1), (0, 3, 8, 2))):
        thin = adapter.preset_layout(preset, size, "cpu")
        assert thin.picture == picture
        assert [view.box for view in thin.views] == [view.box for view in wide.views], "a quarter each"


@pytest.mark.parametrize(
    ("family", "preset", "message"),
    [
        ("llava_onevision", "2880", "preset='2880' with llava_onevision: it has no presets; leave it out"),
        ("llava_next", "288", "preset='288' with llava_next: known: 2880; did you mean '2880'"),
        ("llava_next", 2880, "preset=2880 with llava_next: must be a text; leave it out"),
    ],
)
def test_presets_that_there_are_not_are_refused(family: str, preset: Any, message: str) -> None:
    model = tiny_model(family)
    inputs = batch(model, [WIDE]) | {"preset": preset}
    with pytest.raises(UnsupportedInputError, match=message):
        compress_inputs(model, inputs, retention_ratio=0.5)


def test_inputs_that_do_not_go_with_the_preset_are_refused() -> None:
    model = tiny_model("llava_next")
    inputs = batch(model, [WIDE], preset="2880")
    with pytest.raises(UnsupportedInputError, match="pixel_values has 4 views"):
        compress_inputs(model, inputs | {"pixel_values": inputs["pixel_values"][:, :4]}, "none")
    del inputs["preset"]
    with pytest.raises(UnsupportedInputError, match="placeholder"):
        compress_inputs(model, inputs, "none")

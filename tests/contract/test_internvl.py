"""InternVL against the stock model: tiles with the thumbnail last, clips as frames, one placeholder for both."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from transformers import InternVLForConditionalGeneration
from transformers.generation import utils as generation_utils

from tiny_models import IMAGE, SIDE, TOKENS, Scene, batch, sent_rows, tiny_model
from vidcompress import UnsupportedInputError, UnsupportedModelError, compress, compress_inputs, testing
from vidcompress.adapters.base import adapter_for
from vidcompress.core.method_lookup import get_method
from vidcompress.core.tokens import Evidence
from vidcompress.testing.inside import check_inside

pytestmark = pytest.mark.transformers

TALL = ("image", (112, 56))
WIDE = ("image", (56, 168))
CLIP = ("video", 3)
MIXED = [
    Scene((CLIP, TALL, ("video", 2)), before=3, seed=1),
    Scene((TALL, WIDE), before=9, seed=2),
    Scene((), seed=3),
    Scene((("video", 2), CLIP), before=5, between=3, seed=4),
]
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no q_norm": {"use_qk_norm": False},
    "layer norm behind the tower": {"use_mean_pooling": False},
    "another layer": {"vision_feature_layer": -2},
}


def variant(name: str) -> Any:
    """The small model with other settings; each of them changes the features."""
    base = tiny_model("internvl")
    config = copy.deepcopy(base.config)
    for key, value in VARIANTS[name].items():
        setattr(config if key == "vision_feature_layer" else config.vision_config, key, value)
    torch.manual_seed(0)
    model = InternVLForConditionalGeneration(config).eval()
    model.load_state_dict(base.state_dict(), strict=False)
    with torch.no_grad():
        norm = model.model.vision_tower.layernorm
        for weight in norm.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    model.generation_config = copy.deepcopy(base.generation_config)
    return model


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("max_views", [1, 3, 16])
@pytest.mark.parametrize("name", VARIANTS)
def test_everything_kept_is_the_stock_model_to_the_bit(name: str, max_views: int) -> None:
    model = variant(name)
    inputs = batch(model, MIXED)
    stock = logits(model, inputs)
    assert torch.equal(logits(model, compress_inputs(model, inputs, "none", max_views=max_views)), stock)
    if name != "as it is":
        other = (logits(variant("as it is"), inputs) - stock).abs().max()
        assert other > 1e-3, "the control: the setting matters"


def test_the_stock_model_ignores_image_sizes() -> None:
    model = tiny_model("internvl")
    inputs = batch(model, MIXED)
    without = {key: value for key, value in inputs.items() if key != "image_sizes"}
    assert torch.equal(logits(model, inputs), logits(model, without))
    options = {"max_new_tokens": 3, "do_sample": False}
    assert torch.equal(model.generate(**inputs, **options), model.generate(**without, **options))


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize("method", ["globalcom2", "uniform", "fastervlm"])
def test_part_kept_is_the_stock_model_with_the_rest_masked(method: str, positions: Any) -> None:
    model = tiny_model("internvl")
    clips = [Scene((CLIP,), before=3, seed=1), Scene((CLIP, ("video", 2)), seed=2)]
    pictures = [Scene((TALL,), before=3, seed=1), Scene((WIDE, TALL), seed=2)]
    for scenes in (clips, pictures, MIXED):
        testing.check_masked(model, batch(model, scenes), get_method(method), positions=positions)
        testing.check_rows(model, batch(model, scenes), get_method(method))


def test_a_wrong_order_of_images_and_clips_is_noticed() -> None:
    """The control of the two above: the same views taken for others give other logits."""
    model = tiny_model("internvl")
    inputs = batch(model, [Scene((CLIP, TALL), seed=1)])
    right = logits(model, compress_inputs(model, inputs, "none"))
    moved = inputs | {"pixel_values": inputs["pixel_values"].roll(3, 0)}
    assert (logits(model, compress_inputs(model, moved, "none")) - right).abs().max() > 1e-3
    gaps, none = (
        compress_inputs(model, inputs, "uniform", retention_ratio=0.4, positions=name)
        for name in ("original", "contiguous")
    )
    assert (logits(model, gaps)[0, -1] - logits(model, none)[0, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("beams", [2, 3])
def test_steps_beams_sequences_and_later_turns(beams: int) -> None:
    model = tiny_model("internvl")
    inputs = batch(model, MIXED[:2])
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [IMAGE]}
    short = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.5)
    cached = model.generate(**short, **options)
    assert torch.equal(cached, model.generate(**short, **options, use_cache=False))
    assert torch.equal(cached, model.generate(**short, **options, cache_implementation="static"))
    if hasattr(
        generation_utils, "_slice_mm_encoder_output"
    ):  # before, chunks go wrong, which a block refuses
        assert torch.equal(cached, model.generate(**short, **options, prefill_chunk_size=4))
    many = model.generate(**short, **options, num_beams=beams, num_return_sequences=2)
    for number, scene in enumerate(MIXED[:2]):
        alone = compress_inputs(model, batch(model, [scene]), "globalcom2", retention_ratio=0.5)
        answer = model.generate(**alone, **options, num_beams=beams, num_return_sequences=2)
        assert torch.equal(answer[:, -5:], many[2 * number : 2 * number + 2, -5:])
    with compress(model, "globalcom2", retention_ratio=0.5):
        first = model.generate(**inputs, **options, return_dict_in_generate=True)
        model.generate(**batch(model, [MIXED[3]]), **options)
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        mask = torch.cat((inputs["attention_mask"], torch.ones(2, 8, dtype=torch.int64)), dim=1)
        later = {**inputs, "input_ids": turn, "attention_mask": mask}
        name = next(key for key in ("cache", "past_key_values") if key in first)
        again = model.generate(**later, **options, **{name: first[name]})
        anew = model.generate(**later, **options)
    assert torch.equal(again, anew)


@pytest.mark.parametrize("method", ["fastv", "pdrop"])
def test_pruning_inside(method: str) -> None:
    model = tiny_model("internvl")
    check_inside(model, batch(model, MIXED), get_method(method))


@pytest.mark.parametrize("layer", [-1, 0, "features"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["as it is", "no q_norm", "another layer"])
def test_evidence_equals_the_maps(name: str, attention: str, layer: Any) -> None:
    """A token is the mean of its four patches."""
    model = variant(name)
    model.set_attn_implementation(attention)
    adapter = adapter_for(model)
    quantities = ("attention_received", "cls_attention", "cls_logits", "keys")
    wanted = [Evidence(quantity, layer) for quantity in quantities]  # type: ignore[arg-type]
    images, videos = adapter.visuals(batch(model, MIXED))
    with torch.no_grad():
        tokens = adapter.encode(images, wanted, max_views=2) + adapter.encode(videos, wanted, max_views=4)
        model.set_attn_implementation("eager")
        tower = model.model.vision_tower
        number = {"features": model.config.vision_feature_layer}.get(layer, layer)
        block, reads = tower.encoder.layer[number].attention, {}
        handle = block.register_forward_hook(lambda _, args, out: reads.update(states=args[0], maps=out[1]))
        for visual, one in zip([*images, *videos], tokens, strict=True):
            tower(visual.pixels)
            maps, keys = reads["maps"], block.k_norm(block.k_proj(reads["states"]))
            expected = {
                "attention_received": in_tokens(maps.mean((1, 2))[:, 1:, None])[:, 0],
                "cls_attention": in_tokens(maps[:, :, 0, 1:].mean(1)[..., None])[:, 0],
                "keys": in_tokens(keys[:, 1:]),
            }
            for quantity, values in expected.items():
                atol = 1e-5 if quantity == "keys" else 1e-6
                got = one.evidence[Evidence(quantity, layer)]  # type: ignore[arg-type]
                assert torch.allclose(got, values, atol=atol, rtol=1e-5), quantity
                control = values.roll(1, 0)
                assert not torch.allclose(got, control, atol=atol, rtol=1e-5), quantity
            assert one.evidence[Evidence("cls_logits", layer)].shape == (len(one),)
        handle.remove()


def in_tokens(values: torch.Tensor) -> torch.Tensor:
    """(view, patch, E) on 8 x 8 patches to (token, E): the mean of 2 x 2, cell by cell."""
    grid = values.unflatten(1, (8, 8))
    cells = [grid[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((1, 2)) for r in range(4) for c in range(4)]
    return torch.stack(cells, 1).flatten(0, 1)


@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (3, 1)])
def test_the_order_of_the_tokens(cell: tuple[int, int]) -> None:
    """What changes most of a view when one cell's pixels change is the token that stands for it, in all quantities."""
    model = tiny_model("internvl")
    adapter = adapter_for(model)
    inputs = batch(model, [Scene((TALL,))])
    (image,), _ = adapter.visuals(inputs)
    assert [view.kind for view in image.layout.views] == ["crop", "crop", "thumbnail"]
    keys = Evidence("keys", 0)
    with torch.no_grad():
        (before,) = adapter.encode([image], [keys])
        size, (row, col) = SIDE // 4, cell
        image.pixels[1, :, row * size : (row + 1) * size, col * size : (col + 1) * size] += 3
        (after,) = adapter.encode([image], [keys])
    moved = (after.evidence[keys] - before.evidence[keys]).norm(dim=1)
    assert int(moved.argmax()) == TOKENS + row * 4 + col
    assert int((after.features - before.features).norm(dim=1).argmax()) == TOKENS + row * 4 + col
    where = TOKENS + row * 4 + col
    assert (int(image.layout.row[where]), int(image.layout.col[where])) == (4 + row, col)  # on the canvas


def test_cls_hidden_is_left_out_and_auxiliary_weights_are_refused() -> None:
    model = tiny_model("internvl")
    adapter = adapter_for(model)
    (image,), _ = adapter.visuals(batch(model, [Scene((TALL,))]))
    with torch.no_grad():
        (tokens,) = adapter.encode(
            [image], [Evidence("cls_hidden", "features"), Evidence("hidden", "features")]
        )
    assert [key.quantity for key in tokens.evidence] == ["hidden"]
    assert tokens.evidence[Evidence("hidden", "features")].shape == (3 * TOKENS, 4 * 32)
    with pytest.raises(UnsupportedModelError, match="'/x' for 'patch_embedding' goes with CLIP or SigLIP"):
        adapter.encode([image], [Evidence("patch_embedding", "features", "/x")])


# Where the tiles lie --------------------------------------------------------------------------------------------------


def test_boxes_follow_from_the_size_of_the_picture() -> None:
    model = tiny_model("internvl")
    inputs = batch(model, [Scene((("image", (112, 168)),))])
    boxes = {}
    for size in ((112, 168), (168, 112)):  # 2 x 3 tiles or 3 x 2: the pixels do not say
        inputs["image_sizes"] = torch.tensor([size])
        (visual,) = compress_inputs(model, inputs, retention_ratio=0.3).report.visuals
        assert visual.note is None
        boxes[size] = [view.box for view in visual.views]
        assert [view.kind for view in visual.views] == ["crop"] * 6 + ["thumbnail"]
    assert boxes[112, 168][1] == (0.0, pytest.approx(4 / 3), 2.0, pytest.approx(8 / 3))
    assert boxes[168, 112][1] == (0.0, 2.0, pytest.approx(4 / 3), 4.0)


@pytest.mark.parametrize("allocation", ["softmax_sum", "topk", "gated"])
def test_without_them_the_budget_is_shared_evenly_and_the_report_says_so(allocation: str) -> None:
    model = tiny_model("internvl")
    inputs = batch(model, [Scene((("image", (112, 168)),))])
    options = {"retention_ratio": 0.3, "allocation": allocation}
    (placed,) = compress_inputs(model, inputs, **options).report.visuals
    del inputs["image_sizes"]
    compressed = compress_inputs(model, inputs, **options)
    (visual,) = compressed.report.visuals
    assert [view.box for view in visual.views] == [None] * 7
    kept = [view.kept for view in visual.views]
    assert max(kept) - min(kept) <= 1
    assert len({view.kept for view in placed.views}) > 1, "the control: with places the crops differ"
    assert "where its 6 crops lie is not known" in str(compressed.report)
    if allocation == "gated":
        spared = compress_inputs(model, inputs, **options, encoder_saving="crops").report.visuals[0]
        assert spared.encoded == 7


def test_without_them_a_clip_is_several_pictures() -> None:
    model = tiny_model("internvl")
    inputs = batch(model, [Scene((CLIP,))])
    assert [visual.modality for visual in compress_inputs(model, inputs, "none").report.visuals] == ["video"]
    stock = logits(model, inputs)
    del inputs["image_sizes"]
    compressed = compress_inputs(model, inputs, "none")
    assert [visual.modality for visual in compressed.report.visuals] == ["image"] * 3
    assert torch.equal(logits(model, compressed), stock)


def test_globalcom2_listens_to_the_thumbnail_behind_the_tiles() -> None:
    """Views with another thumbnail keep other numbers of tokens, and what is kept lies in order."""
    model = tiny_model("internvl")
    inputs = batch(model, [Scene((("image", (112, 168)),))])
    counts = []
    for number in range(2):
        if number:
            inputs["pixel_values"][-1] = 4 * inputs["pixel_values"][-1].roll((14, 28), (1, 2))
        settings = {"retention_ratio": 0.3, "evidence": "distance", "tau": 0.1}
        compressed = compress_inputs(model, inputs, "globalcom2", **settings)
        (visual,) = compressed.report.visuals
        counts.append([view.kept for view in visual.views])
        assert visual.kept_positions.tolist() == sorted(visual.kept_positions.tolist())
        full = sent_rows(compress_inputs(model, inputs, "none"))[0]
        assert torch.equal(sent_rows(compressed)[0], full[visual.kept_positions])
    assert counts[0] != counts[1]


# What is refused ------------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit_are_named() -> None:
    model = tiny_model("internvl")
    inputs = batch(model, [Scene((CLIP, TALL))])
    for change, message in (
        ({"pixel_values": inputs["pixel_values"][:-1]}, "holds 5 pictures, the placeholders stand for 6"),
        ({"pixel_values": inputs["pixel_values"][None]}, r"must be \(picture, channel"),
        (
            {"image_sizes": torch.tensor([[56, 56, 2], [112, 56, 0]])},
            "a picture has runs of \\[16\\]|stand for",
        ),
        ({"image_sizes": torch.tensor([[56, 56, 4]])}, "a clip has runs of .* a run of 16 for each of its 4"),
        ({"image_sizes": torch.tensor([[56, 56, -1], [1, 1, 0]])}, "must be a row"),
        ({"image_sizes": [[56.5, 3, 3]]}, "must be a row"),
        ({"image_sizes": torch.tensor([[56], [56]])}, "must be a row"),
        ({"pixel_values": inputs["pixel_values"][..., :28]}, r"views of shape \(3, 56, 28\)"),
    ):
        with pytest.raises(UnsupportedInputError, match=message):
            compress_inputs(model, inputs | change, retention_ratio=0.5)


@pytest.mark.parametrize(
    ("key", "value"), [("vision_feature_layer", [-1, -2]), ("vision_feature_select_strategy", "full")]
)
def test_settings_that_are_not_served_are_named(key: str, value: Any) -> None:
    model = copy.copy(tiny_model("internvl"))
    model.config = copy.deepcopy(model.config)
    setattr(model.config, key, value)
    with pytest.raises(UnsupportedModelError, match="this adapter takes one layer, and 'default'"):
        adapter_for(model)


def test_names_that_are_relied_on_exist() -> None:
    model = tiny_model("internvl")
    assert "image_sizes" in inspect.signature(model.forward).parameters
    features = model.get_image_features(torch.zeros(2, 3, SIDE, SIDE)).pooler_output
    assert isinstance(features, torch.Tensor) and features.shape == (2, TOKENS, 32)
    attention = model.model.vision_tower.encoder.layer[0].attention
    for name in ("q_proj", "k_proj", "q_norm", "k_norm", "num_heads", "scale"):
        assert hasattr(attention, name)
    assert adapter_for(model).traits.container == "tensor"

"""Gemma 3 against the stock model: token types, a sliding window, and pan and scan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.generation import utils as generation_utils

from gemma_models import END, IMAGE, SIDE, START, TOKENS, gemma3, gemma3_inputs
from vidcompress import UnsupportedInputError, UnsupportedModelError, compress, compress_inputs, testing
from vidcompress.adapters.base import adapter_for
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.tokens import Evidence
from vidcompress.testing.entrance import at_entrance

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore:method .* (wants|has no)")]

PLAIN = [[5, (0,), 6, (0,), 7], [8, (0,), 9, 9], [5, 4]]
PANNED = [[5, (3,), 6, (0,), 7], [8, (2,), 9, 9], [5, 4]]
INSIDE = [name for name in available_methods() if get_method(name).inside is not None]


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


def without(inputs: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key not in keys}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gemma3_keeps_the_contract(attention: str) -> None:
    model = gemma3(attention=attention)
    testing.check_adapter(model, gemma3_inputs(PLAIN), None if attention == "sdpa" else ["uniform"])


def test_crops_behind_their_picture_keep_it_too() -> None:
    model = gemma3()
    inputs = gemma3_inputs(PANNED, sizes=[(30, 90), (40, 40), (80, 40)])
    given = without(inputs, "num_crops", "image_sizes")
    assert torch.equal(logits(model, compress_inputs(model, inputs, "none")), logits(model, given))
    for method in ("uniform", "globalcom2", "hired"):
        for positions in ("contiguous", "original"):
            testing.check_masked(model, inputs, method, positions=positions)  # type: ignore[arg-type]
        testing.check_counts(model, inputs, method)
        testing.check_rows(model, inputs, method)
    images, _ = adapter_for(model).visuals(inputs)
    assert [visual.placeholder_runs for visual in images] == [(TOKENS,) * n for n in (4, 1, 3)]


# Token types ----------------------------------------------------------------------------------------------------------


def test_without_token_types_it_is_another_model_and_refused() -> None:
    model = gemma3()
    inputs = gemma3_inputs(PLAIN)
    bare = without(inputs, "token_type_ids")
    assert (logits(model, inputs) - logits(model, bare)).abs().max() > 1e-3
    with pytest.raises(UnsupportedInputError, match="pixel_values without token_type_ids"):
        compress_inputs(model, bare, retention_ratio=0.5)
    only_text = without(gemma3_inputs([[5, 4, 3]]), "token_type_ids")
    assert torch.equal(logits(model, compress_inputs(model, only_text, "none")), logits(model, only_text))


def test_token_types_that_are_not_cut_turn_red(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = gemma3(), gemma3_inputs(PLAIN)
    monkeypatch.setattr("vidcompress.session.prompt.PER_TOKEN_KEYS", ("labels", "position_ids"))
    with pytest.raises(testing.ContractError, match="token_type_ids of the caller is not cut|does not take"):
        testing.check_entrance(model, inputs)


# The sliding window ---------------------------------------------------------------------------------------------------


def test_beyond_the_window_masking_tells_nothing_and_the_entrance_judges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, inputs = gemma3(window=16), gemma3_inputs(PLAIN)
    assert adapter_for(model).traits.window == 16 and inputs["input_ids"].shape[1] > 16
    testing.check_adapter(model, inputs, ["uniform", "globalcom2"])
    monkeypatch.setattr("vidcompress.testing.models.masking_tells", lambda *given: True)
    with pytest.raises(testing.ContractError, match="dropped tokens masked"):
        testing.check_masked(model, inputs, "uniform")
    monkeypatch.setattr("vidcompress.session.entrance.masks_tell", lambda *given: True)
    with pytest.raises(testing.ContractError, match="attention_mask is not that of surviving columns"):
        testing.check_entrance(model, inputs)


def test_beyond_the_window_a_short_prompt_is_the_language_model_on_what_survives() -> None:
    """The language model alone, on the stock embeddings of the surviving columns."""
    model, inputs = gemma3(window=16), gemma3_inputs(PLAIN[:1])
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    whole = at_entrance(model, model.model.language_model, inputs)["inputs_embeds"]
    given = at_entrance(model, model.model.language_model, short)
    where, stays = (inputs["input_ids"][0] == IMAGE).nonzero().flatten(), torch.ones(whole.shape[1]).bool()
    stays[where] = False
    for number, visual in enumerate(short.report.visuals):
        stays[where[number * TOKENS + visual.kept_positions]] = True
    for control, embeds in (("true", whole[:, stays]), ("another column", whole[:, stays.roll(1)])):
        with torch.no_grad():
            hidden = model.model.language_model(
                inputs_embeds=embeds, attention_mask=given["attention_mask"], use_cache=False
            ).last_hidden_state
            apart = (model.lm_head(hidden) - logits(model, short)).abs().max()
        assert (apart < 1e-5) == (control == "true"), control


# Generation -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [256, 16])
@pytest.mark.parametrize("beams", [2, 3])
def test_steps_beams_sequences_and_later_turns(beams: int, window: int) -> None:
    model, rows = gemma3(window=window), [[5, (2,), 6, (0,), 7], [8, (0,), 9, 9]]
    inputs = gemma3_inputs(rows)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [IMAGE]}
    short = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.5)
    cached = model.generate(**short, **options)
    assert torch.equal(cached, model.generate(**short, **options, use_cache=False))
    assert torch.equal(cached, model.generate(**short, **options, cache_implementation="static"))
    if hasattr(generation_utils, "_slice_mm_encoder_output"):
        stock = without(inputs, "num_crops")
        whole = model.generate(**stock, **options)
        if torch.equal(whole, model.generate(**stock, **options, prefill_chunk_size=7)):
            assert torch.equal(cached, model.generate(**short, **options, prefill_chunk_size=7))
        with (
            compress(model, "globalcom2", retention_ratio=0.5),
            pytest.raises(UnsupportedInputError, match="prefill_chunk_size=7 cuts pictures apart"),
        ):
            model.generate(**inputs, **options, prefill_chunk_size=7)
    many = model.generate(**short, **options, num_beams=beams, num_return_sequences=2)
    for number in range(2):
        views = [slice(0, 4), slice(4, 5)][number]
        real = inputs["attention_mask"][number].bool()
        alone = {key: inputs[key][number : number + 1, real] for key in ("input_ids", "token_type_ids")}
        alone["pixel_values"] = inputs["pixel_values"][views]
        alone["num_crops"] = inputs["num_crops"][[slice(0, 2), slice(2, 3)][number]]
        one = compress_inputs(model, alone, "globalcom2", retention_ratio=0.5)
        answer = model.generate(**one, **options, num_beams=beams, num_return_sequences=2)
        assert torch.equal(answer[:, -5:], many[2 * number : 2 * number + 2, -5:])
    plain = without(inputs, "num_crops")
    with compress(model, "globalcom2", retention_ratio=0.5):
        first = model.generate(**plain, **options, return_dict_in_generate=True)
        model.generate(**gemma3_inputs([[3, (0,), 4]], seed=3), **options)
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        ones = torch.ones(2, 8, dtype=torch.int64)
        later = {
            **plain,
            "input_ids": turn,
            "attention_mask": torch.cat((inputs["attention_mask"], ones), dim=1),
            "token_type_ids": torch.cat((inputs["token_type_ids"], 0 * ones), dim=1),
        }
        name = next(key for key in ("cache", "past_key_values") if key in first)
        again = model.generate(**later, **options, **{name: first[name]})
        anew = model.generate(**later, **options)
    assert torch.equal(again, anew)


# Evidence and order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-1, 0, "features"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_evidence_equals_the_maps(attention: str, layer: Any) -> None:
    """A token is the mean of its four patches."""
    model = gemma3(attention=attention)
    adapter, tower = adapter_for(model), model.model.vision_tower
    wanted = [Evidence("attention_received", layer), Evidence("keys", layer)]
    images, _ = adapter.visuals(gemma3_inputs(PANNED))
    with torch.no_grad():
        tokens = adapter.encode(images, wanted, max_views=2)
        model.set_attn_implementation("eager")
        number = -1 if layer == "features" else layer
        block, reads = tower.encoder.layers[number].self_attn, {}
        handle = block.register_forward_hook(
            lambda _, args, kwargs, out: reads.update(states=kwargs.get("hidden_states", *args), maps=out[1]),
            with_kwargs=True,
        )
        for visual, one in zip(images, tokens, strict=True):
            tower(visual.pixels)
            expected = {
                "attention_received": in_tokens(reads["maps"].mean((1, 2))[..., None])[:, 0],
                "keys": in_tokens(block.k_proj(reads["states"])),
            }
            for quantity, values in expected.items():
                atol = 1e-5 if quantity == "keys" else 1e-6
                got = one.evidence[Evidence(quantity, layer)]  # type: ignore[arg-type]
                assert torch.allclose(got, values, atol=atol, rtol=1e-5), quantity
                assert not torch.allclose(got, values.roll(1, 0), atol=atol, rtol=1e-5), quantity
        handle.remove()
        model.set_attn_implementation(attention)


def in_tokens(values: torch.Tensor) -> torch.Tensor:
    """(view, patch, E) on 8 x 8 patches to (token, E): the mean of 2 x 2, cell by cell."""
    grid = values.unflatten(1, (8, 8))
    cells = [grid[:, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean((1, 2)) for r in range(4) for c in range(4)]
    return torch.stack(cells, 1).flatten(0, 1)


@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (3, 1)])
def test_the_order_of_the_tokens(cell: tuple[int, int]) -> None:
    """What changes most of a view when one cell's pixels change is the token that stands for it."""
    model = gemma3()
    adapter = adapter_for(model)
    (image,), _ = adapter.visuals(gemma3_inputs([[5, (2,)]], sizes=[(40, 90)]))
    assert [view.kind for view in image.layout.views] == ["thumbnail", "crop", "crop"]
    keys, (row, col), size = Evidence("keys", 0), cell, SIDE // 4
    with torch.no_grad():
        (before,) = adapter.encode([image], [keys])
        image.pixels[1, :, row * size : (row + 1) * size, col * size : (col + 1) * size] += 3
        (after,) = adapter.encode([image], [keys])
    where = TOKENS + row * 4 + col
    assert int((after.evidence[keys] - before.evidence[keys]).norm(dim=1).argmax()) == where
    assert int(image.layout.view[where]) == 1
    assert (int(image.layout.row[where]), int(image.layout.col[where])) == cell
    assert (int(image.layout.row[where + TOKENS]), int(image.layout.col[where + TOKENS])) == (row, 4 + col)


# Pan and scan ---------------------------------------------------------------------------------------------------------


def test_boxes_follow_from_the_size_of_the_picture() -> None:
    model, boxes = gemma3(), {}
    for size in ((40, 90), (90, 40)):
        inputs = gemma3_inputs([[5, (2,), 6]], sizes=[size])
        (visual,) = compress_inputs(model, inputs, retention_ratio=0.3).report.visuals
        assert visual.note is None
        boxes[size] = [view.box for view in visual.views]
    assert boxes[40, 90] == [None, (0.0, 0.0, 4.0, 2.0), (0.0, 2.0, 4.0, 4.0)]
    assert boxes[90, 40] == [None, (0.0, 0.0, 2.0, 4.0), (2.0, 0.0, 4.0, 4.0)]


def test_without_sizes_crops_share_evenly_and_without_numbers_every_view_is_a_picture() -> None:
    model = gemma3()
    inputs = gemma3_inputs([[5, (3,), 6]])
    compressed = compress_inputs(model, inputs, retention_ratio=0.3)
    (visual,) = compressed.report.visuals
    kept = [view.kept for view in visual.views]
    assert max(kept) - min(kept) <= 1 and "where its 3 crops lie is not known" in str(compressed.report)
    apart = compress_inputs(model, without(inputs, "num_crops"), retention_ratio=0.3)
    assert [len(visual.views) for visual in apart.report.visuals] == [1] * 4


def test_crops_that_get_nothing_are_not_encoded_and_may_lose_their_marks() -> None:
    model = gemma3()
    inputs = gemma3_inputs([[5, (4,), 6]], sizes=[(30, 120)])
    options = {"retention_ratio": "0.1", "allocation": "gated"}
    saved = compress_inputs(model, inputs, "globalcom2", encoder_saving="crops", **options)
    (visual,) = saved.report.visuals
    assert visual.encoded < 5
    kept = compress_inputs(model, inputs, "globalcom2", **options)
    assert torch.equal(kept.report.visuals[0].kept_positions, visual.kept_positions)
    short = compress_inputs(model, inputs, "globalcom2", view_text="drop", **options)
    empty = sum(view.kept == 0 for view in visual.views)
    assert empty and kept["input_ids"].shape[1] - short["input_ids"].shape[1] == 2 * empty
    ids = short["input_ids"][0].tolist()
    assert ids.count(START) == ids.count(END) == 5 - empty
    assert torch.equal(short["token_type_ids"], (short["input_ids"] == IMAGE).long())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_crops": torch.tensor([1, 1])}, r"num_crops=.*the 3 of pixel_values"),
        ({"num_crops": [-1, 3]}, r"num_crops=\[-1, 3\]"),
        ({"image_sizes": torch.tensor([[40, 90], [1, 1]])}, "image_sizes must have one"),
        ({"pixel_values": torch.zeros(3, 3, SIDE)}, r"must be \(picture, channel, height, width\)"),
        ({"pixel_values": torch.zeros(3, 3, SIDE, SIDE + 7)}, "the encoder takes"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    model = gemma3()
    inputs = gemma3_inputs([[5, (2,), 6]], sizes=[(40, 90)])
    with pytest.raises(UnsupportedInputError, match=message):
        compress_inputs(model, inputs | change, retention_ratio=0.5)


# Inside the language model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", INSIDE)
def test_methods_inside_the_language_model_are_refused(method: str) -> None:
    model = gemma3()
    with (
        pytest.raises(UnsupportedModelError, match="attend to each other both ways"),
        compress(model, method, retention_ratio=0.5),
    ):
        model(**gemma3_inputs(PLAIN))


@pytest.mark.parametrize("window", [256, 16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masses_count_in_layers_of_both_kinds(attention: str, window: int) -> None:
    """Beside the stock decoder, whose masks of both kinds get the logarithms here, and step by step beside no cache."""
    model, inputs = gemma3(window=window, attention=attention), gemma3_inputs(PLAIN)
    short = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="on")
    bare = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="off")
    given = at_entrance(model, model.model.language_model, bare)
    plan = short.inside.mass
    bias = plan.mass.log()[:, None, None, :]
    assert float(bias.max()) > 0.5
    masks = {}
    for kind, mask in given["attention_mask"].items():
        hidden = torch.where(mask, 0.0, torch.finfo(torch.float32).min) if mask.dtype == torch.bool else mask
        masks[kind] = hidden + bias
    real = short["attention_mask"].bool()
    with torch.no_grad():
        weighed = model.model.language_model(
            inputs_embeds=given["inputs_embeds"],
            attention_mask=masks,
            use_cache=False,
        ).last_hidden_state
        expected = model.lm_head(weighed)
        with short.pruning():
            got = model(**short).logits
    assert (got - expected)[real].abs().max() < 1e-5
    assert (logits(model, bare) - expected)[real].abs().max() > 1e-3
    options = {
        "max_new_tokens": 4,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    with short.pruning():
        cached = model.generate(**short, **options)
        anew = model.generate(**short, **options, use_cache=False)
    for a, b in zip(cached.logits, anew.logits, strict=True):
        assert (a - b).abs().max() < 1e-4
    other = model.generate(**bare, **options)
    assert (other.logits[1] - cached.logits[1]).abs().max() > 1e-3

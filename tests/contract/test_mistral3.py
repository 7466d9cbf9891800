"""Mistral 3 against the stock model: pictures of any size, a run of placeholders for each row of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.generation import utils as generation_utils

from pixtral_models import BREAK, END, IMAGE, MERGE, PATCH, SIDE, mistral3, mistral3_inputs
from vidcompress import (
    ArgumentError,
    UnsupportedInputError,
    UnsupportedModelError,
    compress,
    compress_inputs,
    testing,
)
from vidcompress.adapters import runs_of_visuals
from vidcompress.adapters.base import adapter_for
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.tokens import Evidence
from vidcompress.testing.inside import check_inside

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore:method .* (wants|has no)")]

ROWS = [[5, (3, 4), 6, (2, 2), 7], [8, (1, 6), 9, 9], [5, 4]]
INSIDE = [name for name in available_methods() if get_method(name).inside is not None]


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_mistral3_keeps_the_contract(attention: str, layer: int) -> None:
    model = mistral3(attention, layer)
    whole = attention == "sdpa" and layer == -1
    testing.check_adapter(model, mistral3_inputs(ROWS), None if whole else ["uniform", "globalcom2"])


def test_the_decoder_of_ministral_keeps_it_too() -> None:
    testing.check_adapter(
        mistral3(decoder="ministral"), mistral3_inputs(ROWS), ["uniform", "globalcom2", "prumerge"]
    )


def test_runs_are_those_of_the_prompt() -> None:
    model, inputs = mistral3(), mistral3_inputs(ROWS)
    images, _ = adapter_for(model).visuals(inputs)
    runs = [visual.placeholder_runs for visual in images]
    assert runs == runs_of_visuals(inputs["input_ids"], IMAGE) == [(4, 4, 4), (2, 2), (6,)]


def test_pictures_in_another_order_turn_red(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = mistral3(), mistral3_inputs([[5, (3, 4), 6, (3, 4)]])
    kind = type(adapter_for(model))
    right = kind._placed
    monkeypatch.setattr(kind, "_placed", lambda self, pictures: right(self, list(pictures)[::-1]))
    with pytest.raises(testing.ContractError, match="inputs_embeds"):
        testing.check_entrance(model, inputs)


def test_beyond_a_window_the_entrance_judges() -> None:
    model, inputs = mistral3(window=8), mistral3_inputs(ROWS)
    assert adapter_for(model).traits.window == 8
    testing.check_adapter(model, inputs, ["uniform", "globalcom2"])


@pytest.mark.parametrize("beams", [2, 3])
def test_steps_beams_sequences_and_later_turns(beams: int) -> None:
    model, rows = mistral3(), [[5, (3, 4), 6, (2, 2), 7], [8, (1, 6), 9, 9]]
    inputs = mistral3_inputs(rows)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [IMAGE]}
    short = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.5)
    cached = model.generate(**short, **options)
    assert torch.equal(cached, model.generate(**short, **options, use_cache=False))
    assert torch.equal(cached, model.generate(**short, **options, cache_implementation="static"))
    if hasattr(generation_utils, "_slice_mm_encoder_output"):
        assert torch.equal(cached, model.generate(**short, **options, prefill_chunk_size=4))
    many = model.generate(**short, **options, num_beams=beams, num_return_sequences=2)
    for number in range(2):
        some = [slice(0, 2), slice(2, 3)][number]
        real = inputs["attention_mask"][number].bool()
        sizes = inputs["image_sizes"][some]
        height, width = sizes.amax(0).tolist()
        alone = {
            "input_ids": inputs["input_ids"][number : number + 1, real],
            "pixel_values": inputs["pixel_values"][some, :, :height, :width],
            "image_sizes": sizes,
        }
        one = compress_inputs(model, alone, "globalcom2", retention_ratio=0.5)
        answer = model.generate(**one, **options, num_beams=beams, num_return_sequences=2)
        assert torch.equal(answer[:, -5:], many[2 * number : 2 * number + 2, -5:])
    with compress(model, "globalcom2", retention_ratio=0.5):
        first = model.generate(**inputs, **options, return_dict_in_generate=True)
        model.generate(**mistral3_inputs([[3, (2, 3), 4]], seed=3), **options)
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        ones = torch.ones(2, 8, dtype=torch.int64)
        later = {
            **inputs,
            "input_ids": turn,
            "attention_mask": torch.cat((inputs["attention_mask"], ones), dim=1),
        }
        name = next(key for key in ("cache", "past_key_values") if key in first)
        again = model.generate(**later, **options, **{name: first[name]})
        anew = model.generate(**later, **options)
    assert torch.equal(again, anew)


# Evidence and order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-1, 0, "features"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("reads", [-1, -2])
def test_evidence_equals_the_maps(attention: str, layer: Any, reads: int) -> None:
    """Of pictures of unequal grids side by side, beside each picture alone with eager maps."""
    model = mistral3(attention, reads)
    adapter, core = adapter_for(model), model.model
    wanted = [Evidence(quantity, layer) for quantity in ("attention_received", "keys", "mean_keys")]  # type: ignore[arg-type]
    inputs = mistral3_inputs(ROWS)
    images, _ = adapter.visuals(inputs)
    number = {"features": reads}.get(layer, layer)
    block, seen = core.vision_tower.transformer.layers[number].attention, {}
    with torch.no_grad():
        tokens = adapter.encode(images, [*wanted, Evidence("hidden", "features")])
        model.set_attn_implementation("eager")
        handle = block.register_forward_hook(
            lambda _, args, kwargs, out: seen.update(states=kwargs["hidden_states"], maps=out[1]),
            with_kwargs=True,
        )
        for visual, one in zip(images, tokens, strict=True):
            features = core.get_image_features(visual.pixels, [tuple(visual.pixels.shape[2:])]).pooler_output[
                0
            ]
            assert torch.allclose(one.features, features, atol=1e-5)
            keys = block.k_proj(seen["states"])[0]
            grid = [side // PATCH for side in visual.pixels.shape[2:]]
            expected = {
                "attention_received": in_tokens(seen["maps"][0].mean((0, 1))[:, None], grid)[:, 0],
                "keys": in_tokens(keys, grid),
                "mean_keys": in_tokens(keys.unflatten(-1, (4, 8)).mean(1), grid),
            }
            for quantity, values in expected.items():
                atol = 1e-6 if quantity == "attention_received" else 1e-5
                got = one.evidence[Evidence(quantity, layer)]  # type: ignore[arg-type]
                assert torch.allclose(got, values, atol=atol, rtol=1e-5), quantity
                assert not torch.allclose(got, values.roll(1, 0), atol=atol, rtol=1e-5), quantity
        handle.remove()
        model.set_attn_implementation(attention)


def in_tokens(values: torch.Tensor, grid: list[int]) -> torch.Tensor:
    """(patch, E) row by row on a grid to (token, E): the mean of 2 x 2, cell by cell."""
    square = values.unflatten(0, grid)
    return torch.stack(
        [
            square[r : r + MERGE, c : c + MERGE].mean((0, 1))
            for r in range(0, grid[0], MERGE)
            for c in range(0, grid[1], MERGE)
        ]
    )


@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (2, 1)])
def test_the_order_of_the_tokens(cell: tuple[int, int]) -> None:
    model = mistral3()
    adapter = adapter_for(model)
    (image,), _ = adapter.visuals(mistral3_inputs([[5, (3, 4)]]))
    keys, (row, col) = Evidence("keys", 0), cell
    with torch.no_grad():
        (before,) = adapter.encode([image], [keys])
        image.pixels[0, :, row * SIDE : (row + 1) * SIDE, col * SIDE : (col + 1) * SIDE] += 3
        (after,) = adapter.encode([image], [keys])
    where = row * 4 + col
    assert int((after.evidence[keys] - before.evidence[keys]).norm(dim=1).argmax()) == where
    assert int((after.features - before.features).norm(dim=1).argmax()) == where
    assert (int(image.layout.row[where]), int(image.layout.col[where])) == cell


# Breaks ---------------------------------------------------------------------------------------------------------------


def test_breaks_stay_unless_asked_for() -> None:
    model, inputs = mistral3(), mistral3_inputs([[5, (4, 3), 6, (2, 2), 7]])
    kept = compress_inputs(model, inputs, "uniform", max_tokens=4)
    ids = kept["input_ids"][0].tolist()
    assert (ids.count(BREAK), ids.count(END), ids.count(IMAGE)) == (4, 2, 4)
    short = compress_inputs(model, inputs, "uniform", max_tokens=4, view_text="drop")
    rows = [
        set((visual.kept_positions // cols).tolist())
        for visual, cols in zip(kept.report.visuals, (3, 2), strict=True)
    ]
    empty = sum(row not in some for some, count in zip(rows, (4, 2), strict=True) for row in range(count - 1))
    assert empty and short["input_ids"][0].tolist().count(BREAK) == 4 - empty
    assert short["input_ids"][0].tolist().count(END) == 2


def test_the_end_of_a_picture_stays_where_its_last_row_is_empty() -> None:
    model, inputs, empty = mistral3(), mistral3_inputs([[5, (4, 3), 6, 7]]), 0
    for seed in range(8):
        short = compress_inputs(model, inputs, "random", seed=seed, max_tokens=3, view_text="drop")
        rows = set((short.report.visuals[0].kept_positions // 3).tolist())
        ids = short["input_ids"][0].tolist()
        assert (ids.count(END), ids.count(BREAK)) == (1, len(rows - {3}))
        empty += 3 not in rows
    assert 0 < empty < 8


# Inside the language model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", INSIDE)
def test_methods_inside_the_language_model(method: str) -> None:
    check_inside(mistral3(), mistral3_inputs(ROWS), get_method(method))


@pytest.mark.parametrize("method", INSIDE)
def test_the_decoder_of_ministral_is_refused(method: str) -> None:
    """Its queries are scaled by their position, which is renumbered behind a stage."""
    model = mistral3(decoder="ministral")
    with (
        pytest.raises(
            UnsupportedModelError, match="Ministral3Model cannot be pruned inside: it scales queries"
        ),
        compress(model, method, retention_ratio=0.5),
    ):
        model(**mistral3_inputs(ROWS))


def test_a_window_that_a_prompt_leaves_is_refused_inside() -> None:
    model = mistral3(window=8)
    with (
        compress(model, "fastv", retention_ratio=0.5),
        pytest.raises(UnsupportedInputError, match="sliding window of 8, which pruning inside it"),
    ):
        model(**mistral3_inputs(ROWS))


@pytest.mark.parametrize("decoder", ["mistral", "ministral"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_masses(attention: str, decoder: str) -> None:
    """Beside the stock decoder with a mask that has the logarithms, made here."""
    model, inputs = mistral3(attention, decoder=decoder), mistral3_inputs(ROWS)
    short = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="on")
    bare = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="off")
    real, least = bare["attention_mask"].bool(), torch.finfo(torch.float32).min
    width = real.shape[1]
    causal = torch.ones(width, width).tril().bool()
    seen = causal[None, None] & real[:, None, None] | torch.eye(width).bool()
    mask = torch.where(seen, 0.0, least) + short.inside.mass.mass.log()[:, None, None]
    places = (bare["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = model(**{**bare, "attention_mask": mask, "position_ids": places}).logits
        with short.pruning():
            got = model(**short).logits
    assert (got - expected)[real].abs().max() < 1e-5
    assert (logits(model, bare) - expected)[real].abs().max() > 1e-3


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_sizes": None}, "image_sizes must have one"),
        ({"image_sizes": torch.tensor([[42, 56], [28, 28]])}, "image_sizes must have one .* 3 here, got 2"),
        ({"image_sizes": torch.tensor([[42, 56], [28, 21], [14, 84]])}, "multiples of 14"),
        ({"image_sizes": torch.tensor([[42, 56], [28, 28], [14, 98]])}, "at most the"),
        ({"image_sizes": torch.tensor([[56, 42], [28, 28], [14, 84]])}, "at most the|runs|placeholders"),
        ({"pixel_values": torch.zeros(3, 42, 84)}, "must be \\(picture, 3 channels, height, width\\)"),
        ({"vision_feature_layer": -2}, "vision_feature_layer"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedInputError, match=message):
        compress_inputs(mistral3(), mistral3_inputs(ROWS) | change, retention_ratio=0.5)


def test_settings_that_do_not_fit_are_named() -> None:
    model, inputs = mistral3(), mistral3_inputs(ROWS)
    with pytest.raises(UnsupportedInputError, match="encoder_saving='crops' cannot go with Mistral3"):
        compress_inputs(
            model, inputs, "globalcom2", allocation="gated", retention_ratio=0.5, encoder_saving="crops"
        )
    with pytest.raises((UnsupportedModelError, ArgumentError), match="CLS"):
        compress_inputs(model, inputs, "globalcom2", evidence="cls_attention", retention_ratio=0.5)
    with pytest.raises(UnsupportedModelError, match="goes with CLIP or SigLIP"):
        adapter_for(model).encode(
            adapter_for(model).visuals(inputs)[0], [Evidence("patch_embedding", "features", "/x")]
        )

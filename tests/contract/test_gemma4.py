"""Gemma 4 against the stock model: pictures and clips of any size, token types, inputs per layer, shared keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.generation import utils as generation_utils

from gemma_models import (
    COUNTS_FRAMES,
    END,
    IMAGE,
    MERGE,
    PATCH,
    START,
    VIDEO,
    gemma4,
    gemma4_inputs,
)
from vidcompress import UnsupportedInputError, UnsupportedModelError, compress, compress_inputs, testing
from vidcompress.adapters.base import adapter_for
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.tokens import Evidence
from vidcompress.testing.entrance import at_entrance

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore:method .* (wants|has no)")]

ROWS: dict[str, list[list[Any]]] = {
    "images": [[5, (3, 4), 6, (2, 2), 7], [8, (1, 6), 9, 9], [5, 4]],
    "clips": [[5, (3, 2, 2), 6, 7], [8, (3, 1, 4), 9, 9], [5, 4]],
    "both": [[5, (3, 2, 2), 6, (3, 4), 7], [8, (1, 6), 9, 9], [5, (2, 2), (3, 1, 4), 4]],
}
INSIDE = [name for name in available_methods() if get_method(name).inside is not None]
KINDS = ["large", "small"]


def logits(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", ROWS)
def test_gemma4_keeps_the_contract(kind: str, rows: str) -> None:
    testing.check_adapter(gemma4(kind), gemma4_inputs(ROWS[rows]))


@pytest.mark.parametrize("kind", KINDS)
def test_in_eager_attention_it_keeps_it_too(kind: str) -> None:
    testing.check_adapter(
        gemma4(kind, attention="eager"), gemma4_inputs(ROWS["both"]), ["uniform", "vidcom2"]
    )


@pytest.mark.skipif(not COUNTS_FRAMES, reason="this transformers takes clips of one length only")
def test_clips_of_other_lengths_side_by_side() -> None:
    model = gemma4()
    inputs = gemma4_inputs([[5, (1, 2, 2), 6, (4, 1, 3)], [7, (2, 2, 3), 8]])
    testing.check_adapter(model, inputs, ["uniform", "globalcom2", "frames"])
    _, clips = adapter_for(model).visuals(inputs)
    assert [clip.placeholder_runs for clip in clips] == [(4,), (3,) * 4, (6,) * 2]


def test_clips_of_one_length_may_come_stacked() -> None:
    """As older versions of transformers make them."""
    model = gemma4()
    inputs = gemma4_inputs(ROWS["clips"])
    flat = {key: inputs[key] for key in ("pixel_values_videos", "video_position_ids")}
    if COUNTS_FRAMES:
        other = {key: value.unflatten(0, (2, 3)) for key, value in flat.items()} | {
            "num_frames_per_video": None
        }
    else:
        other = {key: value.flatten(0, 1) for key, value in flat.items()} | {"num_frames_per_video": [3, 3]}
    one, two = (
        compress_inputs(model, given, "uniform", retention_ratio=0.5) for given in (inputs, inputs | other)
    )
    assert torch.equal(logits(model, one), logits(model, two))


# Token types and inputs per layer -------------------------------------------------------------------------------------


def test_token_types_are_needed_where_pictures_attend_both_ways() -> None:
    inputs = gemma4_inputs(ROWS["both"])
    bare = {key: value for key, value in inputs.items() if key != "mm_token_type_ids"}
    large, small = gemma4("large"), gemma4("small")
    assert (logits(large, inputs) - logits(large, bare)).abs().max() > 1e-3
    with pytest.raises(UnsupportedInputError, match="pixels without mm_token_type_ids"):
        compress_inputs(large, bare, retention_ratio=0.5)
    assert torch.equal(logits(small, inputs), logits(small, bare))
    assert torch.equal(logits(small, compress_inputs(small, bare, "none")), logits(small, bare))
    assert [adapter_for(model).traits.both_ways for model in (large, small)] == [True, False]


def test_inputs_per_layer_follow_from_the_short_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = gemma4("small"), gemma4_inputs(ROWS["both"])
    seen = at_entrance(model, model.model.language_model, inputs)["per_layer_inputs"]
    assert seen.shape == (*inputs["input_ids"].shape, 4, 8)
    testing.check_entrance(model, inputs)
    right = model.model.language_model.get_per_layer_inputs
    wrong = [lambda ids, embeds: right(ids, embeds).roll(1, 1)]
    monkeypatch.setattr(model.model.language_model, "get_per_layer_inputs", wrong[0])
    with pytest.raises(testing.ContractError, match="per_layer_inputs"):
        testing.check_entrance(model, inputs)
    monkeypatch.undo()
    with pytest.raises(UnsupportedInputError, match="per_layer_inputs"):
        compress_inputs(model, inputs | {"per_layer_inputs": seen}, retention_ratio=0.5)


# The sliding window ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_window_the_entrance_judges(kind: str) -> None:
    model, inputs = gemma4(kind, window=16), gemma4_inputs(ROWS["both"])
    assert adapter_for(model).traits.window == 16 and inputs["input_ids"].shape[1] > 16
    testing.check_adapter(model, inputs, ["uniform", "random"])


# Generation -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [256, 16])
@pytest.mark.parametrize("beams", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_beams_sequences_and_later_turns(kind: str, beams: int, window: int) -> None:
    model, rows = gemma4(kind, window=window), [[5, (3, 2, 2), 6, (3, 4), 7], [8, (1, 6), 9, 9]]
    inputs = gemma4_inputs(rows)
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "suppress_tokens": [IMAGE, VIDEO]}
    short = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    cached = model.generate(**short, **options)
    stock = model.generate(**inputs, **options)
    for way in ({"use_cache": False}, {"cache_implementation": "static"}, {"prefill_chunk_size": 7}):
        if "prefill_chunk_size" in way and not hasattr(generation_utils, "_slice_mm_encoder_output"):
            continue
        if torch.equal(stock, model.generate(**inputs, **options, **way)):  # the stock model does that way
            assert torch.equal(cached, model.generate(**short, **options, **way)), way
        else:
            assert way != {"use_cache": False}
        if "prefill_chunk_size" in way and adapter_for(model).traits.both_ways:
            with (
                compress(model, "uniform", retention_ratio=0.5),
                pytest.raises(UnsupportedInputError, match="prefill_chunk_size=7 cuts pictures apart"),
            ):
                model.generate(**inputs, **options, **way)
    many = model.generate(**short, **options, num_beams=beams, num_return_sequences=2)
    for number, row in enumerate(rows):
        alone = one_row(inputs, number, row)
        one = compress_inputs(model, alone, "uniform", retention_ratio=0.5)
        answer = model.generate(**one, **options, num_beams=beams, num_return_sequences=2)
        assert torch.equal(answer[:, -5:], many[2 * number : 2 * number + 2, -5:])
    with compress(model, "uniform", retention_ratio=0.5):
        first = model.generate(**inputs, **options, return_dict_in_generate=True)
        model.generate(**gemma4_inputs([[3, (2, 2), 4]], seed=3), **options)
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        ones = torch.ones(2, 8, dtype=torch.int64)
        later = {
            **inputs,
            "input_ids": turn,
            "attention_mask": torch.cat((inputs["attention_mask"], ones), dim=1),
            "mm_token_type_ids": torch.cat((inputs["mm_token_type_ids"], 0 * ones), dim=1),
        }
        name = next(key for key in ("cache", "past_key_values") if key in first)
        again = model.generate(**later, **options, **{name: first[name]})
        anew = model.generate(**later, **options)
    assert torch.equal(again, anew)


def one_row(inputs: dict[str, Any], number: int, row: list[Any]) -> dict[str, Any]:
    """A row of the batch by itself, of which the first has the clip, and each one picture."""
    real = inputs["attention_mask"][number].bool()
    out = {key: inputs[key][number : number + 1, real] for key in ("input_ids", "mm_token_type_ids")}
    for key in ("pixel_values", "image_position_ids"):
        out[key] = inputs[key][number : number + 1]
    if any(not isinstance(part, int) and len(part) == 3 for part in row):
        names = ("pixel_values_videos", "video_position_ids", "num_frames_per_video")
        out |= {key: inputs[key] for key in names if key in inputs}
    return out


# Evidence and order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [-1, 0, "features"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_evidence_equals_the_maps(attention: str, layer: Any) -> None:
    """Of pictures and frames of unequal grids side by side, beside each view alone with eager maps and no filling."""
    model = gemma4(attention=attention)
    adapter, core = adapter_for(model), model.model
    wanted = [Evidence(quantity, layer) for quantity in ("attention_received", "keys", "mean_keys")]  # type: ignore[arg-type]
    hidden = Evidence("hidden", "features")
    images, clips = adapter.visuals(gemma4_inputs(ROWS["both"]))
    number = -1 if layer == "features" else layer
    block, seen = core.vision_tower.encoder.layers[number].self_attn, {}
    with torch.no_grad():
        tokens = [one for kind in (images, clips) for one in adapter.encode(kind, [*wanted, hidden])]
        model.set_attn_implementation("eager")
        handle = block.register_forward_hook(
            lambda _, args, kwargs, out: seen.update(states=kwargs["hidden_states"], maps=out[1]),
            with_kwargs=True,
        )
        for visual, one in zip([*images, *clips], tokens, strict=True):
            rows, cols = (side * MERGE for side in visual.layout.grid)
            places = torch.tensor([[(x, y) for y in range(rows) for x in range(cols)]])
            views = []
            for view in visual.pixels[:, : rows * cols]:
                features = core.get_image_features(view[None], places).pooler_output[0]
                keys = block.k_norm(block.k_proj(seen["states"]).unflatten(-1, (4, 8)))[0]
                received = seen["maps"][0].mean((0, 1))
                views.append(
                    {
                        "features": features,
                        "attention_received": in_tokens(received[:, None], rows, cols)[:, 0],
                        "keys": in_tokens(keys.flatten(1), rows, cols),
                        "mean_keys": in_tokens(keys.mean(1), rows, cols),
                    }
                )
            assert torch.allclose(one.features, torch.cat([view["features"] for view in views]), atol=1e-5)
            assert one.project is not None
            assert torch.allclose(one.project(one.evidence[hidden]), one.features, atol=1e-5)
            for item in wanted:
                values = torch.cat([view[item.quantity] for view in views])
                atol = 1e-6 if item.quantity == "attention_received" else 1e-5
                got = one.evidence[item]
                assert torch.allclose(got, values, atol=atol, rtol=1e-5), item
                assert not torch.allclose(got, values.roll(1, 0), atol=atol, rtol=1e-5), item
        handle.remove()
        model.set_attn_implementation(attention)


def in_tokens(values: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """(patch, E) row by row on a grid to (token, E): the mean of 3 x 3, cell by cell."""
    square = values.unflatten(0, (rows, cols))
    return torch.stack(
        [
            square[r : r + MERGE, c : c + MERGE].mean((0, 1))
            for r in range(0, rows, MERGE)
            for c in range(0, cols, MERGE)
        ]
    )


@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (2, 1)])
def test_the_order_of_the_tokens(cell: tuple[int, int]) -> None:
    model = gemma4()
    adapter = adapter_for(model)
    (image,), _ = adapter.visuals(gemma4_inputs([[5, (3, 4)]]))
    keys, (row, col) = Evidence("keys", 0), cell
    with torch.no_grad():
        (before,) = adapter.encode([image], [keys])
        grid = image.pixels[0, : 3 * 4 * MERGE**2].unflatten(0, (3, MERGE, 4, MERGE))
        grid[row, :, col] = 1 - grid[row, :, col]
        (after,) = adapter.encode([image], [keys])
    where = row * 4 + col
    assert int((after.evidence[keys] - before.evidence[keys]).norm(dim=1).argmax()) == where
    assert int((after.features - before.features).norm(dim=1).argmax()) == where
    assert (int(image.layout.row[where]), int(image.layout.col[where])) == cell


# Clips ----------------------------------------------------------------------------------------------------------------


def test_frames_that_look_alike_are_not_encoded_again() -> None:
    model = gemma4()
    inputs = gemma4_inputs([[5, (4, 2, 2), 6]])
    pixels = inputs["pixel_values_videos"]
    frames = pixels if pixels.ndim == 3 else pixels[0]
    frames[1:] = frames[:1]
    frames[3] = frames[0] / 2
    (visual,) = compress_inputs(
        model, inputs, "globalcom2", retention_ratio=0.5, encoder_saving="frames"
    ).report.visuals
    assert visual.encoded == 2
    (clip,) = adapter_for(model).visuals(inputs)[1]
    assert clip.pictures is not None
    shown = clip.pictures(frames)
    assert shown.shape == (4, 3, 2 * MERGE * PATCH, 2 * MERGE * PATCH)
    patch = shown[0, :, PATCH : 2 * PATCH, 2 * PATCH : 3 * PATCH]  # second row of patches, third column
    assert torch.equal(patch, 2 * frames[0, 2 * MERGE + 2].reshape(PATCH, PATCH, 3).permute(2, 0, 1) - 1)


def test_a_frame_that_keeps_nothing_may_lose_its_time() -> None:
    model = gemma4()
    inputs = gemma4_inputs([[5, (4, 2, 2), 7]])
    kept = compress_inputs(model, inputs, "frames", max_tokens=4)
    short = compress_inputs(model, inputs, "frames", max_tokens=4, view_text="drop")
    (view,) = (number for number, view in enumerate(short.report.visuals[0].views) if view.kept)
    ids = short["input_ids"][0].tolist()
    assert [token for token in ids if token in (START, END)] == [START, END]
    assert 10 + view in ids and kept["input_ids"].shape[1] - len(ids) >= 3 * 4
    types = (short["input_ids"] == IMAGE) + 2 * (short["input_ids"] == VIDEO)
    assert torch.equal(short["mm_token_type_ids"], types.long())


# Inside the language model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", INSIDE)
@pytest.mark.parametrize(
    ("kind", "reason"), [("large", "attend to each other both ways"), ("small", "cannot be pruned inside")]
)
def test_methods_inside_the_language_model_are_refused(method: str, kind: str, reason: str) -> None:
    model = gemma4(kind)
    with (
        pytest.raises(UnsupportedModelError, match=reason),
        compress(model, method, retention_ratio=0.5),
    ):
        model(**gemma4_inputs(ROWS["images"]))


@pytest.mark.parametrize("window", [256, 16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_masses_count_in_all_layers(kind: str, attention: str, window: int) -> None:
    """Beside the stock decoder, whose masks get the logarithms here, and step by step beside no cache; layers with
    shared keys and values, which see the last query only in generate, are among them."""
    model, inputs = gemma4(kind, window=window, attention=attention), gemma4_inputs(ROWS["both"])
    short, bare = (
        compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass=mass)  # type: ignore[arg-type]
        for mass in ("on", "off")
    )
    given = at_entrance(model, model.model.language_model, bare)
    real, least = short["attention_mask"].bool(), torch.finfo(torch.float32).min
    bias = short.inside.mass.mass.log()[:, None, None, :]
    masks = {}
    for name, mask in given["attention_mask"].items():
        hidden = mask if mask.dtype.is_floating_point else torch.where(mask, 0.0, least)
        masks[name] = hidden + bias
    keys = ("inputs_embeds", "position_ids", "per_layer_inputs")
    with torch.no_grad():
        expected = model.lm_head(
            model.model.language_model(
                **{key: given[key] for key in keys if given.get(key) is not None},
                attention_mask=masks,
                use_cache=False,
            ).last_hidden_state
        )
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
    assert (cached.logits[0] - expected[:, -1]).abs().max() < 1e-4
    for a, b in zip(cached.logits, anew.logits, strict=True):
        assert (a - b).abs().max() < 1e-4
    other = model.generate(**bare, **options)
    assert (other.logits[1] - cached.logits[1]).abs().max() > 1e-3


# What is refused ------------------------------------------------------------------------------------------------------


def changed(key: str, change: Any) -> Any:
    return lambda inputs: {key: change(inputs[key].clone())}


def swapped(places: torch.Tensor) -> torch.Tensor:
    places[0, [0, 1]] = places[0, [1, 0]]
    return places


def wider(places: torch.Tensor) -> torch.Tensor:
    """Five columns of patches, which make no whole tokens."""
    places[0] = -1
    places[0, :15] = torch.tensor([(x, y) for y in range(3) for x in range(5)])
    return places


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("image_position_ids", swapped), "the patches of view 0, 9 rows of 12, must lie row by row"),
        (changed("image_position_ids", wider), "3 rows of 5, must lie row by row.* multiples of 3"),
        (changed("image_position_ids", lambda x: x[:, :-1]), r"image_position_ids must be \(4, 108, 2\)"),
        (changed("pixel_values", lambda x: x[..., :-1]), "pixel_values must be .* 48 values"),
        (lambda inputs: {"image_position_ids": None}, "image_position_ids must be"),
        (
            lambda inputs: {"num_frames_per_video": torch.tensor([3, 4]), **flat(inputs)},
            "num_frames_per_video=",
        ),
        (lambda inputs: {"num_frames_per_video": None, **flat(inputs)}, "num_frames_per_video=None"),
        (
            lambda inputs: {"num_frames_per_video": [1, 5], **flat(inputs)},
            "all frames of a clip must have one size",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_named(change: Any, message: str) -> None:
    inputs = gemma4_inputs([*ROWS["both"], [5, (1, 2)]])
    with pytest.raises(UnsupportedInputError, match=message):
        compress_inputs(gemma4(), inputs | change(inputs), retention_ratio=0.5)


def flat(inputs: dict[str, Any]) -> dict[str, Any]:
    """Clips without their axis, if they have one."""
    given = {key: inputs[key] for key in ("pixel_values_videos", "video_position_ids")}
    return {key: value if COUNTS_FRAMES else value.flatten(0, 1) for key, value in given.items()}


def test_a_model_without_a_vision_tower_is_refused() -> None:
    from types import SimpleNamespace

    from vidcompress.adapters.gemma.gemma4 import Gemma4Adapter

    with pytest.raises(UnsupportedModelError, match="takes 'gemma4_vision'"):
        Gemma4Adapter(SimpleNamespace(config=SimpleNamespace(vision_config=None)))

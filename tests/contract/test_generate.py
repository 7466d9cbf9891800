"""Plain inputs through generate: fresh outputs, beams, several sequences, positions, padding side."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import vidcompress
from tiny_models import FAMILIES, IMAGE, SIZES, VIDEO, VIDEO_FAMILIES, Scene, batch, sent_rows, tiny_model
from vidcompress.adapters.layouts import image_layout
from vidcompress.errors import UnsupportedInputError
from vidcompress.session.compress import compress_inputs
from vidcompress.session.generation_options import CHUNKED_PREFILL_SINCE, transformers_version

pytestmark = pytest.mark.transformers

ROWS = [
    Scene((("image", (112, 80)),), before=3, seed=1),
    Scene((), before=5, seed=2),
    Scene((("image", (40, 100)),), before=11, seed=3),
]
REFERENCE = [
    *((family, "image", "globalcom2") for family in FAMILIES),
    *((family, "video", method) for family in VIDEO_FAMILIES for method in ("globalcom2", "vidcom2")),
]


def new_tokens(model, inputs, **options):  # type: ignore[no-untyped-def]
    out = model.generate(**inputs, max_new_tokens=6, do_sample=False, **options)
    return out[:, inputs["input_ids"].shape[1] :]


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize(("beams", "sequences"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_ragged_batch_equals_single_runs(family: str, beams: int, sequences: int, positions: str) -> None:
    model = tiny_model(family)
    options = {"num_beams": beams, "num_return_sequences": sequences}
    settings = {"retention_ratio": 0.4, "positions": positions}
    together = new_tokens(model, compress_inputs(model, batch(model, ROWS), **settings), **options)
    for i, row in enumerate(ROWS):
        alone = new_tokens(model, compress_inputs(model, batch(model, [row]), **settings), **options)
        assert together[i * sequences : (i + 1) * sequences].tolist() == alone.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_depend_on_the_image(family: str) -> None:
    """Otherwise equal answers would show nothing."""
    model = tiny_model(family)
    scenes = [Scene((("image", (112, 80)),), seed=seed) for seed in range(6)]
    answers = [
        new_tokens(model, compress_inputs(model, batch(model, [s]), retention_ratio=0.4)) for s in scenes
    ]
    assert len({tuple(a[0].tolist()) for a in answers}) >= 3


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize(("family", "kind", "method"), REFERENCE)
def test_reference_order_reaches_the_model(family: str, kind: str, method: str, positions: str) -> None:
    """Features and positions follow the order in which the authors send tokens, in ragged batches and beams too."""
    model = tiny_model(family)
    what = (112, 80) if kind == "image" else 5
    rows = [
        Scene(((kind, what),), before=3, seed=1),
        Scene((), seed=2),
        Scene(((kind, what),), before=9, seed=3),
    ]
    settings = {"retention_ratio": 0.4, "policy": "reference", "positions": positions}
    together = compress_inputs(model, batch(model, rows), method, **settings)
    full, sent = sent_rows(compress_inputs(model, batch(model, rows), "none")), sent_rows(together)
    for visual, all_of_it, some in zip(together.report.visuals, full, sent, strict=True):
        assert torch.equal(some, all_of_it[visual.kept_positions])
    if kind == "image":
        first = together.report.visuals[0].kept_positions
        assert first.tolist() != sorted(first.tolist())
    alone = [compress_inputs(model, batch(model, [row]), method, **settings) for row in rows]
    if positions == "original":
        start = 3
        ids = alone[0]["input_ids"][0] == IMAGE
        kept_positions = alone[0].report.visuals[0].kept_positions
        expected = start + kept_positions
        if (family, kind) == ("internvl", "video"):  # two words stand before each frame
            expected = expected + 2 * (kept_positions // 16 + 1)
        assert torch.equal(alone[0]["position_ids"][0][ids], expected)
    answers = new_tokens(model, together, num_beams=2)
    for i, one in enumerate(alone):
        assert answers[i].tolist() == new_tokens(model, one, num_beams=2)[0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_inputs_serve_many_calls(family: str) -> None:
    model = tiny_model(family)
    inputs = compress_inputs(model, batch(model, ROWS), retention_ratio=0.4)
    first = new_tokens(model, inputs, num_beams=2)
    assert torch.equal(new_tokens(model, inputs, num_beams=2), first)
    assert torch.equal(new_tokens(model, inputs, num_beams=2), first)


def test_unpacking_hands_out_fresh_outputs_and_no_pixels() -> None:
    model = tiny_model("llava_onevision")
    inputs = compress_inputs(model, batch(model, ROWS), retention_ratio=0.4)
    one, two = dict(inputs), dict(inputs)
    one["mm_encoder_outputs"]["image"].pooler_output[0] = None
    assert isinstance(two["mm_encoder_outputs"]["image"].pooler_output[0], torch.Tensor)
    assert set(one) == {"input_ids", "attention_mask", "mm_encoder_outputs"}
    assert len(inputs) == 3 and "pixel_values" not in inputs and "position_ids" not in inputs


def test_original_positions_keep_the_gaps_and_insist_on_the_cache() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, [ROWS[0]])
    inputs = compress_inputs(model, raw, retention_ratio=0.4, positions="original")
    start = int((raw["input_ids"][0] == IMAGE).nonzero()[0])
    kept = inputs.report.visuals[0].kept_positions
    length = int((raw["input_ids"][0] == IMAGE).sum())
    tail = torch.arange(start + length, raw["input_ids"].shape[1])
    assert inputs["position_ids"][0].tolist() == [*range(start), *(start + kept).tolist(), *tail.tolist()]
    assert inputs["attention_mask"].shape == inputs["input_ids"].shape  # without it gaps would mean packing
    with pytest.raises(TypeError, match="use_cache"):
        model.generate(**inputs, use_cache=False)


def test_position_ids_of_the_caller_follow_the_policy() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, [ROWS[0]])
    given = raw | {"position_ids": 7 + torch.arange(raw["input_ids"].shape[1])[None]}
    renumbered = compress_inputs(model, given, retention_ratio=0.4)
    assert renumbered["position_ids"][0].tolist() == list(range(renumbered["input_ids"].shape[1]))
    assert "use_cache" not in renumbered
    kept = compress_inputs(model, given, retention_ratio=0.4, positions="original")
    own = compress_inputs(model, raw, retention_ratio=0.4, positions="original")
    assert torch.equal(kept["position_ids"], own["position_ids"] + 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_mask_means_what_it_means_to_generate(family: str) -> None:
    """transformers takes padding ids for padding; forward alone does not."""
    model = tiny_model(family)
    raw = batch(model, ROWS)
    bare = {key: value for key, value in raw.items() if key != "attention_mask"}
    one, two = (compress_inputs(model, inputs, retention_ratio=0.4) for inputs in (raw, bare))
    assert torch.equal(one["attention_mask"], two["attention_mask"])
    assert torch.equal(one["input_ids"], two["input_ids"])
    length = raw["input_ids"].shape[1]
    with vidcompress.compress(model, "none"):
        out = model.generate(**bare, max_new_tokens=4, do_sample=False)[:, length:]
        logits = model(**bare).logits
    assert torch.equal(out, model.generate(**bare, max_new_tokens=4, do_sample=False)[:, length:])
    assert torch.equal(logits, model(**bare).logits)


def test_a_default_device_and_inference_mode_leave_no_trace() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [Scene((("image", (104, 90)),), seed=1)])

    def features() -> torch.Tensor:
        return compress_inputs(model, raw, retention_ratio=0.4)["mm_encoder_outputs"]["image"].pooler_output[
            0
        ]

    expected = features()
    image_layout.cache_clear()
    with torch.inference_mode():
        features()
    with torch.device("meta"):
        assert torch.equal(features(), expected)
    model.train()
    try:
        inputs = compress_inputs(model, raw, retention_ratio=0.4)
        model(**inputs).logits.sum().backward()
        assert model.model.multi_modal_projector.linear_1.weight.grad.abs().sum() > 0
    finally:
        model.eval().zero_grad(set_to_none=True)
    assert not features().requires_grad


def test_threads_do_not_see_each_others_activations() -> None:
    model = tiny_model("llava_next")
    raws = [batch(model, [Scene((("image", size),), seed=i)]) for i, size in enumerate(SIZES[:4])]

    def features(raw: dict[str, torch.Tensor]) -> torch.Tensor:
        return compress_inputs(model, raw, retention_ratio=0.4)["mm_encoder_outputs"]["image"].pooler_output[
            0
        ]

    expected = [features(raw) for raw in raws]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            got = list(pool.map(features, raws))
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_timings_are_milliseconds() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, ROWS)
    start = time.perf_counter()
    timing = compress_inputs(model, raw, retention_ratio=0.4).report.timing_ms
    wall = (time.perf_counter() - start) * 1e3
    assert set(timing) == {"encode", "compress"}
    assert 0.2 * wall < sum(timing.values()) <= wall


def test_a_total_cannot_be_met_in_the_authors_way() -> None:
    model = tiny_model("llava_onevision")
    with pytest.raises(ValueError, match="max_tokens=9 cannot go with policy='reference'"):
        compress_inputs(model, batch(model, ROWS), max_tokens=9, policy="reference")
    compress_inputs(
        model, batch(model, ROWS), "none", retention_ratio=0.01, separators="keep"
    )  # ignores the budget


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize("family", FAMILIES)
def test_static_cache_and_chunked_prefill(family: str, positions: str) -> None:
    model = tiny_model(family)
    inputs = compress_inputs(model, batch(model, ROWS), retention_ratio=0.4, positions=positions)
    expected = new_tokens(model, inputs)
    assert torch.equal(
        new_tokens(model, inputs, cache_implementation="static", disable_compile=True), expected
    )
    chunked = torch.equal(new_tokens(model, inputs, prefill_chunk_size=8), expected)
    # Older versions get this silently wrong, with plain inputs too; the block refuses it there.
    assert chunked == (transformers_version() >= CHUNKED_PREFILL_SINCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_equals_a_recompute_without_cache(family: str) -> None:
    """Greedy decoding with the cache against whole forwards of the growing compressed sequence."""
    model = tiny_model(family)
    for positions in ("contiguous", "original"):
        inputs = compress_inputs(model, batch(model, ROWS), retention_ratio=0.4, positions=positions)
        fast = new_tokens(model, inputs)
        slow = dict(inputs)
        for _ in range(6):
            step = dict(inputs) | {
                k: slow[k] for k in ("input_ids", "attention_mask", "position_ids") if k in slow
            }
            with torch.no_grad():
                last = model(**step).logits[:, -1]
                following = last.index_fill(1, torch.tensor([IMAGE, VIDEO]), -torch.inf).argmax(
                    -1, keepdim=True
                )
            slow["input_ids"] = torch.cat((slow["input_ids"], following), 1)
            slow["attention_mask"] = torch.cat((slow["attention_mask"], torch.ones_like(following)), 1)
            if "position_ids" in slow:
                slow["position_ids"] = torch.cat((slow["position_ids"], slow["position_ids"][:, -1:] + 1), 1)
        assert slow["input_ids"][:, inputs["input_ids"].shape[1] :].tolist() == fast.tolist()


def test_labels_and_right_padding_are_shortened_alike() -> None:
    model = tiny_model("llava_next")
    raw = batch(model, ROWS, pad_right=True)
    labels = torch.where(raw["input_ids"] == IMAGE, -100, raw["input_ids"]).masked_fill(
        raw["attention_mask"] == 0, -100
    )
    inputs = compress_inputs(model, raw | {"labels": labels}, retention_ratio=0.4)
    ids, mask, new = inputs["input_ids"], inputs["attention_mask"], inputs["labels"]
    assert (mask[:, 0] == 1).all() and (mask[1, -1] == 0)
    assert torch.equal(new, torch.where((mask == 0) | (ids == IMAGE), -100, ids))
    with torch.no_grad():
        assert torch.isfinite(model(**inputs).loss)


BAD = [
    ({"input_ids": [[1, 2]]}, "input_ids must be a tensor"),
    ({"inputs_embeds": torch.zeros(1, 2, 3)}, "inputs_embeds and mm_encoder_outputs cannot be compressed"),
    ({"vision_feature_layer": -1}, "vision_feature_layer=-1 differs from the model's config"),
    ({"pixel_values_videos": torch.zeros(1, 2, 3, 56, 56)}, "takes images only"),
    ({"pixel_values": torch.zeros(3, 56, 56)}, r"pixel_values must be \(visual, view"),
    ({"image_sizes": torch.tensor([[0, 5]])}, "image_sizes must be positive"),
    ({"image_sizes": torch.tensor([[5, 5], [5, 5]])}, "image_sizes must have one"),
    ({"image_sizes": torch.tensor([[168, 56]])}, "placeholders"),
    ({"attention_mask": torch.ones(1, 3)}, "attention_mask must have the shape"),
    ({"labels": torch.ones(1, 3)}, "labels must have the shape"),
    ({"pixel_values": torch.zeros(1, 1, 3, 56, 56)}, "has 1 views for an image"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_inputs_that_do_not_fit_are_named(change: dict[str, object], message: str) -> None:
    model = tiny_model("llava_next")
    with pytest.raises(UnsupportedInputError, match=message):
        compress_inputs(model, batch(model, [ROWS[0]]) | change, retention_ratio=0.5)


def test_placeholders_without_pixels_and_pixels_without_placeholders_are_refused() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [ROWS[0]])
    with pytest.raises(UnsupportedInputError, match="more than the inputs have images"):
        compress_inputs(model, {k: raw[k] for k in ("input_ids", "attention_mask")}, retention_ratio=0.5)
    with pytest.raises(UnsupportedInputError, match="put one image placeholder"):
        compress_inputs(model, raw | {"input_ids": torch.full_like(raw["input_ids"], 5)}, retention_ratio=0.5)

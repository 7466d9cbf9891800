"""Evidence of packed encoders against eager attention maps of the stock encoder, which a spy takes down."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.vision_utils import get_vision_window_index

from contract.test_no_sync import CountSyncs
from qwen_models import FAMILIES, MERGE, PATCH, VALUES, qwen_inputs, qwen_model
from vidcompress import UnsupportedModelError, compress_inputs
from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.packed import probe as packed_probe
from vidcompress.adapters.packed.pieces import passes
from vidcompress.core.tokens import Evidence, Quantity, VisualTokens
from vidcompress.tools.benchmark.live_bytes import LiveBytes

pytestmark = pytest.mark.transformers

GRIDS = {"image": [(1, 8, 12), (1, 4, 14), (1, 6, 6), (1, 8, 12)], "video": [(3, 8, 4), (2, 6, 10)]}
RECEIVED = Evidence("attention_received", "features")


def inputs_of(model: Any, modality: str) -> dict[str, Any]:
    return qwen_inputs(model, [[5, *((modality, grid) for grid in GRIDS[modality]), 6]])


def encoded(model: Any, inputs: Any, evidence: Sequence[Evidence], most: int = 16384) -> list[VisualTokens]:
    adapter = adapter_for(model)
    images, clips = adapter.visuals(inputs)
    with torch.no_grad():
        return adapter.encode([replace(visual, max_patches=most) for visual in images or clips], evidence)


def pixels_of(inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    kind = "video" if "video_grid_thw" in inputs else "image"
    return inputs["pixel_values_videos" if kind == "video" else "pixel_values"], inputs[f"{kind}_grid_thw"]


def eager_maps(model: Any, inputs: dict[str, Any]) -> list[list[Tensor]]:
    """Of each block the maps (head, query, key) of its segments, from the stock encoder run at once."""
    held: dict[int, list[Tensor]] = {}

    def spy(module: Any, query: Tensor, key: Tensor, value: Tensor, *, scaling: float, **_: Any) -> Any:
        weights = torch.softmax(query @ key.transpose(2, 3) * scaling, -1)
        held.setdefault(id(module), []).append(weights[0])
        return (weights @ value).transpose(1, 2), weights

    ALL_ATTENTION_FUNCTIONS.register("spy", spy)
    encoder = copy.deepcopy(model.model.visual)
    encoder.config._attn_implementation = "spy"
    with torch.no_grad():
        pixels, grids = pixels_of(inputs)
        encoder(pixels, grid_thw=grids)
    return [held[id(block.attn)] for block in encoder.blocks]


def window_order(model: Any, grids: Tensor) -> Tensor:
    encoder = model.model.visual
    return get_vision_window_index(grids, MERGE, encoder.window_size, PATCH)[0]


def expected(model: Any, inputs: dict[str, Any], block: int, *, ordered: bool = True) -> Tensor:
    """(token,) attention received: of each patch summed over queries and divided by the number of those of its view."""
    maps = eager_maps(model, inputs)[block]
    of_patches = torch.cat([of_segment.mean(0).sum(0) for of_segment in maps])
    grids = pixels_of(inputs)[1]
    views = (grids[:, 1] * grids[:, 2]).repeat_interleave(grids[:, 0])
    of_tokens = (of_patches / views.repeat_interleave(views)).view(-1, MERGE**2).mean(1)
    if model.config.model_type != "qwen2_5_vl" or not ordered:
        return of_tokens
    placed = torch.empty_like(of_tokens)
    placed[window_order(model, grids)] = of_tokens
    return placed


def joined(tokens: Sequence[VisualTokens], key: Evidence) -> Tensor:
    return torch.cat([one.evidence[key] for one in tokens])


@pytest.mark.parametrize("most", [1, 100, 16384])
@pytest.mark.parametrize("modality", GRIDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_attention_received_is_that_of_eager_maps(family: str, modality: str, most: int) -> None:
    model = qwen_model(family)
    inputs = inputs_of(model, modality)
    keys = [Evidence("attention_received", layer) for layer in ("features", -1, 1, 0)]
    tokens = encoded(model, inputs, keys, most)
    for key, block in zip(keys, (3, 3, 1, 0), strict=True):
        assert torch.allclose(joined(tokens, key), expected(model, inputs, block), rtol=0, atol=1e-6), key
    for one in tokens:  # it is a distribution over the tokens of each view, times the patches of a token
        sums = torch.zeros(len(one.layout.views)).index_add(0, one.layout.view, one.evidence[RECEIVED])
        assert torch.allclose(sums * MERGE**2, torch.ones_like(sums), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_block_and_another_order_differ(family: str) -> None:
    """Controls: what the test above must be able to tell apart."""
    model = qwen_model(family)
    inputs = inputs_of(model, "image")
    received = joined(encoded(model, inputs, [RECEIVED]), RECEIVED)
    for block in (0, 1, 2):
        assert float((received - expected(model, inputs, block)).abs().max()) > 1e-4
    if family == "qwen2_5_vl":
        unordered = expected(model, inputs, 3, ordered=False)
        assert float((received - unordered).abs().max()) > 1e-4


def test_the_last_layer_is_the_last_that_attends_over_whole_views() -> None:
    """The encoder's last block may be one of windows, which say nothing about the picture as a whole."""
    model = copy.deepcopy(qwen_model("qwen2_5_vl"))
    model.model.visual.fullatt_block_indexes = [1]
    inputs = inputs_of(model, "image")
    for layer, block in (("features", 1), (-1, 1), (3, 3)):
        key = Evidence("attention_received", layer)  # type: ignore[arg-type]
        of_layer = joined(encoded(model, inputs, [key]), key)
        assert torch.allclose(of_layer, expected(model, inputs, block), rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_are_the_projection_of_the_patches_of_a_token(family: str) -> None:
    model = qwen_model(family)
    inputs = inputs_of(model, "image")
    keys = [Evidence("keys", 1), Evidence("mean_keys", 1), Evidence("keys", -1)]
    tokens = encoded(model, inputs, keys, most=100)
    pixels, grids = pixels_of(inputs)
    seen: list[Tensor] = []
    handle = model.model.visual.blocks[1].attn.qkv.register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.no_grad():
        model.model.visual(pixels, grid_thw=grids)
    handle.remove()
    stock = seen[0][:, 32:64].view(-1, 4, 32).mean(1)
    if family == "qwen2_5_vl":
        stock = stock[window_order(model, grids).argsort()]
    assert torch.allclose(joined(tokens, keys[0]), stock, atol=1e-5)
    assert torch.allclose(joined(tokens, keys[1]), stock.view(-1, 2, 16).mean(1), atol=1e-5)
    assert float((joined(tokens, keys[2]) - stock).abs().max()) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_one_cell_is_one_token(family: str) -> None:
    """Keys of the first block see one patch each: pixels of cell (row, col) change that token's and no other's."""
    model = qwen_model(family)
    inputs = qwen_inputs(model, [[5, ("image", (1, 8, 12)), 6]])
    key, layout = Evidence("keys", 0), adapter_for(model).visuals(inputs)[0][0].layout
    before = joined(encoded(model, inputs, [key]), key)
    for row, col in ((0, 3), (2, 1), (3, 5)):
        token = row * 6 + col
        changed = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
        changed["pixel_values"][4 * token : 4 * token + 4] *= -1.0
        moved = (joined(encoded(model, changed, [key]), key) - before).abs().amax(1) > 1e-6
        assert moved.nonzero().flatten().tolist() == [token]
        assert (int(layout.row[token]), int(layout.col[token])) == (row, col)


@pytest.mark.parametrize("family", FAMILIES)
def test_patches_of_the_caller_are_cells_of_the_picture(family: str) -> None:
    """Block order, as the stock processor makes it: `pictures` puts it back."""
    model = qwen_model(family)
    adapter = adapter_for(model)
    frames = torch.randn(2, 3, 2, 6 * PATCH, 8 * PATCH)  # (view, channel, frame, height, width)
    cells = frames.reshape(2, 3, 2, 3, MERGE, PATCH, 4, MERGE, PATCH).permute(0, 3, 6, 4, 7, 1, 2, 5, 8)
    pixels = cells.reshape(-1, VALUES)
    inputs = {"pixel_values_videos": pixels, "video_grid_thw": torch.tensor([[2, 6, 8]])}
    (visual,) = adapter.visuals(inputs)[1]
    assert isinstance(visual.pixels, Tensor) and visual.pictures is not None
    assert torch.equal(visual.pictures(visual.pixels), frames.flatten(1, 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merger_makes_the_features_of_what_it_reads(family: str) -> None:
    model, hidden = qwen_model(family), Evidence("hidden", "features")
    for one in encoded(model, inputs_of(model, "video"), [hidden], most=100):
        assert one.project is not None and one.evidence[hidden].shape == (len(one), 4 * 32)
        with torch.no_grad():
            projected = one.project(one.evidence[hidden])
        assert torch.allclose(projected, one.features, atol=1e-5)
        assert not torch.allclose(projected, one.features.roll(1, 0), atol=1e-2)


@pytest.mark.parametrize("size", [1, 4000, 40000])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_blocks_of_queries_change_nothing(family: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwen_model(family)
    keys = [RECEIVED, Evidence("attention_received", 0)]
    whole = encoded(model, inputs_of(model, "image"), keys)
    monkeypatch.setattr(packed_probe, "DEVICE_BLOCK", size)
    blocks = encoded(model, inputs_of(model, "image"), keys)
    for key in keys:
        assert torch.allclose(joined(blocks, key), joined(whole, key), rtol=0, atol=1e-7)


def test_memory_of_the_maps_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = torch.randn(2, 1024, 2, 4)
    peaks = []
    for size in (1 << 28, 1 << 17):
        monkeypatch.setattr(packed_probe, "DEVICE_BLOCK", size)
        with LiveBytes() as counter:
            packed_probe.received(query, key, 1.0, [1024])
        peaks.append(counter.peak)
    assert peaks[0] > 2 * 1024 * 1024 * 4, "all maps of two heads at once"
    assert peaks[1] < peaks[0] / 8


def test_evidence_of_a_bfloat16_model_is_float32() -> None:
    for family in FAMILIES:
        model, exact = qwen_model(family, torch.bfloat16), qwen_model(family)
        keys = [RECEIVED, Evidence("keys", -1), Evidence("hidden", "features")]
        tokens = encoded(model, inputs_of(model, "image"), keys)
        assert {one.evidence[key].dtype for one in tokens for key in keys} == {torch.float32}
        assert {one.features.dtype for one in tokens} == {torch.bfloat16}
        whole = joined(encoded(exact, inputs_of(exact, "image"), keys), RECEIVED)
        assert float((joined(tokens, RECEIVED) - whole).abs().max()) < 0.3 * float(whole.max())


@pytest.mark.parametrize("quantity", ["cls_logits", "cls_attention", "cls_attention_whole", "cls_hidden"])
def test_there_is_no_cls(quantity: Quantity) -> None:
    for family in FAMILIES:
        model = qwen_model(family)
        assert not adapter_for(model).has_cls
        with pytest.raises(
            UnsupportedModelError, match=f"'{quantity}'.* needs a CLS token and Qwen.* has none; use"
        ):
            encoded(model, inputs_of(model, "image"), [Evidence(quantity, -1)])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Evidence("hidden", -1), "'hidden', -1.* use layer 'features'"),
        (Evidence("keys", 4), r"layer 4 is out of range for 4 entries; use -4 to 3"),
        (
            Evidence("patch_embedding", auxiliary="clip"),
            "goes with CLIP or SigLIP encoders, .* leave auxiliary out",
        ),
        (Evidence("pooling_attention", auxiliary="siglip"), "goes with CLIP or SigLIP encoders"),
        (Evidence("pooled", auxiliary="siglip"), "goes with CLIP or SigLIP encoders"),
    ],
)
def test_what_cannot_be_had_is_named(wanted: Evidence, message: str) -> None:
    model = qwen_model("qwen2_5_vl")
    with pytest.raises(UnsupportedModelError, match=message):
        encoded(model, inputs_of(model, "image"), [wanted])


def test_a_method_that_asks_for_it_says_so() -> None:
    model = qwen_model("qwen3_vl")
    method = "globalcom2:evidence=cls_attention"
    with pytest.raises(UnsupportedModelError, match="needs a CLS token and Qwen3VLVisionModel has none"):
        compress_inputs(model, inputs_of(model, "image"), method, retention_ratio=0.5)


def test_another_threads_forward_is_not_read() -> None:
    model = qwen_model("qwen3_vl")
    inputs, other = inputs_of(model, "image"), qwen_inputs(model, [[("image", (1, 4, 4))]], seed=5)
    alone = joined(encoded(model, inputs, [RECEIVED]), RECEIVED)

    def interfere(module: Any, args: Any) -> None:
        handle.remove()

        def forward() -> None:
            with torch.no_grad():
                model.model.visual(*(other[key] for key in ("pixel_values", "image_grid_thw")))

        thread = Thread(target=forward)
        thread.start()
        thread.join()

    handle = model.model.visual.merger.register_forward_pre_hook(interfere)
    beside = joined(encoded(model, inputs, [RECEIVED]), RECEIVED)
    assert torch.equal(alone, beside)
    assert not model.model.visual.blocks[3].attn._forward_pre_hooks
    assert not model.model.visual.blocks[3].attn.qkv._forward_hooks


@pytest.mark.parametrize(
    ("sizes", "most", "expected_passes"),
    [
        ([(1, 5), (1, 5), (1, 5)], 10, [[(0, 0, 1), (1, 0, 1)], [(2, 0, 1)]]),
        ([(1, 50), (1, 5)], 10, [[(0, 0, 1)], [(1, 0, 1)]]),
        ([(1, 5), (1, 50), (2, 5)], 10, [[(0, 0, 1)], [(1, 0, 1)], [(2, 0, 2)]]),
        ([(7, 4)], 10, [[(0, 0, 2)], [(0, 2, 4)], [(0, 4, 6)], [(0, 6, 7)]]),
        ([(2, 4), (3, 3)], 10, [[(0, 0, 2)], [(1, 0, 3)]]),
        ([(2, 4), (3, 3)], 11, [[(0, 0, 2), (1, 0, 1)], [(1, 1, 3)]]),
        ([(3, 9)], 1, [[(0, 0, 1)], [(0, 1, 2)], [(0, 2, 3)]]),
        ([(0, 4), (1, 4)], 10, [[(1, 0, 1)]]),
    ],
)
def test_passes(sizes: Any, most: int, expected_passes: Any) -> None:
    assert [[tuple(piece) for piece in one] for one in passes(sizes, most)] == expected_passes


@pytest.mark.parametrize("most", [1, 96, 250, 16384])
def test_the_encoder_sees_at_most_max_patches(most: int) -> None:
    """Or one view that has more by itself; and everything is seen once."""
    model = qwen_model("qwen2_vl")
    seen: list[int] = []
    handle = model.model.visual.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[0]))
    try:
        for modality in GRIDS:
            compress_inputs(
                model, inputs_of(model, modality), "uniform", retention_ratio=0.5, max_patches=most
            )
    finally:
        handle.remove()
    largest = max(h * w for grids in GRIDS.values() for _, h, w in grids)
    assert sum(seen) == sum(t * h * w for grids in GRIDS.values() for t, h, w in grids)
    assert max(seen) <= max(most, largest)
    assert most < 16384 or len(seen) == 2
    assert most > 1 or len(seen) == sum(t for grids in GRIDS.values() for t, _, _ in grids)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_bit_equal_whatever_max_patches_is(family: str) -> None:
    model = qwen_model(family)
    for modality in GRIDS:
        inputs = inputs_of(model, modality)
        whole = encoded(model, inputs, [])
        for most in (1, 60, 130, 500):
            for one, other in zip(whole, encoded(model, inputs, [], most), strict=True):
                assert torch.equal(one.features, other.features)
                assert all(map(torch.equal, one.deep, other.deep))


def test_longer_clips_need_no_more_memory() -> None:
    """What `encode` holds beside its result does not grow with the number of temporal patches."""
    model = qwen_model("qwen3_vl")

    def beside(frames: int, evidence: tuple[Evidence, ...]) -> int:
        inputs = qwen_inputs(model, [[("video", (frames, 8, 8))]])
        adapter = adapter_for(model)
        clips = adapter.visuals(inputs)[1]
        with torch.no_grad(), LiveBytes() as counter:
            tokens = adapter.encode([replace(clip, max_patches=512) for clip in clips], evidence)
        kept = [x for one in tokens for x in (one.features, *one.deep, *one.evidence.values())]
        return counter.peak - sum(x.nbytes for x in kept)

    for evidence in ((), (RECEIVED,)):
        short, long = (beside(frames, evidence) for frames in (32, 128))
        assert long <= 1.05 * short


@pytest.mark.parametrize("family", FAMILIES)
def test_reading_evidence_asks_the_device_for_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock encoder does, for its own segments; what is added to it goes by numbers of the host."""
    model, true = qwen_model(family), packed_probe.PackedProbe._compute
    seen: list[dict[str, int]] = []

    def watched(self: Any, *given: Any) -> Tensor:
        with CountSyncs() as counter:
            values = true(self, *given)
        seen.append(dict(counter.seen))
        return values

    monkeypatch.setattr(packed_probe.PackedProbe, "_compute", watched)
    keys = [RECEIVED, Evidence("attention_received", 0), Evidence("keys", -1), Evidence("hidden", "features")]
    encoded(model, inputs_of(model, "video"), keys, most=100)
    assert len(seen) > len(keys) and not any(seen)

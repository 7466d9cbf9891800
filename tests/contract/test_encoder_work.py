"""The encoder does no more than what is read of it, by the attention kernel that it was given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tiny_models import FAMILIES, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.tokens import Evidence
from vidcompress.session.compress import compress_inputs

LAYERS = 4  # of the tiny encoders
SCENE = Scene((("image", (112, 80)),))


@contextmanager
def work(model: Any) -> Iterator[Counter[str]]:
    """How often parts of the encoder run: every layer, its projections and its second half."""
    done: Counter[str] = Counter()
    handles = []
    for number, layer in enumerate(adapter_for(model).vision_layers()):
        attention = layer.attention if hasattr(layer, "attention") else layer.self_attn
        for name, module in (("layer", layer), ("mlp", layer.mlp), ("k", attention.k_proj)):
            note = f"{name} {number}"
            handles.append(module.register_forward_pre_hook(lambda m, a, note=note: done.update([note])))
    tower = model.model.vision_tower
    names = ("post_layernorm", "layernorm")
    last = next((getattr(tower, name) for name in names if hasattr(tower, name)), None)
    last = last or tower.vision_model.post_layernorm
    handles.append(last.register_forward_pre_hook(lambda m, a: done.update(["norm after the last"])))
    try:
        yield done
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("evidence", "last"), [(None, None), ("features", "features"), (-1, LAYERS - 1)])
def test_layers_that_nobody_reads_do_not_run(family: str, evidence: Any, last: Any) -> None:
    """Features of layer -2 need all layers but the last; evidence of the last needs its keys and no more of it."""
    model = tiny_model(family)
    adapter = adapter_for(model)
    images, _ = adapter.visuals(batch(model, [SCENE]))
    wanted = [] if evidence is None else [Evidence("attention_received", evidence)]
    read = model.config.vision_feature_layer % (LAYERS + 1)  # hidden_states[i] is what layer i reads
    with work(model) as done, torch.no_grad():
        adapter.encode(images, wanted, max_views=64)
    assert [done[f"mlp {number}"] for number in range(LAYERS)] == [int(n < read) for n in range(LAYERS)]
    keys = max(read, LAYERS if evidence == -1 else 0)
    assert [done[f"k {number}"] for number in range(LAYERS)] == [int(n < keys) for n in range(LAYERS)]
    assert done["norm after the last"] == int(
        family == "internvl"
    )  # whose features of layer -1 are behind it
    assert read == (LAYERS - 1 if "next" in family or family == "llava" else LAYERS)


@pytest.mark.parametrize("method", ["globalcom2", "fastervlm", "prumerge"])
@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_probes_leave_the_attention_kernel_alone(
    family: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every layer whose output is used calls sdpa once per chunk, whatever evidence is read, and nothing goes eager."""
    model = tiny_model(family)
    calls = Counter[str]()
    kernel = torch.nn.functional.scaled_dot_product_attention

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls["sdpa"] += 1
        return kernel(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counting)
    compress_inputs(model, batch(model, [SCENE]), method, retention_ratio=0.3)
    used = model.config.vision_feature_layer % (LAYERS + 1)
    assert calls["sdpa"] == used
    assert model.config.vision_config._attn_implementation == "sdpa"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_view_is_encoded_once(family: str) -> None:
    """In chunks too: no view runs through a layer twice, and padding views of a batch do not run at all."""
    model = tiny_model(family)
    inputs = batch(model, [SCENE, Scene((("image", (40, 100)),), seed=1)])
    images, _ = adapter_for(model).visuals(inputs)
    views: list[int] = []
    first = adapter_for(model).vision_layers()[0]
    handle = first.register_forward_hook(lambda m, args, out: views.append(args[0].shape[0]))
    try:
        compress_inputs(model, inputs, "globalcom2", retention_ratio=0.3, max_views=3)
    finally:
        handle.remove()
    assert sum(views) == sum(len(image.layout.views) for image in images) and max(views) == min(3, sum(views))

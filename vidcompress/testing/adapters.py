"""Contract of an adapter, checked on one model and one batch of inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from vidcompress.adapters.base import Adapter, Visual, adapter_for
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.tokens import AXES, OF_QUESTION, Evidence, VisualTokens
from vidcompress.core.wrappers import unwrap
from vidcompress.testing.block import check_block, check_refusals
from vidcompress.testing.controls import check_controls
from vidcompress.testing.entrance import check_entrance
from vidcompress.testing.expect import positions_of, require, same
from vidcompress.testing.gathered import check_gathered
from vidcompress.testing.models import check_counts, check_identity, check_masked
from vidcompress.testing.positions import check_positions
from vidcompress.testing.rows import check_rows

PROJECTED = ("hidden", "cls_hidden")
"""Evidence that needs the projector that reads it."""


def check_adapter(
    model: Any, inputs: Mapping[str, Any], methods: Sequence[str | Method] | None = None
) -> None:
    """Run every check on a model: geometry, evidence, positions, each method that serves the inputs, the block.

    Positions and the inputs of the language model are compared with the stock model's, and errors made on purpose must
    change the logits.

    Args:
        model: a model that a registered adapter serves, in eval mode; a small one with random weights will do. In
            float32 on the CPU the checks are sharpest.
        inputs: output of its processor for one prompt row or several, with images, videos or both.
        methods: names or instances; None for all registered ones that serve the inputs.

    Raises:
        ContractError: a rule is violated.
    """
    model = unwrap(model)
    adapter: Adapter = adapter_for(model)
    taken = "mm_encoder_outputs" in inspect.signature(model.forward).parameters
    require(
        taken,
        f"{type(model).__name__}.forward takes no mm_encoder_outputs, so nothing can be handed to it encoded",
    )
    images, videos = adapter.visuals(inputs)
    require(
        bool(images or videos),
        f"{type(adapter).__name__}.visuals finds neither images nor videos in the inputs",
    )
    held = {"image"} if not videos else {"video"} if not images else {"image", "video"}
    chosen = [get_method(method) for method in (available_methods() if methods is None else methods)]
    # Methods inside the language model depend on the decoder, not on the adapter.
    chosen = [method for method in chosen if held <= method.modalities and method.inside is None]
    for visuals, modality in ((images, "image"), (videos, "video")):
        for visual in visuals:
            _check_visual(adapter, visual, modality)
        _check_encoding(adapter, visuals, chosen)
    check_positions(model, inputs)
    check_entrance(model, inputs)
    for visual in (*images, *videos):
        _check_views(adapter, visual)
    check_controls(model, inputs)
    judge = check_gathered if adapter.traits.hybrid else check_masked
    for method in chosen:
        check_identity(model, inputs, method)
        check_counts(model, inputs, method)
        for positions in positions_of(model):
            judge(model, inputs, method, positions=positions)
        check_rows(model, inputs, method)
    check_block(model, inputs)
    check_refusals(model, inputs)


def _check_visual(adapter: Adapter, visual: Visual, modality: str) -> None:
    """Check that a visual's views, pixels and layout match."""
    layout, who = visual.layout, f"{type(adapter).__name__}.visuals: the layout of an {modality}"
    require(visual.modality == layout.modality == modality, f"{who} is that of a {layout.modality}")
    require(
        len(layout) == layout.full_length,
        f"{who} has {len(layout)} positions and a full length of {layout.full_length}",
    )
    views, pixels = len(layout.views), tuple(visual.pixels.shape)
    require(len(pixels) > 1 and pixels[0] == views, f"{who} has {views} views, pixels of shape {pixels}")
    require(
        sum(visual.placeholder_runs) == layout.full_length,
        f"{who} has {layout.full_length} positions in runs of {visual.placeholder_runs}",
    )
    counts = torch.bincount(layout.view, minlength=views + 1).tolist()
    require(
        counts == [*layout.sizes, layout.num_separators],
        f"{who} counts {layout.sizes}, its positions say {counts}",
    )
    require(
        int(layout.separator.sum()) == layout.num_separators, f"{who} marks other separators than it counts"
    )


def _check_encoding(adapter: Adapter, visuals: Sequence[Visual], methods: Sequence[Method]) -> None:
    """Check that evidence is finite float32, that features do not depend on it, and that `project` makes them."""
    if not visuals:
        return
    modality, who = visuals[0].modality, f"{type(adapter).__name__}.encode"
    needs = [key for method in methods for key in method.needs(modality, adapter.has_cls)]
    # Evidence of the question needs a prompt, which these visuals do not have.
    asked = {key: None for key in needs if key.quantity not in OF_QUESTION}
    with torch.no_grad():
        bare, rich = adapter.encode(visuals), adapter.encode(visuals, tuple(asked))
    require(len(bare) == len(visuals), f"{who} returns {len(bare)} for {len(visuals)} visuals")
    for visual, plain, tokens in zip(visuals, bare, rich, strict=True):
        require(
            len(plain) == len(visual.layout),
            f"{who} makes {len(plain)} tokens, the layout has {len(visual.layout)}",
        )
        require(
            torch.equal(plain.features, tokens.features),
            f"{who} makes other features when evidence is asked for",
        )
        require(
            len(plain.deep) == adapter.traits.deep_levels,
            f"{who} gives companions for {len(plain.deep)} layers, traits.deep_levels is {adapter.traits.deep_levels}",
        )
        spared = PROJECTED if tokens.project is None else ()
        given, due = (
            set(tokens.evidence),
            {key for key in asked if key.quantity not in (*spared, "cls_hidden")},
        )
        require(
            due <= given <= set(asked),
            f"{who} was asked for {[*asked]}, gave {[*tokens.evidence]}; what a projector reads may be left out, "
            "where the tokens come without `project`",
        )
        _check_evidence(tokens, who)


def _check_views(adapter: Adapter, visual: Visual) -> None:
    """Check that all tokens of a view in the layout change with that view's pixels."""
    layout, pixels = visual.layout, visual.pixels
    if len(layout.views) < 2 or not isinstance(pixels, torch.Tensor):
        return
    with torch.no_grad():
        (before,) = adapter.encode([visual])
        for number in dict.fromkeys((0, 1, len(layout.views) - 1)):
            changed = pixels.clone()
            changed[number] = 1 - changed[number]
            (after,) = adapter.encode([replace(visual, pixels=changed)])
            differ = (after.features != before.features).any(-1)
            own = ((layout.view == number) & ~layout.separator).to(differ.device)
            require(
                bool(differ[own].all()),
                f"{type(adapter).__name__}: {int((own & ~differ).sum())} of {int(own.sum())} tokens that the layout "
                f"says are of view {number} do not change with its pixels; the order of views is another one",
            )


def _check_evidence(tokens: VisualTokens, who: str) -> None:
    index = tokens.layout.token_index
    for key, value in tokens.evidence.items():
        values = value[index] if AXES.get(key.quantity, "N").startswith("N") else value
        fine = values.dtype == torch.float32 and bool(values.isfinite().all())
        require(fine, f"{who}: {key} must be float32 and finite at every token, got {values.dtype}")
    hidden = tokens.evidence.get(Evidence("hidden", "features"))
    if tokens.project is not None and hidden is not None:
        features = tokens.features[index]
        with torch.no_grad():
            projected = tokens.project(hidden[index].to(features.dtype))
        tolerance = max(1e-5, 50 * torch.finfo(features.dtype).eps)
        same(projected, features, f"{who}: what `project` makes of the evidence hidden", tolerance)

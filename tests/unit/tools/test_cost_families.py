"""Shapes of families whose encoder or projector is another than LLaVA's and Qwen's, beside their modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from gemma_models import gemma3, gemma4
from pixtral_models import mistral3
from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.families import get_family
from vidcompress.adapters.model_shape import geometry_of
from vidcompress.errors import UnsupportedModelError

pytestmark = pytest.mark.transformers

MODELS: dict[str, Callable[[], Any]] = {"gemma3": gemma3, "mistral3": mistral3}


@pytest.mark.parametrize("name", MODELS)
def test_shapes_are_those_of_the_modules(name: str) -> None:
    model = MODELS[name]()
    shape, core = geometry_of(model.config), model.model
    projector = [part for part in core.multi_modal_projector.modules() if isinstance(part, nn.Linear)]
    pairs = [(part.in_features, part.out_features) for part in projector]
    if name == "gemma3":
        pairs = [tuple(core.multi_modal_projector.mm_input_projection_weight.shape)]
    assert list(shape.projector) == pairs
    layers = core.vision_tower.transformer if name == "mistral3" else core.vision_tower.encoder
    parts = [part for part in layers.modules() if isinstance(part, nn.Linear)]
    weights = sum(part.weight.numel() for part in parts)
    encoder = shape.encoder
    matrices = 4 * encoder.hidden**2 + (3 if encoder.gated else 2) * encoder.hidden * encoder.ffn
    assert weights == encoder.layers * matrices
    assert encoder.runs == encoder.layers and encoder.cls == 0


@pytest.mark.parametrize("name", MODELS)
def test_a_picture_is_as_many_tokens_as_its_layout_has(name: str) -> None:
    model = MODELS[name]()
    family, encoder = get_family(name), geometry_of(model.config).encoder
    layout = family.image_layout(family.geometry(model.config), (40, 130))
    assert encoder.projected in (0, len(layout)) and adapter_for(model).projected_rows(layout) == len(layout)
    grids = [(view.rows, view.cols) for view in layout.views]
    assert grids == {"gemma3": [(4, 4)], "mistral3": [(3, 10)]}[name]


def test_a_decoder_of_unlike_layers_is_refused() -> None:
    with pytest.raises(
        UnsupportedModelError, match="model_type='gemma4' has a decoder whose layers are not alike"
    ):
        geometry_of(gemma4().config)

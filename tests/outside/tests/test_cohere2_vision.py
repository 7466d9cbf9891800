"""The contract of vidcompress on a small random model of the family, and what is special to it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    SiglipVisionConfig,
)

from vidcompress import UnsupportedInputError, UnsupportedModelError, compress, compress_inputs, testing
from vidcompress.adapters import adapter_for

IMAGE, START, LINE, END = 90, 91, 92, 93


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4)
    config = Cohere2VisionConfig(
        vision_config=SiglipVisionConfig(**size, image_size=56, patch_size=7),
        text_config=Cohere2Config(**size, num_key_value_heads=2, vocab_size=100, pad_token_id=0),
        image_token_id=IMAGE,
        alignment_intermediate_size=64,
    )
    made = Cohere2VisionForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in made.parameters():  # larger than they come, so that a mistake shows in the logits
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return made


def picture(views: int) -> list[int]:
    return [START, *([IMAGE] * 16 + [LINE]) * views, END]


def inputs_of(rows: list[list[int]], sizes: list[tuple[int, int]] | None = None) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    views = int((ids == IMAGE).sum()) // 16
    stated = {} if sizes is None else {"image_sizes": torch.tensor([(*size, 0) for size in sizes])}
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "pixel_values": torch.randn(views, 3, 56, 56),
        **stated,
    }


MIXED = [[5, *picture(7), 6, *picture(1), 7], [8, *picture(3), *picture(5), 9, 9], [5, 4]]


def test_cohere2_vision_keeps_the_contract(model: Any) -> None:
    testing.check_adapter(model, inputs_of([[5, 6, *picture(4), 7]]), ["uniform", "globalcom2"])
    testing.check_adapter(model, inputs_of(MIXED, [(168, 112), (40, 40), (56, 112), (112, 112)]))


def test_features_are_those_of_the_model(model: Any) -> None:
    inputs = inputs_of([picture(4)])
    sent = compress_inputs(model, inputs, "none")["mm_encoder_outputs"]["image"].pooler_output
    with torch.no_grad():
        assert torch.equal(
            sent[:, 0], model.get_image_features(inputs["pixel_values"]).pooler_output.flatten(0, 1)
        )


def test_views_in_another_order_turn_red(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, family = inputs_of([[5, *picture(5), 7]]), type(adapter_for(model))
    right = family._picture

    def thumbnail_first(self: Any, views: torch.Tensor, size: Any) -> Any:
        return right(self, views.roll(1, 0), size)

    def by_columns(self: Any, views: torch.Tensor, size: Any) -> Any:
        visual = right(self, views, size)
        order = torch.tensor([0, 2, 1, 3, 4])
        return replace(visual, layout=replace(visual.layout, view=order[visual.layout.view]))

    for wrong, message in ((thumbnail_first, "inputs_embeds"), (by_columns, "the order of views")):
        monkeypatch.setattr(family, "_picture", wrong)
        with pytest.raises(testing.ContractError, match=message):
            testing.check_adapter(model, inputs, ["uniform"])


def test_inputs_that_do_not_fit_are_refused(model: Any) -> None:
    inputs = inputs_of([picture(4)])
    for change in (
        {"pixel_values": inputs["pixel_values"][:3]},
        {"image_sizes": torch.tensor([[56, 56, 0]] * 2)},
    ):
        with pytest.raises(
            UnsupportedInputError, match=r"pixel_values of shape \(., 3, 56, 56\) .* \[4\] runs"
        ):
            compress_inputs(model, inputs | change, retention_ratio=0.5)


def test_methods_inside_the_language_model_are_refused(model: Any) -> None:
    with (
        pytest.raises(UnsupportedModelError, match="rotates neighbouring channels"),
        compress(model, "fastv", retention_ratio=0.5),
    ):
        model(**inputs_of([picture(4)]))

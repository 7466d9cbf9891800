"""The contract of vidcompress on a small random model of the family."""

from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, VipLlavaConfig, VipLlavaForConditionalGeneration

from vidcompress import UnsupportedInputError, compress_inputs, testing

IMAGE = 90


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4)
    config = VipLlavaConfig(
        vision_config=CLIPVisionConfig(**size, image_size=56, patch_size=14),
        text_config=LlamaConfig(**size, vocab_size=100, pad_token_id=0, eos_token_id=1),
        image_token_index=IMAGE,
        vision_feature_layer=[-2, 1],
    )
    made = VipLlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in made.parameters():  # larger than they come, so that a mistake shows in the logits
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return made


def inputs_of(rows: list[list[int]], images: int) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "pixel_values": torch.randn(images, 3, 56, 56),
    }


def test_vipllava_keeps_the_contract(model: Any) -> None:
    image = [IMAGE] * 16
    testing.check_adapter(model, inputs_of([[5, 6, *image, 7]], images=1))
    testing.check_adapter(
        model, inputs_of([[5, *image, 6, *image, 7], [8, *image, *image, 9, 9], [5, 4]], images=4)
    )


def test_features_are_those_of_the_model(model: Any) -> None:
    inputs = inputs_of([[IMAGE] * 16], images=1)
    sent = compress_inputs(model, inputs, "none")["mm_encoder_outputs"]["image"].pooler_output
    with torch.no_grad():
        assert torch.equal(sent[:, 0], model.get_image_features(inputs["pixel_values"]).pooler_output[0])


def test_pixels_of_another_shape_are_refused(model: Any) -> None:
    inputs = inputs_of([[IMAGE] * 16], images=1)
    inputs["pixel_values"] = inputs["pixel_values"][None]
    with pytest.raises(
        UnsupportedInputError, match=r"pixel_values must be \(image, .*got \(1, 1, 3, 56, 56\)"
    ):
        compress_inputs(model, inputs, retention_ratio=0.5)

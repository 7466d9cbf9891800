"""The contract of vidcompress on a small random model of the family, and what is special to it."""

from typing import Any

import pytest
import torch
from transformers import Glm4vMoeConfig, Glm4vMoeForConditionalGeneration
from transformers.models.glm4v_moe import modeling_glm4v_moe

from vidcompress import UnsupportedInputError, UnsupportedModelError, compress, compress_inputs, testing
from vidcompress.adapters import Evidence, adapter_for, stock_positions

IMAGE, START, END, CLIP, CLIP_END = 90, 92, 93, 94, 95


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=64)
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = Glm4vMoeConfig(
        vision_config=dict(**size, depth=2, num_heads=2, image_size=56, patch_size=14, out_hidden_size=32),
        text_config=dict(
            **size,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=100,
            head_dim=16,
            pad_token_id=0,
            rope_parameters=rope,
            n_routed_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
        ),
        image_token_id=IMAGE,
        video_end_token_id=CLIP_END,
    )
    made = Glm4vMoeForConditionalGeneration(config).eval()
    made.generation_config.eos_token_id = None
    with torch.no_grad():
        for weight in made.parameters():  # larger than they come, so that a mistake shows in the logits
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return made


def inputs_of(rows: list[list[Any]]) -> dict[str, torch.Tensor]:
    """Inputs as the processor returns them, of rows of ids and of grids: those of one frame are pictures."""
    ids, types, grids = [], [], []
    for row in rows:
        written: list[int] = []
        for part in row:
            if isinstance(part, int):
                written.append(part)
                continue
            grids.append(part)
            frame = [START, *[IMAGE] * (part[1] * part[2] // 4), END]
            if part[0] == 1:
                written += frame
            else:
                written += [
                    CLIP,
                    *(token for n in range(part[0]) for token in (*frame, 10, 20 + n)),
                    CLIP_END,
                ]
        ids.append(written)
        types.append([(token == IMAGE) * (2 if CLIP in written else 1) for token in written])
    width = max(map(len, ids))
    real = [[0] * (width - len(row)) + [1] * len(row) for row in ids]
    key, grid = (
        ("pixel_values_videos", "video_grid_thw") if grids[0][0] > 1 else ("pixel_values", "image_grid_thw")
    )
    return {
        "input_ids": torch.tensor([[0] * (width - len(row)) + row for row in ids]),
        "attention_mask": torch.tensor(real),
        "mm_token_type_ids": torch.tensor([[0] * (width - len(row)) + row for row in types]),
        key: torch.randn(int(torch.tensor(grids).prod(-1).sum()), 3 * 2 * 14 * 14),
        grid: torch.tensor(grids),
    }


PICTURES = [[5, (1, 8, 12), 6, (1, 4, 8), 7], [5, (1, 8, 4), 9, 9], [5, 4]]
CLIPS = [[5, (3, 8, 4), 7, (2, 4, 8)], [6, (4, 4, 4), 7], [3, 4]]


@pytest.mark.parametrize("rows", [PICTURES, CLIPS], ids=["pictures", "clips"])
def test_glm4v_moe_keeps_the_contract(model: Any, rows: list[list[Any]]) -> None:
    testing.check_adapter(model, inputs_of(rows))


WRONG = {
    "none": lambda self, inputs, ids, mask: None,
    "columns on every axis": lambda self, inputs, ids, mask: stock_positions(self.model, inputs, ids, mask)[
        :1
    ].expand(4, -1, -1),
    "without types": lambda self, inputs, ids, mask: stock_positions(
        self.model, {key: value for key, value in inputs.items() if key != "mm_token_type_ids"}, ids, mask
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("rows", [PICTURES, CLIPS], ids=["pictures", "clips"])
def test_wrong_positions_turn_red(
    model: Any, rows: list[list[Any]], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(adapter_for(model)), "positions", WRONG[wrong])
    with pytest.raises(testing.ContractError, match="Glm4vMoeAdapter.positions (returns None|differs from)"):
        testing.check_adapter(model, inputs_of(rows), ["uniform"])


def test_attention_received_is_that_of_the_last_block(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, maps, eager = inputs_of([[(1, 8, 12)]]), [], modeling_glm4v_moe.eager_attention_forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        output, weights = eager(*args, **kwargs)
        maps.append(weights)
        return output, weights

    adapter, asked = adapter_for(model), Evidence("attention_received", -1)
    images, _ = adapter.visuals(inputs)
    with torch.no_grad():
        (tokens,) = adapter.encode(images, [asked])
        monkeypatch.setattr(modeling_glm4v_moe, "eager_attention_forward", noted)
        monkeypatch.setattr(model.model.visual.config, "_attn_implementation", "eager")
        model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])
    first, last = (weights[0].mean((0, 1)).unflatten(0, (-1, 4)).mean(1) for weights in maps)
    assert torch.allclose(tokens.evidence[asked], last, rtol=0, atol=1e-7)
    assert not torch.allclose(tokens.evidence[asked], first, rtol=0, atol=1e-5)


def test_a_frame_that_keeps_nothing_may_lose_its_text(model: Any) -> None:
    inputs = inputs_of([[5, (4, 4, 4), 7]])
    kept = compress_inputs(model, inputs, "frames", max_tokens=4)
    short = compress_inputs(model, inputs, "frames", max_tokens=4, view_text="drop")
    lost = kept["input_ids"].shape[1] - short["input_ids"].shape[1]
    assert lost == 3 * 4  # start, end and two tokens of time of each of three frames
    ids = short["input_ids"][0].tolist()
    (view,) = (number for number, view in enumerate(short.report.visuals[0].views) if view.kept)
    assert ids == [5, CLIP, START, *[IMAGE] * 4, END, 10, 20 + view, CLIP_END, 7]


def test_what_is_not_served_is_refused(model: Any) -> None:
    inputs = inputs_of(PICTURES)
    with pytest.raises(UnsupportedInputError, match="mm_token_type_ids"):
        compress_inputs(model, inputs | {"mm_token_type_ids": None}, retention_ratio=0.5)
    clip = {key: value for key, value in inputs_of(CLIPS).items() if "video" in key}
    with pytest.raises(UnsupportedInputError, match="in one batch"):
        compress_inputs(model, inputs | clip, retention_ratio=0.5)
    with (
        pytest.raises(UnsupportedModelError, match="rotates neighbouring channels"),
        compress(model, "fastv", retention_ratio=0.5),
    ):
        model(**inputs)

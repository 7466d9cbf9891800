"""Models spread by accelerate, their weights on disk until they are needed: the same answers as in one place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch

import vidcompress
from hub_layouts import REPOSITORIES, save_repository
from vidcompress import VisualQA
from vidcompress.adapters.base import adapter_for
from vidcompress.core.devices import input_device
from vidcompress.errors import ArgumentError
from vidcompress.loading.load import load_model
from vidcompress.session.compress import compress_inputs

NAMES = (
    "llava-hf/llava-v1.6-mistral-7b-hf",
    "llava-hf/LLaVA-NeXT-Video-7B-hf",
    "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "lmms-lab/LLaVA-Video-7B-Qwen2",
)
PARTS = {
    "model.vision_tower": "disk",
    "model.multi_modal_projector": "cpu",
    "model.image_newline": "cpu",
    "model.language_model": "disk",
    "lm_head": "cpu",
}
MAPS: dict[str, Any] = {
    "auto": "auto",
    "cpu": {"": "cpu"},
    "parts": PARTS,
    "decoder": {"model": "disk", "lm_head": "cpu"},
    "all": {"": "disk"},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    cache = tmp_path_factory.mktemp("hub")
    for name in NAMES:
        save_repository(name, cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
        yield cache


def inputs_for(model: Any, clip: bool) -> dict[str, torch.Tensor]:
    """A row with a picture, and one with a clip where the family takes clips; pixels at random."""
    adapter, side = adapter_for(model), model.config.vision_config.image_size
    layout = adapter.image_layout((80, 120), False, "cpu")  # type: ignore[attr-defined]
    row = [5, 6, *[model.config.image_token_id] * len(layout), 7, 8]
    out: dict[str, torch.Tensor] = {
        "pixel_values": torch.randn(1, len(layout.views), 3, side, side),
        "image_sizes": torch.tensor([[80, 120]]),
    }
    if clip:
        out["pixel_values_videos"] = torch.randn(1, 3, 3, side, side)
        (video,) = adapter.clips(out)  # type: ignore[attr-defined]
        row += [*[model.config.video_token_id] * len(video.layout), 9]
    return {
        "input_ids": torch.tensor([row]),
        "attention_mask": torch.ones(1, len(row), dtype=torch.int64),
        **out,
    }


@pytest.mark.parametrize("where", MAPS)
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_tokens_are_those_of_one_device(name: str, where: str, hub: Path) -> None:
    whole = load_model(name, device="cpu")
    spread = load_model(name, device_map=MAPS[where], dtype="float32")
    assert next(spread.get_input_embeddings().parameters()).is_meta is (where in ("parts", "decoder", "all"))
    assert input_device(spread) == torch.device("cpu")
    inputs = inputs_for(whole, REPOSITORIES[name].clips)
    settings: dict[str, Any] = {"retention_ratio": 0.3, "method": "globalcom2"}
    expected, found = (compress_inputs(model, inputs, **settings) for model in (whole, spread))
    assert torch.equal(found["input_ids"], expected["input_ids"])
    with torch.no_grad():
        assert torch.equal(spread(**found).logits, whole(**expected).logits)
    generation = {"max_new_tokens": 3, "do_sample": False, "suppress_tokens": [spread.config.image_token_id]}
    length = inputs["input_ids"].shape[1]
    with vidcompress.compress(spread, **settings):
        out = spread.generate(**inputs, **generation)
    plain = whole.generate(**compress_inputs(whole, inputs, **settings), **generation)
    assert torch.equal(out[:, length:], plain[:, expected["input_ids"].shape[1] :])


@pytest.mark.parametrize("evidence", ["cls_attention", "attention_received", "distance"])
def test_evidence_is_read_through_the_hooks(evidence: str, hub: Path) -> None:
    whole, spread = (
        load_model(NAMES[0], device="cpu"),
        load_model(NAMES[0], device_map={"": "disk"}, dtype="float32"),
    )
    inputs = inputs_for(whole, clip=False)
    kept = [
        compress_inputs(model, inputs, retention_ratio=0.3, evidence=evidence)
        .report.visuals[0]
        .kept_positions
        for model in (whole, spread)
    ]
    assert torch.equal(*kept)


def test_visual_qa_answers_with_weights_on_disk(hub: Path) -> None:
    qa = VisualQA.from_pretrained(NAMES[2], device_map={"": "disk"})
    assert qa.processor.resize_device == torch.device("cpu")
    frames = torch.zeros(3, 40, 60, 3, dtype=torch.uint8)
    answer = qa.ask("What?", video=frames, max_new_tokens=2, suppress_tokens=[qa.model.config.image_token_id])
    assert answer.report.kept == answer.report.budget and answer.new_tokens >= 1


@pytest.mark.parametrize("value", ["everywhere", 1.5, True, -1, ["cpu"]])
def test_what_is_no_device_map_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"device_map=.*must be one of auto, balanced.* \{'': 'cpu'\}"):
        load_model("owner/nothing", device_map=value)


def test_a_device_map_with_gaps_is_refused(hub: Path) -> None:
    with pytest.raises(ArgumentError, match="does not load: The device_map .*model.image_newline"):
        load_model(NAMES[0], device_map={key: where for key, where in PARTS.items() if "newline" not in key})

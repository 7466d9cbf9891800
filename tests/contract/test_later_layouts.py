"""Gemma 3, SmolVLM2 and Qwen3.5 checkpoints by their hub names, from a cache as the hub's, small and random inside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from PIL import Image

import processor_cases as cases
from hub_layouts import random_tensors
from later_layouts import FAMILY, GEMMA, NAMES, QWEN, SMOL, ours, save_later, shapes_of
from vidcompress import VisualQA
from vidcompress.errors import ArgumentError, MediaError
from vidcompress.loading.load import load_model
from vidcompress.tools.doctor.checkpoint import inspect

pytestmark = pytest.mark.transformers

PICTURE = Image.fromarray(cases.picture(1, 120, 170))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub; nothing else can be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_real_ones_have_as_many_tensors() -> None:
    """By part, as in the listings that the head of `later_layouts` names."""
    qwen = shapes_of(QWEN, 64, 27)
    counts = {
        root: sum(key.startswith(root) for key in qwen) for root in ("model.language_model.", "model.visual.")
    }
    assert counts == {"model.language_model.": 850, "model.visual.": 333}
    assert sum(key.startswith("mtp.") for key in qwen) == 15 and len(qwen) == 1199
    assert sum(key.startswith("vision_tower.") for key in shapes_of(GEMMA, 34, 27)) == 437


def quiet(qa: Any) -> dict[str, Any]:
    """Generated placeholders would ask for features."""
    config = qa.model.config
    ids = [getattr(config, name, None) for name in ("image_token_id", "video_token_id")]
    return {"suppress_tokens": [i for i in ids if i is not None], "max_new_tokens": 3}


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_by_name_and_answers(name: str, hub: Path) -> None:
    save_later(name, hub)
    qa = VisualQA.from_pretrained(name, device="cpu", local_files_only=True)
    assert qa.model.config.model_type == FAMILY[name]
    answer = qa.ask("What is it?", image=PICTURE, **quiet(qa))
    # Gemma: 2 x 2 tokens. SmolVLM: 3 x 4 crops of 56 pixels and the whole. Qwen: at least 64 tokens, in its shape.
    assert answer.report.total == {GEMMA: 4, SMOL: (3 * 4 + 1) * 4, QWEN: 7 * 10}[name]
    assert answer.report.kept == answer.report.budget
    if name == GEMMA:
        with pytest.raises(MediaError, match="videos: 1 given, but this model takes none"):
            qa.ask("What moves?", video=cases.clip(5), **quiet(qa))
        return
    clip = qa.ask("What moves?", video=cases.clip(5), **quiet(qa))
    assert clip.report.total == {SMOL: 5 * 4, QWEN: 3 * 3 * 4}[name]
    assert clip.report.kept == clip.report.budget


PROMPT = {GEMMA: "<start_of_image>", SMOL: "<image>", QWEN: "<|vision_start|><|image_pad|><|vision_end|>"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_of_two_pictures_differs(name: str, hub: Path) -> None:
    """Logits of the first token; an encoder or a projector that was not loaded would not tell them apart."""
    save_later(name, hub)
    qa = VisualQA.from_pretrained(name, device="cpu", local_files_only=True)
    logits = []
    for number in (1, 2):
        picture = Image.fromarray(cases.picture(number, 120, 170))
        inputs = qa.pipeline.processor(text=[PROMPT[name] + "What?"], images=[picture], return_tensors="pt")
        with torch.no_grad():
            logits.append(qa.model(**inputs).logits[0, -1])
    assert float((logits[0] - logits[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_where_it_belongs(name: str, hub: Path) -> None:
    save_later(name, hub)
    expected = {ours(name, key): value for key, value in random_tensors(shapes_of(name)).items()}
    expected.pop(None, None)  # of the layer that predicts several tokens
    found = load_model(name, device="cpu", dtype="auto").state_dict()
    tied = {"lm_head.weight"} if name == GEMMA else set()
    assert found.keys() - tied == expected.keys()
    assert all(torch.equal(found[key], value.to(found[key].dtype)) for key, value in expected.items())


LOST = {
    GEMMA: "multi_modal_projector.mm_soft_emb_norm.weight",
    SMOL: "model.connector.modality_projection.proj.weight",
    QWEN: "model.language_model.layers.1.linear_attn.A_log",
}


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_too_few_too_many_or_misshaped_is_refused_by_name(name: str, change: str, hub: Path) -> None:
    tensors = random_tensors(shapes_of(name))
    lost = LOST[name]
    named = str(ours(name, lost))
    if change == "missing":
        del tensors[lost]
    elif change == "unexpected":
        named = "model.vision_resampler.weight"
        tensors["model.vision_resampler.weight"] = torch.zeros(2)
    else:
        tensors[lost] = torch.zeros(tensors[lost].shape[0] + 1, *tensors[lost].shape[1:])
    save_later(name, hub, tensors)
    with pytest.raises(ArgumentError, match=rf"tensors 1 {change} \(.*{re.escape(named.split('.', 1)[1])}"):
        VisualQA.from_pretrained(name, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_finds_it_in_order(name: str, hub: Path) -> None:
    save_later(name, hub)
    findings = {entry["name"]: entry for entry in inspect(name, local_files_only=True)}
    assert {entry["status"] for entry in findings.values()} == {"ok"}, findings
    for key, entry in findings.items():
        if key.startswith(("image of", "clip of")):
            (seen,) = entry["data"]["inputs"]
            assert seen["placeholders"] == seen["full_length"] > 0

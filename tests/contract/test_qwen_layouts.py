"""Two published Qwen-VL checkpoints by their hub names, from a cache laid out as the hub's, small and random inside."""

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
from qwen_layouts import FAMILY, LEVELS, NAMES, PUBLISHED, THREE, TWO, ours, save_qwen, shapes_of
from vidcompress import VisualQA
from vidcompress.errors import ArgumentError
from vidcompress.loading.load import load_model
from vidcompress.tools.doctor.checkpoint import inspect

PICTURE = Image.fromarray(cases.picture(1, 120, 170))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub; nothing else can be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "name, decoder, encoder, levels, count", [(TWO, 28, 32, 0, 729), (THREE, 36, 27, 3, 750)]
)
def test_the_real_one_has_as_many_tensors(
    name: str, decoder: int, encoder: int, levels: int, count: int
) -> None:
    assert len(shapes_of(name, decoder, encoder, levels)) == count


@pytest.mark.parametrize("name, levels", [(TWO, 0), (THREE, 3)])
def test_tensors_are_called_as_in_public_listings(name: str, levels: int) -> None:
    assert set(shapes_of(name, 1, 1, levels)) == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_by_name_and_answers(name: str, hub: Path) -> None:
    save_qwen(name, hub)
    qa = VisualQA.from_pretrained(name, device="cpu", local_files_only=True)
    assert qa.model.config.model_type == FAMILY[name]
    config = qa.model.config
    quiet = {"suppress_tokens": [config.image_token_id, config.video_token_id], "max_new_tokens": 3}
    answer = qa.ask("What is it?", image=PICTURE, **quiet)
    # 120 x 170 pixels are 4 x 6 tokens of 28; the other family has no less than 64 tokens of 32, in that shape.
    assert answer.report.total == {TWO: 4 * 6, THREE: 7 * 10}[name]
    assert answer.report.kept == answer.report.budget
    clip = qa.ask("What moves?", video=cases.clip(5), **quiet)
    rows, cols = {TWO: (3, 5), THREE: (3, 4)}[name]
    assert clip.report.total == 3 * rows * cols


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_where_it_belongs(name: str, hub: Path) -> None:
    save_qwen(name, hub)
    expected = {ours(name, key): value for key, value in random_tensors(shapes_of(name)).items()}
    found = load_model(name, device="cpu", dtype="auto").state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value.to(found[key].dtype)) for key, value in expected.items())


LOST = {
    TWO: "visual.merger.mlp.2.bias",
    THREE: f"model.visual.deepstack_merger_list.{LEVELS[-1]}.norm.weight",
}


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_too_few_too_many_or_misshaped_is_refused_by_name(name: str, change: str, hub: Path) -> None:
    tensors = random_tensors(shapes_of(name))
    lost, named = LOST[name], ours(name, LOST[name])
    if change == "missing":
        del tensors[lost]
    elif change == "unexpected":
        named = "model.vision_resampler.weight"
        tensors["model.vision_resampler.weight"] = torch.zeros(2)
    else:
        tensors[lost] = torch.zeros(tensors[lost].shape[0] + 1)
    save_qwen(name, hub, tensors)
    with pytest.raises(ArgumentError, match=rf"tensors 1 {change} \(.*{re.escape(named.split('.', 1)[1])}"):
        VisualQA.from_pretrained(name, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_the_doctor_finds_it_in_order(name: str, hub: Path) -> None:
    save_qwen(name, hub)
    findings = {entry["name"]: entry for entry in inspect(name, local_files_only=True)}
    assert {entry["status"] for entry in findings.values()} == {"ok"}, findings
    assert "pictures of any size in patches of" in findings["geometry"]["detail"]
    assert findings["geometry"]["data"]["encoder"]["num_hidden_layers"] == 2
    assert f"all {len(shapes_of(name))} fit" in findings["tensors"]["detail"]
    (image,) = [entry for key, entry in findings.items() if key.startswith("image of")]
    (clip,) = [entry for key, entry in findings.items() if key.startswith("clip of")]
    for entry in (image, clip):
        (seen,) = entry["data"]["inputs"]
        assert seen["placeholders"] == seen["full_length"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_counts_of_the_doctor_are_those_of_compression(name: str, hub: Path, tmp_path: Path) -> None:
    save_qwen(name, hub)
    PICTURE.save(tmp_path / "picture.png")
    found: dict[str, Any] = {
        entry["name"]: entry
        for entry in inspect(name, local_files_only=True, images=[str(tmp_path / "picture.png")])
    }
    (seen,) = [entry for entry in found.values() if "inputs" in entry.get("data", {})]
    (described,) = seen["data"]["inputs"]
    qa = VisualQA.from_pretrained(name, device="cpu", local_files_only=True)
    config = qa.model.config
    for ratio, budget in described["budgets"].items():
        answer = qa.using(retention_ratio=float(ratio)).ask(
            "What?",
            image=PICTURE,
            max_new_tokens=1,
            suppress_tokens=[config.image_token_id, config.video_token_id],
        )
        assert (answer.report.kept, answer.report.total) == (budget["kept"], described["full_length"])

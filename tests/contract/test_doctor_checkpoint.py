"""What the doctor says of a checkpoint is what loading and compressing it would say, without its weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from hub_layouts import REPOSITORIES, save_repository
from tiny_models import FAMILIES, IMAGE, MOST_TILES, VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress import VisualQA, compress_inputs
from vidcompress.adapters.families import get_family, read_geometry
from vidcompress.adapters.llava_video.original_checkpoints import KEY_MAPPING
from vidcompress.loading.load import load_model
from vidcompress.loading.meta_model import empty_model, fit, parameter_count
from vidcompress.loading.resources import embedded_models, find
from vidcompress.media.preprocessing.pixel_config import read_recipe
from vidcompress.media.preprocessing.processor import Processor
from vidcompress.tools.doctor import inputs as doctor_inputs
from vidcompress.tools.doctor.checkpoint import inspect
from vidcompress.tools.doctor.weights import INDEX, SINGLE, WeightsError, read_folder

EMBEDDED = embedded_models()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of tiny-onevision that may be broken."""
    return Path(shutil.copytree(EMBEDDED["tiny-onevision"], tmp_path / "model"))


def findings(folder: Path, **arguments: Any) -> dict[str, dict[str, Any]]:
    return {found["name"]: found for found in inspect(str(folder), **arguments)}


def wrong(folder: Path) -> dict[str, str]:
    return {name: found["detail"] for name, found in findings(folder).items() if found["status"] != "ok"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_the_empty_model_has_the_tensors_of_the_real_one(family: str, tied: bool) -> None:
    model = tiny_model(family)
    config = type(model.config).from_dict(model.config.to_dict())
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    empty = empty_model(config)
    assert {value.device.type for value in empty.state_dict().values()} == {"meta"}
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert parameter_count(empty) == parameter_count(model) - tied * 100 * 32
    if tied:
        del shapes["lm_head.weight"]
    nothing: dict[str, list[str]] = {"missing": [], "unexpected": [], "misshaped": []}
    assert fit(empty, shapes, original=False, packed=False) == nothing
    shapes |= {"model.vision_tower.head.probe": (1, 1, 32)}  # SigLIP's pooling head
    assert fit(empty, shapes, original=False, packed=False)["unexpected"] == []
    (name, shape), *_ = [item for item in shapes.items() if "layers.1" in item[0] and len(item[1]) == 2]
    changed = {**shapes, name: (shape[0] + 1, shape[1]), "stray": (3,)}
    lost = next(
        name
        for name in ("model.image_newline", "lm_head.weight", "model.language_model.norm.weight")
        if name in changed
    )
    del changed[lost]
    assert fit(empty, changed, original=False, packed=False) == {
        "missing": [lost],
        "unexpected": ["stray"],
        "misshaped": [f"{name}: {(shape[0] + 1, shape[1])} instead of {shape}"],
    }
    assert fit(empty, changed, original=False, packed=True) == {**nothing, "missing": [lost]}


@pytest.mark.parametrize("family", ["llava_onevision", "llava_video"])
def test_names_of_the_original_layout_are_understood(family: str) -> None:
    theirs = {
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
        "model.language_model.": "model.",
    }
    shapes = {}
    for name, value in tiny_model(family).state_dict().items():
        start = next((ours for ours in theirs if name.startswith(ours)), "")
        shapes[theirs.get(start, "") + name.removeprefix(start)] = tuple(value.shape)
    empty = empty_model(tiny_model(family).config)
    assert KEY_MAPPING and not any(fit(empty, shapes, original=True, packed=False).values())
    del shapes["model.mm_projector.0.weight"]
    assert fit(empty, shapes, original=True, packed=False)["missing"] == [
        "model.multi_modal_projector.linear_1.weight"
    ]


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models_are_in_order(name: str) -> None:
    found = findings(EMBEDDED[name])
    assert {entry["status"] for entry in found.values()} == {"ok"}
    weights = found["files"]["data"]
    real = load_file(EMBEDDED[name] / "model.safetensors")
    assert (weights["tensors"], weights["bytes"]) == (len(real), sum(t.nbytes for t in real.values()))
    model = load_model(name, device="cpu")
    assert found["geometry"]["data"]["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["geometry"]["data"]["encoder"]["patch_size"] == 14


@pytest.mark.parametrize("media", ["image", "images", "video"])
def test_counts_are_those_of_compression(media: str) -> None:
    """Full length, views and what each ratio leaves, against real answers of the same model."""
    picture, clip = "examples/scene.png", "examples/clip.mp4"
    root = find("models").parent
    given: dict[str, Any] = {
        "image": {"images": [str(root / picture)]},
        "images": {"images": [str(root / picture)] * 2},
        "video": {"video": str(root / clip), "frames": 5},
    }[media]
    found = findings(EMBEDDED["tiny-onevision"], **given)
    (seen,) = [entry for entry in found.values() if "inputs" in entry.get("data", {})]
    qa = VisualQA.from_pretrained(device="cpu", num_frames=5 if media == "video" else None)
    for ratio in doctor_inputs.RATIOS:
        ask = {key: value for key, value in given.items() if key != "frames"}
        report = qa.using(retention_ratio=ratio).ask("what digit is shown?", **ask, max_new_tokens=1).report
        for visual, entry in zip(report.visuals, seen["data"]["inputs"], strict=True):
            assert entry["full_length"] == entry["placeholders"] == visual.total
            assert [view["tokens"] for view in entry["views"]] == [view.total for view in visual.views]
            assert [view["kind"] for view in entry["views"]] == [view.kind for view in visual.views]
            plan = entry["budgets"][ratio]
            assert (plan["kept"], plan["separators"]) == (visual.kept, visual.separators_kept)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sizes", [[(112, 80)], [(40, 100), (300, 8)]])
def test_every_family_lays_out_without_weights(family: str, sizes: list[tuple[int, int]]) -> None:
    model = tiny_model(family)

    record = get_family(model.config.model_type)
    geometry = replace(read_geometry(model.config, crops=record.crops), tiles=(1, MOST_TILES))
    recipe = read_recipe({}, geometry, "nothing")
    processor = Processor(record, geometry, recipe, recipe, None, "<image>", "<video>")
    pictures = [Image.new("RGB", size[::-1]) for size in sizes]
    entries = doctor_inputs.describe_images(empty_model(model.config), processor, pictures)
    scene = Scene(tuple(("image", size) for size in sizes))
    report = compress_inputs(model, batch(model, [scene]), retention_ratio=0.5).report
    for entry, visual in zip(entries, report.visuals, strict=True):
        assert entry["full_length"] == entry["placeholders"] == visual.total
        assert [view["tokens"] for view in entry["views"]] == [view.total for view in visual.views]
        assert entry["budgets"]["0.5"]["kept"] == visual.kept
    if family in VIDEO_FAMILIES:
        entry = doctor_inputs.describe_clip(empty_model(model.config), processor, 5, (48, 64))
        ids = batch(model, [Scene((("video", 5),))])["input_ids"]
        assert (
            entry["full_length"] == entry["placeholders"] == int(((ids == IMAGE) | (ids == IMAGE + 1)).sum())
        )


@pytest.mark.parametrize("name", REPOSITORIES)
def test_published_layouts_are_understood_from_the_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = save_repository(name, tmp_path)
    found = {entry["name"]: entry for entry in inspect(name, local_files_only=True)}
    assert {entry["status"] for entry in found.values()} == {"ok"}, found
    layout = "transformers" if name.startswith("llava-hf/") else "original"
    assert found["config"]["data"]["layout"] == layout
    assert found["config"]["data"]["model_type"] == REPOSITORIES[name].model_type
    assert found["files"]["data"]["where"] == "cache" and len(found["files"]["data"]["files"]) > 2
    assert any(entry.startswith("clip of ") for entry in found) == REPOSITORIES[name].clips
    # One tensor less, and it is missing by its name.
    (index,) = folder.glob("*.index.json")
    content = json.loads(index.read_text())
    lost = next(key for key in sorted(content["weight_map"]) if "layers.1.self_attn.q_proj.weight" in key)
    shard = folder / content["weight_map"].pop(lost)
    tensors = load_file(shard)
    del tensors[lost]
    save_file(tensors, shard, metadata={"format": "pt"})
    index.write_text(json.dumps(content))
    found = {entry["name"]: entry for entry in inspect(name, local_files_only=True)}
    assert found["tensors"]["status"] == "failed"
    assert [
        key.endswith("layers.1.self_attn.q_proj.weight") for key in found["tensors"]["data"]["missing"]
    ] == [True]


def test_crops_and_words() -> None:
    entry = findings(EMBEDDED["tiny-next"], size=[480, 640])["image of 640 x 480"]
    (seen,) = entry["data"]["inputs"]
    assert seen["crops"] == [2, 2] and len(seen["views"]) == 5
    assert entry["detail"].startswith(
        "268 tokens: thumbnail 64; crops (2 x 2) 4 x 48; separators 12; kept 134 at 0.5"
    )


def test_damage_is_found_by_name(copied: Path) -> None:
    weights = copied / SINGLE
    tensors = load_file(weights)
    del tensors["image_newline"]
    tensors["language_model.model.norm.weight"] = torch.zeros(7)
    tensors["stray"] = torch.zeros(1)
    save_file(tensors, weights, metadata={"format": "pt"})
    assert wrong(copied) == {
        "tensors": "1 missing (model.image_newline); 1 unexpected (stray); "
        "1 misshaped (model.language_model.norm.weight: (7,) instead of (192,))"
    }
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors is damaged or cut short" in wrong(copied)["files"]
    weights.unlink()
    assert "no weights: neither model.safetensors nor" in wrong(copied)["files"]
    torch.save({}, copied / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin), which are never opened" in wrong(copied)["files"]
    (copied / "odd.safetensors").write_bytes(b"")
    (copied / "pytorch_model.bin").unlink()
    assert "only odd.safetensors" in wrong(copied)["files"]


def test_shards_and_their_index(copied: Path) -> None:
    tensors = load_file(copied / SINGLE)
    names = sorted(tensors)
    half = len(names) // 2
    shards = {"a.safetensors": names[:half], "b.safetensors": names[half:]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, copied / file, metadata={"format": "pt"})
    placed = {name: file for file, part in shards.items() for name in part}
    (copied / SINGLE).unlink()
    (copied / INDEX).write_text(json.dumps({"weight_map": placed}))
    assert wrong(copied) == {}
    assert read_folder(copied).files == ["a.safetensors", "b.safetensors"]
    (copied / INDEX).write_text(json.dumps({"weight_map": {**placed, "ghost": "a.safetensors"}}))
    assert wrong(copied) == {"files": "ghost is not in a.safetensors, where the index says"}
    del placed[names[0]]
    (copied / INDEX).write_text(json.dumps({"weight_map": placed}))
    assert wrong(copied) == {"files": f"{names[0]} in a.safetensors is not in the index"}
    (copied / "b.safetensors").unlink()
    (copied / INDEX).write_text(json.dumps({"weight_map": placed}))
    assert f"b.safetensors is missing, with {len(names) - half} tensors" in wrong(copied)["files"]
    assert f"{len(names) - half} missing" in wrong(copied)["tensors"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"weight_map": []}', "weight_map must map names to files"),
        ('{"weight_map": {"a": 1}}', "weight_map must map names to files"),
        ("{}", "KeyError"),
        ('{"weight_map": {"a": "../../secret"}}', "names '../../secret', which is not a file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "names '/etc/passwd'"),
    ],
)
def test_an_index_is_not_trusted(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(WeightsError, match=message):
        read_folder(tmp_path)


def test_what_cannot_be_loaded_is_said(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())

    def rewrite(**changes: Any) -> None:
        (copied / "config.json").write_text(json.dumps(config | changes))

    rewrite(model_type="bert")
    found = findings(copied)
    assert set(found) == {"config", "files"} and found["files"]["status"] == "ok"
    assert "it is of type 'bert', which no adapter serves; supported: " in found["config"]["detail"]
    assert ", internvl, llava, " in found["config"]["detail"]
    rewrite(image_token_index=7)
    assert "has image_token_id=7" in wrong(copied)["processor"]
    rewrite(text_config=config["text_config"] | {"max_position_embeddings": 300})
    assert (
        "does not fit into the decoder's context of 300" in findings(copied)["image of 640 x 480"]["detail"]
    )
    rewrite(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    found = findings(copied)
    assert found["config"]["data"]["quantisation"] == "bitsandbytes"
    assert found["tensors"]["detail"] == "all 124 fit the model by name (quantised: shapes are packed)"
    (copied / "config.json").write_text(json.dumps(config))
    (copied / "chat_template.jinja").unlink()
    assert "no chat template" in wrong(copied)["processor"]
    (copied / "config.json").write_text("{")
    assert "config" in wrong(copied)


def test_clips_where_there_are_none() -> None:
    found = findings(EMBEDDED["tiny-next"], frames=4)
    assert found["clip of 4 frames"]["status"] == "failed"
    assert "llava_next takes no clips" in found["clip of 4 frames"]["detail"]


def test_code_in_a_checkpoint_is_never_run(copied: Path) -> None:
    marker = copied / "ran"
    (copied / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: pass\n")
    (copied / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}')
    assert "config" in wrong(copied)
    assert not marker.exists()

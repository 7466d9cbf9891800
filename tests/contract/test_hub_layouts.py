"""Six published checkpoints by their hub names, from a cache laid out as the hub's, small and random inside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import hub_layouts
from hub_layouts import REPOSITORIES, SHA, random_tensors, renamed_since, save_repository, save_sharded
from vidcompress import VisualQA
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.loading.load import load_model
from vidcompress.media import MediaError, load_processor

NAMES = list(REPOSITORIES)
CONVERTED = [name for name in NAMES if name.startswith("llava-hf/")]
PICTURE = Image.fromarray(np.arange(80 * 120 * 3, dtype=np.uint32).astype(np.uint8).reshape(80, 120, 3))
FRAMES = np.arange(4 * 60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(4, 60, 80, 3)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub; nothing else can be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def ask(qa: VisualQA, **media: Any) -> Any:
    config = qa.model.config
    placeholders = [config.image_token_id, getattr(config, "video_token_id", None)]
    suppressed = [token for token in placeholders if token is not None]  # a random model may well say them
    return qa.ask("What is it?", **media, max_new_tokens=3, suppress_tokens=suppressed)


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_by_name_and_answers(name: str, hub: Path) -> None:
    save_repository(name, hub)
    qa = VisualQA.from_pretrained(name, device="cpu", local_files_only=True)
    assert qa.model.config.model_type == REPOSITORIES[name].model_type
    answer = ask(qa, image=PICTURE)
    assert answer.new_tokens >= 1
    # The thumbnail, and 2 x 2 crops of which a picture of 120 x 80 fills 2/3 of the rows, with a newline each.
    side, rows = (4, 6) if "next" in qa.model.config.model_type else (5, 6)
    assert answer.report.total == side**2 + rows * (2 * side + 1)
    assert answer.report.kept == answer.report.budget == (answer.report.total + 2) // 4
    if REPOSITORIES[name].clips:
        clip = ask(qa, video=FRAMES)
        expected = {"llava_next_video": 4 * 4, "llava_onevision": 4 * 9 + 1, "llava_video": 4 * 2 * 3}
        assert clip.report.total == expected[qa.model.config.model_type]
        assert clip.report.kept == clip.report.budget and clip.new_tokens >= 1
    else:
        with pytest.raises(MediaError, match="videos: 1 given, but this model takes none"):
            ask(qa, video=FRAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_where_it_belongs(name: str, hub: Path) -> None:
    save_repository(name, hub)
    expected = {ours(name, key): value for key, value in random_tensors(REPOSITORIES[name].shapes).items()}
    found = load_model(name, device="cpu", dtype="auto").state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value.to(found[key].dtype)) for key, value in expected.items())


def ours(name: str, key: str) -> str:
    """What transformers calls a tensor of a repository, written out apart from its own tables."""
    if name in CONVERTED:
        return renamed_since("5", key)
    if key.startswith(TOWER):
        return key.replace(TOWER, "model.vision_tower.")
    for old, new in (("0", "linear_1"), ("2", "linear_2")):
        key = key.replace(f"model.mm_projector.{old}.", f"model.multi_modal_projector.{new}.")
    return re.sub(r"^model\.(embed_tokens|layers|norm)\.", r"model.language_model.\1.", key)


@pytest.mark.parametrize("names", ["4.52", "5"])
@pytest.mark.parametrize("name", CONVERTED)
def test_converted_checkpoints_saved_since_load_alike(name: str, names: str, hub: Path) -> None:
    tensors = random_tensors(REPOSITORIES[name].shapes)
    save_repository(name, hub, {renamed_since(names, key): value for key, value in tensors.items()})
    found = load_model(name, device="cpu", dtype="auto").state_dict()
    for key, value in tensors.items():
        assert torch.equal(found[ours(name, key)], value.to(found[ours(name, key)].dtype))


def test_the_real_one_has_as_many_tensors() -> None:
    """As the published index of llava-onevision-qwen2-7b-ov has: 28 decoder and 26 encoder layers, no pooling head."""
    decoder = hub_layouts.decoder_shapes(28, 4, bias=True)
    assert len(hub_layouts.original_shapes(decoder, hub_layouts.encoder_shapes(26, 729, cls=False))) == 765


TOWER = "model.vision_tower.vision_tower.vision_model."
LOST = {
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": "language_model.model.layers.1.self_attn.q_proj.bias",
    "llava-hf/llava-v1.6-vicuna-7b-hf": "vision_tower.vision_model.embeddings.class_embedding",
    "llava-hf/llava-v1.6-mistral-7b-hf": "image_newline",
    "llava-hf/LLaVA-NeXT-Video-7B-hf": "language_model.lm_head.weight",
    "lmms-lab/LLaVA-Video-7B-Qwen2": "model.mm_projector.2.weight",
    "lmms-lab/llava-onevision-qwen2-7b-ov": f"{TOWER}encoder.layers.2.mlp.fc1.bias",
}


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_too_few_too_many_or_misshaped_is_refused_by_name(name: str, change: str, hub: Path) -> None:
    tensors = random_tensors(REPOSITORIES[name].shapes)
    lost = LOST[name]
    named = ours(name, lost)
    if change == "missing":
        del tensors[lost]
    elif change == "unexpected":
        named = "model.vision_resampler.weight"
        tensors[named] = torch.zeros(2)
    else:
        shape = tuple(tensors[lost].shape)
        tensors[lost] = torch.zeros(shape[0] + 1, *shape[1:])
        named += f" {tuple(tensors[lost].shape)} instead of {shape}"
    save_repository(name, hub, tensors)
    message = re.escape(
        f"model={name!r} does not load: tensors 1 {change} ({named}); fetch the checkpoint again"
    )
    with pytest.raises(ArgumentError, match=message):
        VisualQA.from_pretrained(name, device="cpu")


def test_hundreds_are_counted_and_the_first_named(hub: Path) -> None:
    name = CONVERTED[0]
    tensors = random_tensors(REPOSITORIES[name].shapes)
    kept = {key: value for key, value in tensors.items() if "vision_tower" not in key}
    kept |= {f"other.{number:02d}": torch.zeros(1) for number in range(9)}
    save_repository(name, hub, kept)
    with pytest.raises(ArgumentError) as raised:
        load_model(name, device="cpu")
    message = str(raised.value)
    assert f"tensors {len(tensors) - len(kept) + 9} missing (model.vision_tower.embeddings." in message
    assert "9 unexpected (other.00, other.01, other.02, other.03, other.04 and 4 more)" in message
    assert len(message) < 800


@pytest.mark.parametrize("tied", [True, False])
def test_a_tied_output_layer_may_be_left_out_and_no_other(tied: bool, hub: Path) -> None:
    """As llava-onevision-qwen2-0.5b has it: embeddings used twice."""
    name = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    tensors = random_tensors(REPOSITORIES[name].shapes)
    del tensors["language_model.lm_head.weight"]
    folder = save_repository(name, hub, tensors)
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = tied
    (folder / "config.json").write_text(json.dumps(config))
    if tied:
        model = load_model(name, device="cpu")
        assert model.lm_head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    else:
        with pytest.raises(ArgumentError, match=r"1 missing \(lm_head\.weight\)"):
            load_model(name, device="cpu")


HARMLESS = {
    "vision_tower.vision_model.embeddings.position_ids": torch.arange(25)[None],
    "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8),
    "vision_tower.vision_model.head.probe": torch.zeros(1, 1, 64),
    "vision_tower.vision_model.head.mlp.fc1.weight": torch.zeros(128, 64),
}


def test_buffers_of_old_saves_and_the_unused_head_may_be_there(hub: Path) -> None:
    name = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    tensors = random_tensors(REPOSITORIES[name].shapes)
    save_repository(name, hub, tensors | HARMLESS)
    assert load_model(name, device="cpu").state_dict().keys() == {ours(name, key) for key in tensors}


def test_a_head_the_config_asks_for_and_the_weights_lack_is_left_out_not_made_up(hub: Path) -> None:
    name = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    folder = save_repository(name, hub)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["vision_use_head"] = True
    (folder / "config.json").write_text(json.dumps(config))
    model = load_model(name, device="cpu")
    assert not any(".head." in key for key in model.state_dict())
    assert model.config.vision_config.vision_use_head is False


# -- files -----------------------------------------------------------------------------------------------------

NAME = "llava-hf/llava-v1.6-vicuna-7b-hf"
SHARD = "model-00002-of-00003.safetensors"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _pickle_only(folder: Path) -> None:
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    torch.save({"a": torch.zeros(1)}, folder / "pytorch_model.bin")


def _index(folder: Path, content: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


DAMAGE = {
    "shard": (lambda f: (f / SHARD).unlink(), rf"of 3 weight files 1 are missing \({SHARD}\)"),
    "cut": (lambda f: _cut(f / SHARD), rf"{SHARD} is not a whole safetensors file"),
    "empty": (lambda f: (f / SHARD).write_bytes(b""), rf"{SHARD} is not a whole safetensors file"),
    "text": (
        lambda f: (f / SHARD).write_text("<html>not found</html>"),
        rf"{SHARD} is not a whole safetensors file",
    ),
    "none": (lambda f: [p.unlink() for p in f.glob("*.safetensors*")], "it has no weights"),
    "pickled": (_pickle_only, "weights are pickled .*which can run code.*convert them to safetensors"),
    "index": (lambda f: _index(f, {"weight_map": 3}), "lists no safetensors files under weight_map"),
    "way out": (
        lambda f: _index(f, {"weight_map": {"a": "../../../secret.safetensors"}}),
        "lists no safetensors files under weight_map",
    ),
    "no json": (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
    "a list": (
        lambda f: (f / "config.json").write_text("[]"),
        "config.json holds a list, expected a JSON object",
    ),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        "the hub has none or cannot be reached|holds no config.json",
    ),
}


@pytest.mark.parametrize("where", ["hub", "folder"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_give_one_clear_error(damage: str, where: str, hub: Path) -> None:
    change, message = DAMAGE[damage]
    folder = save_repository(NAME, hub)
    change(folder)
    source = NAME if where == "hub" else str(folder)
    with pytest.raises(ArgumentError, match=rf"model='{re.escape(source)}' does not load: .*{message}"):
        load_model(source, device="cpu")


def test_a_name_that_is_not_there(hub: Path) -> None:
    with pytest.raises(
        ArgumentError,
        match="'owner/nothing' does not load: its config.json is not in the cache of the hub, and the hub has none",
    ):
        load_model("owner/nothing", device="cpu")


def test_a_revision_is_looked_up(hub: Path) -> None:
    save_repository(NAME, hub)
    assert load_model(NAME, device="cpu", revision=SHA).config.model_type == "llava_next"
    with pytest.raises(ArgumentError, match=f"model='{NAME}' does not load"):
        load_model(NAME, device="cpu", revision="v2")


@pytest.mark.parametrize("name", [CONVERTED[0], "lmms-lab/LLaVA-Video-7B-Qwen2"])
def test_code_beside_a_known_layout_is_never_run(name: str, hub: Path, tmp_path: Path) -> None:
    folder = save_repository(name, hub)
    marker = tmp_path / "ran"
    for path in ("evil.py", "custom_generate/generate.py"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(
            f"open({str(marker)!r}, 'w')\nclass Evil: pass\ndef generate(*a, **k): pass\n"
        )
    automatic = dict.fromkeys(("AutoConfig", "AutoModelForImageTextToText", "AutoModel"), "evil.Evil")
    for filename, entry in (
        ("config.json", automatic),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}),
        ("preprocessor_config.json", {"AutoProcessor": "evil.Evil", "AutoImageProcessor": "evil.Evil"}),
    ):
        path = folder / filename
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(content | {"auto_map": entry}))
    qa = VisualQA.from_pretrained(name, device="cpu")
    assert type(qa.model).__module__.startswith(("transformers.", "vidcompress."))
    assert ask(qa, image=PICTURE).new_tokens >= 1
    assert not marker.exists()


# -- how the original layout is recognised ---------------------------------------------------------------------

ORIGINAL = "lmms-lab/llava-onevision-qwen2-7b-ov"


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "llava_qwen"},
        {"model_type": "llava_qwen", "architectures": None},
        {"model_type": "qwen2"},
        {"mm_vision_tower": "/home/me/siglip-so400m-patch14-384/"},
        {"torch_dtype": "float16"},
    ],
)
def test_what_is_plausible_in_an_original_config_is_tolerated(change: dict[str, Any], hub: Path) -> None:
    folder = save_repository(ORIGINAL, hub)
    raw = json.loads((folder / "config.json").read_text()) | change
    if "mm_vision_tower" in change:
        from vidcompress.adapters.llava_video.original_checkpoints import translate_config

        del raw["vision_config"]  # found by the last part of the name
        raw |= {"image_grid_pinpoints": "(1x1),...,(6x6)"}
        assert translate_config(raw, (260, 261)).vision_config.num_hidden_layers == 26
        return
    (folder / "config.json").write_text(json.dumps(raw))
    assert load_model(ORIGINAL, device="cpu").config.model_type == "llava_onevision"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"architectures": ["LlavaLlamaForCausalLM"]},
            ArgumentError,
            "is a LlavaLlamaForCausalLM in its original layout.*such as llava-hf/llava-v1.6-vicuna-7b-hf",
        ),
        (
            {"architectures": ["LlavaMistralForCausalLM"], "model_type": "llava_mistral"},
            ArgumentError,
            "is a LlavaMistralForCausalLM in its original layout.*such as llava-hf/llava-v1.6-mistral-7b-hf",
        ),
        ({"add_faster_video": True}, ArgumentError, "add_faster_video=True in config.json"),
        (
            {"architectures": "LlavaQwenForCausalLM", "model_type": "llava_qwen2"},
            UnsupportedModelError,
            "of type 'llava_qwen2', which no adapter serves",
        ),
        ({"architectures": [], "model_type": 7}, UnsupportedModelError, "of type 7, which no adapter serves"),
    ],
)
def test_what_cannot_be_loaded_says_so(
    change: dict[str, Any], error: type[Exception], message: str, hub: Path
) -> None:
    folder = save_repository(ORIGINAL, hub)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(error, match=message):
        load_model(ORIGINAL, device="cpu")
    with pytest.raises(MediaError, match=message if error is ArgumentError else "model_or_path=|model_type="):
        load_processor(ORIGINAL)


def test_a_config_cannot_name_other_weights(hub: Path) -> None:
    folder = save_repository(NAME, hub)
    torch.save({"a": torch.zeros(1)}, folder / "adapter_model.bin")
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"transformers_weights": "adapter_model.bin"}))
    assert torch.equal(
        load_model(NAME, device="cpu", dtype="auto").model.image_newline,
        random_tensors(REPOSITORIES[NAME].shapes)["image_newline"].half(),
    )


def test_one_whole_file_comes_before_shards(hub: Path) -> None:
    """As transformers chooses; what is not read is not asked for."""
    folder = save_repository(NAME, hub)
    save_file(
        random_tensors(REPOSITORIES[NAME].shapes), folder / "model.safetensors", metadata={"format": "pt"}
    )
    (folder / SHARD).unlink()
    assert load_model(NAME, device="cpu").config.model_type == "llava_next"
    (folder / "model.safetensors").unlink()
    save_sharded(random_tensors(REPOSITORIES[NAME].shapes), folder, 1)
    assert load_model(NAME, device="cpu").config.model_type == "llava_next"

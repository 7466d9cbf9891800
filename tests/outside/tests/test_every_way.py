"""The installed package through every way in; it is found by its entry points, nothing here imports it."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    Cohere2Config,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    SiglipVisionConfig,
)

import vidcompress
from vidcompress.adapters import adapter_for
from vidcompress.cli import main

WORDS = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    "what",
    "is",
    "this",
    "a",
    "blue",
    "square",
    "?",
    "USER",
    "ASSISTANT",
]
SIZE = dict(hidden_size=32, intermediate_size=64)
DECODER = dict(num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2)
EXPERTS = dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)


@dataclass(frozen=True)
class Tried:
    """A family of the package: words that it writes, its processor's file, and what a picture of 120 x 80 becomes."""

    written: tuple[str, ...]
    picture: str
    recipe: dict[str, Any]
    adapter: str
    modalities: tuple[str, ...]
    total: int
    shape: tuple[int, ...]


FAMILIES = {
    "cohere2_vision": Tried(
        ("<|IMG_PATCH|>", "<|START_OF_IMG|>", "<|IMG_LINE_BREAK|>", "<|END_OF_IMG|>"),
        "<|IMG_PATCH|>",
        {"size": {"height": 56, "width": 56}, "max_patches": 4, "crop_to_patches": True},
        "Cohere2VisionAdapter",
        ("image",),
        5 * 16,
        (5, 3, 56, 56),
    ),
    "glm4v_moe": Tried(
        ("<|image|>", "<|video|>", "<|begin_of_image|>", "<|end_of_image|>"),
        "<|begin_of_image|><|image|><|end_of_image|>",
        {"size": {"shortest_edge": 12544, "longest_edge": 100_000}, "patch_size": 14, "merge_size": 2},
        "Glm4vMoeAdapter",
        ("image", "video"),
        3 * 4,
        (6 * 8, 3 * 2 * 14 * 14),
    ),
}
TEMPLATE = (
    "{% for m in messages %}USER {% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == 'image' %}PICTURE{% endif %}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT{% endif %}"
)


def small_model(name: str, words: list[str]) -> Any:
    """A model of the family with random weights."""
    ids = dict(vocab_size=len(words), bos_token_id=2, eos_token_id=3, pad_token_id=0)
    if name == "cohere2_vision":
        config: Any = Cohere2VisionConfig(
            vision_config=SiglipVisionConfig(
                **SIZE, num_hidden_layers=3, num_attention_heads=4, image_size=56, patch_size=7
            ),
            text_config=Cohere2Config(**SIZE, **DECODER, **ids),
            image_token_id=words.index("<|IMG_PATCH|>"),
            alignment_intermediate_size=64,
        )
        return Cohere2VisionForConditionalGeneration(config)
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    config = Glm4vMoeConfig(
        vision_config=dict(**SIZE, depth=2, num_heads=2, image_size=56, patch_size=14, out_hidden_size=32),
        text_config=dict(**SIZE, **DECODER, **EXPERTS, **ids, head_dim=16, rope_parameters=rope),
        image_token_id=words.index("<|image|>"),
        video_token_id=words.index("<|video|>"),
    )
    return Glm4vMoeForConditionalGeneration(config)


@pytest.fixture(scope="module", params=list(FAMILIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the layout of the converted ones, small and with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder, tried = tmp_path_factory.mktemp(name), FAMILIES[name]
    words = [*WORDS, *tried.written]
    torch.manual_seed(0)
    model = small_model(name, words)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(5.0 if weight.ndim > 1 else 1.0)
    model.generation_config.suppress_tokens = [0, 1, 2, 3, *range(len(WORDS), len(words))]
    model.save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(tried.written)})
    tokenizer.save_pretrained(folder)
    recipe = tried.recipe | {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(recipe))
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("PICTURE", tried.picture))
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that is wider than high."""
    path = tmp_path_factory.mktemp("media") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (10, 15, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(pixels).save(path)
    return path


def stock(module: str, *names: str) -> list[Any]:
    """Functions of a module of transformers that imports torchvision, which they do without."""
    spec = importlib.util.find_spec(f"transformers.models.{module}")
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    for node in tree.body:
        node.decorator_list = []
    space: dict[str, Any] = {"np": np, "math": math}
    exec(compile(tree, spec.origin, "exec"), space)
    return [space[each] for each in names]


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0), *capsys.readouterr()


def test_it_is_found_by_its_entry_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert "edges" in vidcompress.available_methods()
    methods = json.loads(command(capsys, "methods", "--json")[1])
    edges = next(entry for entry in methods["methods"] if entry["name"] == "edges")
    assert edges["package"] == "acme-compress 1.0"
    assert edges["summary"] == "Tokens unlike their left neighbour, where something begins or ends."
    assert edges["options"] == {"order": 2.0}
    assert edges["card_problem"] is None
    assert methods["broken"] == []
    models = json.loads(command(capsys, "models", "--json")[1])
    for name, tried in FAMILIES.items():
        entry = {"model_type": name, "adapter": tried.adapter, "modalities": list(tried.modalities)}
        assert entry | {"package": "acme-compress 1.0"} in models["families"]
    assert models["broken"] == []
    assert "acme-compress 1.0" in command(capsys, "models")[1]
    assert "acme_compress" in sys.modules


def test_its_card_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "distance of its feature" in command(capsys, "methods", "edges")[1]
    card = json.loads(command(capsys, "methods", "edges", "--json")[1])["card"]
    assert card["name"] == "edges"
    assert card["defaults"] == {"order": 2.0}


def test_its_options_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        vidcompress.ArgumentError, match="no option 'ordr'; known: order; did you mean 'order'"
    ):
        vidcompress.get_method("edges", ordr=1.0)
    with pytest.raises(vidcompress.ArgumentError, match="order must be a number, got 'x'"):
        vidcompress.get_method("edges", order="x")
    ask = ("ask", "--question", "what?", "--method", "edges", "--option", "ordr=1")
    assert "did you mean 'order'" in command(capsys, *ask)[2]


def test_what_a_picture_becomes(name: str, checkpoint: Path, picture: Path) -> None:
    processor, tried = vidcompress.load_processor(checkpoint), FAMILIES[name]
    inputs = processor(text=[f"{tried.picture} what ?"] * 2, images=[picture, picture])
    assert inputs["pixel_values"].shape == (2 * tried.shape[0], *tried.shape[1:])
    assert (inputs["input_ids"] == processor.geometry.image_token_id).sum(1).tolist() == [tried.total] * 2
    if name == "glm4v_moe":
        assert inputs["image_grid_thw"].tolist() == [[1, 6, 8]] * 2
        assert inputs["mm_token_type_ids"].sum(1).tolist() == [tried.total] * 2
        return
    words = processor.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    view = [*["<|IMG_PATCH|>"] * 16, "<|IMG_LINE_BREAK|>"]
    assert words == ["<s>", "<|START_OF_IMG|>", *view * 5, "<|END_OF_IMG|>", "what", "?"]
    assert inputs["image_sizes"].tolist() == [[80, 120, 0]] * 2


SIDES = [1, 27, 28, 55, 56, 57, 79, 112, 113, 500, 640, 3000]


def test_sizes_are_those_of_transformers(name: str, checkpoint: Path) -> None:
    """Tiles of Command A Vision, and patches of GLM-4.5V."""
    geometry = vidcompress.load_processor(checkpoint).geometry
    rules = ("get_optimal_tiled_canvas", "get_all_supported_aspect_ratios")
    canvas, _ = stock("cohere2_vision.image_processing_cohere2_vision", *rules)
    (resize,) = stock("glm4v.image_processing_glm4v", "smart_resize")
    for size in ((height, width) for height in SIDES for width in SIDES):
        if name == "cohere2_vision":
            assert geometry.tile_grid(size) == canvas(size, (56, 56), 1, 4)[::-1]
        elif max(size) <= 100 * min(size):
            height, width = resize(2, *size, min_pixels=12544, max_pixels=100_000)
            assert geometry.image_grid(size) == (1, height // 14, width // 14)


@pytest.mark.parametrize("name", ["cohere2_vision"], indirect=True)
def test_each_tile_shows_its_part_of_the_thumbnail(checkpoint: Path, picture: Path) -> None:
    """Its place and that of the thumbnail, which globalcom2 takes for its commander, are those of the pixels."""
    qa = vidcompress.VisualQA.from_pretrained(checkpoint, device="cpu")
    inputs = qa.processor(text="<|IMG_PATCH|>", images=[picture])
    (visual,), _ = adapter_for(qa.model).visuals(inputs)
    cells, views = 56 // visual.layout.grid[0], visual.layout.views
    (last,) = (number for number, view in enumerate(views) if view.kind == "thumbnail")

    def apart(numbers: list[int]) -> float:
        """How far tiles are from the parts of the thumbnail that their boxes name, in deviations."""
        far = []
        for view, pixels in zip(views[:-1], visual.pixels[numbers], strict=True):
            top, left, bottom, right = (round(edge * cells) for edge in view.box)
            part = visual.pixels[last, None, :, top:bottom, left:right]
            small = torch.nn.functional.interpolate(pixels[None], part.shape[-2:], mode="area")
            far.append(float((small - part).abs().mean()))
        return max(far)

    assert last == 4
    assert apart([0, 1, 2, 3]) < 0.5 < apart([0, 2, 1, 3])


@pytest.mark.parametrize("method", ["edges", "globalcom2", "pool"])
def test_every_way_in_gives_the_same_answer(
    capsys: pytest.CaptureFixture[str], name: str, checkpoint: Path, picture: Path, method: str
) -> None:
    qa = vidcompress.VisualQA.from_pretrained(checkpoint, method=method, max_tokens=7, device="cpu")
    asked = qa.ask("what is this ?", image=picture, max_new_tokens=6)
    assert asked.text
    assert asked.report.total == FAMILIES[name].total
    assert asked.report.kept == 7 or (method == "pool" and 0 < asked.report.kept < 7)
    assert asked.media[0].size == (120, 80)
    assert asked.overlay().size[0] > 100
    batch = qa.ask_batch([{"question": "what is this ?", "image": picture}] * 3, max_new_tokens=6)
    assert [answer.text for answer in batch] == [asked.text] * 3

    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this ?"}]}
    inputs = qa.processor(text=qa.processor.apply_chat_template([message]), images=[picture])
    shorter = vidcompress.compress_inputs(qa.model, inputs, method, max_tokens=7)
    out = qa.model.generate(**shorter, max_new_tokens=6, do_sample=False)
    plain = qa.processor.batch_decode(out[:, shorter["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    with vidcompress.compress(qa.model, method, max_tokens=7):
        out = qa.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    block = qa.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    words = ["ask", "--model", str(checkpoint), "--image", str(picture), "--question", "what is this ?"]
    words += ["--method", method, "--max-tokens", "7", "--max-new-tokens", "6", "--device", "cpu", "--json"]
    code, printed, _ = command(capsys, *words)
    assert code == 0
    assert [plain.strip(), block.strip(), json.loads(printed)["answer"]] == [asked.text] * 3


def test_the_method_runs_on_models_of_vidcompress() -> None:
    qa = vidcompress.VisualQA.from_pretrained(method="edges", retention_ratio=0.25, device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    report = qa.ask("which shape appears first?", video=frames).report
    assert report.kept == report.visuals[0].budget < report.total


def test_a_clip_is_refused(checkpoint: Path) -> None:
    qa = vidcompress.VisualQA.from_pretrained(checkpoint, device="cpu")
    with pytest.raises(vidcompress.VidcompressError, match="videos: 1 given, but this model takes none"):
        qa.ask("what is this ?", video=np.zeros((2, 56, 56, 3), dtype=np.uint8))

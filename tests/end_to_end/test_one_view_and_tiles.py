"""LLaVA-1.5 and InternVL from a folder in the hub's layout: every way to ask gives the same answer."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vidcompress
from tiny_models import SIDE, TOKENS, tiny_model
from vidcompress.cli import main
from vidcompress.core.budget import VisualBudget
from vidcompress.core.method import PerVisualMethod
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import VisualTokens
from vidcompress.qa.pipeline import Pipeline

MARKS = ["<pad>", "</s>", "<unk>", "<image>", "<video>", "<img>", "</img>", "<IMG_CONTEXT>"]
WORDS = [
    *MARKS,
    "what",
    "is",
    "this",
    "?",
    "USER",
    "ASSISTANT",
    ":",
    "\n",
    "Frame",
    *map(str, range(10)),
    "\n\n",
]
LLAVA = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% elif c['type'] == 'image' %}<image>\n{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
TEMPLATES = {
    "llava": LLAVA,
    "internvl": LLAVA.replace(
        "<image>\n{% endif %}", "<IMG_CONTEXT>\n{% elif c['type'] == 'video' %}<video>\n{% endif %}"
    ),
}
RECIPES: dict[str, dict[str, Any]] = {
    "llava": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
    },
    "internvl": {
        "image_processor_type": "GotOcr2ImageProcessorFast",
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "crop_to_patches": False,
        "min_patches": 1,
        "max_patches": 6,
    },
}
QUESTION = "what is this ?"


def make_tokenizer(*, line_ends: bool = False) -> Any:
    """A tokenizer of words; with `line_ends` some number of these in a row is a word too, as in published ones."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n+"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(" ", "removed") if line_ends else pre_tokenizers.WhitespaceSplit(),
        ]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS[3:]})
    return tokenizer


@pytest.fixture(scope="module", params=["llava", "internvl"])
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, path = request.param, tmp_path_factory.mktemp(request.param)
    model = copy.deepcopy(tiny_model(family))
    token = WORDS.index("<image>" if family == "llava" else "<IMG_CONTEXT>")
    model.config.image_token_id = token
    model.generation_config.suppress_tokens = [*range(8), *range(len(WORDS), 100)]
    model.save_pretrained(path)
    make_tokenizer().save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(RECIPES[family]))
    (path / "chat_template.jinja").write_text(TEMPLATES[family])
    return path


@pytest.fixture(scope="module")
def qa(folder: Path) -> Any:
    return vidcompress.VisualQA.from_pretrained(folder, retention_ratio=0.4, device="cpu")


def picture(height: int = 112, width: int = 168) -> np.ndarray[Any, Any]:
    y, x, channel = np.mgrid[0:height, 0:width, 0:3]
    return (127.5 + 60 * np.sin(x / (5 + channel)) + 60 * np.sin(y / (9 - channel))).astype(np.uint8)


CLIP = np.stack([np.roll(picture(60, 90), 9 * number, 1) for number in range(3)])


def is_tiled(qa: Any) -> bool:
    return bool(qa.model.config.model_type == "internvl")


def decoded(qa: Any, out: torch.Tensor, start: int) -> str:
    return str(qa.processor.batch_decode(out[:, start:], skip_special_tokens=True)[0].strip())


def test_every_way_to_ask_gives_the_same_answer(qa: Any) -> None:
    asked = qa.ask(QUESTION, image=picture(), max_new_tokens=6)
    views = 7 if is_tiled(qa) else 1
    assert asked.text
    assert asked.report.total == views * TOKENS
    assert asked.report.kept == asked.report.budget < asked.report.total
    assert all(visual.note is None for visual in asked.report.visuals)
    batch = qa.ask_batch(
        [{"question": QUESTION, "image": picture()}, {"question": "what ?", "image": picture(56, 56)}],
        max_new_tokens=6,
    )
    assert batch[0].text == asked.text
    chat = qa.chat(image=picture())
    first, second = chat.ask(QUESTION, max_new_tokens=6), chat.ask("this ?", max_new_tokens=4)
    assert first.text == asked.text and second.text
    assert second.report.total == asked.report.total
    message = {
        "role": "user",
        "content": [{"type": "image", "image": picture()}, {"type": "text", "text": QUESTION}],
    }
    inputs = qa.processor.apply_chat_template([message], tokenize=True, return_dict=True)
    options = {"max_new_tokens": 6, "do_sample": False}
    shorter = vidcompress.compress_inputs(qa.model, inputs, retention_ratio=0.4)
    assert decoded(qa, qa.model.generate(**shorter, **options), shorter["input_ids"].shape[1]) == asked.text
    with vidcompress.compress(qa.model, retention_ratio=0.4):
        out = qa.model.generate(**inputs, **options)
    assert decoded(qa, out, inputs["input_ids"].shape[1]) == asked.text
    whole = qa.using(retention_ratio=1.0).ask(QUESTION, image=picture(), max_new_tokens=6)
    stock = qa.model.generate(**inputs, **options)
    assert decoded(qa, stock, inputs["input_ids"].shape[1]) == whole.text


def test_a_later_question_is_that_of_a_conversation_without_a_cache(qa: Any) -> None:
    media = {"video": CLIP} if is_tiled(qa) else {"image": picture()}
    said = []
    for keeps in (True, False):
        chat = qa.chat(**media)
        chat.ask(QUESTION, max_new_tokens=4)
        if not keeps:
            chat._cache = None
        said.append(chat.ask("this ?", max_new_tokens=4).text)
    assert said[0] == said[1] != ""


class StockParts:
    """Image or video processor of a stock InternVLProcessor with the pixels of ours; the real ones need torchvision."""

    def __init__(self, ours: Any, kind: str) -> None:
        self.ours, self.kind = ours, kind
        self.model_input_names = ["pixel_values" if kind == "image" else "pixel_values_videos"]

    def fetch_images(self, images: Any) -> Any:
        return images

    def __call__(self, given: Any = None, *, images: Any = None, videos: Any = None, **_: Any) -> Any:
        from transformers import BatchFeature

        if self.kind == "image":
            flat = [picture for group in (given or images) for picture in group]
            inputs, lengths = self.ours.prepare_images(flat)
            counts = [length // TOKENS for length in lengths]
            return BatchFeature({"pixel_values": inputs["pixel_values"], "num_patches": counts})
        clips = [vidcompress.media.read_video(clip) for clip in (given or videos)]
        pixels = torch.stack([self.ours.prepare_videos([clip])[0]["pixel_values"] for clip in clips])
        return BatchFeature({"pixel_values_videos": pixels})


def stock_processor(qa: Any) -> Any:
    """transformers' InternVLProcessor with the tokenizer and the pixels of ours."""
    import re

    from transformers import InternVLProcessor

    stock: Any = InternVLProcessor.__new__(InternVLProcessor)  # its constructor asks for a video processor
    stock.tokenizer, stock.chat_template = make_tokenizer(), TEMPLATES["internvl"]
    stock.image_processor = StockParts(qa.processor, "image")
    stock.video_processor = StockParts(qa.processor, "video")
    stock.feature_extractor, stock.image_seq_length = None, TOKENS
    marks = {"start_image": "<img>", "end_image": "</img>", "image": "<IMG_CONTEXT>", "video": "<video>"}
    for name, mark in marks.items():
        setattr(stock, f"{name}_token", mark)
        setattr(stock, f"{name}_token_id", stock.tokenizer.convert_tokens_to_ids(mark))
    stock.multimodal_pattern = re.compile("(?P<image><IMG_CONTEXT>)|(?P<video><video>)")
    return stock


def test_a_stock_processor_tells_clips_from_pictures(qa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the stock model frames of a clip are pictures; with `image_sizes` added they are a clip, in a chat too."""
    if not is_tiled(qa):
        return  # takes no clips
    adopted = vidcompress.VisualQA(qa.model, stock_processor(qa), retention_ratio=0.4)
    everything = {"images": [picture(), picture(112, 56)], "video": CLIP}
    for media in ({"image": picture()}, {"video": CLIP}, everything):
        ours, theirs = (one.ask(QUESTION, max_new_tokens=4, **media) for one in (qa, adopted))
        assert theirs.text == ours.text
        assert [(v.modality, v.layout.views) for v in theirs.report.visuals] == [
            (v.modality, v.layout.views) for v in ours.report.visuals
        ]
        chats = [one.chat(**media) for one in (qa, adopted)]
        said = [[chat.ask(text, max_new_tokens=4).text for text in (QUESTION, "this ?")] for chat in chats]
        assert said[0] == said[1]
    assert (
        adopted.using(method="vidcom2").ask(QUESTION, video=CLIP, max_new_tokens=2).report.total == 3 * TOKENS
    )
    processor = adopted.processor
    monkeypatch.setattr(type(processor), "_image_sizes", lambda *_: None)
    bare = adopted.ask(QUESTION, video=CLIP, max_new_tokens=4).report.visuals
    assert [visual.modality for visual in bare] == ["image"] * 3, "what the stock inputs say"


def test_a_processor_whose_text_a_chat_cannot_follow_is_refused(qa: Any) -> None:
    if not is_tiled(qa):
        return
    from vidcompress.media.preprocessing.protocol import AdoptedProcessor

    class Odd(AdoptedProcessor):
        def __call__(self, *args: Any, **options: Any) -> Any:
            inputs = super().__call__(*args, **options)
            for key in ("input_ids", "attention_mask"):
                inputs[key] = torch.cat((inputs[key], inputs[key][:, -1:]), dim=1)
            return inputs

    odd = vidcompress.VisualQA(qa.model, Odd(stock_processor(qa), "internvl"), retention_ratio=0.4)
    assert odd.ask(QUESTION, video=CLIP, max_new_tokens=2).report.total == 3 * TOKENS
    said = r"processor=AdoptedProcessor\(InternVL.*pass processor=vidcompress.load_processor\(model\) to VisualQA, or"
    with pytest.raises(vidcompress.ArgumentError, match=said):
        odd.chat(video=CLIP).ask(QUESTION, max_new_tokens=2)


@dataclass(frozen=True)
class FirstFrame(PerVisualMethod):
    """Keeps one token of the first frame and nothing of the others."""

    name: ClassVar[str] = "first_frame"
    modalities: ClassVar[Any] = frozenset({"video"})

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        return Selection(torch.arange(1))


@pytest.mark.parametrize("first", [QUESTION, "\nwhat ?"])
def test_a_chat_drops_the_text_of_views_as_each_question_has_it(
    qa: Any, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """A tokenizer merges line ends: behind `</img>` stands then another token, which does not belong to the frame."""
    if not is_tiled(qa):
        return
    merging = copy.copy(qa.processor)
    merging.tokenizer = make_tokenizer(line_ends=True)
    settings: dict[str, Any] = {"method": FirstFrame(), "retention_ratio": 0.1, "view_text": "drop"}
    asking = vidcompress.VisualQA(qa.model, merging, **settings)
    given: list[list[int]] = []
    run = Pipeline.generate

    def recorded(self: Any, batch: Any, inputs: Any, generation: Any) -> Any:
        given.append(inputs["input_ids"][0].tolist())
        return run(self, batch, inputs, generation)

    monkeypatch.setattr(Pipeline, "generate", recorded)
    questions = [first, QUESTION, "what ?", "\nthis ?", QUESTION]
    said = [asking.ask(text, video=CLIP, max_new_tokens=3).text for text in questions]
    prompts, given[:] = list(given), []
    assert [WORDS.index("\n\n") in prompt for prompt in prompts] == ["\n" in text for text in questions]
    chat = asking.chat(video=CLIP, history=False)
    assert [chat.ask(text, max_new_tokens=3).text for text in questions] == said
    assert given == prompts
    given.clear()
    chat.reset()
    talk = asking.chat(video=CLIP)
    talk.ask(first, max_new_tokens=3)
    talk.reset()
    assert [talk.ask(text, max_new_tokens=3).text for text in ("\nthis ?", QUESTION)][0] == said[3]
    assert given[1] == prompts[3] and given[2][: len(prompts[3])] == prompts[3]
    encoded: list[int] = []
    monkeypatch.setattr(chat, "_begin", lambda *_: encoded.append(1) or pytest.fail("encodes anew"))
    chat.ask("what ?", max_new_tokens=3)  # begins as the question before it


def test_several_pictures(qa: Any) -> None:
    answer = qa.ask(QUESTION, images=[picture(), picture(112, 56)], max_new_tokens=4)
    expected = [7 * TOKENS, 3 * TOKENS] if is_tiled(qa) else [TOKENS, TOKENS]
    assert [visual.total for visual in answer.report.visuals] == expected


def test_a_clip(qa: Any) -> None:
    if not is_tiled(qa):
        with pytest.raises(vidcompress.VidcompressError, match="videos: 1 given, but this model takes none"):
            qa.ask(QUESTION, video=CLIP)
        return
    answer = qa.ask(QUESTION, video=CLIP, images=[picture(56, 112)], max_new_tokens=4)
    image, clip = sorted(answer.report.visuals, key=lambda visual: visual.modality)
    assert (image.total, clip.total) == (3 * TOKENS, 3 * TOKENS)
    assert [view.kind for view in clip.views] == ["frame"] * 3
    assert answer.report.kept == answer.report.budget
    alone = qa.ask(QUESTION, video=CLIP, max_new_tokens=4)
    batch = qa.ask_batch([{"question": QUESTION, "video": CLIP}] * 2, max_new_tokens=4)
    assert [one.text for one in batch] == [alone.text] * 2
    assert alone.overlay().size[0] > 100


def test_the_overlay_shows_tiles_and_thumbnail_where_they_belong(qa: Any) -> None:
    answer = qa.ask(QUESTION, image=picture(), max_new_tokens=2)
    assert answer.overlay().size[0] > 100
    from vidcompress.qa.tiles import make_tiles

    visual = answer.report.visuals[0]
    tiles = [tile for tile, _ in make_tiles(visual, Image.fromarray(picture()), 1000)]
    if not is_tiled(qa):
        assert [tile.keep.shape for tile in tiles] == [(4, 4)]
        return
    assert [tile.keep.shape for tile in tiles] == [(4, 4), (8, 12)], "the thumbnail, then 2 x 3 tiles"
    assert tiles[1].cuts == ([4], [4, 8])
    kept = np.zeros((8, 12), dtype=bool)
    for position in visual.kept_positions.tolist():
        view, cell = divmod(position, TOKENS)
        if view < 6:
            kept[view // 3 * 4 + cell // 4, view % 3 * 4 + cell % 4] = True
    assert np.array_equal(tiles[1].keep, kept)
    thumbnail = [p - 6 * TOKENS for p in visual.kept_positions.tolist() if p >= 6 * TOKENS]
    assert np.flatnonzero(tiles[0].keep).tolist() == thumbnail


def test_compare(qa: Any) -> None:
    compared = qa.compare(
        QUESTION, image=picture(), methods=["globalcom2", "uniform"], retention_ratios=[0.3], max_new_tokens=2
    )
    assert len(compared.rows) == 4 and all(row.answer is not None for row in compared.rows)


def command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0), *capsys.readouterr()


def test_doctor_knows_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = command(capsys, "doctor", "--model", str(folder), "--json")
    found = json.loads(printed)
    failed = [check for check in found["checks"] if check["status"] == "failed"]
    assert code == 0, failed
    assert "tokens" in printed


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_loading_is_strict(folder: Path, tmp_path: Path, change: str) -> None:
    for file in folder.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).symlink_to(file)
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if "multi_modal_projector" in key or "mm_projector" in key)
    if change == "missing":
        del weights[name]
    elif change == "unexpected":
        weights["another.weight"] = torch.zeros(2)
    else:
        weights[name] = torch.zeros(3)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    wanted = "another.weight" if change == "unexpected" else "projector"
    with pytest.raises(vidcompress.VidcompressError, match=wanted):
        vidcompress.VisualQA.from_pretrained(tmp_path, device="cpu")


PUBLISHED = {
    "internvl": """
        language_model.lm_head.weight language_model.model.embed_tokens.weight language_model.model.norm.weight
        language_model.model.layers.0.input_layernorm.weight language_model.model.layers.0.mlp.gate_proj.weight
        language_model.model.layers.0.self_attn.o_proj.weight multi_modal_projector.layer_norm.bias
        multi_modal_projector.layer_norm.weight multi_modal_projector.linear_1.weight
        multi_modal_projector.linear_2.bias
        vision_tower.embeddings.cls_token vision_tower.embeddings.patch_embeddings.projection.bias
        vision_tower.embeddings.position_embeddings vision_tower.encoder.layer.0.attention.q_proj.weight
        vision_tower.encoder.layer.0.lambda_1 vision_tower.encoder.layer.0.mlp.fc2.bias""".split(),
    "llava": """
        language_model.model.layers.0.input_layernorm.weight language_model.model.layers.0.self_attn.q_proj.weight
        language_model.model.layers.0.post_attention_layernorm.weight language_model.model.layers.0.mlp.up_proj.weight
        vision_tower.vision_model.encoder.layers.0.self_attn.out_proj.weight
        vision_tower.vision_model.encoder.layers.0.layer_norm1.bias
        vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias""".split(),
}
"""Names in public listings, of layers those of the first: of OpenGVLab/InternVL3_5-2B-HF in a test of an inference
engine, and of LLaVA-1.5 as converted for transformers in a message about them (zhangce01/DeGF, issue 2)."""


def as_published(name: str, family: str) -> str:
    """The name of a tensor in `llava-1.5-7b-hf` and `InternVL3_5-8B-HF`, which older transformers wrote."""
    if name == "lm_head.weight":
        return "language_model.lm_head.weight"
    name = name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)
    if family == "llava" and not name.startswith("vision_tower.vision_model."):
        name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
    return name


def test_names_of_the_published_checkpoints_load(folder: Path, qa: Any, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).symlink_to(file)
    family = "internvl" if is_tiled(qa) else "llava"
    own = qa.model.state_dict()
    renamed = {as_published(name, family): value.contiguous() for name, value in own.items()}
    assert not set(renamed) & set(own)
    assert set(PUBLISHED[family]) <= set(renamed)
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = vidcompress.VisualQA.from_pretrained(tmp_path, device="cpu").model.state_dict()
    assert set(loaded) == set(own)
    assert all(torch.equal(loaded[name], own[name]) for name in own)
    lost = as_published("model.language_model.norm.weight", family)
    del renamed[lost]
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(vidcompress.VidcompressError, match=r"language_model\.norm\.weight"):
        vidcompress.VisualQA.from_pretrained(tmp_path, device="cpu")

"""The processor in the hands of transformers: pipelines, Trainer, saving, chat templates with the media inside."""

from __future__ import annotations

import base64
import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vidcompress
from vidcompress.errors import MediaError
from vidcompress.media.preprocessing.processor import Processor

pytestmark = pytest.mark.transformers

EXAMPLES = Path(__file__).parents[3] / "examples"
SCENE, CLIP = EXAMPLES / "scene.png", EXAMPLES / "clip.mp4"
QUESTION = "what digit is shown?"


@pytest.fixture(scope="module")
def qa() -> Any:
    return vidcompress.VisualQA.from_pretrained(retention_ratio=1.0)


def turn(*parts: dict[str, Any], text: str = QUESTION) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


@pytest.fixture(scope="module")
def pipe(qa: Any) -> Any:
    from transformers import pipeline

    return pipeline("image-text-to-text", model=qa.model, processor=qa.processor)


def answers(pipe: Any, chats: Any, **options: Any) -> list[str]:
    made = pipe(text=chats, max_new_tokens=4, return_full_text=False, **options)
    flat = [entry[0] if isinstance(entry, list) else entry for entry in made]
    return [entry["generated_text"].strip() for entry in flat]


# Pipelines ------------------------------------------------------------------------------------------------------------


def test_a_pipeline_answers_as_we_do(qa: Any, pipe: Any) -> None:
    from transformers import ProcessorMixin

    assert isinstance(qa.processor, ProcessorMixin)
    picture = qa.ask(QUESTION, image=SCENE, max_new_tokens=4).text
    clip = qa.ask("what ?", video=CLIP, max_new_tokens=4).text
    assert picture != clip
    assert answers(pipe, turn({"type": "image", "image": Image.open(SCENE)})) == [picture]
    assert answers(pipe, turn({"type": "video", "path": str(CLIP)}, text="what ?")) == [clip]
    chats = [turn({"type": "image", "url": str(SCENE)})] * 3
    assert answers(pipe, chats) == answers(pipe, chats, batch_size=3) == [picture] * 3
    assert answers(pipe, turn(text="what ?")) == [qa.ask("what ?", max_new_tokens=4).text]


def test_a_pipeline_takes_prompts_with_placeholders(qa: Any, pipe: Any) -> None:
    prompt = qa.processor.apply_chat_template(turn({"type": "image"}))
    made = pipe(images=Image.open(SCENE), text=prompt, max_new_tokens=4, return_full_text=False)
    assert made[0]["generated_text"].strip() == qa.ask(QUESTION, image=SCENE, max_new_tokens=4).text
    with pytest.raises(MediaError, match="1 given, but text has"):
        pipe(images=Image.open(SCENE), text=QUESTION, max_new_tokens=4)


def test_a_pipeline_in_a_block_is_compressed(qa: Any, pipe: Any) -> None:
    chat = turn({"type": "image", "image": Image.open(SCENE)})
    with vidcompress.compress(qa.model, retention_ratio=0.25) as session:
        made = answers(pipe, chat)
    report = session.report
    assert report.kept == report.budget < report.total
    assert made == [qa.using(retention_ratio=0.25).ask(QUESTION, image=SCENE, max_new_tokens=4).text]


def test_what_a_pipeline_saves_loads(qa: Any, pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    same_inputs(vidcompress.VisualQA.from_pretrained(tmp_path).processor, qa.processor)


# Chat templates -------------------------------------------------------------------------------------------------------


def equal(one: Any, two: Any) -> bool:
    return set(one) == set(two) and all(torch.equal(one[key], two[key]) for key in one)


def test_media_inside_messages_are_those_of_a_call(qa: Any) -> None:
    processor = qa.processor
    content = SCENE.read_bytes()
    encoded = base64.b64encode(content).decode()
    prompt = processor.apply_chat_template(turn({"type": "image"}))
    expected = processor(text=[prompt], images=[[SCENE]])
    forms: list[dict[str, Any]] = [
        {"type": "image", "image": Image.open(SCENE)},
        {"type": "image", "image": np.array(Image.open(SCENE).convert("RGB"))},
        {"type": "image", "image": SCENE},
        {"type": "image", "path": str(SCENE)},
        {"type": "image", "url": str(SCENE)},
        {"type": "image", "image": content},
        {"type": "image", "base64": encoded},
        {"type": "image", "url": f"data:image/png;base64,{encoded}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}},
        {"type": "image_url", "image_url": str(SCENE)},
    ]
    for form in forms:
        before = copy.copy(form)
        made = processor.apply_chat_template(turn(form), tokenize=True, return_dict=True, return_tensors="pt")
        assert equal(made, expected), form
        assert form == before, "what was passed in is left alone"
        ids = processor.apply_chat_template(turn(form), tokenize=True)
        assert torch.equal(ids, expected["input_ids"])
    dark = {"type": "image", "image": Image.new("RGB", Image.open(SCENE).size)}
    assert not equal(processor.apply_chat_template(turn(dark), tokenize=True, return_dict=True), expected)


def test_clips_batches_and_arguments_of_the_call(qa: Any) -> None:
    processor = qa.processor
    conversations = [
        turn({"type": "video", "video": str(CLIP)}),
        turn(),
        turn({"type": "image", "path": SCENE}, {"type": "image", "path": SCENE}),
    ]
    prompts = processor.apply_chat_template(conversations)
    expected = processor(text=prompts, images=[[], [], [SCENE, SCENE]], videos=[CLIP], num_frames=3)
    for options in ({"num_frames": 3}, {"processor_kwargs": {"num_frames": 3}}):
        made = processor.apply_chat_template(conversations, tokenize=True, return_dict=True, **options)
        assert equal(made, expected)
        assert made["pixel_values_videos"].shape[1] == 3
    other = processor.apply_chat_template(conversations, tokenize=True, return_dict=True, num_frames=2)
    assert not equal(other, expected)
    handed = processor.apply_chat_template(
        turn({"type": "image"}), tokenize=True, processor_kwargs={"images": [SCENE]}
    )
    assert torch.equal(
        handed, processor.apply_chat_template(turn({"type": "image", "path": SCENE}), tokenize=True)
    )


def test_a_start_token_is_not_put_twice(asked: Any) -> None:
    processor = asked("llava_next").processor
    template = "<s> {{ messages[0]['content'][0]['text'] }}"
    made = processor.apply_chat_template(turn(text="what"), tokenize=True, chat_template=template)
    assert made[0].tolist() == processor.tokenizer("what")["input_ids"]


@pytest.mark.parametrize("part, message", [
    ({"type": "image"}, "0 given, but text has .1. '<image>' placeholders per row; write one for each"),
    ({"type": "image", "url": "https://example.org/a.png"}, "URLs are not opened; download it"),
    ({"type": "image", "base64": "no base64!"}, "base64='no base64!' in the conversation is not base64; pass a path"),
    ({"type": "image", "url": "data:image/png,abc"}, "URLs are not opened"),
    ({"type": "video", "video": str(SCENE)}, "is a still picture, not a video"),
])  # fmt: skip
def test_media_that_cannot_be_read(part: dict[str, Any], message: str, qa: Any) -> None:
    with pytest.raises(MediaError, match=message):
        qa.processor.apply_chat_template(turn(part), tokenize=True)


# Saving ---------------------------------------------------------------------------------------------------------------


def same_inputs(one: Any, two: Any) -> None:
    chat = turn({"type": "image", "path": SCENE})
    made = [each.apply_chat_template(chat, tokenize=True, return_dict=True) for each in (one, two)]
    assert equal(*made)
    assert (one.geometry, one.image_recipe, one.video_recipe) == (
        two.geometry,
        two.image_recipe,
        two.video_recipe,
    )


def test_a_saved_processor_loads_by_itself(qa: Any, tmp_path: Path) -> None:
    assert qa.processor.save_pretrained(tmp_path / "new") == [str(tmp_path / "new" / "processor_config.json")]
    for loaded in (
        vidcompress.load_processor(tmp_path / "new"),
        Processor.from_pretrained(tmp_path / "new", local_files_only=True),
    ):
        same_inputs(loaded, qa.processor)
        assert loaded.chat_template == qa.processor.chat_template


def test_settings_of_a_checkpoint_survive_saving(
    make_config: Any, make_processor: Any, tmp_path: Path
) -> None:
    """Those of preprocessor_config.json too; without them the model's config stands in for other ones."""
    config = make_config("llava_next", 28, [[28, 28], [28, 56]])
    stated = make_processor(
        config, preprocessor_config={"image_mean": [0.1, 0.2, 0.3], "processor_class": "Stated"}
    )
    plain = make_processor(config)
    assert stated.image_recipe != plain.image_recipe
    for number, processor in enumerate((stated, plain)):
        processor.save_pretrained(tmp_path / str(number))
        loaded = vidcompress.load_processor(tmp_path / str(number))
        assert loaded.image_recipe == processor.image_recipe
    assert vidcompress.load_processor(tmp_path / "0").to_dict()["processor_class"] == "Stated"
    (tmp_path / "0" / "config.json").write_text("{}")
    stated.save_pretrained(tmp_path / "0")
    assert (tmp_path / "0" / "config.json").read_text() == "{}", "a model's own config is left alone"


def test_the_stock_processor_reads_what_was_saved(qa: Any, tmp_path: Path) -> None:
    """Its own class of pictures, and the same numbers: nothing that transformers needs is lost."""
    from transformers import AutoTokenizer

    qa.processor.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(QUESTION)["input_ids"] == qa.processor.tokenizer(QUESTION)["input_ids"]
    assert loaded.chat_template == qa.processor.chat_template


def test_what_is_not_served_is_named(qa: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    calls: dict[str, tuple[Any, str]] = {
        "push_to_hub=True": (
            lambda: qa.processor.save_pretrained(tmp_path, push_to_hub=True),
            "upload the folder",
        ),
        "save_directory=''": (lambda: qa.processor.save_pretrained(""), "must be the path of a folder"),
        "save_directory": (lambda: qa.processor.save_pretrained(tmp_path / "file"), "cannot be made"),
        "token='x'": (
            lambda: Processor.from_pretrained(tmp_path, token="x"),
            "load_processor takes resize_device",
        ),
        "repo_id='x'": (lambda: qa.processor.save_pretrained(tmp_path, repo_id="x"), "takes a folder only"),
        "truncation=True": (lambda: qa.processor(text="a", truncation=True), "not served by this processor"),
        "video_processor": (lambda: qa.processor.video_processor, "prepares clips itself"),
    }
    for name, (call, message) in calls.items():
        with pytest.raises(MediaError, match=message) as caught:
            call()
        assert str(caught.value).startswith(name)
    assert not hasattr(qa.processor, "video_processor")
    assert set(qa.processor(text="a", truncation=None, audio=None)) == {"input_ids", "attention_mask"}


# Trainer and the rest -------------------------------------------------------------------------------------------------


def test_trainer_trains_and_saves_with_it(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    qa = vidcompress.VisualQA.from_pretrained()
    model, processor = qa.model, qa.processor
    before = {name: value.clone() for name, value in model.named_parameters()}
    chat = turn({"type": "image", "path": SCENE})

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        made = dict(processor.apply_chat_template([chat] * len(rows), tokenize=True, return_dict=True))
        return {**made, "labels": made["input_ids"].clone()}

    settings = TrainingArguments(
        str(tmp_path), max_steps=1, per_device_train_batch_size=2, report_to=[], remove_unused_columns=False,
        use_cpu=True, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, settings, train_dataset=[{"row": 0}] * 4, data_collator=collate, processing_class=processor
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "trained"))
    assert any(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    same_inputs(vidcompress.load_processor(tmp_path / "trained"), processor)


def test_names_and_texts(qa: Any, asked: Any) -> None:
    processor = qa.processor
    made = processor(text="<image> <video> what", images=SCENE, videos=CLIP, num_frames=2)
    assert processor.model_input_names[0] == "input_ids"
    assert set(made) == set(processor.model_input_names)
    still = asked("llava_next").processor
    assert "pixel_values_videos" not in still.model_input_names
    assert set(still(text="<image> what", images=SCENE)) <= set(still.model_input_names)
    ids = processor.tokenizer([QUESTION, QUESTION])["input_ids"]
    assert processor.post_process_image_text_to_text(torch.tensor(ids)) == processor.batch_decode(ids)
    assert processor.decode(ids[0]) == processor.batch_decode(ids)[0]
    alone = processor.image_processor([SCENE], return_tensors="pt")
    assert torch.equal(alone["pixel_values"], made["pixel_values"])
    assert set(alone) == set(processor.image_processor.model_input_names)


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, vidcompress; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"

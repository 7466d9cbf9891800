"""One table: the embedded models give one and the same answer through every way in.

Columns are the ways (`ALONE`, one question at a time, and `TOGETHER`, a ragged batch of sixteen), rows are methods and
position policies. Every cell is compared with the plain way: `compress_inputs`, then the model's own `generate`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from transformers import TextIteratorStreamer

import vidcompress
from vidcompress.cli import main
from vidcompress.core.config import CompressionConfig
from vidcompress.core.method import METHODS as METHODS_OF
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.tools.evaluation.shapes import clip_example, image_example, write_clip

Item = dict[str, Any]
LONG = {"max_new_tokens": 5, "min_new_tokens": 5}  # five words are harder to get right by chance than one
SHORT = {"max_new_tokens": 6}  # what the command line can say
IMAGE_SIZES = ((96, 64), (64, 96), (200, 50), (60, 180), (64, 64), (150, 100))  # (width, height) in pixels
CLIP_FRAMES = (2, 3, 5, 8)
MODELS = ("tiny-onevision", "tiny-next")
METHODS = [*available_methods(), "globalcom2+pdrop"]
SERVED = {method: METHODS_OF.get(method.split("+")[0]).modalities for method in METHODS}
INSIDE = {method for method in METHODS if get_method(method).inside is not None}
RATIOS = {"none": 1.0, "frames": 0.5, **dict.fromkeys(INSIDE, 0.5)}
"""Half of a clip of two frames is one whole frame; one of four layers takes in everything."""
BOTH_POSITIONS = ("globalcom2", "vidcom2", "random", "uniform", "none", "pool", "frames", "pdrop")
ROWS = [
    (model, method, positions)
    for model in MODELS
    for method in METHODS
    if model == "tiny-onevision" or "image" in SERVED[method]
    for positions in ("contiguous", "original")
    if method in BOTH_POSITIONS
    or positions == CompressionConfig(method, retention_ratio=1).resolved_positions
]


@dataclass(frozen=True)
class Setting:
    """A row of the table: a loaded model and how to compress."""

    qa: vidcompress.VisualQA
    model: str
    method: str
    positions: str

    @property
    def compression(self) -> dict[str, Any]:
        ratio = RATIOS.get(self.method, 0.25)
        return {"method": self.method, "retention_ratio": ratio, "positions": self.positions}

    @property
    def configured(self) -> vidcompress.VisualQA:
        return self.qa.using(**self.compression)


# -- the ways ----------------------------------------------------------------------------------------------------------


def inputs_of(setting: Setting, items: list[Item]) -> Any:
    """What the processor makes of questions, as somebody without VisualQA would write it."""
    return _inputs_of(setting.qa, json.dumps(items))


@cache
def _inputs_of(qa: vidcompress.VisualQA, items: str) -> Any:
    prompts, pictures, clips = [], [], []
    for item in json.loads(items):
        images = item.get("images") or ([item["image"]] if "image" in item else [])
        media = [{"type": "image"} for _ in images] + ([{"type": "video"}] if "video" in item else [])
        content = [*media, {"type": "text", "text": item["question"]}]
        prompts.append(qa.processor.apply_chat_template([{"role": "user", "content": content}]))
        pictures.append(images)
        clips += [item["video"]] if "video" in item else []
    return qa.processor(text=prompts, images=pictures if any(pictures) else None, videos=clips or None)


def texts(setting: Setting, out: Any, prompt: Any) -> list[str]:
    """What `out` (row, token) holds after the prompt, as text."""
    rows = setting.qa.processor.batch_decode(out[:, prompt.shape[1] :], skip_special_tokens=True)
    return [row.strip() for row in rows]


def plain(setting: Setting, items: list[Item], **options: Any) -> list[str]:
    inputs = vidcompress.compress_inputs(setting.qa.model, inputs_of(setting, items), **setting.compression)
    with inputs.pruning():
        out = setting.qa.model.generate(**inputs, do_sample=False, **options)
    return texts(setting, out, inputs["input_ids"])


def block(setting: Setting, items: list[Item], **options: Any) -> list[str]:
    inputs = inputs_of(setting, items)
    with vidcompress.compress(setting.qa.model, **setting.compression):
        out = setting.qa.model.generate(**inputs, do_sample=False, **options)
    return texts(setting, out, inputs["input_ids"])


def block_streamer(setting: Setting, items: list[Item], **options: Any) -> list[str]:
    """transformers' own streamer inside a block, from another thread, as its documentation shows."""
    inputs, model = inputs_of(setting, items), setting.qa.model
    streamer = TextIteratorStreamer(
        setting.qa.processor.tokenizer, skip_prompt=True, skip_special_tokens=True
    )
    with vidcompress.compress(model, **setting.compression):
        call = {**inputs, "do_sample": False, "streamer": streamer, **options}
        worker = Thread(target=model.generate, kwargs=call)
        worker.start()
        text = "".join(streamer)
        worker.join()
    return [text.strip()]


def ask(setting: Setting, items: list[Item], **options: Any) -> list[str]:
    return [setting.configured.ask(**item, **options).text for item in items]


def stream(setting: Setting, items: list[Item], **options: Any) -> list[str]:
    return ["".join(setting.configured.stream(**item, **options)).strip() for item in items]


def first_turn(setting: Setting, items: list[Item], **options: Any) -> list[str]:
    answers = []
    for item in items:
        media = {key: value for key, value in item.items() if key != "question"}
        answers.append(setting.configured.chat(**media).ask(item["question"], **options).text)
    return answers


def ask_batch(setting: Setting, items: list[Item], **options: Any) -> list[str]:
    return [answer.text for answer in setting.configured.ask_batch(items, batch_size=len(items), **options)]


Way = Callable[..., list[str]]
ALONE: dict[str, Way] = {
    "block": block,
    "block, TextIteratorStreamer": block_streamer,
    "VisualQA.ask": ask,
    "VisualQA.stream": stream,
    "VisualQA.chat, first turn": first_turn,
}
TOGETHER: dict[str, Way] = {"VisualQA.ask_batch": ask_batch, "plain": plain, "block": block}


@cache
def _reference(setting: Setting, item: str) -> str:
    return plain(setting, [json.loads(item)], **LONG)[0]


def reference(setting: Setting, items: list[Item]) -> list[str]:
    """The plain way, one question at a time: what every other way is held to."""
    return [_reference(setting, json.dumps(item)) for item in items]


def words_of(setting: Setting, item: Item) -> list[str]:
    """The command line that asks this question."""
    pictures = item.get("images") or ([item["image"]] if "image" in item else [])
    media = [word for path in pictures for word in ("--image", path)]
    media += ["--video", item["video"]] if "video" in item else []
    settings = ["--model", setting.model, "--positions", setting.positions, "--method", setting.method]
    settings += ["--retention-ratio", str(setting.compression["retention_ratio"]), "--device", "cpu"]
    return ["ask", "--question", item["question"], *media, *settings, "--max-new-tokens", "6", "--json"]


# -- the questions -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Sixteen: pictures of six sizes, clips of four lengths, several pictures, a picture and a clip, text only."""
    folder = tmp_path_factory.mktemp("media")
    pictures, clips, asked = [], [], []
    for seed, size in enumerate(IMAGE_SIZES):
        example = image_example(seed, size=size)
        pictures.append(str(folder / f"{seed}.png"))
        example.image.save(pictures[-1])
        asked.append(Item(question=example.questions[seed % len(example.questions)].text, image=pictures[-1]))
    for seed, frames in enumerate(CLIP_FRAMES):
        moving = clip_example(seed, frames=frames)
        clips.append(str(folder / f"{seed}.mp4"))
        write_clip(moving, clips[-1])
        asked.append(Item(question=moving.questions[seed % len(moving.questions)].text, video=clips[-1]))
    return [
        *asked,
        Item(question="how many objects are there?", images=pictures[:2]),
        Item(question="what digit is shown?", images=[pictures[4], pictures[2], pictures[4]]),
        Item(question="is there a red circle?", image=pictures[1], video=clips[0]),
        Item(question="what digit is shown?", images=pictures[3:5], video=clips[1]),
        Item(question="where is the white square?"),
        Item(question="what color is the ring?"),
    ]


def kinds(items: list[Item]) -> list[Item]:
    """One question of each kind: the first of those that bring the same media."""
    found: dict[tuple[str, ...], Item] = {}
    for item in items:
        found.setdefault(tuple(sorted(item)), item)
    return list(found.values())


def fitting(setting: Setting, items: list[Item]) -> list[Item]:
    """Sixteen questions that the model and the method take; where some do not fit, others come twice."""
    served = SERVED[setting.method] - ({"video"} if setting.model == "tiny-next" else set())
    usable = [
        item
        for item in items
        if ("image" in served or not {"image", "images"} & set(item))
        and ("video" in served or "video" not in item)
    ]
    return (usable * 16)[:16]


@pytest.fixture(scope="session")
def models(qa: vidcompress.VisualQA) -> dict[str, vidcompress.VisualQA]:
    return {
        "tiny-onevision": qa,
        "tiny-next": vidcompress.VisualQA.from_pretrained("tiny-next", device="cpu"),
    }


@pytest.fixture(params=ROWS, ids=["-".join(row) for row in ROWS])
def setting(request: pytest.FixtureRequest, models: dict[str, vidcompress.VisualQA]) -> Setting:
    model, method, positions = request.param
    return Setting(models[model], model, method, positions)


# -- the table ---------------------------------------------------------------------------------------------------------


def test_one_question_at_a_time(setting: Setting, questions: list[Item]) -> None:
    items = kinds(fitting(setting, questions))
    expected = reference(setting, items)
    # A chat refuses what prunes inside the language model.
    ways = {name: way for name, way in ALONE.items() if way is not first_turn or setting.method not in INSIDE}
    got = {name: [way(setting, [item], **LONG)[0] for item in items] for name, way in ways.items()}
    assert got == dict.fromkeys(ways, expected)


def test_sixteen_together(setting: Setting, questions: list[Item]) -> None:
    items = fitting(setting, questions)
    assert len(items) == 16
    # The controls go through the same code from the selection on, so one way shows theirs.
    ways = TOGETHER if setting.method in ("globalcom2", "vidcom2") else {"VisualQA.ask_batch": ask_batch}
    got = {name: way(setting, items, **LONG) for name, way in ways.items()}
    assert got == dict.fromkeys(ways, reference(setting, items))


def test_command_line(
    setting: Setting,
    questions: list[Item],
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """One question per row of the table, of another kind in each."""
    items = kinds(fitting(setting, questions))
    item = items[ROWS.index((setting.model, setting.method, setting.positions)) % len(items)]
    capsys.readouterr()
    with pytest.raises(SystemExit, match="^[012]$") as stop:
        main(words_of(setting, item))
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out)["answer"] == plain(setting, [item], **SHORT)[0]


@pytest.mark.slow
def test_command_line_in_a_process_of_its_own(
    models: dict[str, vidcompress.VisualQA], questions: list[Item], tmp_path: Path
) -> None:
    setting = Setting(models["tiny-onevision"], "tiny-onevision", "globalcom2", "original")
    item = next(item for item in questions if "video" in item and "image" in item)
    command = [sys.executable, "-c", "from vidcompress.cli import main; main()", *words_of(setting, item)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout)["answer"] == plain(setting, [item], **SHORT)[0]


def test_answers_tell_the_rows_apart(models: dict[str, vidcompress.VisualQA], questions: list[Item]) -> None:
    """Otherwise equal answers would show nothing. Only keeping everything leaves no gap in the positions."""
    seen: dict[tuple[str, ...], list[tuple[str, str, str]]] = {}
    for model, method, positions in ROWS:
        setting = Setting(models[model], model, method, positions)
        answers = reference(setting, fitting(setting, questions))
        seen.setdefault(tuple(answers), []).append((model, method, positions))
    alike = [rows for rows in seen.values() if len(rows) > 1]
    assert alike == [
        [(model, "none", "contiguous"), (model, "none", "original")]
        for model in ("tiny-onevision", "tiny-next")
    ]

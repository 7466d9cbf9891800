"""Conversations: media encoded once, answers those of a run from the beginning, errors without a trace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vidcompress
from vidcompress import ArgumentError, Chat, VisualQA
from vidcompress.media import load_image, read_video

pytestmark = pytest.mark.transformers

QUESTIONS = (
    "where is the white square?",
    "how many shapes are there?",
    "what color is the circle?",
    "what shape is the red object?",
    "is there a blue circle?",
)
MEDIA = {"image": {"image": "scene.png"}, "clip": {"video": "clip.mp4"}, "text": {}}
MEDIA["both"] = {**MEDIA["image"], **MEDIA["clip"]}
MEDIA["two"] = {"images": ["scene.png", "scene.png"]}


@pytest.fixture(params=MEDIA)
def media(request: pytest.FixtureRequest, image: Path) -> dict[str, Any]:
    def place(name: Any) -> Any:
        return [place(entry) for entry in name] if isinstance(name, list) else image.parent / name

    return {key: place(value) for key, value in MEDIA[request.param].items()}


@contextmanager
def encodings(qa: VisualQA) -> Iterator[list[int]]:
    seen: list[int] = []
    handle = qa.model.model.vision_tower.register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        handle.remove()


def from_the_beginning(
    qa: VisualQA, media: dict[str, Any], turns: list[tuple[str, str]], question: str
) -> str:
    """The answer of one uncached call on the whole conversation, through the block."""
    pictures = [load_image(p) for p in media.get("images", [media["image"]] if "image" in media else [])]
    frames = qa.processor.video_recipe.num_frames
    clips = [read_video(media["video"], default_frames=frames)] if "video" in media else []
    head = [{"type": "image"}] * len(pictures) + [{"type": "video"}] * len(clips)
    messages: list[dict[str, Any]] = []
    for asked, said in [*turns, (question, "")]:
        messages.append({"role": "user", "content": [*head, {"type": "text", "text": asked}]})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": said}]})
        head = []
    prompt = qa.processor.apply_chat_template(messages[:-1])
    inputs = qa.processor(text=prompt, images=[pictures] if pictures else None, videos=clips or None)
    with vidcompress.compress(qa.model, config=qa.config):
        out = qa.model.generate(**inputs, max_new_tokens=8, do_sample=False)
    new = out[:, inputs["input_ids"].shape[1] :]
    return qa.processor.batch_decode(new, skip_special_tokens=True)[0].strip()


@pytest.mark.parametrize("positions", ["contiguous", "original", "scaled"])
def test_every_turn_is_a_run_from_the_beginning(qa: VisualQA, media: dict[str, Any], positions: str) -> None:
    qa = qa.using(positions=positions)
    chat = qa.chat(**media)
    turns: list[tuple[str, str]] = []
    for number, question in enumerate(QUESTIONS):
        with encodings(qa) as seen:
            answer = chat.ask(question, max_new_tokens=8)
        assert bool(seen) == (number == 0 and bool(media))
        assert answer.text == from_the_beginning(qa, media, turns, question)
        turns.append((question, answer.text))
    assert [(answer.question, answer.text) for answer in chat.answers] == turns
    assert chat.answers[0].text == qa.ask(QUESTIONS[0], **media, max_new_tokens=8).text


def test_without_history_each_answer_is_that_of_ask(qa: VisualQA, media: dict[str, Any]) -> None:
    chat = qa.chat(**media, history=False)
    for question in QUESTIONS:
        one, other = chat.ask(question, max_new_tokens=8), qa.ask(question, **media, max_new_tokens=8)
        assert (one.text, one.new_tokens) == (other.text, other.new_tokens)
        assert one.report.visual_tokens() == other.report.visual_tokens()
        assert len(one.media) == len(other.media)


def test_later_turns_run_only_what_is_new_through_the_model(qa: VisualQA, clip: Path) -> None:
    chat = qa.chat(video=clip)
    chat.ask(QUESTIONS[0])
    widths: list[int] = []
    handle = qa.model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    try:
        answer = chat.ask(QUESTIONS[1])
    finally:
        handle.remove()
    assert widths[0] < 24 < answer.report.kept and set(widths[1:]) <= {1}
    assert answer.timing_ms["encode"] == answer.timing_ms["compress"] == 0.0
    assert answer.overlay().size[0] > 0


def test_reset_forgets_the_turns_and_not_the_media(qa: VisualQA, image: Path) -> None:
    chat = qa.chat(image=image)
    first = [chat.ask(question).text for question in QUESTIONS[:2]]
    chat.reset()
    assert chat.answers == []
    with encodings(qa) as seen:
        assert [chat.ask(question).text for question in QUESTIONS[:2]] == first
        chat.reset()
        assert chat.ask(QUESTIONS[2]).text == qa.chat(image=image).ask(QUESTIONS[2]).text
    assert len(seen) == 1  # the one of the new chat


def test_streams_are_turns_too(qa: VisualQA, image: Path) -> None:
    asked, streamed = qa.chat(image=image), qa.chat(image=image)
    for question in QUESTIONS[:3]:
        pieces = "".join(streamed.stream(question, max_new_tokens=8))
        assert pieces.strip() == asked.ask(question, max_new_tokens=8).text == streamed.answers[-1].text
    for _ in streamed.stream(QUESTIONS[0], min_new_tokens=40, max_new_tokens=2000):
        break
    turns = [(answer.question, answer.text) for answer in streamed.answers]
    assert len(turns) == 4
    after = streamed.ask(QUESTIONS[3], max_new_tokens=8).text
    assert after == from_the_beginning(qa, {"image": image}, turns, QUESTIONS[3])


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("turn", [0, 1])
def test_after_an_error_the_conversation_stands_where_it_stood(
    qa: VisualQA, image: Path, turn: int, at: int
) -> None:
    calls: list[int] = []

    def breaks(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == at:
            raise RuntimeError("broken on purpose")
        return scores

    chat, sound = qa.chat(image=image), qa.chat(image=image)
    for question in QUESTIONS[:turn]:
        chat.ask(question), sound.ask(question)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        chat.ask("what digit is written there?", min_new_tokens=6, logits_processor=[breaks])
    assert len(chat.answers) == turn
    with encodings(qa) as seen:
        answers = [chat.ask(question).text for question in QUESTIONS[turn:]]
    assert not seen
    assert answers == [sound.ask(question).text for question in QUESTIONS[turn:]]


def test_a_cache_that_cannot_be_cut_is_made_again_from_the_same_features(qa: VisualQA, image: Path) -> None:
    """As with a sliding window that has moved on."""

    def stuck(tokens: int) -> None:
        raise RuntimeError("sliding window")

    chat, sound = qa.chat(image=image), qa.chat(image=image)
    with encodings(qa) as seen:
        chat.ask(QUESTIONS[0])
        assert len(seen) == 1
        for question in QUESTIONS[1:]:
            chat.reset()
            chat._cache.crop = stuck
            assert chat.ask(question).text == qa.chat(image=image).ask(question).text
    assert sound.ask(QUESTIONS[0]).text == qa.ask(QUESTIONS[0], image=image).text
    assert len(seen) == len(QUESTIONS)  # each of the new chats, and none of the stuck one


def test_threads_take_turns(qa: VisualQA, image: Path) -> None:
    chat = qa.chat(image=image, history=False)
    questions = QUESTIONS * 3
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda question: chat.ask(question).text, questions))
    assert texts == [qa.ask(question, image=image).text for question in questions]
    assert len(chat.answers) == len(questions)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda chat: chat.ask(""), "question='': must be a text that is not empty"),
        (lambda chat: chat.ask(3), "question=3: must be a text"),
        (lambda chat: chat.ask("a <image>?"), "question='a <image>?' holds '<image>'"),
        (lambda chat: chat.ask("?", max_new_tokens=0), "max_new_tokens=0: must be a whole number"),
        (lambda chat: chat.ask("?", num_beams=2), "num_beams=2: a chat goes on from one row"),
        (lambda chat: chat.ask("?", num_return_sequences=2), "num_return_sequences=2: a chat goes on"),
        (lambda chat: chat.ask("?", use_cache=False), "use_cache=False: a chat goes on"),
        (lambda chat: chat.ask("?", cache_implementation="static"), "cache_implementation='static': a chat"),
        (lambda chat: chat.ask("?", past_key_values=1), "past_key_values=1: a chat keeps its own cache"),
        (lambda chat: chat.ask("?", cache=1), "cache=1: a chat keeps its own cache"),
        (
            lambda chat: chat.ask("?", prompt_lookup_num_tokens=3),
            "prompt_lookup_num_tokens=3: a chat goes on",
        ),
        (lambda chat: chat.stream("?", num_beams=2), "num_beams=2: beams cannot be streamed"),
    ],
)
def test_wrong_arguments_are_named(qa: VisualQA, image: Path, call: Any, message: str) -> None:
    chat = qa.chat(image=image)
    with pytest.raises(ArgumentError, match=re.escape(message)):
        call(chat)
    assert isinstance(chat, Chat) and chat.answers == []


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (
            lambda qa: qa.using(method="fastv", retention_ratio=0.5).chat(),
            "method='fastv': a chat keeps one",
        ),
        (lambda qa: qa.chat(history=1), "history=1: must be True or False"),
        (lambda qa: qa.chat(image=1, images=[2]), "image and images exclude each other"),
        (lambda qa: qa.chat(image=[1]), "image is a list of 1; pass a list as images"),
    ],
)
def test_wrong_arguments_of_a_new_chat_are_named(qa: VisualQA, begin: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(message)):
        begin(qa)


def test_what_it_is_can_be_read(qa: VisualQA, image: Path, clip: Path) -> None:
    text = repr(qa.chat(image=image, video=clip))
    assert text.startswith("Chat(1 images, 1 clips, 0 answers, history=True, CompressionConfig(")


def test_an_interrupt_inside_a_forward_leaves_the_conversation_usable(qa: VisualQA, image: Path) -> None:
    """Layers of the cache may be of different lengths then."""
    chat, sound = qa.chat(image=image), qa.chat(image=image)
    chat.ask(QUESTIONS[0]), sound.ask(QUESTIONS[0])

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = qa.model.model.language_model.layers[-1].register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        chat.ask(QUESTIONS[1])
    handle.remove()
    with encodings(qa) as seen:
        assert chat.ask(QUESTIONS[1]).text == sound.ask(QUESTIONS[1]).text
    assert not seen


def test_a_placeholder_in_an_answer_stands_for_no_picture(qa: VisualQA, image: Path) -> None:
    chat = qa.chat(image=image)
    chat.ask(QUESTIONS[0], logits_processor=None)
    chat.answers[0] = replace(chat.answers[0], text="an <image>")
    assert chat.ask(QUESTIONS[1]).text

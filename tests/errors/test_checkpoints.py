"""The table of broken checkpoints: one file of the embedded model wrong, who notices, and what is said."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from errors.rows import NEXT
from shapes_accuracy.accuracy import journal_of
from vidcompress.errors import ArgumentError, VidcompressError
from vidcompress.loading.load import load_model
from vidcompress.loading.resources import find
from vidcompress.media import MediaError, load_processor
from vidcompress.media.preprocessing.processor import Processor
from vidcompress.methods.card import parse_card

CONFIG, PIXELS = "config.json", "preprocessor_config.json"
HUGE = "its config.json describes"


@dataclass(frozen=True)
class Broken:
    """One entry of one file: `keys` lead to it; the value None takes it out."""

    read: Callable[[Path], Any]
    file: str
    keys: str
    value: Any
    message: str

    def __str__(self) -> str:
        return f"{self.read.__name__} {self.file} {self.keys}={str(self.value)[:20]}"


ROWS = [
    Broken(load_processor, CONFIG, "model_type", "llava_nxt", "pass a folder or a hub id of a known model"),
    Broken(load_processor, CONFIG, "image_grid_pinpoints", [[112]], "expected a list of [height, width]"),
    Broken(load_processor, CONFIG, "image_grid_pinpoints", [[112, 100]], "each side must be a multiple of"),
    Broken(load_processor, CONFIG, "image_grid_pinpoints", [], "no entry; each side must be a multiple"),
    Broken(
        load_processor, CONFIG, "image_grid_pinpoints", [[112 * 10**5] * 2], "take the config that belongs"
    ),
    Broken(load_processor, CONFIG, "image_token_index", -1, "expected a whole number of at least 0"),
    Broken(load_processor, CONFIG, "image_token_index", 7, "take the tokenizer that belongs to the model"),
    Broken(
        load_processor, CONFIG, "vision_config.image_size", [112, 56], "expected one positive whole number"
    ),
    Broken(load_processor, CONFIG, "vision_config.patch_size", 0, "expected one positive whole number"),
    Broken(load_processor, CONFIG, "vision_feature_select_strategy", "default", "set it to 'full'"),
    Broken(load_processor, PIXELS, "image_mean", [0.5], "expected three numbers, for red, green and blue"),
    Broken(load_processor, PIXELS, "image_mean", [0, 0, 1e300], "expected three numbers"),
    Broken(load_processor, PIXELS, "image_std", [0, 1, 1], "every entry must be above"),
    Broken(
        load_processor, PIXELS, "rescale_factor", float("inf"), "expected a positive number such as 1/255"
    ),
    Broken(load_processor, PIXELS, "resample", [3], "expected 0 (nearest), 2 (bilinear) or 3 (bicubic)"),
    Broken(load_processor, PIXELS, "size", {"height": 56, "width": 56}, "take the file that belongs to"),
    Broken(load_processor, PIXELS, "size", "big", "expected {'height': h, 'width': w}"),
    Broken(
        load_processor,
        "video_preprocessor_config.json",
        "num_frames",
        0,
        "expected a whole number of at least",
    ),
    Broken(load_processor, "tokenizer_config.json", "tokenizer_class", 5, "does not load"),
    Broken(load_processor, "tokenizer.json", "model", 5, "does not load"),
    Broken(load_model, CONFIG, "model_type", "bert", "which no adapter serves; supported: "),
    Broken(load_model, CONFIG, "text_config.hidden_size", 12288, HUGE),
    Broken(load_model, CONFIG, "text_config.vocab_size", 10**7, HUGE),
    Broken(load_model, CONFIG, "text_config.intermediate_size", 10**9, HUGE),
    Broken(load_model, CONFIG, "vision_config.intermediate_size", 10**6, HUGE),
    Broken(load_model, CONFIG, "vision_config.image_size", 14 * 10**5, HUGE),
    Broken(load_model, CONFIG, "vision_config.num_hidden_layers", 10**6, "num_hidden_layers=1000000 in its"),
    Broken(load_model, CONFIG, "text_config.hidden_size", "wide", "does not load"),
    Broken(
        load_model, "generation_config.json", "eos_token_id", "</s>", "must be a token id or a list of them"
    ),
]
TEXTS = [
    (load_processor, CONFIG, b"{", "Expecting property name .*; pass a folder or a hub id"),
    (load_processor, CONFIG, b"[]", "pass a folder or a hub id|JSON object"),
    (load_processor, PIXELS, b"{", "is not JSON .*; fetch the checkpoint again"),
    (load_processor, PIXELS, b"[" * 100_000, "is not JSON .*; fetch the checkpoint again"),
    (load_processor, PIXELS, b"5", "holds a int; expected a JSON object"),
    (load_processor, PIXELS, b"\xff\xfe", "cannot be read .*; fetch the checkpoint again"),
    (load_processor, "chat_template.jinja", b"\xff\xfe", "does not load .*0xff.*; pass tokenizer="),
    (
        load_processor,
        "chat_template.jinja",
        b"x" * 300_000,
        "300000 characters, more than 200000; fetch it again",
    ),
    (load_processor, "chat_template.jinja", b"{{ 'a' * 9 }}", "'\\*' in line 1 may make a value of any size"),
    (
        load_processor,
        "chat_template.jinja",
        b"\n{{ 2 ** 9 }}",
        "'\\*\\*' in line 2 may make a value of any size",
    ),
    (load_processor, "chat_template.jinja", b"{{ 99999999 }}", "'99999999' in line 1 may make a value"),
    (load_processor, "chat_template.jinja", b"{{ ' }}", "is not Jinja .*; fetch the checkpoint again"),
    (load_processor, "tokenizer.json", b"{}", "does not load .*; pass tokenizer="),
    (load_model, CONFIG, b"{", "cannot be read .*; fetch the checkpoint again"),
    (load_model, "model.safetensors", b"", "is not a whole safetensors file"),
    (load_model, "model.safetensors", b"\xff" * 8, "is not a whole safetensors file"),
    (load_model, "model.safetensors", b"\x02" + bytes(7) + b"{}", "fetch the checkpoint again"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded checkpoint, as links: a test replaces one of them."""
    for path in find("models/tiny-onevision").iterdir():
        if path.suffix in (".json", ".jinja", ".safetensors"):
            os.symlink(path, tmp_path / path.name)
    return tmp_path


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def check(error: BaseException) -> None:
    assert NEXT.search(str(error)), str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 700


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_wrong_entry_is_refused(row: Broken, folder: Path) -> None:
    tree = json.loads((folder / row.file).read_text())
    *way, last = row.keys.split(".")
    node = tree
    for key in way:
        node = node[key]
    node[last] = row.value
    replace(folder / row.file, json.dumps(tree).encode())
    start = time.perf_counter()
    with pytest.raises(VidcompressError, match=re.escape(row.message)) as caught:
        row.read(folder)
    assert time.perf_counter() - start < 10
    check(caught.value)


@pytest.mark.parametrize(("read", "file", "content", "message"), TEXTS)
def test_a_file_that_is_none_is_refused(
    read: Callable[[Path], Any], file: str, content: bytes, message: str, folder: Path
) -> None:
    replace(folder / file, content)
    with pytest.raises(VidcompressError, match=message) as caught:
        read(folder)
    check(caught.value)


def test_a_template_list_is_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text('{"chat_template": [{"name": "default"}]}')
    with pytest.raises(MediaError, match="is a list; expected one Jinja text"):
        load_processor(folder)


def test_a_template_may_loop_over_what_it_is_given(folder: Path) -> None:
    """The bounds on templates are far from what an ordinary one does, long conversations included."""
    processor: Processor = load_processor(folder)
    conversation = [{"role": "user", "content": "what is this? " * 200}] * 500
    assert processor.apply_chat_template(conversation).count("what is this?") == 100_000


def test_a_prompt_is_not_far_longer_than_its_conversation(folder: Path) -> None:
    """20,000 characters and four times the texts of the conversation, its roles among them."""
    template = b"{% for i in range(60000) %}x{% endfor %}"
    replace(folder / "chat_template.jinja", template)
    processor = load_processor(folder)
    assert processor.apply_chat_template([{"role": "user", "content": 9_996 * "y"}]) == 60_000 * "x"
    with pytest.raises(
        MediaError, match="makes 60000 characters of this conversation, more than 59996; take"
    ):
        processor.apply_chat_template([{"role": "user", "content": 9_995 * "y"}])
    with pytest.raises(MediaError, match="makes 120000 characters"):
        processor.apply_chat_template([[{"role": "user", "content": "y"}]] * 2)


def test_a_tokenizer_that_fails_is_found_when_it_is_loaded(folder: Path) -> None:
    class Failing:
        def convert_tokens_to_ids(self, token: str) -> int:
            return 4

        def __call__(self, text: str) -> Any:
            raise RuntimeError("no words")

        def decode(self, ids: Any) -> str:
            return ""

    with pytest.raises(MediaError, match="does not work .*no words.*; pass tokenizer="):
        load_processor(folder, tokenizer=Failing())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no head", "must begin with a TOML head between two lines"),
        ("+++\nname = \n+++\n", "has a head that is not TOML"),
        ("+++\nname = 'a'\n+++\n", "lacks the key 'effect' in its head"),
        ("+++\nname = 5\n+++\n", "has name = 5 in its head; it must be a text"),
    ],
)
def test_a_broken_card_is_refused(source: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parse_card("mine", source)


@pytest.mark.parametrize("content", [b"\xff\n", b"{\n", b"5\n", b'{"a": 1}\n[]\n', b'{"head": {"a": 2}}\n'])
def test_a_broken_journal_is_refused_and_stays(content: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(content)
    with pytest.raises(
        ArgumentError, match=r"journal\.jsonl(: its first line is damaged| belongs to another run).*move"
    ):
        journal_of(journal, {"a": 1})
    assert journal.read_bytes() == content


@pytest.mark.parametrize(
    "line", [b"[]", b'{"id": "0"}', b'{"id": "0", "types": [], "cells": {"none@1": 3}}', b'{"types": []}']
)
def test_a_broken_line_is_set_aside_and_asked_again(line: bytes, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b'{"head":{"a":1}}\n' + line + b'\n{"cells":{},"id":"1","types":[]}\n')
    assert list(journal_of(journal, {"a": 1}).done) == ["1"]
    assert journal.with_name("journal.jsonl.corrupt").read_bytes() == line + b"\n"

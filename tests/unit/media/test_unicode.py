"""Text that is no Unicode: named before the tokenizer sees it; text that is, however rare, is taken as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from vidcompress.checks import unicode_text
from vidcompress.errors import ArgumentError, VidcompressError

HALF = "what \ud83d ?"
BYTE = os.fsdecode(b"what \xff ?")
RARE = "what \U0001f600 \ufffd \ue000 \u202e \0 e\u0301 ?"


@pytest.mark.parametrize("text, said", [(HALF, "half a surrogate pair"), (BYTE, "a byte that is no UTF-8")])
def test_half_a_surrogate_is_named_wherever_text_is_taken(text: str, said: str, asked: Any) -> None:
    qa = asked("llava_next")
    turn = {"role": "user", "content": [{"type": "text", "text": text}]}
    calls = {
        "question": lambda: qa.ask(text),
        "items[1]: question": lambda: qa.ask_batch([{"question": "what"}, {"question": text}]),
        "text": lambda: qa.processor(text=["what", text]),
        "conversation": lambda: qa.processor.apply_chat_template([turn]),
    }
    for name, call in calls.items():
        with pytest.raises(VidcompressError) as caught:
            call()
        assert str(caught.value).startswith(f"{name}={text!r}: character 5 is {text[5]!r}, {said}; pass"), (
            name
        )
    with pytest.raises(ArgumentError, match=said):
        qa.chat().ask(text)
    with pytest.raises(ArgumentError, match=said):
        list(qa.stream(text))


def test_rare_text_is_taken(asked: Any) -> None:
    qa = asked("llava_next")
    assert unicode_text("question", RARE) == RARE
    assert qa.ask(RARE, max_new_tokens=1).question == RARE
    assert qa.chat().ask(RARE, max_new_tokens=1).question == RARE
    ids = qa.processor(text=[RARE])["input_ids"]
    assert ids.tolist() == qa.processor.tokenizer([RARE])["input_ids"]


def test_the_command_line_names_it_too() -> None:
    command = [sys.executable, "-m", "vidcompress", "ask", "--question", b"what \xff ?"]
    ended = subprocess.run(command, capture_output=True, timeout=120)
    assert ended.returncode == 2
    said = ended.stderr.decode()
    assert "question='what \\udcff ?': character 5 is '\\udcff', a byte that is no UTF-8" in said
    assert len(said.splitlines()) == 1

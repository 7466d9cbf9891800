"""What a user runs on any supported transformers brings no warning that something of ours is deprecated there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vidcompress.llm_pruning.cache_names import cache_name

pytestmark = pytest.mark.transformers

ROOT = Path(__file__).resolve().parents[2]
START = """
import torch

import vidcompress
from vidcompress.llm_pruning.cache_names import returned_cache

qa = vidcompress.VisualQA.from_pretrained()
picture, clip, question = "examples/scene.png", "examples/clip.mp4", "what digit is shown?"
processor, model = qa.processor, qa.model
message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
inputs = processor(text=processor.apply_chat_template([message]), images=[picture])
"""
INSIDE = """
for method in ("fastv", "pdrop", "sparsevlm", "globalcom2+fastv"):
    print(qa.using(method=method, retention_ratio=0.5).ask(question, image=picture).text)
"""
TURNS = """
chat = qa.using(retention_ratio=0.5).chat(video=clip, history=False)
print(chat.ask(question).text, chat.ask("which shape appears first?").text)
print([a.text for a in qa.ask_batch([{"question": question, "image": picture}] * 2, num_beams=2)])
"""
BLOCK = """
with vidcompress.compress(model, retention_ratio=0.5):
    out = model.generate(**inputs, max_new_tokens=3, return_dict_in_generate=True)
    ids, cache = torch.cat((out.sequences, out.sequences[:, -1:]), dim=1), returned_cache(out)
    print(model.generate(input_ids=ids, past_key_values=cache, max_new_tokens=2).shape)
    print(model(**inputs, use_cache=True).logits.shape)
"""
OLD_NAME = """
out = model.generate(**inputs, max_new_tokens=3, return_dict_in_generate=True)
print(out.past_key_values is returned_cache(out))
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, since transformers says many things only once."""
    environment = os.environ | {"TRANSFORMERS_VERBOSITY": "warning"}
    command = [sys.executable, "-W", "always::FutureWarning", "-W", "always::DeprecationWarning:vidcompress"]
    return subprocess.run(
        [*command, "-c", START + code], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=300
    )


@pytest.mark.parametrize("code", [INSIDE, TURNS, BLOCK], ids=["inside", "turns", "block"])
def test_no_name_that_we_use_is_deprecated(code: str) -> None:
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2
    assert "deprecat" not in done.stderr.lower(), done.stderr


@pytest.mark.skipif(cache_name() != "cache", reason="this transformers has no other name for a cache")
def test_the_old_name_would_be_heard() -> None:
    done = run(OLD_NAME)
    assert done.stdout == "True\n", done.stderr
    assert "deprecat" in done.stderr.lower()

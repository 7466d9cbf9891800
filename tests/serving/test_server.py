"""`vidcompress serve`: requests over HTTP with budgets of their own, malformed ones among them; two processes."""

from __future__ import annotations

import base64
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm", reason="needs vLLM, which has an environment of its own: make serve-test")

import httpx

from serving_answers import picture

pytestmark = [pytest.mark.serving, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
SECONDS_TO_START = 300
SMALL = ("--enforce-eager", "--skip-mm-profiling", "--max-num-seqs", "16", "--max-num-batched-tokens", "4096")
PICTURES = [picture(100, 160, 1), picture(220, 120, 2), picture(112, 112, 3)]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def server(
    log: Path, *arguments: str, model: str = "tiny-onevision", cores: str = "auto"
) -> Iterator[httpx.Client]:
    """A server in a process group of its own, which ends with the block."""
    port = free_port()
    command = [sys.executable, "-m", "vidcompress", "serve", model, "-r", "0.25", "--port", str(port)]
    command += ["--dtype", "float32", "--max-model-len", "2048", *arguments, "--", *SMALL]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_CPU_OMP_THREADS_BIND": cores}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        end = time.monotonic() + SECONDS_TO_START
        while not _up(client):
            assert process.poll() is None and time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(1)
        yield client
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it hangs on TERM
        process.wait()


def _up(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def request(number: int, **values: Any) -> dict[str, Any]:
    data = io.BytesIO()
    PICTURES[number % len(PICTURES)].save(data, "PNG")
    url = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    words = ("what is shown?", "what color is the circle?", "how many digits are there?")
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": words[number // 3 % len(words)]},
    ]
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        "temperature": 0,
    }
    return {**body, **values}


def malformed(kind: int) -> dict[str, Any]:
    body = request(0)
    if kind == 0:
        body["mm_processor_kwargs"] = {"retention_ratio": 1.5}
    elif kind == 1:
        body["mm_processor_kwargs"] = {"retention_ratio": "x"}
    elif kind == 2:
        body["messages"][0]["content"][0]["image_url"]["url"] = "data:image/png;base64,AAAA"
    elif kind == 3:
        body["mm_processor_kwargs"] = {"max_tokens": -3}
    elif kind == 5:
        body["mm_processor_kwargs"] = {"max_pixels": 10**9}
    else:
        body["messages"][0]["content"][0]["image_url"]["url"] = "http://127.0.0.1:9/picture.png"
    return body


def ask(client: httpx.Client, body: dict[str, Any]) -> tuple[int, str, int]:
    """Status, answer or message, and tokens of the prompt."""
    reply = client.post("/v1/chat/completions", json=body)
    if reply.status_code != 200:
        return reply.status_code, reply.text, 0
    content = reply.json()
    return 200, content["choices"][0]["message"]["content"], content["usage"]["prompt_tokens"]


BUDGETS: list[dict[str, Any]] = [{}, {"retention_ratio": 0.5}, {"retention_ratio": 0.1}, {"max_tokens": 20}]


def bodies() -> list[dict[str, Any]]:
    return [request(n, mm_processor_kwargs=BUDGETS[n % len(BUDGETS)]) for n in range(36)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    return Path(tmp_path_factory.mktemp("servers"))


@pytest.fixture(scope="module")
def alone(folder: Path) -> Iterator[httpx.Client]:
    with server(folder / "alone.log") as client:
        yield client


@pytest.fixture(scope="module")
def answers(alone: httpx.Client) -> list[tuple[int, str, int]]:
    """Answers of one process to one request after another."""
    replies = [ask(alone, body) for body in bodies()]
    assert all(status == 200 for status, _, _ in replies), replies
    assert len(set(replies)) > len(PICTURES)
    return replies


def test_usage_shows_the_shorter_prompt(alone: httpx.Client) -> None:
    tokens = {}
    for name, values in {
        "whole": {"retention_ratio": 1},
        "default": {},
        "tenth": {"retention_ratio": 0.1},
    }.items():
        status, text, tokens[name] = ask(alone, request(0, mm_processor_kwargs=values))
        assert status == 200, text
    visual = (tokens["whole"] - tokens["tenth"]) / 0.9
    assert abs(tokens["default"] - (tokens["whole"] - 0.75 * visual)) <= 2
    five = [ask(alone, request(0, mm_processor_kwargs={"max_tokens": n}))[2] for n in (5, 25)]
    assert five[1] - five[0] == 20


@pytest.mark.parametrize(
    "kind, message",
    [
        (0, "retention_ratio"),
        (1, "retention_ratio"),
        (2, ""),
        (3, "max_tokens"),
        (4, "domain"),
        (5, "max_pixels"),
    ],
)
def test_a_malformed_request_gets_a_reason(alone: httpx.Client, kind: int, message: str) -> None:
    status, text, _ = ask(alone, malformed(kind))
    assert 400 <= status < 500 and message in text
    assert ask(alone, request(0))[0] == 200


def test_two_hundred_requests_some_malformed(alone: httpx.Client, answers: Any) -> None:
    expected: list[Any] = []
    sent = []
    for number in range(200):
        wrong = number % 20 == 7
        sent.append(malformed(number // 20 % 6) if wrong else bodies()[number % 36])
        expected.append(None if wrong else answers[number % 36])
    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(lambda body: ask(alone, body), sent))
    errors = [reply for reply, right in zip(got, expected, strict=True) if right is None]
    assert len(errors) == 10 and all(400 <= status < 500 for status, _, _ in errors), errors
    right = [reply == right for reply, right in zip(got, expected, strict=True) if right is not None]
    assert (len(right), sum(right)) == (190, 190)
    assert alone.get("/health").status_code == 200


def test_two_copies_answer_as_one(folder: Path, answers: Any) -> None:
    with server(folder / "copies.log", "--data-parallel", "2", cores="0|1") as client:
        assert _at_once(client) == answers


def test_two_halves_answer_as_one(folder: Path) -> None:
    """The heads of the encoder are split, so that the evidence of the CLS token is summed over both."""
    model = str(even_heads(folder / "next"))
    with server(folder / "whole.log", model=model) as client:
        expected = _at_once(client)
    assert all(status == 200 for status, _, _ in expected) and len({text for _, text, _ in expected}) > 2
    with server(folder / "halves.log", "--tensor-parallel", "2", model=model, cores="0|1") as client:
        assert _at_once(client) == expected


def even_heads(folder: Path) -> Path:
    """A random LLaVA-NeXT with the tokenizer of tiny-next, whose encoder has a number of heads that two can share."""
    import torch
    from transformers import AutoConfig, LlavaNextForConditionalGeneration

    source = ROOT / "models" / "tiny-next"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    config = AutoConfig.from_pretrained(source)
    config.vision_config.hidden_size, config.vision_config.num_attention_heads = 128, 4
    torch.manual_seed(0)
    model = LlavaNextForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():  # larger than they come, so that answers depend on the pixels
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    model.save_pretrained(folder)
    return folder


def _at_once(client: httpx.Client) -> list[tuple[int, str, int]]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda body: ask(client, body), bodies()))


def test_without_a_plugin_nothing_starts(monkeypatch: Any) -> None:
    from vidcompress.errors import UnsupportedModelError
    from vidcompress.serving import launch

    make: Callable[..., Any] = launch.server_environment
    with pytest.raises(UnsupportedModelError, match="VLLM_PLUGINS='other' leaves vidcompress out"):
        make({"VLLM_PLUGINS": "other"})
    assert make({"VLLM_MAX_IMAGE_PIXELS": "7"})["VLLM_MAX_IMAGE_PIXELS"] == "7"
    monkeypatch.setattr(launch, "entry_points", lambda group: [])
    with pytest.raises(UnsupportedModelError, match="pip install"):
        make({})

"""Client of OpenAI-compatible servers: so many requests at once, each timed to its first and last token."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidcompress.errors import UnsupportedInputError, one_line
from vidcompress.loading.distribution import how_to_install

if TYPE_CHECKING:
    from aiohttp import ClientSession

KEY = "VLLM_API_KEY"
"""Variable with the key of a server that asks for one; vLLM's server reads the same."""
CHAT, MODELS, VERSION = "/v1/chat/completions", "/v1/models", "/version"
MOST_SAID = 300
"""Most characters of a server's error that are kept."""


class ServerError(UnsupportedInputError):
    """A server cannot be reached or does not answer as one of the OpenAI interface does."""


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, in seconds from the start of its cell.

    Attributes:
        sent: when it was sent. first: when the first token came, or None. ended: when the last one came, or the error.
        prompt_tokens, new_tokens: as the server counted them; 0 where it failed.
        error: what went wrong, or None.
    """

    sent: float
    first: float | None
    ended: float
    prompt_tokens: int = 0
    new_tokens: int = 0
    error: str | None = None


def check_client() -> None:
    """Refuse a missing aiohttp.

    Raises:
        UnsupportedInputError: with what to install.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise UnsupportedInputError(
            f"bench --serve needs aiohttp, which is not installed; use {how_to_install('bench')}"
        ) from error


def served_model(url: str, seconds: float = 30.0) -> dict[str, Any]:
    """Return `id` and `root` of the model that a server has, and its `version` where it states one, as vLLM does.

    Args:
        url: of the server, without `/v1`.
        seconds: time limit.

    Raises:
        ServerError: it cannot be reached, or lists no model.
    """

    async def ask() -> tuple[Any, Any]:
        async with _session(seconds) as session:
            async with session.get(url + MODELS) as response:
                response.raise_for_status()
                listed = await response.json(content_type=None)
            async with session.get(url + VERSION) as response:
                return listed, await response.json(content_type=None) if response.status == 200 else {}

    with _reaching(url):
        listed, stated = asyncio.run(ask())
    try:
        entry = listed["data"][0]
        version = str(stated["version"]) if isinstance(stated, dict) and "version" in stated else None
        return {"id": str(entry["id"]), "root": str(entry.get("root") or entry["id"]), "version": version}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ServerError(
            f"serve={url!r}: {url + MODELS} lists no model; pass the address of an OpenAI-compatible server"
        ) from error


def drive(
    url: str, bodies: Sequence[Mapping[str, Any]], at_once: int, seconds: float = 600.0
) -> tuple[list[Exchange], float]:
    """Send requests, `at_once` of them at any time, the next as soon as one has ended.

    Args:
        url: of the server, without `/v1`.
        bodies: of the requests, with the model.
        at_once: number of requests in flight.
        seconds: time limit of a request.

    Returns:
        The exchanges in the order of `bodies`, and the seconds from the first sent to the last ended. A request that
        fails is an exchange with an error, and costs no other.
    """
    return asyncio.run(_drive(url, bodies, at_once, seconds))


async def _drive(
    url: str, bodies: Sequence[Mapping[str, Any]], at_once: int, seconds: float
) -> tuple[list[Exchange], float]:
    exchanges: dict[int, Exchange] = {}
    waiting = iter(enumerate(bodies))
    async with _session(seconds) as session:
        begun = time.perf_counter()

        async def worker() -> None:
            for number, body in waiting:  # one iterator for all workers
                exchanges[number] = await _exchange(session, url + CHAT, body, begun)

        await asyncio.gather(*(worker() for _ in range(min(at_once, len(bodies)))))
        took = time.perf_counter() - begun
    return [exchanges[number] for number in range(len(bodies))], took


async def _exchange(session: ClientSession, url: str, body: Mapping[str, Any], begun: float) -> Exchange:
    import aiohttp

    def now() -> float:
        return time.perf_counter() - begun

    sent, first, usage, ended = now(), None, None, None
    try:
        async with session.post(url, json=body) as response:
            if response.status != 200:
                said = (await response.content.read(MOST_SAID)).decode("utf-8", "replace")
                return Exchange(
                    sent, None, now(), error=f"status {response.status}: {' '.join(said.split())}"
                )
            async for line in response.content:
                event = _event(line)
                if event is None:
                    continue
                if "error" in event:
                    return Exchange(sent, first, now(), error=str(event["error"])[:MOST_SAID])
                if _has_token(event):
                    ended = now()
                    first = ended if first is None else first
                usage = event.get("usage") or usage
    except TimeoutError:
        return Exchange(sent, first, now(), error="no answer in time")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Exchange(sent, first, now(), error=one_line(error, MOST_SAID))
    counts = usage if isinstance(usage, dict) else {}
    read, written = counts.get("prompt_tokens"), counts.get("completion_tokens")
    if first is None or ended is None or type(read) is not int or type(written) is not int:
        return Exchange(sent, first, now(), error="the answer ended without tokens or without their count")
    return Exchange(sent, first, ended, read, written)


def _event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line of the stream; None for an empty line, a comment, or its end.

    Raises:
        ValueError: it is no JSON object.
    """
    text = line.strip()
    if not text.startswith(b"data:"):
        return None
    content = text[len(b"data:") :].strip()
    if content == b"[DONE]":
        return None
    event = json.loads(content)
    if not isinstance(event, dict):
        raise ValueError("an event is no JSON object")
    return event


def _has_token(event: Mapping[str, Any]) -> bool:
    """Whether an event brings a token: text, or a piece without the role, which servers may send before the prefill."""
    for choice in event.get("choices") or ():
        piece = choice.get("delta") or {}
        if (
            piece.get("content")
            or piece.get("reasoning_content")
            or ("content" in piece and "role" not in piece)
        ):
            return True
    return False


def _session(seconds: float) -> ClientSession:
    import aiohttp

    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get(KEY)) else {}
    # The number of connections is that of the requests at once, which the workers keep.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=seconds),
        headers=headers,
    )


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    import aiohttp

    try:
        yield
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ServerError(
            f"serve={url!r} cannot be reached ({one_line(error)}); start the server, or pass its address"
        ) from error

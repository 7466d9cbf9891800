"""A server of the OpenAI interface whose delays are known: to its first token, between tokens; and its errors."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

Behaviour = Callable[[int], str]
"""Number of a request -> what becomes of it: "good", "500", "cut", "garbage", "uncounted", "hang" or "said"."""


@dataclass
class StandIn:
    """The server.

    Attributes:
        first: seconds to the first token of a request with all tokens; a request for a ratio takes its share of them.
        later: seconds between two tokens.
        width: requests that are worked on at once; others wait.
        becomes: of each request by its number.
        bodies, headers: of the requests so far.
        waits: of each request that was answered: seconds from its arrival to the first token and from that to the last,
            as they were, which on a busy machine are more than was asked for.
        most_at_once: requests in flight at any time.
    """

    first: float = 0.05
    later: float = 0.01
    width: int = 64
    becomes: Behaviour = lambda number: "good"
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    waits: list[tuple[float, float]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "stand-in", "root": "/nowhere/stand-in"}]})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.1"})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        arrived = time.perf_counter()
        body = await request.json()
        number = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            async with self._slots:
                return await self._answer(request, body, self.becomes(number), arrived)
        finally:
            self._at_once -= 1

    async def _answer(
        self, request: web.Request, body: dict[str, Any], how: str, arrived: float
    ) -> web.StreamResponse:
        if how == "500":
            return web.Response(status=500, text="no room\nfor this request")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def say(event: Any) -> None:
            text = event if isinstance(event, str) else json.dumps(event)
            await response.write(f"data: {text}\n\n".encode())

        await say({"choices": [{"delta": {"role": "assistant", "content": ""}}]})  # before the prefill
        ratio = body.get("mm_processor_kwargs", {}).get("retention_ratio", 1.0)
        await asyncio.sleep(self.first * ratio)
        if how == "hang":
            await asyncio.sleep(60)
        first = time.perf_counter()
        for number in range(body["max_tokens"]):
            if number:
                await asyncio.sleep(self.later)
            if how == "garbage" and number == 1:
                await say("{no json")
            if how == "said" and number == 1:
                await say({"error": {"message": "out of cache"}})
                return response
            if how == "cut" and number == 2 and request.transport is not None:
                request.transport.abort()
                return response
            await say({"choices": [{"delta": {"content": "" if number == 0 else "x"}}]})
        self.waits.append((first - arrived, time.perf_counter() - first))
        if how != "uncounted":
            counts = {"prompt_tokens": round(100 * ratio) + 10, "completion_tokens": body["max_tokens"]}
            await say({"choices": [], "usage": counts})
        await say("[DONE]")
        return response

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/version", self.version)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    @contextmanager
    def running(self) -> Iterator[StandIn]:
        """Serve in a thread of its own."""
        loop, ready = asyncio.new_event_loop(), threading.Event()

        async def start() -> web.AppRunner:
            self._slots = asyncio.Semaphore(self.width)
            runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            return runner

        def work() -> None:
            asyncio.set_event_loop(loop)
            runner = loop.run_until_complete(start())
            ready.set()
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)


def main() -> None:
    """Serve as a process of its own: `stand_in_server.py WAY CHILDREN --host HOST --port PORT`.

    WAY is "good"; "ends", which prints a line and ends; or "mute", which never answers. CHILDREN is a file that gets
    the ids of this process and of a child that outlives it.
    """
    way, children, _, host, _, port = sys.argv[1:]
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(children).write_text(f"{os.getpid()} {child.pid}")
    if way == "ends":
        print("no room for the weights", flush=True)
        raise SystemExit(3)
    if way == "mute":
        time.sleep(600)
    server = StandIn(first=0.01, later=0.001)

    async def serve() -> None:
        server._slots = asyncio.Semaphore(server.width)
        runner = web.AppRunner(server.app())
        await runner.setup()
        await web.TCPSite(runner, host, int(port)).start()
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()

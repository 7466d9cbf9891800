"""Browser of the tests: chromium through playwright, and a record of what its pages ask for and complain about.

Tests take the fixture `chromium`; it skips, with its reason, where there is no chromium or no playwright.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
"""No name is looked up, so that a request to another host fails here."""


@dataclass
class Watch:
    """Record of a page: every address that it asked for, and every complaint of its console and scripts."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def strangers(self, *allowed: str) -> list[str]:
        """Addresses that begin with none of `allowed`; what a page carries itself (data:, blob:) is no request."""
        own = ("data:", "blob:", "about:", *allowed)
        return [url for url in self.requests if not url.startswith(own)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser, one for a module: playwright keeps an event loop in its thread for as long as it runs."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    if EXECUTABLE is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=EXECUTABLE, args=[*ARGUMENTS, LOOPBACK_ONLY])
        yield browser
        browser.close()


@contextmanager
def watched_page(
    browser: Any, *, width: int = 1200, height: int = 900, dark: bool = False, scale: float = 1
) -> Iterator[tuple[Any, Watch]]:
    """A new page in a context of its own, and the record of it."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
    )
    context.set_default_timeout(20_000)
    watch = Watch()
    context.on("request", lambda request: watch.requests.append(request.url))
    context.on("weberror", lambda error: watch.complaints.append(str(error.error)))
    context.on(
        "console",
        lambda message: (
            watch.complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page = context.new_page()
    page.on("websocket", lambda socket: watch.requests.append(socket.url))
    try:
        yield page, watch
    finally:
        context.close()


def open_file(page: Any, path: Path) -> str:
    """Open a file and return its address."""
    url = path.resolve().as_uri()
    page.goto(url)
    return url


def pixels(canvas: Any) -> str:
    """Content of a canvas as text, for comparisons."""
    return str(canvas.evaluate("canvas => canvas.toDataURL()"))

"""Server of the app: on this machine alone unless a host is named, with a folder of its own that it removes."""

from __future__ import annotations

import errno
import ipaddress
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from vidcompress.checks import whole_number, word
from vidcompress.errors import ArgumentError, UnsupportedInputError, one_line, shown
from vidcompress.loading.distribution import how_to_install
from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.app.desk import Desk
from vidcompress.tools.app.uploads import MAX_BYTES

HOST: Final = "127.0.0.1"
PORTS: Final = range(7860, 7960)
"""Ports that are tried in turn where none is asked for."""
FOLDER: Final = "GRADIO_TEMP_DIR"
"""Variable that names gradio's folder for uploads."""
ENVIRONMENT: Final = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Variables that gradio reads: its server would ask two outside hosts otherwise."""
TABS_KEPT: Final = 16
"""Tabs whose panes gradio keeps for an hour; those of more would be memory that grows."""
LEAST_GRADIO: Final = 6
"""Oldest major version that has what the page needs."""


def check_gradio() -> None:
    """Look for gradio without importing it, which takes seconds.

    Raises:
        UnsupportedInputError: it is not installed, or is older than the extra `app` allows.
    """
    try:
        installed = version("gradio")
    except PackageNotFoundError as error:
        raise UnsupportedInputError(
            f"the app needs gradio, which is not installed; use {how_to_install('app')}"
        ) from error
    if int(installed.partition(".")[0]) < LEAST_GRADIO:
        raise UnsupportedInputError(
            f"the app needs gradio {LEAST_GRADIO} or later, and {installed} is installed; use {how_to_install('app')}"
        )


def check_address(host: str, port: int | None) -> tuple[str, int]:
    """Return an address that can be bound.

    Args:
        host: name or number of this machine; "0.0.0.0" for all its networks.
        port: None takes the first free one of `PORTS`.

    Raises:
        ArgumentError: the host is not this machine's, or the port is taken or not allowed.
    """
    word("host", host, HOST)
    if port is not None:
        whole_number("port", port, least=1, most=65_535)
        _try(host, port)
        return host, port
    for candidate in PORTS:
        try:
            _try(host, candidate)
            return host, candidate
        except ArgumentError as error:
            if getattr(error.__cause__, "errno", None) != errno.EADDRINUSE:
                raise
    raise ArgumentError(f"port=None: no port from {PORTS[0]} to {PORTS[-1]} is free on {host}; pass another")


def _try(host: str, port: int) -> None:
    """Bind and release an address.

    Raises:
        ArgumentError: it cannot be bound.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ArgumentError(
            f"host={shown(host)}: no address of that name ({one_line(error)}); pass {HOST} or 0.0.0.0"
        ) from error
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except PermissionError as error:
            raise ArgumentError(f"port={port}: may not be bound by this user; pass one above 1023") from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ArgumentError(
                    f"port={port} is taken on {host}; pass another, or leave it out for the first that is free"
                ) from error
            raise ArgumentError(
                f"host={shown(host)}: is no address of this machine ({error.strerror}); pass {HOST} or 0.0.0.0"
            ) from error


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to the host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def running_app(
    qa: VisualQA, *, host: str = HOST, port: int | None = None, max_new_tokens: int = 64
) -> Iterator[str]:
    """Serve the app within a block; at its end questions are stopped and uploads deleted.

    Args:
        qa: the model.
        host: to bind to; "0.0.0.0" lets other machines in.
        port: None takes the first free one from 7860 on.
        max_new_tokens: longest answer, in tokens.

    Yields:
        The URL.

    Raises:
        ArgumentError: an address that cannot be bound. UnsupportedInputError: gradio is not installed.
    """
    check_gradio()
    check_address(host, port)
    whole_number("max_new_tokens", max_new_tokens)
    folder = tempfile.mkdtemp(prefix="vidcompress-app-")
    before = os.environ.get(FOLDER)
    os.environ |= {**ENVIRONMENT, FOLDER: folder}  # before gradio is imported, which reads them
    try:
        import gradio

        from vidcompress.tools.app import render
        from vidcompress.tools.app.page import MOST_IN_LINE, make_page

        desk = Desk(qa, max_new_tokens)
        page = make_page(desk)
        page.queue(max_size=MOST_IN_LINE, api_open=False)
        host, free = check_address(host, port)  # again, since importing gradio takes seconds
        try:
            page.launch(
                server_name=host,
                server_port=free,
                share=False,
                inbrowser=False,
                quiet=True,
                prevent_thread_lock=True,
                show_error=False,
                max_file_size=MAX_BYTES,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                run_history=False,
                state_session_capacity=TABS_KEPT,
                footer_links=[],
                theme=gradio.themes.Default(
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
                ),
                css=render.style(),
            )
            yield f"http://{f'[{host}]' if ':' in host else host}:{free}"
        finally:
            desk.close()
            page.close(verbose=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            os.environ.pop(FOLDER, None)
        else:
            os.environ[FOLDER] = before

"""Servers that a benchmark starts: vLLM's own with the stock model and with the plugin, ended by their ids."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, UnsupportedInputError, one_line, shown
from vidcompress.loading.distribution import how_to_install
from vidcompress.loading.load import resolve
from vidcompress.serving.plugin import hf_overrides
from vidcompress.tools.benchmark.serving.client import ServerError, served_model
from vidcompress.tools.benchmark.serving.plan import COMPRESSED, STOCK
from vidcompress.tools.runs.process_group import SERVED, end_group, last_lines, start_group

HOST = "127.0.0.1"
"""Module that names the models which compress within vLLM."""
TRUST = "--trust-request-mm-kwargs"
READY = 900.0
"""Seconds that a server may take until it answers."""


@contextmanager
def running_servers(
    model: str,
    *,
    method: str = "globalcom2",
    arguments: Sequence[str] = (),
    folder: Path,
    seconds: float = READY,
) -> Iterator[list[str]]:
    """Serve a model by vLLM twice within the block, stock and with the plugin, and end both after it.

    Args:
        model: folder or hub id. method: label, of the plugin.
        arguments: of vLLM's server, for both.
        folder: for their logs, `stock.log` and `vidcompress.log`.
        seconds: time limit of each start.

    Yields:
        `name=address` of each, as `ServePlan` takes them.

    Raises:
        UnsupportedInputError: vLLM is missing. ServerError: a server ended or did not answer in time; the message ends
            with its last output.
    """
    commands = server_commands(model, method, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(_ended_in_order())
        addresses = []
        for name, command in commands.items():
            url = stack.enter_context(running_server(command, folder / f"{name}.log", seconds))
            addresses.append(f"{name}={url}")
        yield addresses


def server_commands(model: str, method: str, arguments: Sequence[str] = ()) -> dict[str, list[str]]:
    """Commands of the stock server and of that with the plugin, without host and port.

    Raises:
        UnsupportedInputError: vLLM or the plugin is missing, or the plugin does not serve the model.
        ArgumentError: the model has no config.json.
    """
    if not SERVED:
        raise UnsupportedInputError(
            f"serve={model!r}: servers are started on Linux and macOS only; pass addresses"
        )
    if find_spec("vllm") is None:
        raise UnsupportedInputError(
            f"serve={model!r}: vLLM is not installed; use {how_to_install('vllm')}, or pass addresses"
        )
    source = resolve(model)
    # A request's own ratio replaces this one, so that one server serves all rows.
    overrides = hf_overrides(_architecture(source), method=method, retention_ratio=1.0)
    # The console script of some builds is broken; the module is the same server.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", source, *arguments]
    # By default vLLM's server refuses what a request asks of the processor; here all clients are this process.
    return {STOCK: command, COMPRESSED: [*command, "--hf-overrides", json.dumps(overrides), TRUST]}


@contextmanager
def running_server(
    command: Sequence[str],
    log: Path,
    seconds: float = READY,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Start one server within the block, wait until it lists its model, and kill its whole process group after it.

    Args:
        command: without host and port. log: file of its output.
        seconds: time limit until it answers.
        environment: beside that of this process.

    Yields:
        Its address.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    url = f"http://{HOST}:{port}"
    whole = {**os.environ, **(environment or {})}
    child = start_group([*command, "--host", HOST, "--port", str(port)], whole, log)
    try:
        until = time.monotonic() + seconds
        while True:
            try:
                served_model(url, seconds=10)
                break
            except ServerError as error:
                code = child.poll()
                if code is not None or time.monotonic() > until:
                    how = (
                        f"ended with code {code}" if code is not None else f"did not answer in {seconds:g} s"
                    )
                    raise ServerError(
                        f"serve: the server {how}; its last words, from {log}:\n{last_lines(log)}"
                    ) from error
            time.sleep(0.5)
        yield url
    finally:
        end_group(child)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Turn SIGTERM into an exit within the block, so that servers are ended too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _architecture(source: str) -> str:
    from transformers import AutoConfig

    try:
        named = AutoConfig.from_pretrained(source).architectures
    except Exception as error:
        raise ArgumentError(
            f"serve={shown(source)}: its config.json cannot be read ({one_line(error)}); pass a model or an address"
        ) from error
    if not named:
        raise ArgumentError(f"serve={shown(source)}: its config.json names no architecture; add it there")
    return str(named[0])

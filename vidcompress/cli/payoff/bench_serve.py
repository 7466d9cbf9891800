"""`vidcompress bench --serve`: requests per second and times to the first token of servers, and a forecast."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import typer

from vidcompress.cli.interrupt import interruptible
from vidcompress.cli.library_output import quiet
from vidcompress.cli.options import read_list, read_numbers, read_size
from vidcompress.cli.show import show, show_all

NOWHERE = ["stock=http://127.0.0.1:1", "vidcompress=http://127.0.0.1:2"]
"""Addresses of servers that are not started yet."""


def bench_servers(
    serve: Sequence[str],
    *,
    refused: Mapping[str, Any],
    sizes: str | None,
    ratios: str | None,
    new_tokens: str,
    batch_sizes: str,
    traffic: Mapping[str, Any],
    methods: Sequence[str] | None,
    model: str | None,
    dtype: str,
    server_arguments: str,
    journal: Path | None,
    minutes: float | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure servers, print the tables, and write the result.

    Args:
        serve: addresses, or one model that is served here.
        refused: values of the options of `bench` that do not go with servers.
        sizes, ratios, new_tokens, batch_sizes: as they are typed.
        traffic: further fields of `ServePlan`.
        methods: that the servers compress with, one. model: for the forecast; None is what the server has.
        dtype: of the forecast.
        server_arguments: of vLLM's server, where one is started.
        journal, minutes, out, as_json: as in `bench`.

    Raises:
        ArgumentError: an option does not go with servers, or a value is not allowed.
    """
    from vidcompress.checks import word
    from vidcompress.errors import ArgumentError
    from vidcompress.tools.benchmark.serving.plan import is_address

    option = next((name for name, value in refused.items() if value), None)
    if option is not None:
        raise ArgumentError(f"--{option} cannot go with --serve; leave it out")
    method = ",".join(methods or ["globalcom2"])
    if "," in method:
        raise ArgumentError(f"--methods={method!r}: must be one method, that of the server")
    shapes = [read_size("--sizes", part)[::-1] for part in read_list(sizes)] or [(224, 224)]
    lengths = read_numbers("new_tokens", new_tokens)
    for name, values in (("sizes", shapes), ("new-tokens", lengths)):
        if len(values) != 1:
            raise ArgumentError(f"--{name}: must be one with --serve, and {len(values)} were given")
    for text in serve:
        word("--serve", text, "http://127.0.0.1:8000")
    models = [text for text in serve if not is_address(text)]
    if models and len(serve) > 1:
        raise ArgumentError(
            f"--serve={models[0]!r}: a model is served twice by itself; pass it alone, or addresses"
        )
    if server_arguments and not models:
        raise ArgumentError(f"--server-arguments={server_arguments!r}: of which server? pass --serve MODEL")
    fields = {
        **traffic,
        "retention_ratios": read_list(ratios) or (0.25, 0.1),
        "size": shapes[0],
        "new_tokens": lengths[0],
        "batch_sizes": read_numbers("batch_sizes", batch_sizes),
    }
    kept = f"the measurements so far are in {journal}, and the same command goes on from there"
    with quiet(), interruptible("" if journal is None else kept):
        result = _measured(serve, models, fields, method, model, dtype, server_arguments, journal, minutes)
        if out is not None:
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result))
        return
    from vidcompress.tools.benchmark.serving.table import serve_footer, serve_tables

    show_all(serve_tables(result))
    show(serve_footer(result))


def _measured(
    serve: Sequence[str],
    models: Sequence[str],
    traffic: dict[str, Any],
    method: str,
    model: str | None,
    dtype: str,
    server_arguments: str,
    journal: Path | None,
    minutes: float | None,
) -> dict[str, Any]:
    from vidcompress.errors import VidcompressError
    from vidcompress.progress import measurement_progress
    from vidcompress.tools.benchmark.serving import ServePlan, forecast, run_serve
    from vidcompress.tools.benchmark.serving.client import check_client, served_model
    from vidcompress.tools.benchmark.serving.server import running_servers

    check_client()
    seconds = None if minutes is None else minutes * 60
    plan = ServePlan(NOWHERE if models else list(serve), **traffic)
    known = model or next(iter(models), None)
    # Errors are raised before a server starts or an hour is measured.
    expected = None if known is None else forecast(plan, known, method=method, dtype=dtype)
    with ExitStack() as stack:
        if models:
            logs = stack.enter_context(tempfile.TemporaryDirectory(prefix="vidcompress-servers-"))
            words = shlex.split(server_arguments)
            addresses = stack.enter_context(
                running_servers(models[0], method=method, arguments=words, folder=Path(logs))
            )
            plan = ServePlan(addresses, **traffic)
        served = {url: served_model(url) for _, url in plan.servers}
        on_step = stack.enter_context(measurement_progress())
        result = run_serve(plan, journal=journal, seconds=seconds, on_step=on_step, known_models=served)
    root = next(iter(served.values()))["root"]
    if expected is None and Path(root).is_dir():
        with suppress(VidcompressError):  # a forecast that was not asked for
            expected = forecast(plan, root, method=method, dtype=dtype)
    return {**result, "forecast": expected}

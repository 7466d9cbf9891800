"""`vidcompress serve`: vLLM's OpenAI-compatible server, which sends fewer visual tokens."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import typer

from vidcompress.cli.options import (
    COMPRESSION,
    MODEL,
    MethodOption,
    Separators,
    compression_config,
    read_options,
)

SERVER, PARALLEL = "Server", "Parallel"


def serve_model(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Embedded model (see `models`), folder, or hub id.")],
    method: Annotated[
        str, typer.Option("--method", help="Compression method.", rich_help_panel=COMPRESSION)
    ] = "globalcom2",
    retention_ratio: Annotated[
        str | None,
        typer.Option(
            "--retention-ratio",
            "-r",
            help="Share of visual tokens to keep; a request may state its own.",
            show_default="0.25",
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", help="Visual tokens per prompt, instead.", rich_help_panel=COMPRESSION),
    ] = None,
    option: MethodOption = None,
    separators: Separators = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to bind to; set --api-key behind -- before you let other machines in.",
            rich_help_panel=SERVER,
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind to.", rich_help_panel=SERVER)] = 8000,
    max_model_len: Annotated[
        int | None,
        typer.Option(
            help="Longest prompt and answer together, in tokens.",
            show_default="8192, or the model's",
            rich_help_panel=SERVER,
        ),
    ] = None,
    max_images: Annotated[int, typer.Option(help="Most pictures in a request.", rich_help_panel=SERVER)] = 8,
    max_clips: Annotated[int, typer.Option(help="Most clips in a request.", rich_help_panel=SERVER)] = 1,
    fixed_budget: Annotated[
        bool,
        typer.Option(
            "--fixed-budget", help="Requests may state no budget of their own.", rich_help_panel=SERVER
        ),
    ] = False,
    media_domain: Annotated[
        list[str] | None,
        typer.Option(
            help="A host that media may be fetched from; repeatable.",
            show_default="none: requests carry their media",
            rich_help_panel=SERVER,
        ),
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option(help="Devices that the model is split over.", rich_help_panel=PARALLEL)
    ] = 1,
    data_parallel: Annotated[int, typer.Option(help="Copies of the model.", rich_help_panel=PARALLEL)] = 1,
    pipeline_parallel: Annotated[
        int,
        typer.Option(help="Stages that the layers are split over; LLaVA only.", rich_help_panel=PARALLEL),
    ] = 1,
    dtype: Annotated[
        str | None, typer.Option(help="Of the weights.", show_default="vLLM's choice", rich_help_panel=MODEL)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the command, and start nothing.", rich_help_panel=SERVER)
    ] = False,
) -> None:
    """Serve a model by vLLM, with the API of OpenAI, and fewer visual tokens.

    `usage.prompt_tokens` of an answer counts what was sent. A request may state a budget of its own, as
    `mm_processor_kwargs` with retention_ratio or max_tokens. Arguments behind -- are vLLM's own. Needs vLLM (extra
    `vllm`). Ctrl-C ends it.
    """
    from vidcompress.serving.launch import ServerOptions, run_server, server_command, server_environment
    from vidcompress.serving.plugin import check_engine

    config = compression_config(
        method,
        read_options(method, option or []),
        None,
        retention_ratio=retention_ratio,
        max_tokens=max_tokens,
        separators=separators,
    )
    options = ServerOptions(
        host=host,
        port=port,
        max_model_len=max_model_len,
        max_images=max_images,
        max_clips=max_clips,
        request_budgets=not fixed_budget,
        media_domains=tuple(media_domain or ()),
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
        pipeline_parallel=pipeline_parallel,
        dtype=dtype,
    )
    command = server_command(model, config, options, context.args)
    if dry_run:
        typer.echo(shlex.join(command))
        return
    check_engine()
    run_server(command, server_environment(os.environ))

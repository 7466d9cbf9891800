"""`vidcompress bench`: latency and memory of methods and budgets on a model, compressed and uncompressed in turns."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidcompress.cli.interrupt import interruptible
from vidcompress.cli.library_output import quiet
from vidcompress.cli.options import (
    COMPRESSION,
    FILE,
    INPUT,
    MODEL,
    OUTPUT,
    PLACE,
    PLOT_PATH,
    Attention,
    Device,
    Dtype,
    Json,
    Only,
    read_list,
    read_numbers,
    read_size,
)
from vidcompress.cli.payoff.bench_serve import bench_servers
from vidcompress.cli.show import show, show_all

if TYPE_CHECKING:
    from vidcompress.table import Table

SERVERS = "Servers"


def bench(
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Images, by size in pixels.",
            metavar="<w>x<h>,...",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            "--frames",
            "-n",
            help="Clips, by number of frames.",
            metavar="<n,n,...>",
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            "-i",
            help="A picture of yours instead of --sizes.",
            metavar=FILE,
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    video: Annotated[
        str | None,
        typer.Option(
            "--video",
            "-v",
            help="A clip of yours for --frames.",
            metavar=FILE,
            show_default=False,
            rich_help_panel=INPUT,
        ),
    ] = None,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="Decode and prepare a drawn file in every round, and use its pixels.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    text_tokens: Annotated[
        int, typer.Option(help="Words of the prompt beside the visual tokens.", rich_help_panel=INPUT)
    ] = 40,
    batch_sizes: Annotated[
        str, typer.Option(help="Requests at once.", metavar="<n,n,...>", rich_help_panel=INPUT)
    ] = "1",
    concurrency: Annotated[
        str,
        typer.Option(
            help="Several requests as one `batch`, or from `threads` with one each.", rich_help_panel=INPUT
        ),
    ] = "batch",
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="Methods, with commas between them or one at a time, as in compare; `stock` is the model by itself.",
            metavar="<m,m,...>",
            show_default="all that serve the input",
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    only: Only = False,
    baseline: Annotated[
        bool,
        typer.Option(
            help="Measure the uncompressed model too, which ratios are against.", rich_help_panel=COMPRESSION
        ),
    ] = True,
    retention_ratios: Annotated[
        str | None,
        typer.Option(
            "--retention-ratios",
            "-r",
            help="Shares of the visual tokens.",
            metavar="<r,r,...>",
            show_default="0.25,0.1",
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    max_tokens: Annotated[
        str | None,
        typer.Option(
            help="Numbers of visual tokens, instead.",
            metavar="<n,n,...>",
            show_default=False,
            rich_help_panel=COMPRESSION,
        ),
    ] = None,
    geometry: Annotated[
        str | None,
        typer.Option(
            "--geometry",
            "-g",
            help="A named shape with random weights: llava-next-7b, llava-onevision-0.5b, ...",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Instead, an embedded model, a folder or a hub id.",
            show_default=False,
            rich_help_panel=MODEL,
        ),
    ] = None,
    decoder_layers: Annotated[
        int | None,
        typer.Option(
            help="Fewer decoder layers than the geometry has.", show_default="all", rich_help_panel=MODEL
        ),
    ] = None,
    encoder_layers: Annotated[
        int | None,
        typer.Option(help="Fewer encoder layers, at least 2.", show_default="all", rich_help_panel=MODEL),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="full, or tiny: the geometry with a toy's widths, to try a run out.", rich_help_panel=MODEL
        ),
    ] = "full",
    device: Device = None,
    dtype: Dtype = None,
    attn_implementation: Attention = None,
    threads: Annotated[
        int | None,
        typer.Option(help="CPU threads of torch.", show_default="torch's choice", rich_help_panel=MODEL),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of weights, pixels and prompts.", rich_help_panel=MODEL)
    ] = 0,
    new_tokens: Annotated[
        str, typer.Option(help="Lengths of the answer.", metavar="<n,n,...>", rich_help_panel=OUTPUT)
    ] = "8",
    rounds: Annotated[
        int, typer.Option(help="Timed runs of every row, in turns.", rich_help_panel=OUTPUT)
    ] = 3,
    warmup: Annotated[int, typer.Option(help="Runs of every row before these.", rich_help_panel=OUTPUT)] = 1,
    memory: Annotated[
        bool, typer.Option(help="Measure peak memory, in a run of its own.", rich_help_panel=OUTPUT)
    ] = True,
    serve: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead, OpenAI-compatible servers, as NAME=http://HOST:PORT, stock among them; or a model for vLLM.",
            metavar="<url|model>",
            show_default=False,
            rich_help_panel=SERVERS,
        ),
    ] = None,
    requests: Annotated[
        int, typer.Option(help="Requests of every row in a round.", rich_help_panel=SERVERS)
    ] = 10,
    server_arguments: Annotated[
        str,
        typer.Option(
            help="Arguments of vLLM's server where a model is served.",
            metavar="<text>",
            show_default=False,
            rich_help_panel=SERVERS,
        ),
    ] = "",
    probes: Annotated[
        bool,
        typer.Option(
            "--probes",
            help="Instead: what evidence adds to encoding, and what selection takes of it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            help="Note every measurement here, and go on from here after a kill.",
            metavar=FILE,
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Stop in time; the same command goes on.", show_default=False, rich_help_panel=OUTPUT
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write everything as JSON.",
            metavar=FILE,
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help=f"Draw where the time goes. {PLOT_PATH}",
            metavar=PLACE,
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure time to the first token, decoding, throughput and peak memory, by phase and against no compression.

    With --serve: requests per second and time to the first token of servers at --batch-sizes requests at once, in turns
    on the same drawn pictures, beside a forecast for GPUs by name.
    """
    from vidcompress.checks import positive, whole_number
    from vidcompress.errors import ArgumentError

    for path, name in ((journal, "journal"), (out, "out")):
        _check_target(path, name)
    if probes and plot is not None:
        raise ArgumentError(f"--plot={str(plot)!r}: cannot go with --probes; leave it out")
    if minutes is not None:
        positive("minutes", minutes)
    if threads is not None:
        whole_number("threads", threads, most=1024)
    if serve:
        bench_servers(
            serve,
            refused={
                "frames": frames,
                "image": image,
                "video": video,
                "decode": decode,
                "max-tokens": max_tokens,
                "decoder-layers": decoder_layers,
                "encoder-layers": encoder_layers,
                "probes": probes,
                "plot": plot,
                "threads": threads,
                "concurrency": concurrency != "batch",
                "scale": scale != "full",
                "device": device,
                "attn-implementation": attn_implementation,
                "no-baseline": not baseline,
                "no-memory": not memory,
                "only": only,
            },
            sizes=sizes,
            ratios=retention_ratios,
            new_tokens=new_tokens,
            batch_sizes=batch_sizes,
            traffic={
                "text_tokens": text_tokens,
                "requests": requests,
                "rounds": rounds,
                "warmup": warmup,
                "seed": seed,
            },
            methods=methods,
            model=model or geometry,
            dtype=dtype or "bfloat16",
            server_arguments=server_arguments,
            journal=journal,
            minutes=minutes,
            out=out,
            as_json=as_json,
        )
        return
    kept = f"the measurements so far are in {journal}, and the same command goes on from there"
    with quiet(), interruptible("" if journal is None else kept):
        from vidcompress.tools.benchmark import BenchPlan
        from vidcompress.tools.runs.plot_files import figure_of, plot_paths

        drawings: list[Path] = []
        if plot is not None:  # hours of measuring must not end with a plot that cannot be drawn
            figure_of((1, 1))
            (drawings,) = plot_paths(plot, ["bench"])
            for drawing in drawings:
                _check_writable(drawing, "plot")
        plan = BenchPlan(
            geometry=geometry,
            model=model,
            decoder_layers=decoder_layers,
            encoder_layers=encoder_layers,
            scale=scale,  # type: ignore[arg-type]
            sizes=[read_size("--sizes", part)[::-1] for part in read_list(sizes)],
            frames=read_numbers("frames", frames),
            methods=None if not methods else ",".join(methods),
            retention_ratios=None if retention_ratios is None else read_list(retention_ratios),
            max_tokens=None if max_tokens is None else read_numbers("max_tokens", max_tokens),
            controls=not only,
            baseline=baseline,
            batch_sizes=read_numbers("batch_sizes", batch_sizes),
            concurrency=concurrency,  # type: ignore[arg-type]
            new_tokens=read_numbers("new_tokens", new_tokens),
            text_tokens=text_tokens,
            rounds=rounds,
            warmup=warmup,
            memory=memory,
            media=decode or image is not None or video is not None,
            image=image,
            video=video,
            device=device,
            dtype=dtype,
            attn_implementation=attn_implementation,
            seed=seed,
        )
        result, tables, footer = measured(
            plan, probes=probes, threads=threads, journal=journal, minutes=minutes, plots=drawings
        )
        if out is not None:
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(result))
        return
    show_all(tables)
    show(footer)


def measured(
    plan: Any,
    *,
    probes: bool = False,
    threads: int | None = None,
    journal: Path | None = None,
    minutes: float | None = None,
    plots: Sequence[Path] = (),
) -> tuple[dict[str, Any], list[Table], str]:
    """Run a plan with a progress bar on stderr; return the summarised result, its tables and their footer."""
    import torch

    from vidcompress.progress import measurement_progress
    from vidcompress.tools.benchmark import run_bench, summarise
    from vidcompress.tools.benchmark.plot import draw_panels
    from vidcompress.tools.benchmark.probes import probe_footer, probe_tables, run_probes
    from vidcompress.tools.benchmark.table import footer, tables

    if threads is not None:
        torch.set_num_threads(threads)
    seconds = None if minutes is None else minutes * 60
    with measurement_progress() as on_step:
        if probes:
            probed = run_probes(plan, journal=journal, seconds=seconds, on_step=on_step)
            return probed, probe_tables(probed), probe_footer(probed)
        result = summarise(run_bench(plan, journal=journal, seconds=seconds, on_step=on_step))
    if plots and result["complete"]:
        draw_panels(result, *plots)
    return result, tables(result), footer(result)


def _check_target(path: Path | None, name: str) -> None:
    from vidcompress.errors import ArgumentError

    if path is None:
        return
    if os.path.isdir(path) or not os.path.isdir(path.absolute().parent):
        what = (
            "is a folder; name a file in it"
            if os.path.isdir(path)
            else "its folder does not exist; make it first"
        )
        raise ArgumentError(f"--{name}={str(path)!r}: {what}")
    if name != "journal":  # the journal is written before the first measurement
        _check_writable(path, name)


def _check_writable(path: Path, name: str) -> None:
    """Refuse a file that cannot be written, before hours of measuring."""
    from vidcompress.errors import ArgumentError, one_line

    there = os.path.exists(path)
    try:
        with path.open("ab"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise ArgumentError(
            f"--{name}={str(path)!r} cannot be written ({one_line(error)}); name another file"
        ) from error

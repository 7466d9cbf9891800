"""Table of a summarised run: a line per row, ratios against the uncompressed one."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from vidcompress.tools.benchmark.models import depth

MIB = 2**20
COLUMNS = (
    "method", "budget", "sent", "first token", "encode", "compress", "prefill", "per token", "samples/s", "peak",
    "speed-up", "allowed", "peak, share",
)  # fmt: skip


def render(result: dict[str, Any], width: int = 150) -> str:
    """Tables of all groups of a summarised result as text."""
    console = Console(width=width, force_terminal=False, highlight=False)
    with console.capture() as capture:
        for group in result["groups"]:
            console.print(_table(group, result))
            for line in _notes(group):
                console.print(line, markup=False)
        console.print(_footer(result), markup=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _table(group: dict[str, Any], result: dict[str, Any]) -> Table:
    tokens = f"{group['visual_tokens']} visual + {group['text_tokens']} other tokens per request"
    title = f"{group['name']}: {group['views']} views, {tokens}"
    out = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in COLUMNS:
        out.add_column(column, justify="left" if column == "method" else "right")
    longest = str(max(result["plan"]["new_tokens"]))
    for row in group["rows"]:
        if "summary" in row:
            out.add_row(*_cells(row, longest))
    return out


def _cells(row: dict[str, Any], longest: str) -> list[str]:
    s = row["summary"]
    against, phases, peak = s.get("against", {}), s["phases_ms"], s["peak_bytes"]

    def ms(value: dict[str, float] | None) -> str:
        return "" if value is None else milliseconds(value["median"])

    return [
        row["method"],
        "all" if row["budget"] == "1" else row["budget"],
        _sent(s["visual"]),
        ms(s["first_token_ms"]),
        ms(phases.get("encode")),
        ms(phases.get("compress")),
        ms(phases.get("prefill")),
        ms(s["token_ms"]),
        f"{s['samples_per_s'][longest]:.3g}",
        "" if peak is None else f"{peak['above'] / MIB:,.0f} MiB",
        f"{against['first_token']['paired']:.2f} x" if against else "",
        f"{against['flops']:.2f} x" if "flops" in against else "",
        f"{100 * against['peak_above']:.0f} %" if "peak_above" in against else "",
    ]


def _sent(visual: dict[str, Any]) -> str:
    if not visual:
        return ""
    layers = visual["per_layer"]
    mean = visual["sent"] if not layers else sum(layers) / len(layers)
    return f"{100 * mean / max(visual['total'], 1):.1f} %"


def milliseconds(value: float) -> str:
    """A time of `value` milliseconds as text, in seconds from 10 s on."""
    if value >= 10_000:
        return f"{value / 1e3:,.1f} s"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _notes(group: dict[str, Any]) -> list[str]:
    skipped = [
        f"{row['method']} at {row['budget']}: {row['skipped']}" for row in group["rows"] if row["skipped"]
    ]
    notes = [f"not measured: {text}" for text in skipped]
    notes += [
        f"memory not measured: {row['method']} at {row['budget']}: {row['memory']['failed']}"
        for row in group["rows"]
        if "failed" in (row["memory"] or {})
    ]
    if group["media_ms"]:
        parts = ", ".join(
            f"{name} {milliseconds(value['median'])}" for name, value in group["media_ms"].items()
        )
        notes.append(f"once per request before all rows, in none of them: {parts}")
    return [*notes, ""]


def _footer(result: dict[str, Any]) -> str:
    model, plan = result["model"], result["plan"]
    kind = "batch" if plan["concurrency"] == "batch" else "threads with one request each"
    weights = ", random weights" if plan["geometry"] else ""
    held = "" if plan["concurrency"] == "batch" else " of one request"
    return (
        f"{plan['geometry'] or model['name']}, {depth(model)}, {model['dtype']}, "
        f"{model['attention']}, {result['provenance']['device']}{weights}. Medians of {plan['rounds']} rounds, rows in "
        f"turns; several requests as {kind}. first token: from pixels; speed-up and allowed: of the first token "
        f"against `none`, measured and by operations; samples/s: to the last token; peak: memory{held} above weights "
        "and inputs, and as a share of that of `none`."
        + ("" if result["complete"] else " INCOMPLETE: the run stopped before its end.")
    )

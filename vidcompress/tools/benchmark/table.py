"""Table of a summarised run: a line per row, ratios against the uncompressed one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidcompress.table import Table, paragraph
from vidcompress.tools.benchmark.models import depth

MIB = 2**20
ENOUGH_ROUNDS = 3
"""Fewest rounds in which a speed-up beyond the operations' is more than noise, if it occurs in all of them."""
BEYOND = 0.02
"""Relative excess over the allowed speed-up from which a note is written."""
COLUMNS = (
    "method", "budget", "sent", "first token", "speed-up", "min-max", "allowed", "peak", "peak, share", "encode",
    "compress", "prefill", "per token", "samples/s",
)  # fmt: skip


def render(result: dict[str, Any], width: int | None = None) -> str:
    """Render the tables of all groups of a summarised result, of at most `width` columns; None breaks no line."""
    parts = [table.text(width) + "\n" for table in tables(result)]
    return "\n".join([*parts, paragraph(footer(result), width)])


def tables(result: dict[str, Any]) -> list[Table]:
    """Tables of all groups of a summarised result."""
    return [_table(group, result) for group in result["groups"]]


def _table(group: dict[str, Any], result: dict[str, Any]) -> Table:
    tokens = f"{group['visual_tokens']} visual + {group['text_tokens']} other tokens per request"
    longest = str(max(result["plan"]["new_tokens"]))
    lines = [_cells(row, longest) for row in group["rows"] if "summary" in row]
    used = [i for i in range(len(COLUMNS)) if i < 2 or any(line[i] for line in lines)]
    return Table.of_lines(
        [COLUMNS[i] for i in used],
        [[line[i] for i in used] for line in lines],
        title=f"{group['name']}: {group['views']} views, {tokens}",
        notes=list(_notes(group)),
        keys=2,
    )


def _cells(row: dict[str, Any], longest: str) -> list[str]:
    s = row["summary"]
    against, phases, peak = s.get("against", {}), s["phases_ms"], s["peak_bytes"]
    first = against.get("first_token", {})

    def ms(value: dict[str, float] | None) -> str:
        return "" if value is None else milliseconds(value["median"])

    return [
        row["method"],
        "all" if row["budget"] == "1" else row["budget"],
        _sent(s["visual"]),
        ms(s["first_token_ms"]),
        f"{first['paired']:.2f} x" if first else "",
        f"{first['least']:.2f}-{first['most']:.2f} x" if "least" in first else "",
        f"{against['flops']:.2f} x" if "flops" in against else "",
        "" if peak is None else f"{peak['above'] / MIB:,.0f} MiB",
        f"{100 * against['peak_above']:.0f} %" if "peak_above" in against else "",
        ms(phases.get("encode")),
        ms(phases.get("compress")),
        ms(phases.get("prefill")),
        ms(s["token_ms"]),
        f"{s['samples_per_s'][longest]:.3g}",
    ]


def _sent(visual: dict[str, Any]) -> str:
    if not visual:
        return ""
    layers = visual["per_layer"]
    mean = visual["sent"] if not layers else sum(layers) / len(layers)
    return f"{100 * mean / max(visual['total'], 1):.1f} %"


def milliseconds(value: float) -> str:
    """Return a time of `value` milliseconds as text, in seconds from 10 s on."""
    if value >= 10_000:
        return f"{value / 1e3:,.1f} s"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms"


def _notes(group: dict[str, Any]) -> Iterator[str]:
    yield from _beyond(group["rows"])
    reasons: dict[str, list[str]] = {}
    for row in group["rows"]:
        if row["skipped"]:
            reasons.setdefault(row["skipped"], []).append(f"{row['method']} at {row['budget']}")
    for reason, names in reasons.items():
        yield f"not measured: {', '.join(names)}: {reason}"
    for row in group["rows"]:
        if "failed" in (row["memory"] or {}):
            yield f"memory not measured: {row['method']} at {row['budget']}: {row['memory']['failed']}"
    if group["media_ms"]:
        parts = ", ".join(
            f"{name} {milliseconds(value['median'])}" for name, value in group["media_ms"].items()
        )
        yield f"once per request before all rows, in none of them: {parts}"


def _beyond(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield notes on rows whose speed-up exceeds that of their operations, in some rounds or in every one."""
    noisy: list[str] = []
    always: list[str] = []
    for row in rows:
        against = row.get("summary", {}).get("against", {})
        if "flops" not in against or row["method"] in ("none", "stock"):
            continue
        first, allowed = against["first_token"], against["flops"]
        if first["paired"] > allowed * (1 + BEYOND):
            name = f"{row['method']} at {row['budget']} ({first['paired']:.2f} x where {allowed:.2f} x is allowed)"
            surely = first.get("least", 0.0) > allowed and len(row["rounds"]) >= ENOUGH_ROUNDS
            (always if surely else noisy).append(name)
    if noisy:
        yield (
            f"faster than the operations allow, but not in each of {ENOUGH_ROUNDS} rounds or more: {', '.join(noisy)}. "
            "This is most likely noise of the machine; more --rounds narrow min-max."
        )
    if always:
        yield (
            f"faster than the operations allow, in every round: {', '.join(always)}. Compression alone does not give "
            "this: the long sequence also runs slower per operation (caches, memory), or something else slowed the "
            "uncompressed rounds. Do not quote it as a speed-up of compression before it holds with more --rounds."
        )


def footer(result: dict[str, Any]) -> str:
    """Return the meaning of the columns of all tables, and the settings of the run."""
    model, plan = result["model"], result["plan"]
    kind = "batch" if plan["concurrency"] == "batch" else "threads with one request each"
    weights = ", random weights" if plan["geometry"] else ""
    held = "" if plan["concurrency"] == "batch" else " of one request"
    return (
        f"{plan['geometry'] or model['name']}, {depth(model)}, {model['dtype']}, "
        f"{model['attention']}, {result['provenance']['device']}{weights}. Medians of {plan['rounds']} rounds, rows in "
        f"turns; several requests as {kind}. first token: from pixels; speed-up and allowed: of the first token "
        f"against `none`, measured and by operations; min-max: that ratio by round; samples/s: to the last token; "
        f"peak: memory{held} above weights and inputs, and as a share of that of `none`."
        + ("" if result["complete"] else " INCOMPLETE: the run stopped before its end.")
    )

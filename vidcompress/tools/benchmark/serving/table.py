"""Tables of a benchmark of servers, and of its forecast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidcompress.table import Table
from vidcompress.tools.benchmark.table import milliseconds

HEAD = (
    "row", "requests/s", "min-max", "against stock", "by round", "first token p50", "p95", "p50 by round", "speed-up",
    "tokens/s", "per token", "prompt", "errors",
)  # fmt: skip
FORECAST = (
    "device", "at once", "retention", "requests/s", "factor", "first token", "encode", "prefill", "decode",
)  # fmt: skip


def serve_tables(result: dict[str, Any]) -> list[Table]:
    """Tables of all groups of a result, and of its forecast where it has one."""
    tables = [_table(group, result) for group in result["groups"]]
    return [*tables, *([_forecast(result["forecast"])] if result.get("forecast") else [])]


def serve_footer(result: dict[str, Any]) -> str:
    """The meaning of the columns, and the settings of the run."""
    plan, source = result["plan"], result["provenance"]
    width, height = plan["size"]
    models = ", ".join(f"{name}: {model['id']}" for name, model in result["servers"].items())
    return (
        f"{models}. Each request: a drawn picture of {width}x{height} and {plan['text_tokens']} words, "
        f"{plan['new_tokens']} tokens out. {plan['requests']} requests a round, {plan['rounds']} rounds, rows in turns "
        "on the same pictures and words. requests/s, tokens/s: medians of the rounds; first token: over all requests; "
        "against stock and speed-up: paired by round, against the first row (median, smallest and largest). "
        f"{source['machine']}, {source['device']}."
        + ("" if result["complete"] else " INCOMPLETE: the run stopped before its end.")
    )


def _table(group: dict[str, Any], result: dict[str, Any]) -> Table:
    lines = [_cells(row) for row in group["rows"]]
    used = [i for i in range(len(HEAD)) if i < 2 or any(line[i] for line in lines)]
    return Table.of_lines(
        [HEAD[i] for i in used],
        [[line[i] for i in used] for line in lines],
        title=group["name"],
        notes=list(_notes(group, result)),
        keys=1,
    )


def _cells(row: dict[str, Any]) -> list[str]:
    s = row["summary"]
    if s is None:
        return [row["row"], "no answer", *[""] * (len(HEAD) - 2)]
    against, first = s["against"] or {}, s["first_token_ms"]

    def factor(name: str) -> tuple[str, str]:
        if name not in against:
            return "", ""
        one = against[name]
        return f"{one['median']:.2f} x", f"{one['least']:.2f}-{one['most']:.2f} x"

    through, by_round = factor("requests_per_s")
    return [
        row["row"],
        f"{s['requests_per_s']['median']:.3g}",
        f"{s['requests_per_s']['least']:.3g}-{s['requests_per_s']['most']:.3g}",
        through,
        by_round,
        milliseconds(first["p50"]["all"]),
        milliseconds(first["p95"]["all"]),
        f"{milliseconds(first['p50']['least'])}-{milliseconds(first['p50']['most'])}",
        " ".join(factor("first_token")).strip(),
        f"{s['tokens_per_s']['median']:.3g}",
        "" if s["token_ms"] is None else milliseconds(s["token_ms"]),
        f"{s['prompt_tokens']:g}",
        f"{s['errors']} of {s['requests']}" if s["errors"] else "",
    ]


def _notes(group: dict[str, Any], result: dict[str, Any]) -> Iterator[str]:
    share = (result.get("forecast") or {}).get("encoder_share")
    if share is not None:
        yield f"encoder's share: {100 * share:.0f} % of the operations of a request with all tokens (cost model)"
    loads = [row["summary"]["load"] for row in group["rows"] if row["summary"] and row["summary"]["load"]]
    if loads:
        yield f"load average of this machine before the rounds: {min(loads):.1f} to {max(loads):.1f}"
    for row in group["rows"]:
        errors = [e["error"] for one in row["rounds"] for e in one["exchanges"] if e["error"]]
        if errors:
            yield f"{row['row']}: {len(errors)} requests failed, the first one: {errors[0]}"


def _forecast(found: dict[str, Any]) -> Table:
    groups: dict[tuple[str, int], list[list[tuple[str, bool]]]] = {}
    for row in found["rows"]:
        ratio = row["retention_ratio"]
        cells = [
            row["device"],
            str(row["at_once"]),
            "all" if ratio is None else f"{100 * ratio:g} %",
            f"{row['requests_per_s']:.3g}",
            "" if ratio is None else f"{row['factor']:.2f} x",
            milliseconds(row["first_token_ms"]),
            *(f"{100 * row[name]:.0f} %" for name in ("encode", "prefill", "decode")),
        ]
        groups.setdefault((row["device"], row["at_once"]), []).append([(cell, False) for cell in cells])
    notes = [
        f"Roofline of {found['model']} in {found['dtype']} with {found['method']}: no queueing, no work between steps; "
        "real servers are slower. factor: of requests per second. encode, prefill, decode: shares of the time.",
        *found["words"],
    ]
    return Table(FORECAST, list(groups.values()), "Forecast from operations and bytes", notes, keys=3)

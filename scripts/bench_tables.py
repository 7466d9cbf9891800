"""Write the tables of docs/performance.md and docs/long-video.md from the committed result files.

    python scripts/bench_tables.py

Each table stands between `<!-- bench:NAME -->` and `<!-- /bench -->`; what is between is replaced where there is a
result file docs/results/NAME.json, and left alone where there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = re.compile(r"(<!-- bench:([\w./-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def source(result: dict[str, Any]) -> str:
    """The line that says where figures come from."""
    where = result["provenance"]
    commit = (where["commit"] or "unknown")[:10] + (" with local changes" if where["dirty"] else "")
    machine = f"{where['machine']}, {where['threads']} threads, {where['device']}"
    command = where["command"].replace(
        "vidcompress/__main__.py", "-m vidcompress"
    )  # as older results have it
    return f"\n`{command}` at commit {commit}; {machine}.\n"


def cpu(result: dict[str, Any]) -> str:
    """Verdicts of every case."""
    rows = []
    for name, found in result["verdicts"].items():
        for v in found:
            reached = v["of_allowed"]
            rows.append(
                [
                    f"{name}, `{v['method']}`",
                    f"{v['retention_ratio']:g}",
                    f"{v['allowed']:.2f}",
                    f"{v['speed_up']['min']:.2f}",
                    f"{v['speed_up']['busy']:.2f}",
                    f"{100 * reached['min']:.0f} / {100 * reached['busy']:.0f}",
                    f"{100 * v['wanted']:.0f}",
                    f"{100 * v['memory']:.0f} ({100 * v['predicted']:.0f})",
                    f"{100 * v['prefill_memory']:.0f} ({100 * v['prefill_predicted']:.0f})",
                ]
            )
    head = ["input, method", "retention", "allowed", "measured", "in processor time", "reached %, both"]
    head += ["wanted %", "peak % (predicted)", "prefill peak % (predicted)"]
    return markdown(head, rows) + source(result)


def probes(result: dict[str, Any]) -> str:
    """What evidence adds, and selection's share."""
    text = ""
    for entry in result["inputs"]:
        adds = []
        for e in entry["evidence"]:
            shares = [f"{100 * e['adds'][key]:+.1f}" for key in ("min", "paired", "busy")]
            adds.append([e["evidence"], f"{e['encode_ms']['min']:,.0f}", *shares])
        head = [f"evidence, {entry['workload']}", "encode, ms", "adds %", "paired", "processor time"]
        took = [
            [
                f"`{m['row']}`",
                f"{m['select_ms']['min']:.1f}",
                f"{100 * m['share']:.2f}",
                f"{100 * m['share_busy']:.2f}",
            ]
            for m in entry["methods"]
            if "skipped" not in m
        ]
        columns = ["method", "compress, ms", "of encode %", "in processor time %"]
        text += markdown(head, adds) + "\n" + markdown(columns, took) + "\n"
    return text.rstrip("\n") + "\n" + source(result)


def length(result: dict[str, Any]) -> str:
    """Exponents of growth with how well they fit, and what one more view costs."""
    quantities = ("first token, ms", "first token, processor ms", "compress, ms", "peak, MiB")
    rows = []
    for modality, curves in result["growth"].items():
        for name in curves.get(quantities[0], {}):
            found = [curves[quantity][name] for quantity in quantities]
            cells = [f"{curve['exponent']:.2f} ({curve['r2']:.4f})" for curve in found]
            per_view = [f"{found[number]['slope']:.3g}" for number in (0, 3)]
            rows.append([f"{modality}, `{name}`", *cells, *per_view])
    head = [
        "input, method",
        *(f"{quantity.split(',')[0]} {quantity.split(', ')[1]}" for quantity in quantities),
    ]
    return markdown([*head, "ms per view", "MiB per view"], rows) + source(result)


def gpu(result: dict[str, Any]) -> str:
    """Rows of every part, what was not measured, and how many aims were met."""
    rows, notes = [], []
    for name, run in result["runs"].items():
        longest = str(max(run["plan"]["new_tokens"]))
        for group in run["groups"]:
            rows += [
                [
                    f"{name}, {group['name']}, `{row['method']}`",
                    row["budget"],
                    *_gpu_cells(row["summary"], longest),
                ]
                for row in group["rows"]
                if "summary" in row
            ]
            notes += [
                f"Not measured: {name}, {group['name']}, `{row['method']}` at {row['budget']}: {row['skipped']}."
                for row in group["rows"]
                if row["skipped"]
            ]
        if not run["complete"]:
            notes.append(f"Incomplete: {name}; time was up before its end.")
    head = [
        "model, input, method",
        "retention",
        "first token, ms",
        "samples/s",
        "peak, GB",
        "encode / compress / prefill %",
    ]
    head += ["speed-up (allowed)", "samples/s", "peak above weights %"]
    missed = [e for entries in result["aims"].values() for e in entries if not e["met"]]
    of = sum(len(entries) for entries in result["aims"].values())
    said = "".join(f"\n{note}\n" for note in [*notes, f"{of - len(missed)} of {of} aims met."])
    return (
        markdown(head, rows) + said + "".join(dict.fromkeys(source(run) for run in result["runs"].values()))
    )


def saving(result: dict[str, Any]) -> str:
    """What `encoder_saving` spares of encoding."""
    rows = [
        [
            f"{r['input']}, `{r['method']}`",
            f"{r['retention_ratio']:g}",
            f"`{r['encoder_saving']}`",
            f"{r['encoded']} of {r['views']}",
            f"{r['off_ms']:,.0f}",
            f"{r['on_ms']:,.0f}",
            f"{r['speed_up']:.2f} ({r['speed_up_median']:.2f})",
        ]
        for r in result["rows"]
    ]
    head = [
        "input, method",
        "retention",
        "encoder_saving",
        "views encoded",
        "off, ms",
        "on, ms",
        "times faster (paired)",
    ]
    return markdown(head, rows) + source(result)


def saved(result: dict[str, Any]) -> str:
    """What it costs in answers: rows of an accuracy sweep."""
    kinds = list(result["rows"][0]["per_type"])
    rows = [
        [
            f"`{r['method']}`",
            f"{r['retention_ratio']:g}",
            f"{r['views']['encoded']:g} of {r['views']['views']:g}",
            f"{100 * r['accuracy']:.1f}",
            f"{100 * r['interval'][0]:.1f} to {100 * r['interval'][1]:.1f}",
            *(f"{100 * r['per_type'][kind]:.0f}" for kind in kinds),
        ]
        for r in result["rows"]
        if "accuracy" in r
    ]
    head = ["method", "retention", "views encoded", "accuracy %", "95 % interval", *kinds]
    return markdown(head, rows) + source(result)


def _gpu_cells(s: dict[str, Any], longest: str) -> list[str]:
    against, peak = s.get("against", {}), s["peak_bytes"]
    shares = " / ".join(f"{100 * s['share'].get(k, 0):.0f}" for k in ("encode", "compress", "prefill"))
    return [
        f"{s['first_token_ms']['median']:.1f}",
        f"{s['samples_per_s'][longest]:.2f}",
        f"{peak['all'] / 1e9:.1f}" if peak else "",
        shares,
        f"{against['first_token']['median']:.2f} ({against.get('flops', 1):.2f})" if against else "",
        f"{against['samples_per_s'][longest]:.2f} x" if against else "",
        f"{100 * against['peak_above']:.0f}" if "peak_above" in against else "",
    ]


def stream(result: dict[str, Any]) -> str:
    """Streams beside the whole clip: the overlap at each hold, and what else is stated of hold 4."""
    holds = sorted({row["hold"] for row in result["rows"]})
    groups: dict[tuple[Any, ...], dict[float, dict[str, Any]]] = {}
    for row in result["rows"]:
        key = (row["clip"], row["frames"], row["budget"], row["method"])
        groups.setdefault(key, {})[row["hold"]] = row
    rows = []
    for (clip, frames, budget, method), each in groups.items():
        usual = each[4]
        sure, far = usual.get("certified"), usual.get("radius")
        rows.append(
            [
                f"{clip}, {frames:,} frames, `{method}`",
                f"{budget:,}",
                *(f"{100 * each[hold]['overlap']:.1f}" for hold in holds),
                "" if sure is None else f"{100 * sure:.0f}",
                "" if far is None else f"{far:.2f}",
                f"{usual['stretches']:.0f} ({usual['stretches_whole']:.0f})",
                f"{usual['ms_per_frame']:.2f}",
            ]
        )
    overlaps = [f"hold {hold}: kept alike, %" for hold in holds]
    head = ["clip, method", "budget", *overlaps, "certified, %", "radius", "of 64 stretches", "ms a frame"]
    return markdown(head, rows) + source(result)


def without_end(result: dict[str, Any]) -> str:
    """A stream without an end: time per frame and memory as it goes on, the first and the last part."""
    rows = []
    for method, marks in result["endless"].items():
        for mark in (marks[0], marks[len(marks) // 2], marks[-1]):
            rows.append(
                [
                    f"`{method}`",
                    f"{mark['frames']:,}",
                    f"{mark['us_per_frame']:.0f}",
                    f"{mark['live_bytes']:,}",
                    f"{mark['resident_mib']:.0f}",
                ]
            )
    head = ["method", "frames so far", "us a frame", "bytes of tensors", "resident, MiB"]
    return markdown(head, rows) + source(result)


def long(result: dict[str, Any]) -> str:
    """Processes of `ask` about long clips: peak memory and processor time, with and without `--hold`."""
    rows = [
        [
            f"{row['size'][0]} x {row['size'][1]}",
            f"{row['frames']:,}",
            "whole" if row["hold"] is None else f"{row['hold']:g}",
            f"{row['peak'] / 2**20:,.0f}",
            f"{row['cpu_seconds']:.1f}",
        ]
        for row in result["rows"]
    ]
    return markdown(["size", "frames", "hold", "peak, MiB", "processor, s"], rows) + source(result)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "bench_cpu": cpu,
    "bench_probes": probes,
    "bench_probes_next": probes,
    "bench_probes_few": probes,
    "length": length,
    "length-llava-onevision-0.5b": length,
    "bench_h200": gpu,
    "encoder_saving": saving,
    "stream": stream,
    "stream_endless": without_end,
    "long": long,
    "ablations/tiny-onevision-clip-saving": saved,
    "ablations/tiny-next-image-saving": saved,
}


def fill(text: str, results: Path) -> str:
    """Replace every marked table for which there is a result file."""

    def one(match: re.Match[str]) -> str:
        path = results / f"{match[2]}.json"
        return (
            match[1] + TABLES[match[2]](json.loads(path.read_text())) + match[3]
            if path.exists()
            else match[0]
        )

    return MARK.sub(one, text)


def main() -> None:
    """Fill docs/performance.md and docs/long-video.md."""
    for name in ("performance.md", "long-video.md"):
        page = ROOT / "docs" / name
        page.write_text(fill(page.read_text(), ROOT / "docs" / "results"))
        print(f"wrote {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

"""Tables of estimates in fixed-width text: operations by part, memory, roofline time by device."""

from __future__ import annotations

from collections.abc import Sequence

from vidcompress.table import Table, paragraph
from vidcompress.tools.cost.devices import DEVICES
from vidcompress.tools.cost.estimate import HEADLINE_TOKENS, Estimate

PUBLISHED = (
    "Published beside 41.7 -> 3.8 TFLOPs (GlobalCom2, arXiv 2501.05179, LLaVA-NeXT-7B at 10 %): 23.0 -> 13.9 GB and "
    "3.8 -> 6.7 samples/s. Both were measured on its authors' machine; no figure here is made from them."
)


def as_table(rows: Sequence[Estimate], width: int | None = None) -> str:
    """Render the tables of the rows' costs, of at most `width` columns; None breaks no line."""
    blocks = [b.text(width) if isinstance(b, Table) else paragraph(b, width) for b in cost_tables(rows)]
    return "\n\n".join(blocks)


def cost_tables(rows: Sequence[Estimate]) -> list[Table | str]:
    """Return the tables of the rows' costs, the uncompressed model first, between remarks on the figures."""
    first = rows[0]
    head = (
        f"{first.model}: {first.parameters / 1e9:.2f} B parameters in {first.dtype}, "
        f"{_counted(first.batch_size, 'prompt')} of {_counted(first.visual['total'], 'visual position')} "
        f"({_counted(first.views, 'view')}) and {_counted(first.text_tokens, 'text token')}"
    )
    blocks: list[Table | str] = [head, _operations(rows), *_meaning(rows), _memory(rows), _times(rows)]
    if first.model == "llava-next-7b" and first.visual["total"] == HEADLINE_TOKENS:
        blocks.append(PUBLISHED)
    return blocks


def label(row: Estimate) -> str:
    """Return the method and budget of a row."""
    if row.retention_ratio is not None:
        return row.method if row.method == "none" else f"{row.method} {row.retention_ratio:g}"
    return f"{row.method} {row.max_tokens}"


def _operations(rows: Sequence[Estimate]) -> Table:
    parts = [name for name in rows[0].parts if any(row.parts[name] for row in rows)]
    heads = ["TFLOPs to the first token", "visual", "llm_viewer", "fastv", "everything", "ratio", *parts]
    lines = []
    for row in rows:
        flops = row.prefill_flops
        cells = [
            _tera(flops[name]) if name in flops else "-" for name in ("llm_viewer", "fastv", "everything")
        ]
        ratio = rows[0].prefill_flops["everything"] / flops["everything"]
        split = [_tera(row.parts[name]) for name in parts]
        lines.append([label(row), f"{row.visual['average']:,.0f}", *cells, f"{ratio:.2f} x", *split])
    return Table.of_lines(heads, lines)


def _meaning(rows: Sequence[Estimate]) -> list[str]:
    last = rows[-1]
    left = f"{_tera(last.left_out)} of {_tera(last.prefill_flops['everything'])} T"
    if last.undefined is not None:
        return [
            "llm_viewer and fastv have no figure: their formulas take every decoder layer for attention over the "
            f"whole prompt, and {last.undefined}. everything: the sum of the columns after ratio, each layer as what "
            "it is. ratio: the speed-up of the first token that the operations allow."
        ]
    return [
        "llm_viewer and fastv are how papers count: the language model at its visual tokens alone. They differ by "
        "about 2.5 times, and both leave out encoder, projector, selection, separators and text: "
        f"of {label(last)} {left}. everything: the sum of the columns after ratio. ratio: the speed-up of the first "
        "token that the operations allow."
    ]


def _memory(rows: Sequence[Estimate]) -> Table:
    states = any(row.memory.state for row in rows)
    heads = ["GB", "weights", "KV cache", *(["state"] if states else []), "encode", "prefill", "peak"]
    heads.append("above weights")
    lines = [
        [label(row)]
        + [
            f"{number / 1e9:.2f}"
            for number in (
                row.memory.weights,
                row.kv_cache_bytes,
                *([row.memory.state] if states else []),
                row.memory.encode,
                row.memory.prefill,
                row.memory.peak,
                row.memory.peak - row.memory.weights,
            )
        ]
        for row in rows
    ]
    return Table.of_lines(heads, lines)


def _times(rows: Sequence[Estimate]) -> Table:
    """Return the table of the first token by device, in milliseconds, with the phases of the last row."""
    heads = [
        "roofline ms to the first token",
        *map(label, rows),
        "speed-up",
        "of which encode",
        "select",
        "prefill",
    ]
    if rows[-1].new_tokens > 1:
        heads.append("a later token")
    lines: list[list[str]] = []
    for name in DEVICES:
        first, last = rows[0].time_s[name], rows[-1].time_s[name]
        keys = ["encode", "select", "prefill", *(["per_token"] if rows[-1].new_tokens > 1 else [])]
        each = [f"{1e3 * row.time_s[name]['first_token']:.1f}" for row in rows]
        speed = f"{first['first_token'] / last['first_token']:.2f} x"
        lines.append([name, *each, speed, *(f"{1e3 * last[key]:.2f}" for key in keys)])
    return Table.of_lines(heads, lines)


def _tera(flops: float) -> str:
    """Return a number in units of 1e12, with enough places for small ones."""
    tera = flops / 1e12
    return f"{tera:.1f}" if tera >= 1 or tera == 0 else f"{tera:.2g}" if tera >= 1e-3 else f"{tera:.1e}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"

"""HTML of the page's panes, from templates that escape every text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vidcompress.qa.compare.contact_sheet import draw_selection
from vidcompress.qa.compare.row import ComparisonRow
from vidcompress.tools.app.desk import State
from vidcompress.tools.app.uploads import LIMITS, Upload, data_uri, small_pictures

if TYPE_CHECKING:
    from jinja2 import Environment

    from vidcompress.tools.cost import Estimate

CARD_WIDTH, CARD_SIDE = 640, 1280
"""Width at which a card's picture is drawn, and its longest side, in pixels."""
ONCE = "Each answer was run once; the first one also warms the model up. Times of one input are no benchmark."
_PLACES = "vidcompress.tools.app"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader

    def source(name: str) -> str:
        return (files(_PLACES) / "templates" / name).read_text(encoding="utf-8")

    return Environment(loader=FunctionLoader(source), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def render(name: str, **values: object) -> str:
    """Return a template filled in.

    Args:
        name: of the file in `templates/`.
        **values: of its variables; texts are escaped.
    """
    return str(_environment().get_template(name).render(**values))


def style() -> str:
    """Return the style sheet of the page."""
    return (files(_PLACES) / "templates" / "style.css").read_text(encoding="utf-8")


def status(state: State) -> str:
    """Return the line above the cards, with a bar while answers come."""
    return render("status.html", state=state, line=_line(state))


def _line(state: State) -> str:
    rows, labels = len(state.rows), len(state.labels)
    if state.phase == "failed":
        return state.message
    if state.phase == "waiting":
        return f"Another tab is asking. Your question is number {state.before + 1} in the line and begins by itself."
    if state.phase == "stopped":
        return f"Stopped after {rows} of {labels} answers." if labels else "Stopped before it began."
    if state.phase == "done":
        return f"{rows} answers."
    if rows == labels:
        return "Reading the file."
    method, budget = state.labels[rows]
    said = f": {state.words}" if state.words and rows else ""
    return f"{rows} of {labels} answers; now {_named(method, budget)}{said}"


class CardPane:
    """Pane with a card per answer of one question; each picture is drawn once."""

    def __init__(self) -> None:
        self._cards: list[dict[str, Any]] = []
        self._of: tuple[object, ...] = ()
        self._html = ""

    def html(self, state: State) -> str:
        """Return the pane at a state; the first card grows while its answer is generated."""
        first_words = state.words if not state.rows else ""
        of = (state.phase, state.labels, len(state.rows), first_words)
        if of != self._of:
            self._of, self._html = of, self._render(state, first_words)
        return self._html

    def _render(self, state: State, first_words: str) -> str:
        if not state.labels:
            return ""
        self._cards += [_card(row, state.rows[0]) for row in state.rows[len(self._cards) :]]
        cards = list(self._cards)
        if not cards and state.phase == "running":
            cards.append({"method": _named(*state.labels[0]), "answer": first_words, "complete": False})
        # The report's own notes are in the viewer below.
        has_answer = state.comparison is not None and state.comparison.baseline.answer is not None
        notes = [ONCE] if has_answer else []
        return render("cards.html", cards=cards, notes=notes)


def viewer(state: State) -> str:
    """Return the viewer of a comparison that has ended; empty where there is no row."""
    from vidcompress.qa.viewer.page import embedded

    return "" if state.comparison is None else embedded(state.comparison.html())


def _named(method: str, budget: str) -> str:
    return "all tokens" if method == "none" else f"{method} at {budget}"


def _card(row: ComparisonRow, first: ComparisonRow) -> dict[str, Any]:
    name = _named(row.label, row.budget_text)
    if row.answer is None:
        return {"method": name, "answer": "(no answer)", "note": row.note, "complete": True}
    same = row.text == first.text
    report = row.answer.report
    media = (getattr(medium, "frames", medium) for medium in row.answer.media)
    pairs = list(zip(report.visuals, media, strict=True))
    kept = f"{row.kept} of {row.total}"
    inside = row.effective is not None and row.kept is not None and row.effective < row.kept
    figures = [("tokens kept", f"{kept} ({100 * (row.retention or 0):.1f} %)")]
    if inside:
        figures = [("tokens per layer", f"{row.effective:.0f} of {row.total} on average")]
    figures.append(("time to first token", f"{row.median_ms['first_token']:.0f} ms"))
    return {
        "method": name,
        "answer": row.text or "(no words)",
        "complete": True,
        "note": row.note,
        "verdict": "" if row is first else "same as all tokens" if same else "differs",
        "verdict_kind": "same" if same else "differs",
        "figures": figures,
        "pictures": [data_uri(draw_selection(*drawn, CARD_WIDTH), CARD_SIDE) for drawn in pairs],
        "alt": f"what {name} kept: {kept} tokens, the others are darkened",
    }


def preview(upload: Upload | None = None, problem: str = "") -> str:
    """Return small pictures of an upload, or what is wrong with it; without either, how large it may be."""
    pictures = [] if upload is None else small_pictures(upload)
    return render(
        "preview.html", kind=upload and upload.kind, pictures=pictures, problem=problem, limits=LIMITS
    )


def cost(rows: Sequence[Estimate], device: str, text: str, note: str = "") -> str:
    """Return the pane of a cost estimate.

    Args:
        rows: the uncompressed model and the method.
        device: name of the device whose times are shown.
        text: the full tables.
        note: remark on the settings.
    """
    whole, least = rows
    first, last = (row.time_s[device] for row in rows)
    longest = max(first["first_token"], last["first_token"])
    tokens = f"{least.visual['sent']:,} of {least.visual['total']:,} visual tokens reach the language model"
    return render(
        "cost.html",
        headline=f"{least.model}: {tokens}. {note}".strip(),
        figures=[
            _figure("first token", first["first_token"] * 1e3, last["first_token"] * 1e3, "ms", less=True),
            _figure(
                "operations to the first token",
                whole.prefill_flops["everything"] / 1e12,
                least.prefill_flops["everything"] / 1e12,
                "TFLOPs",
                less=True,
            ),
            _figure("KV cache", whole.kv_cache_bytes / 1e9, least.kv_cache_bytes / 1e9, "GB", less=True),
            _figure("peak memory", whole.memory_bytes / 1e9, least.memory_bytes / 1e9, "GB"),
        ],
        device=device,
        bars=[_bar(row, device, longest) for row in rows],
        text=text,
    )


def _figure(name: str, before: float, after: float, unit: str, *, less: bool = False) -> Mapping[str, str]:
    ratio = f"{before / after:.1f} times less" if less and after else ""
    return {
        "name": name,
        "before": f"{_short(before)} {unit}",
        "after": f"{_short(after)} {unit}",
        "ratio": ratio,
    }


def _bar(row: Estimate, device: str, longest: float) -> Mapping[str, Any]:
    from vidcompress.tools.cost.table import label

    seconds = row.time_s[device]
    parts = [
        {
            "name": name,
            "percent": f"{100 * seconds[name] / longest:.2f}",
            "text": f"{1e3 * seconds[name]:.1f} ms",
        }
        for name in ("encode", "select", "prefill")
    ]
    total = f"{_short(1e3 * seconds['first_token'])} ms"
    spoken = ", ".join(f"{part['name']} {part['text']}" for part in parts)
    return {"name": label(row), "parts": parts, "sum": total, "spoken": f"{label(row)}: {total}; {spoken}"}


def _short(value: float) -> str:
    """Return a number with three figures that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"

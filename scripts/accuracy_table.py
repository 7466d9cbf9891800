"""Write the accuracy tables of the embedded models from the committed result files, between markers.

    python scripts/accuracy_table.py

A table stands between `<!-- accuracy:WHAT -->` and `<!-- /accuracy -->` in any document; what is
between is replaced. WHAT is `all` (every method, model, medium and ratio), `standing`
(which methods beat the controls), `MODEL-MEDIUM` (one result, a line per method), `full/MODEL-MEDIUM` (with tokens and
question types), `boosts/MODEL-MEDIUM` (compositions), `native/MODEL-MEDIUM` (a line per method, of a model whose
positions have axes, which is not compared with the others) or `FOLDER/NAME` (docs/results/FOLDER/NAME.json, in full).
The plots beside them, docs/results/accuracy*.png and .svg, are drawn again where matplotlib is installed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from documents import documents
from shapes_accuracy.overview import (
    CONTROLS,
    best_control,
    boosts,
    cells_of,
    compare_with_controls,
    condensed,
    methods_of,
    overview,
    ratios_of,
)
from vidcompress.tools.evaluation.report.plot_style import COLOURS, MARKERS
from vidcompress.tools.evaluation.report.plots import Point, accuracy_plot, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parent.parent
LOOKS = tuple(zip((COLOURS[i] for i in (1, 4, 0, 2)), MARKERS, strict=False))
"""Colour and marker of each retention ratio, the smallest first."""
MARK = re.compile(r"(<!-- accuracy:([\w/-]+) -->\n).*?(<!-- /accuracy -->)", re.DOTALL)


def table(result: dict[str, Any]) -> str:
    """A result file as a Markdown table: overall with interval, tokens, then one column per question type."""
    types = list(dict.fromkeys(result["types"]))
    head = [
        "retention",
        "method",
        "tokens kept",
        "of",
        "accuracy %",
        "95 % interval",
        "vs all tokens",
        *types,
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    best = best_per_ratio(result)
    for row in result["rows"]:
        ratio = f"{row['retention_ratio']:g}"
        if "unreachable" in row:
            lines.append(f"| {ratio} | {row['method']} |" + " – |" * (len(head) - 2))
            continue
        accuracy = f"{100 * row['accuracy']:.1f}"
        bold = "**" if row["accuracy"] == best.get(row["retention_ratio"]) and row["method"] != "none" else ""
        difference, half = row["difference"]
        cells = [
            ratio,
            row["method"],
            f"{row['tokens']['kept']:g}",
            f"{row['tokens']['total']:g}",
            f"{bold}{accuracy}{bold}",
            f"{100 * row['interval'][0]:.1f} to {100 * row['interval'][1]:.1f}",
            "" if row["method"] == "none" else f"{100 * difference:+.1f} ± {100 * half:.1f}",
            *(f"{100 * row['per_type'][kind]:.0f}" for kind in types),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    where = result["provenance"]
    versions = where["versions"]
    commit = (where["commit"] or "unknown")[:10] + (" (with local changes)" if where["dirty"] else "")
    lines += [
        "",
        f"{len(result['types'])} held-out questions, one per scene; tokens are means per question, separators "
        f"included; `–`: the budget is below what the method can reach. `{where['command']}` at commit "
        f"{commit}, torch {versions['torch']}, "
        f"transformers {versions['transformers']}, {where['machine']}.",
    ]
    return "\n".join(lines) + "\n"


def best_per_ratio(result: dict[str, Any]) -> dict[float, float]:
    """The highest accuracy at each ratio."""
    best: dict[float, float] = {}
    for row in result["rows"]:
        if "accuracy" in row:
            best[row["retention_ratio"]] = max(best.get(row["retention_ratio"], 0.0), row["accuracy"])
    return best


def standing(results: list[dict[str, Any]]) -> str:
    """Which methods are better than, alike or worse than the best control, result by result and ratio by ratio."""
    lines = ["| | best control | better | no clear difference | worse |", "|---|---|---|---|---|"]
    for result in results:
        for ratio in ratios_of(result):
            best, found = best_control(result, ratio), compare_with_controls(result, ratio)
            figure = f"{100 * cells_of(result, ratio)[best]['accuracy']:.1f}"
            lists = " | ".join(", ".join(found[kind]) or "none" for kind in ("better", "alike", "worse"))
            lines.append(
                f"| {result['model']}, {result['medium']}s, {ratio:g} | {best} ({figure}) | {lists} |"
            )
    return "\n".join(lines) + "\n"


def pages() -> list[Path]:
    """The files that hold marked tables."""
    return [page for page in documents() if MARK.search(page.read_text(encoding="utf-8"))]


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """A panel per result: methods downwards, accuracy to the right, a colour per retention ratio, 95 % intervals."""
    from matplotlib.figure import Figure

    methods = methods_of(results)[::-1]
    figure = Figure(figsize=(4 * len(results) + 1.6, 0.24 * len(methods) + 1.3), layout="constrained")
    panels = figure.subplots(1, len(results), sharex=True, sharey=True, squeeze=False)[0]
    for axes, result in zip(panels, results, strict=True):
        ratios = sorted(ratios_of(result))
        for number, ratio in enumerate(ratios):
            cells, (color, marker) = cells_of(result, ratio), LOOKS[number % len(LOOKS)]
            shown = [(at, cells[name]) for at, name in enumerate(methods) if name in cells]
            middle = [100 * row["accuracy"] for _, row in shown]
            low, high = ([100 * row["interval"][side] for _, row in shown] for side in (0, 1))
            error = [
                [m - x for m, x in zip(middle, low, strict=True)],
                [x - m for m, x in zip(middle, high, strict=True)],
            ]
            aside = 0.22 * ((len(ratios) - 1) / 2 - number)  # the bars of one method lie below one another
            where = [at + aside for at, _ in shown]
            axes.errorbar(
                middle,
                where,
                xerr=error,
                fmt=marker,
                ms=4,
                lw=1,
                color=color,
                label=f"{ratio:g} of the tokens",
            )
            control = cells[best_control(result, ratio)]["accuracy"]
            axes.axvline(100 * control, color=color, lw=0.8, ls=":")
        axes.axvline(100 * result["rows"][0]["accuracy"], color="black", lw=0.8)
        axes.axhspan(-0.5, sum(name in CONTROLS for name in methods) - 0.5, color="0.93", zorder=0)
        axes.set(
            title=f"{result['model']}, {result['medium']}s",
            xlabel="questions answered right, %",
            ylim=(-0.6, len(methods) - 0.4),
        )
        axes.grid(axis="y", lw=0.3)
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].legend(loc="upper left", fontsize=7)
    figure.supxlabel(
        "black: all tokens; dotted: the best control of that ratio; grey band: controls", fontsize=8
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def curves(result: dict[str, Any]) -> Figure:
    """Accuracy against the tokens kept, a small panel per method with the controls in grey."""
    series: dict[str, list[Point]] = {}
    for row in result["rows"]:
        if "accuracy" in row:
            kept, ends = row["tokens"]["kept"], (100 * row["interval"][0], 100 * row["interval"][1])
            series.setdefault(row["method"], []).append(Point(kept, 100 * row["accuracy"], *ends))
    (whole,) = series.pop("none")
    return accuracy_plot(
        series,
        x_label="visual tokens, mean per question",
        y_label="questions answered right, %",
        baseline=whole,
        title=f"{result['model']}, {result['medium']}s",
    )


def content(what: str, results: Path) -> str | None:
    """Text between a pair of markers, or None where there is no result file for it."""
    if what in ("all", "standing"):
        found = [json.loads(p.read_text()) for p in sorted(results.glob("*.json"))]
        return (overview if what == "all" else standing)(found) if found else None
    kind, _, name = what.rpartition("/")
    path = (results if kind in ("", "full", "boosts") else results.parent / kind) / f"{name}.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    return {"": condensed, "native": condensed, "boosts": boosts}.get(kind, table)(result)


def fill(text: str, results: Path) -> str:
    """Replace every marked table for which there is a result file."""

    def one(match: re.Match[str]) -> str:
        new = content(match[2], results)
        return match[0] if new is None else match[1] + new + match[3]

    return MARK.sub(one, text)


def main(
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = ROOT / "docs/results/shapes",
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if a card is out of date.")
    ] = False,
) -> None:
    """Fill the tables of all documents, and draw the plots."""
    stale = []
    for card in pages():
        text = card.read_text()
        new = fill(text, results)
        if new != text:
            stale.append(str(card.relative_to(ROOT)))
            if not check:
                card.write_text(new)
    print(
        "out of date: " + ", ".join(stale) if check and stale else f"updated: {', '.join(stale) or 'nothing'}"
    )
    if not check:
        found = [json.loads(p.read_text()) for p in sorted(results.glob("*.json"))]
        draw(found, ROOT / "docs/results/accuracy.png")
        for result in found:
            save(curves(result), ROOT / f"docs/results/accuracy-{result['model']}-{result['medium']}.svg")
    raise typer.Exit(int(check and bool(stale)))


if __name__ == "__main__":
    typer.run(main)

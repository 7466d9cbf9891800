"""Write the accuracy tables of the embedded models, from the committed result files, into their cards.

    python scripts/accuracy_table.py

Each table stands between `<!-- accuracy:MODEL-MEDIUM -->` and `<!-- /accuracy -->`; what is between is replaced. The
one of the README, `accuracy:all`, has the overall figures of all result files; `accuracy:FOLDER/NAME` takes the file
docs/results/FOLDER/NAME.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parent.parent
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


def overview(results: list[dict[str, Any]]) -> str:
    """Overall accuracy: one line per result file and ratio, one column per method, the best in bold."""
    methods = list(dict.fromkeys(row["method"] for result in results for row in result["rows"][1:]))
    lines = [
        f"| model, medium | all tokens | retention | {' | '.join(f'`{name}`' for name in methods)} |",
        "|---|---:|---:|" + "---:|" * len(methods),
    ]
    for result in results:
        best, full = best_per_ratio(result), result["rows"][0]["accuracy"]
        for ratio in dict.fromkeys(row["retention_ratio"] for row in result["rows"][1:]):
            of_ratio = {row["method"]: row for row in result["rows"] if row["retention_ratio"] == ratio}
            cells = [_overall(of_ratio.get(name), best.get(ratio)) for name in methods]
            head = f"| {result['model']}, {result['medium']}s | {100 * full:.1f} | {ratio:g} | "
            lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _overall(row: dict[str, Any] | None, best: float | None) -> str:
    """Per cent; empty where a method does not serve the medium, a dash where it does not reach the budget."""
    if row is None:
        return ""
    if "accuracy" not in row:
        return "–"
    text = f"{100 * row['accuracy']:.1f}"
    return f"**{text}**" if row["accuracy"] == best else text


def best_per_ratio(result: dict[str, Any]) -> dict[float, float]:
    """The highest accuracy at each ratio."""
    best: dict[float, float] = {}
    for row in result["rows"]:
        if "accuracy" in row:
            best[row["retention_ratio"]] = max(best.get(row["retention_ratio"], 0.0), row["accuracy"])
    return best


def fill(text: str, results: Path) -> str:
    """Replace every marked table for which there is a result file."""

    def one(match: re.Match[str]) -> str:
        if match[2] == "all":
            found = [json.loads(p.read_text()) for p in sorted(results.glob("*.json"))]
            return match[1] + overview(found) + match[3] if found else match[0]
        path = (results.parent if "/" in match[2] else results) / f"{match[2]}.json"
        return match[1] + table(json.loads(path.read_text())) + match[3] if path.exists() else match[0]

    return MARK.sub(one, text)


def main(
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = ROOT / "docs/results/shapes",
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; fail if a card is out of date.")
    ] = False,
) -> None:
    """Fill the tables of the README and of all model cards."""
    stale = []
    for card in [ROOT / "README.md", *sorted(ROOT.glob("models/*/README.md"))]:
        text = card.read_text()
        new = fill(text, results)
        if new != text:
            stale.append(str(card.relative_to(ROOT)))
            if not check:
                card.write_text(new)
    print(
        "out of date: " + ", ".join(stale) if check and stale else f"updated: {', '.join(stale) or 'nothing'}"
    )
    raise typer.Exit(int(check and bool(stale)))


if __name__ == "__main__":
    typer.run(main)

"""Write the tables of docs/suite.md and its figures from the result files, or take result files over from a run.

python scripts/suite_page.py                       # tables and figures from docs/results/suite/
python scripts/suite_page.py --take runs/suite     # copy the finished rows of a run there first
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from vidcompress.tools.evaluation.report.plots import heat_map, save
from vidcompress.tools.evaluation.report.statistics import wilson
from vidcompress.tools.evaluation.suite import BENCHMARKS, Entry

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "docs" / "results" / "suite", ROOT / "docs" / "suite.md"
MAPS = (("none", 1.0), ("globalcom2", 0.25), ("random", 0.25))
"""(method, retention ratio) of the heat maps."""


def take(run: Path) -> int:
    """Copy the result file of every row below a folder, on one line each; returns how many."""
    found = sorted(run.rglob("result.json"))
    for path in found:
        row = json.loads(path.read_text())
        (RESULTS / f"{row['row']}.json").write_text(json.dumps(row) + "\n")
    return len(found)


def results() -> list[dict[str, Any]]:
    """All result files, by model, task, falling ratio and method."""
    rows = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    return sorted(
        rows, key=lambda r: (r["model"]["name"], r["task"]["name"], -r["retention_ratio"], r["method"])
    )


def table(rows: list[dict[str, Any]]) -> str:
    """One line per method and ratio, of one model and task; the types of question as columns."""
    kinds = list(rows[0]["per_kind"])
    head = ["retention", "method", "tokens", "right %", "95 % interval", *kinds]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        scores = [score for score in row["samples"]["score"] if score is not None]
        low, high = wilson(round(sum(scores)), len(scores))
        kept, total = row["tokens"]["kept"], row["tokens"]["total"]
        cells = [f"{row['retention_ratio']:g}", row["method"], f"{kept:.0f} of {total:.0f}"]
        cells += [f"{100 * row['scores']['accuracy']:.1f}", f"{100 * low:.0f} to {100 * high:.0f}"]
        cells += [f"{100 * row['per_kind'][kind]['value']:.0f}" for kind in kinds]
        lines.append(f"| {' | '.join(cells)} |")
    counts = sorted({entry["questions"] for row in rows for entry in row["per_kind"].values()})
    each = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    commits = sorted({row["provenance"]["commit"][:10] for row in rows})
    note = f"{rows[0]['task']['questions']} questions, {each} per type; commit {', '.join(commits)}."
    return "\n".join([*lines, "", note])


def draw_maps(rows: list[dict[str, Any]]) -> None:
    """Heat maps of the needle: share right over frames and position."""
    for method, ratio in MAPS:
        for row in rows:
            if (row["task"]["name"], row["method"], row["retention_ratio"]) == ("needle", method, ratio):
                cells: dict[tuple[float, float], list[float]] = {}
                for facts, score in zip(row["samples"]["facts"], row["samples"]["score"], strict=True):
                    cells.setdefault((facts["frames"], facts["position"]), []).append(score or 0.0)
                shares = {place: (sum(scores) / len(scores), len(scores)) for place, scores in cells.items()}
                title = f"{method}, {'all tokens' if ratio == 1 else f'retention {ratio:g}'}"
                figure = heat_map(shares, x_label="frames", y_label="position of the digit", title=title)
                save(figure, RESULTS / f"needle-{method}.png")


def sheet() -> None:
    """One sample of each benchmark, side by side."""
    tiles = [_first("shapes-image", 0).media[0].paint()]
    tiles += [media.paint() for media in _first("multi-image", 0).media]
    tiles += [_first("detail", number).media[0].paint() for number in (1, 3)]
    needle = _first("needle", 4)
    frames, at = needle.media[0].paint(), needle.facts["frame"]
    tiles += [frames[at - 1], frames[at]]
    height = max(len(tile) for tile in tiles)
    page = Image.new("RGB", (sum(tile.shape[1] + 8 for tile in tiles) - 8, height), "white")
    left = 0
    for tile in tiles:
        page.paste(Image.fromarray(tile), (left, height - len(tile)))
        left += tile.shape[1] + 8
    page.save(RESULTS / "samples.jpg", quality=90)


def _first(name: str, number: int) -> Entry:
    return list(BENCHMARKS[name].plan(number + 1, 0))[number]


def main() -> None:
    """Take over, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--take", type=Path, action="append", default=[], metavar="RUN", help="folder of a run"
    )
    RESULTS.mkdir(parents=True, exist_ok=True)
    for run in parser.parse_args().take:
        print(f"{take(run)} rows from {run}")
    rows = results()
    draw_maps(rows)
    sheet()
    page = PAGE.read_text(encoding="utf-8")
    for name in sorted({(row["model"]["name"], row["task"]["name"]) for row in rows}):
        chosen = [row for row in rows if (row["model"]["name"], row["task"]["name"]) == name]
        mark = f"suite:{'/'.join(name)}"
        page, count = re.subn(
            rf"(<!-- {mark} -->\n).*?(<!-- /suite -->)",
            rf"\g<1>{table(chosen)}\n\g<2>",
            page,
            flags=re.DOTALL,
        )
        if count != 1:
            raise SystemExit(f"docs/suite.md has {count} places for {mark}")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Write into README.md what its Python snippets print, beneath them as comments, and its tables of methods and costs.

python scripts/refresh_readme.py            # rewrites README.md
python scripts/refresh_readme.py --check    # fails where README.md says something else (times may differ)
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from vidcompress.cli.listings import method_entries

ROOT = Path(__file__).resolve().parent.parent
COST = re.compile(r"(<!-- selection -->)\n.*?(<!-- /selection -->)", flags=re.DOTALL)
COST_FILE = ROOT / "docs" / "results" / "bench_select.json"
TABLE = re.compile(r"(<!-- methods -->)\n.*?(<!-- /methods -->)", flags=re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


def refreshed(text: str) -> str:
    """Return `text` with the comments beneath each statement of its snippets replaced by what it prints, and the table.

    The snippets run one after another in one namespace, in a temporary folder that sees `examples/`.
    """
    names: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(ROOT / "examples")
        before = os.getcwd()
        os.chdir(folder)
        try:
            return BLOCK.sub(lambda match: f"```python\n{_with_output(match[1], names)}```", with_table(text))
        finally:
            os.chdir(before)


def with_table(text: str) -> str:
    """Return `text` with the table of methods made anew from their cards, and that of costs from the last run."""
    text = TABLE.sub(lambda match: f"{match[1]}\n{methods_table()}\n{match[2]}", text)
    result = json.loads(COST_FILE.read_text(encoding="utf-8"))
    return COST.sub(lambda match: f"{match[1]}\n{cost_table(result)}\n{match[2]}", text)


def cost_table(result: dict[str, Any]) -> str:
    """What `scripts/bench_select.py` measured as a Markdown table, and the command and commit behind it."""
    columns = ("method", "image", "loop", "of encoding", "clip", "loop", "of encoding")
    lines = [f"| {' | '.join(columns)} |", "|---" + "|---:" * 6 + "|"]
    found = {(row["method"], row["medium"]): row for row in result["rows"]}
    for name in dict.fromkeys(row["method"] for row in result["rows"]):
        cells = [cell for medium in ("image", "clip") for cell in _costs(found.get((name, medium)))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    towers = {row["medium"]: row["encoder_ms"] for row in result["rows"]}
    origin = result["provenance"]
    return "\n".join(
        [
            *lines,
            "",
            f"Encoding took {towers['image'] / 1000:.1f} s (image) and {towers['clip'] / 1000:.0f} s (clip, one frame "
            f"x 64) in the same rounds; {'processor' if result['clock'] == 'processor' else 'wall'} time of "
            f"{origin['threads']} {'thread' if origin['threads'] == 1 else 'threads'}, {origin['machine']}. "
            f"`{origin['command']}` at commit {origin['commit'][:10]}.",
        ]
    )


def _costs(row: dict[str, Any] | None) -> list[str]:
    """Milliseconds, how many times slower the loop is, and the share of the encoder's time."""
    if row is None:
        return ["", "", ""]
    loop = "" if row["times_faster"] is None else f"{row['times_faster']:.1f} x"
    share = row["share_of_encoder"]
    return [
        f"{row['select_ms']:,.1f}" if row["select_ms"] < 100 else f"{row['select_ms']:,.0f}",
        loop + (" \u2020" if row["loop_frames"] else ""),
        "" if share is None else f"{100 * share:.2f} %",
    ]


def methods_table() -> str:
    """The methods that come with the package as a Markdown table: those with a paper first, then by name."""
    entries = [entry for entry in method_entries() if entry["package"] is None]
    rows = ["| method | serves | what it does |", "|---|---|---|"]
    for entry in sorted(entries, key=lambda entry: (not entry["paper"], entry["name"])):
        number = re.search(r"arXiv (\d+\.\d+)", entry["paper"])
        paper = f" ([paper](https://arxiv.org/abs/{number[1]}))" if number else ""
        rows.append(f"| `{entry['name']}` | {', '.join(entry['modalities'])} | {entry['summary']}{paper} |")
    return "\n".join(rows)


def without_times(text: str) -> str:
    """Blank out milliseconds and how many times faster, from where to where, with the room before them.

    No two runs share them.
    """
    return re.sub(r" *(?:\d+\.\d+-)?\d+\.\d+ (ms|x)\b", r" ... \1", text)


def _with_output(block: str, names: dict[str, object]) -> str:
    lines = block.splitlines()
    statements = ast.parse(block).body
    ends = [statement.end_lineno or 0 for statement in statements]
    written = lines[: statements[0].lineno - 1]
    for number, (statement, end) in enumerate(zip(statements, ends, strict=True)):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(ast.Module([statement], []), "README.md", "exec"), names)
        written += lines[statement.lineno - 1 : end]
        written += [f"# {line}".rstrip() for line in said.getvalue().splitlines()]
        until = statements[number + 1].lineno - 1 if number + 1 < len(statements) else len(lines)
        written += [line for line in lines[end:until] if line != "#" and not line.startswith("# ")]
    return "\n".join(written) + "\n"


def main() -> None:
    """Rewrite or check README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where the README is out of date"
    )
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    check = parser.parse_args().check
    new = refreshed(old)
    if not check:
        path.write_text(new, encoding="utf-8")
    elif without_times(new) != without_times(old):
        sys.exit("README.md does not say what its snippets print; run make readme")


if __name__ == "__main__":
    main()

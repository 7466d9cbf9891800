"""Write into the documents what their Python snippets print, beneath them as comments, and tables of methods and costs.

python scripts/refresh_documents.py                    # rewrites README.md, CONTRIBUTING.md, the pages of docs/, ...
python scripts/refresh_documents.py README.md          # rewrites this one
python scripts/refresh_documents.py --check            # fails where one says something else (times may differ)
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from documents import BLOCK, ROOT, block_of, documents, name_of
from readme_figures import figures_table
from shapes_accuracy.mass_tables import fill
from vidcompress.adapters.generic.verdicts import VERDICTS
from vidcompress.cli.listings import class_entries, method_entries
from vidcompress.core.method import METHODS
from vidcompress.tools.evaluation.report.render import escape_markdown

COST = re.compile(r"(<!-- selection -->)\n.*?(<!-- /selection -->)", flags=re.DOTALL)
COST_FILE = ROOT / "docs" / "results" / "bench_select.json"
MASS_RESULTS = ROOT / "docs" / "results" / "mass"
TABLE = re.compile(r"(<!-- methods -->)\n.*?(<!-- /methods -->)", flags=re.DOTALL)
CLASSES = re.compile(r"(<!-- classes -->)\n.*?(<!-- /classes -->)", flags=re.DOTALL)
FIGURES = re.compile(r"(<!-- figures -->)\n.*?(<!-- /figures -->)", flags=re.DOTALL)
HUB = re.compile(r'from_pretrained\("[\w.-]+/[\w.-]+"')
CARDS = ROOT / "vidcompress" / "methods" / "cards"


def refreshed(text: str, page: Path) -> str:
    """Return a document with its tables, and beneath each statement of its snippets, as comments, what it prints.

    The snippets of a page run one after another in one namespace, in a temporary folder that sees `examples/`. A block
    that is the content of a file is no snippet. What a snippet raises comes through, with its line as a note.
    """
    text, names = with_tables(text, page), {"__name__": "snippet"}

    def one(match: re.Match[str]) -> str:
        block = block_of(match)
        if block.language != "python" or block.files:
            return match[0]
        offline = HUB.sub('from_pretrained("tiny-onevision"', block.body)
        try:
            written = _with_output(offline, names)
            return match[0] if offline != block.body else f"```python\n{written}```"
        except Exception as error:
            error.add_note(f"in the snippet of {name_of(page)}, line {block.line}")
            raise

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("examples").symlink_to(ROOT / "examples")
        with Image.open(ROOT / "examples" / "scene.png") as scene:
            scene.convert("RGB").save("photo.jpg")
        with _registered_methods():
            return BLOCK.sub(one, text)


@contextlib.contextmanager
def _registered_methods() -> Iterator[None]:
    """Forget at the end what snippets registered: other pages list the methods that come with the package."""
    METHODS.names()  # which finds them all
    before = dict(METHODS._classes)
    try:
        yield
    finally:
        METHODS._classes.clear()
        METHODS._classes.update(before)


def with_tables(text: str, page: Path) -> str:
    """Return a document with its tables made anew: methods from their cards, costs and masses from the last runs."""
    text = FIGURES.sub(lambda match: f"{match[1]}\n{figures_table()}\n{match[2]}", text)
    text = TABLE.sub(lambda match: f"{match[1]}\n{methods_table(page)}\n{match[2]}", text)
    text = CLASSES.sub(lambda match: f"{match[1]}\n{classes_table()}\n{match[2]}", text)
    text = fill(text, MASS_RESULTS)
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


def methods_table(page: Path) -> str:
    """The methods that come with the package as a Markdown table: those with a paper first, then by name.

    In the pages of docs/, which has pages of the cards, a name is a link to its card.
    """
    entries = [entry for entry in method_entries() if entry["package"] is None]
    rows = ["| method | serves | what it does |", "|---|---|---|"]
    for entry in sorted(entries, key=lambda entry: (not entry["paper"], entry["name"])):
        number = re.search(r"arXiv (\d+\.\d+)", entry["paper"])
        paper = f" ([paper](https://arxiv.org/abs/{number[1]}))" if number else ""
        name = f"`{entry['name']}`"
        if page.parent != ROOT:
            name = f"[{name}]({os.path.relpath(CARDS, page.parent)}/{entry['name']}.md)"
        rows.append(f"| {name} | {', '.join(entry['modalities'])} | {entry['summary']}{paper} |")
    return "\n".join(rows)


def classes_table() -> str:
    """The classes of transformers that have no adapter of their own as a Markdown table: those served first."""
    entries = sorted(class_entries(), key=lambda entry: VERDICTS.index(entry["verdict"]))
    rows = ["| class | model type | generic adapter | |", "|---|---|---|---|"]
    for entry in entries:
        last = " and ".join(f"{medium}s" for medium in entry["modalities"]) or escape_markdown(
            entry["reason"]
        )
        kind = f"`{entry['model_type']}`" if entry["model_type"] else ""
        rows.append(f"| `{entry['class']}` | {kind} | {entry['verdict']} | {last} |")
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
            exec(compile(ast.Module([statement], []), "<snippet>", "exec"), names)
        written += lines[statement.lineno - 1 : end]
        written += [f"# {line}".rstrip() for line in said.getvalue().splitlines()]
        until = statements[number + 1].lineno - 1 if number + 1 < len(statements) else len(lines)
        written += [line for line in lines[end:until] if line != "#" and not line.startswith("# ")]
    return "\n".join(written) + "\n"


def main() -> None:
    """Rewrite or check documents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", type=Path, help="documents; all of them where none is named")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 where a document is out of date"
    )
    given = parser.parse_args()
    stale = []
    for page in [path.resolve() for path in given.pages] or documents():
        old = page.read_text(encoding="utf-8")
        new = refreshed(old, page)
        if without_times(new) != without_times(old):
            stale.append(name_of(page))
        if not given.check and new != old:
            page.write_text(new, encoding="utf-8")
    print(f"{'out of date' if given.check else 'changed'}: {', '.join(stale) or 'nothing'}")
    if given.check and stale:
        sys.exit("these do not say what their snippets print; run make snippets")


if __name__ == "__main__":
    main()

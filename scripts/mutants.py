"""Mutation tests: break the package on purpose, one small mistake at a time, and see which test fails.

    make mutants
    python scripts/mutants.py --list
    python scripts/mutants.py --only "reverse the sort" selection.py --jobs 2

The mistakes stand in scripts/mutation/mutants.toml. Each is made in a copy of the checkout; the tests that are likely
to notice run first, the whole suite after them. Results are kept in a journal as they come, so a run that was stopped
goes on where it was; it starts anew when the package or a test has changed. The exit code is 1 when a mistake goes
unnoticed, and 2 when the table or the tests do not allow an answer.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.console import Console

from mutation.table import Mutant, TableError, check, load, pick
from mutation.trial import BrokenRun, Result, Workspace, fingerprint
from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.runs.journal import RunJournal
from vidcompress.tools.runs.provenance import provenance

ROOT = Path(__file__).resolve().parent.parent
LINE = {"id", *(field.name for field in fields(Result))}
"""Fields of a line of the journal."""


def journal_of(path: Path | None, code: str) -> RunJournal:
    """Journal of the mutants that were caught; begun anew where the code is not what they were caught in.

    Args:
        path: the file, or None to keep nothing.
        code: fingerprint of the code.
    """
    return RunJournal(path, {"code": code}, lambda line: line.keys() == LINE, anew=True)


def caught_before(journal: RunJournal, mutant: Mutant) -> Result | None:
    """Result of this very mutant on this very code, where it was caught."""
    line = journal.done.get(_id(mutant))
    return line and Result(**{name: value for name, value in line.items() if name != "id"})


def keep(journal: RunJournal, result: Result) -> None:
    """Write a result down; a mutant that survived is tried again."""
    if result.caught:
        journal.write([{"id": _id(result), **result.to_dict()}])


def _id(mutant: Mutant | Result) -> str:
    return f"{mutant.name} {mutant.digest}"


def attempts(
    mutants: list[Mutant],
    root: Path,
    jobs: int,
    limit: float,
    suite_limit: float,
    package: str = "vidcompress",
) -> Iterator[Result]:
    """Try mutants, `jobs` at a time, each in a copy of its own; results as they come.

    Raises:
        BrokenRun: the likely tests do not pass as it is, or a run says nothing.
    """
    with ExitStack() as stack:
        free: queue.Queue[Workspace] = queue.Queue()
        for _ in range(min(jobs, len(mutants))):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))
            free.put(Workspace(root, folder, package))
        files = sorted({test for mutant in mutants for test in mutant.tests})
        first = free.get()
        first.baseline(files, suite_limit)
        free.put(first)

        def attempt(mutant: Mutant) -> Result:
            workspace = free.get()
            try:
                return workspace.attempt(mutant, limit, suite_limit, suite_jobs=max(1, 2 // jobs))
            finally:
                free.put(workspace)

        with ThreadPoolExecutor(jobs) as pool:
            waiting = [pool.submit(attempt, mutant) for mutant in mutants]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                for one in waiting:
                    one.cancel()


def table(results: list[Result]) -> Table:
    """One line per mutant: what noticed it."""
    lines = [
        [
            (result.kind, False),
            (result.name, False),
            (result.by or "nothing: it survived", not result.by),
            (f"{result.seconds:.0f}", False),
        ]
        for result in sorted(results, key=lambda entry: (entry.kind, entry.name))
    ]
    return Table(("kind", "mutant", "caught by", "s"), [lines], "mutants", keys=2, words=("caught by",))


def listing(mutants: list[Mutant]) -> Table:
    """One line per mutant: what it is and why it hurts."""
    lines = [
        [mutant.kind, mutant.name, mutant.file.removeprefix("vidcompress/"), mutant.why]
        for mutant in sorted(mutants, key=lambda entry: (entry.kind, entry.name))
    ]
    head = ("kind", "mutant", "file", "why")
    return Table.of_lines(head, lines, title=f"{len(mutants)} mutants", keys=2, words=head[2:])


def write(path: Path, results: list[Result], source: dict[str, Any]) -> None:
    """Write the results with where they come from."""
    entries = [result.to_dict() for result in sorted(results, key=lambda entry: (entry.kind, entry.name))]
    caught = sum(result.caught for result in results)
    whole = {"mutants": len(results), "caught": caught, "results": entries, "provenance": source}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="words in the name, kind or file of a mutant")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time (default 1)")
    parser.add_argument("--limit", type=float, default=240, help="seconds for the likely tests (default 240)")
    parser.add_argument(
        "--suite-limit", type=float, default=1800, help="seconds for the suite (default 1800)"
    )
    parser.add_argument(
        "--journal", type=Path, default=ROOT / "runs" / "mutants.jsonl", help="results so far"
    )
    parser.add_argument("--fresh", action="store_true", help="begin the journal anew")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    args = parser.parse_args(arguments)
    err = Console(stderr=True)
    source = provenance()  # as of the start
    try:
        mutants = pick(load(), args.only)
        check(mutants, ROOT)
        if args.list:
            print(listing(mutants).text(terminal_width()))
            return 0
        if args.fresh:
            args.journal.unlink(missing_ok=True)
        journal = journal_of(args.journal, fingerprint(ROOT))
        results = [result for mutant in mutants if (result := caught_before(journal, mutant))]
        if results:
            err.print(f"{len(results)} of {len(mutants)} are in {args.journal}, caught")
        todo = [mutant for mutant in mutants if caught_before(journal, mutant) is None]
        coming = attempts(todo, ROOT, args.jobs, args.limit, args.suite_limit) if todo else iter(())
        with counting_bar() as bar:
            for result in bar.track(coming, total=len(todo), description="mutants"):
                keep(journal, result)
                results.append(result)
                bar.console.print(
                    f"{result.name}: {result.by or 'SURVIVED'} ({result.seconds:.0f} s)",
                    highlight=False,
                    soft_wrap=True,
                )
    except (TableError, BrokenRun) as error:
        err.print(str(error), style="bold red", markup=False)
        return 2
    print(table(results).text(terminal_width(), styled=sys.stdout.isatty()))
    if args.json:
        write(args.json, results, source)
    survived = [result.name for result in results if not result.caught]
    print(f"{len(results) - len(survived)} of {len(results)} caught")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Fuzz test: thousands of broken media files, checkpoints, cards and journals; each gives a result or a clear error.

    python scripts/fuzz.py --cases 10000 --out docs/results/fuzz.json

Each case runs in a worker process with limits on time and memory. A crash, a hang, an error of another library, a
result that makes no sense or an error that says nothing is a finding; its file is kept under runs/fuzz/findings. A run
that is stopped goes on from its journal. `--case N` runs one case in this process and shows what comes of it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from fuzzing.cases import make_case
from fuzzing.material import make_material
from fuzzing.worker import Crew
from vidcompress.progress import counting_bar
from vidcompress.tools.runs.journal import RunJournal
from vidcompress.tools.runs.provenance import provenance

FINE = ("answer", "refused")


def main(
    cases: Annotated[int, typer.Option(min=1, help="How many broken files.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Decides every case.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time limit of a case.")] = 20.0,
    memory_mb: Annotated[int, typer.Option(min=64, help="Memory a case may take.")] = 3072,
    minutes: Annotated[float, typer.Option(min=0.1, help="Stop after so long; run again to go on.")] = 60.0,
    folder: Annotated[Path, typer.Option(help="Material, journal, findings.")] = Path("runs/fuzz"),
    out: Annotated[Path | None, typer.Option(help="Result file, written when all cases are done.")] = None,
    fresh: Annotated[bool, typer.Option(help="Start anew instead of going on.")] = False,
    case: Annotated[int | None, typer.Option(help="Run only this one, here, and show its error.")] = None,
) -> None:
    """Run the cases, or go on with them; exit code 1 when there are findings."""
    if case is not None:
        _show(folder, seed, case)
        return
    if fresh and folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    results, took = run(cases, seed, seconds, memory_mb, folder, minutes)
    findings = [entry for entry in results if entry["outcome"] not in FINE]
    for entry in findings:
        print(f"case {entry['case']}: {entry['outcome']}: {entry['said'][:300]}")
    print(f"{len(results)} of {cases} cases, {len(findings)} findings")
    if out is not None and len(results) == cases:
        out.write_text(json.dumps(summary(results, took, seconds, memory_mb, seed), indent=1) + "\n")
    raise typer.Exit(1 if findings or len(results) < cases else 0)


def run(
    cases: int, seed: int, seconds: float, memory_mb: int, folder: Path, minutes: float = 60.0
) -> tuple[list[dict[str, Any]], float]:
    """Run what the journal does not hold yet.

    Returns:
        The results by case, and the seconds that all sittings took together.
    """
    material = make_material(folder / "material")
    head = {"seed": seed, "seconds": seconds, "memory_mb": memory_mb}
    journal = RunJournal(folder / "journal.jsonl", head, lambda line: {"entry", "sitting"} <= line.keys())
    before = max((line["sitting"] for line in journal.done.values()), default=0.0)
    start, crew = time.perf_counter(), Crew(folder, seed, seconds, memory_mb)
    with counting_bar() as progress:
        task = progress.add_task("fuzzing", total=cases, completed=len(journal.done))
        for number in range(cases):
            if str(number) in journal.done:
                continue
            if time.perf_counter() - start > 60 * minutes:
                break
            entry = crew.run(number)
            made = make_case(material, seed, number)
            entry |= {"kind": made.kind, "base": made.base, "reader": made.reader}
            if entry["outcome"] not in FINE:
                _keep(folder / "findings" / f"{number}-{made.base}", made.data, entry)
            sitting = before + time.perf_counter() - start
            journal.add([{"id": str(number), "entry": entry, "sitting": sitting}])
            progress.advance(task)
    crew.close()
    lines = (journal.done.get(str(number)) for number in range(cases))
    return [line["entry"] for line in lines if line is not None], before + time.perf_counter() - start


def summary(
    results: list[dict[str, Any]], took: float, seconds: float, memory_mb: int, seed: int
) -> dict[str, Any]:
    """Counts by reader and outcome, the slowest and the largest case, and where the numbers come from."""
    outcomes = Counter(entry["outcome"] for entry in results)
    by_reader: dict[str, dict[str, int]] = {}
    for entry in results:
        counts = by_reader.setdefault(f"{entry['kind']}: {entry['reader']}", {})
        counts[entry["outcome"]] = counts.get(entry["outcome"], 0) + 1
    slowest, largest = (max(results, key=lambda entry: entry[key]) for key in ("ms", "mb"))
    named = ("case", "base", "reader", "outcome", "ms", "mb")
    return {
        "cases": len(results),
        "seed": seed,
        "seconds_per_case": seconds,
        "memory_mb_per_case": memory_mb,
        "findings": sum(count for outcome, count in outcomes.items() if outcome not in FINE),
        "outcomes": dict(sorted(outcomes.items())),
        "by_reader": {key: dict(sorted(by_reader[key].items())) for key in sorted(by_reader)},
        "by_file": dict(sorted(Counter(entry["base"] for entry in results).items())),
        "slowest": {key: slowest[key] for key in named},
        "largest": {key: largest[key] for key in named},
        "minutes": round(took / 60, 1),
        "provenance": provenance(),
    }


def _keep(folder: Path, data: bytes, entry: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "broken").write_bytes(data)
    (folder / "finding.json").write_text(json.dumps(entry, indent=1) + "\n")


def _show(folder: Path, seed: int, number: int) -> None:
    from fuzzing.readers import Readers

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    made = make_case(make_material(folder / "material"), seed, number)
    readers = Readers(folder / "material" / "checkpoint", folder / "room")
    path = readers.place(made)
    print(made, path)
    print(readers.read[made.reader](made, path))


if __name__ == "__main__":
    typer.run(main)

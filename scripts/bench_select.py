"""Benchmark of selection, method by method: from evidence to gathered features, on this machine.

    python scripts/bench_select.py --json docs/results/bench_select.json

Every method at R = 0.25 on an image of LLaVA-NeXT (5 x 576 x 4096) and a clip of LLaVA-OneVision (64 x 196 x 3584),
beside its own formulas written token by token, which is what a straightforward port costs, and the encoder's time for
the same input (random weights of the real size). Of a method inside the language model it is what pruning adds to a
prefill. Everything is measured in turns, round by round, so that other work on the machine hits all alike; with one
thread it is the processor's time, which other work hardly touches, with more it is the clock's, for which the machine
has to be quiet. Layouts are made anew in every run, so nothing that a cache would hide is left out. What is measured is
kept beside the result in FILE.partial: a run that was stopped goes on where it was, also with fewer or more rounds.
`make snippets` writes the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import attention_loops
import bench_inside
import bench_loops
from bench_inputs import clip_tokens, image_tokens, with_evidence
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import Budget, visual_budget
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.tokens import VisualTokens
from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.runs.journal import RunJournal
from vidcompress.tools.runs.provenance import provenance

RATIO = Fraction(1, 4)
OPTIONS: dict[str, dict[str, Any]] = {"dycoke": {"window": 8}, "pdrop": {"schedule": "fit"}}
"""Where the default has nothing to choose at this ratio, or does not reach it."""
MEDIA = {"image": "image 5 x 576 x 4096", "clip": "clip 64 x 196 x 3584"}
FRAMES, FEWER = 64, 8
SLOW = ("dart", "divprune", "fastv", "pdrop", "sparsevlm", "sparsevlm2")
"""Loops that take minutes on the whole clip; they and ours are compared on a shorter one."""
LOOPED = {*attention_loops.LOOPS, *bench_loops.LOOPS, *bench_inside.LOOPED}
UNRUN = {"dart", "flashvid", "holitom", "prunevid", "vcast", "vispruner"}
"""Loops that the committed run does not have yet; the next run of all methods has them, and empties this."""
ENOUGH_S, MOST = 0.2, 10


@dataclass(frozen=True)
class Case:
    """One thing to time: `side` is "ours" or "loop" of a method, or "encoder" of no method."""

    method: str
    medium: str
    side: str
    frames: int = FRAMES

    @property
    def key(self) -> str:
        """Its name in the journal."""
        return f"{self.medium} {self.method} {self.side} {self.frames}"


@dataclass
class Row:
    """One line of the table; the fastest times of all rounds in milliseconds, medians beside them."""

    method: str
    medium: str
    options: dict[str, Any]
    select_ms: float
    select_median_ms: float
    loop_ms: float | None
    loop_median_ms: float | None
    loop_frames: int | None
    times_faster: float | None
    encoder_ms: float | None
    share_of_encoder: float | None


def all_cases(methods: list[str], encoders: bool) -> list[Case]:
    """Everything to time in one round."""
    cases = []
    for medium in MEDIA:
        cases += [Case("", medium, "encoder")] if encoders else []
        for name in methods:
            if ("video" if medium == "clip" else "image") not in get_method(name).modalities:
                continue
            cases.append(Case(name, medium, "ours"))
            if name not in LOOPED:
                continue
            few = medium == "clip" and name in SLOW
            if few:
                cases.append(Case(name, medium, "ours", FEWER))
            cases.append(Case(name, medium, "loop", FEWER if few else FRAMES))
    return cases


@lru_cache(maxsize=3)
def tokens_of(medium: str, frames: int) -> VisualTokens:
    """Features of an input, without evidence."""
    return image_tokens() if medium == "image" else clip_tokens(frames)


@lru_cache(maxsize=1)
def scene_of(medium: str, frames: int) -> bench_inside.Scene:
    """The same between the layers of a decoder; one at a time, for they are large."""
    return bench_inside.Scene(medium, len(tokens_of(medium, frames)))


def selecting(method: Method, tokens: VisualTokens) -> Callable[[], Tensor]:
    """Evidence to gathered features, with a layout whose derived tables are not there yet."""

    def run() -> Tensor:
        layout = replace(tokens.layout)
        (positions,) = Budget(RATIO).split([layout.full_length])
        fresh = replace(tokens, layout=layout)
        budget = visual_budget(layout, method.sent(positions, layout.full_length), ratio=RATIO)
        return method.select(VisualBatch([fresh]), [budget])[0].gather(fresh)

    return run


def prepared(case: Case) -> Callable[[], Any]:
    """What to time of a case, with its input made."""
    if case.side == "encoder":
        return encoder(case.medium)
    method = get_method(case.method, **OPTIONS.get(case.method, {}))
    if method.inside is not None:
        step = bench_inside.ours if case.side == "ours" else bench_inside.loop
        return partial(step, scene_of(case.medium, case.frames), method.inside, RATIO)
    tokens = with_evidence(tokens_of(case.medium, case.frames), method)
    if case.side == "ours":
        return selecting(method, tokens)
    if case.method in attention_loops.LOOPS:
        return partial(attention_loops.LOOPS[case.method], tokens, float(RATIO))
    return partial(bench_loops.LOOPS[case.method], tokens)


@lru_cache(maxsize=2)
def encoder(medium: str) -> Callable[[], Any]:
    """A vision tower with random weights, float32, on the views of an image or on one frame of a clip."""
    from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

    common = {"patch_size": 14, "num_attention_heads": 16}
    if medium == "image":
        sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "image_size": 336}
        model: Any = CLIPVisionModel(CLIPVisionConfig(**common, **sizes))
    else:
        sizes = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "image_size": 384}
        model = SiglipVisionModel(SiglipVisionConfig(**common, **sizes, vision_use_head=False))
    pixels = torch.rand(5 if medium == "image" else 1, 3, sizes["image_size"], sizes["image_size"])
    return lambda: model(pixel_values=pixels)


def times_of(case: Case) -> list[float]:
    """Milliseconds of the runs of one round: one of a loop, of ours as many as fit into a moment, the first apart."""
    run, clock = prepared(case), clock_of(torch.get_num_threads())
    with torch.inference_mode():
        if case.side == "ours":
            run()
        found: list[float] = []
        while not found or (case.side == "ours" and sum(found) < ENOUGH_S * 1000 and len(found) < MOST):
            start = clock()
            run()
            found.append((clock() - start) * 1000)
    return found


def clock_of(threads: int) -> Callable[[], float]:
    """Seconds of the processor for one thread, of the clock for several, which wait for one another."""
    return time.process_time if threads == 1 else time.perf_counter


def journal_of(path: Path | None, settings: Mapping[str, Any]) -> RunJournal:
    """Journal of what was measured so far, beside the result; begun anew where the settings are others."""
    return RunJournal(path, settings, lambda line: isinstance(line.get("ms"), list), anew=True)


def measured(number: int, case: Case, times: list[float]) -> dict[str, Any]:
    """Journal line of one measurement: the milliseconds of the runs of a case in a round."""
    return {"id": f"{number}: {case.key}", "case": case.key, "ms": times}


def times_so_far(journal: RunJournal, case: Case) -> list[float]:
    """All milliseconds of a case."""
    return [ms for line in journal.done.values() if line["case"] == case.key for ms in line["ms"]]


def rounds_of(cases: list[Case], rounds: dict[str, int]) -> Iterator[tuple[int, Case]]:
    """All measurements in order: every case once a round, as long as its side has rounds."""
    for number in range(max(rounds.values())):
        yield from ((number, case) for case in cases if number < rounds[case.side])


def rows_of(cases: list[Case], journal: RunJournal) -> list[Row]:
    """The table, from all that was measured."""
    rows = []
    for case in (case for case in cases if case.side == "ours" and case.frames == FRAMES):
        slow = replace(case, side="loop")
        if slow not in cases:
            slow = replace(slow, frames=FEWER)
        own, loop, alike = (times_so_far(journal, one) for one in (case, slow, replace(slow, side="ours")))
        views = FRAMES if case.medium == "clip" else 1
        tower = [time * views for time in times_so_far(journal, Case("", case.medium, "encoder"))]
        rows.append(
            Row(
                case.method,
                case.medium,
                OPTIONS.get(case.method, {}),
                min(own),
                statistics.median(own),
                min(loop) if loop else None,
                statistics.median(loop) if loop else None,
                slow.frames if loop and slow.frames != FRAMES else None,
                min(loop) / min(alike) if loop else None,
                min(tower) if tower else None,
                min(own) / min(tower) if tower else None,
            )
        )
    return rows


def show(rows: list[Row]) -> None:
    """Print the table."""
    title = f"evidence to gathered features, R = {float(RATIO)}, float32, fastest of all rounds, ms"
    lines = []
    for row in rows:
        loop = "-" if row.loop_ms is None else f"{row.loop_ms:,.0f}"
        line = [
            row.method,
            MEDIA[row.medium],
            f"{row.select_ms:,.2f}",
            loop + (f" ({row.loop_frames} frames)" if row.loop_frames else ""),
            "-" if row.times_faster is None else f"{row.times_faster:,.1f} x",
            "-" if row.encoder_ms is None else f"{row.encoder_ms:,.0f}",
            "-" if row.share_of_encoder is None else f"{100 * row.share_of_encoder:.2f} %",
        ]
        lines.append(line)
    head = ("method", "input", "vidcompress", "loop-style", "faster", "encoder", "of encoder")
    print(Table.of_lines(head, lines, title=title, keys=2).text(terminal_width()))


def main() -> None:
    """Measure, print the table, and write it as JSON when asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of our methods (default 5)")
    parser.add_argument("--loop-rounds", type=int, default=2, help="rounds of the loops; 0 leaves them out")
    parser.add_argument("--encoder-rounds", type=int, default=3, help="rounds of the encoders; 0: none")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--methods", help="only these, with commas between them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the table to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")  # of fallbacks, which are what is measured
    methods = args.methods.split(",") if args.methods else list(available_methods())
    rounds = {"ours": max(1, args.rounds), "loop": args.loop_rounds, "encoder": args.encoder_rounds}
    cases = all_cases(methods, args.encoder_rounds > 0)
    origin = provenance()
    settings = {"commit": origin["commit"], "threads": args.threads}
    journal = journal_of(args.json and args.json.with_suffix(".json.partial"), settings)
    plan = list(rounds_of(cases, rounds))
    load = os.getloadavg()
    with counting_bar() as progress:
        task = progress.add_task("", total=len(plan))
        for number, case in plan:
            progress.update(task, description=f"round {number + 1}: {case.key:<32}")
            if measured(number, case, [])["id"] not in journal.done:
                journal.add([measured(number, case, times_of(case))])
            progress.advance(task)
    rows = rows_of(cases, journal)
    show(rows)
    if args.json:
        clock = "processor" if args.threads == 1 else "wall"
        result = {"ratio": float(RATIO), "rounds": rounds, "clock": clock, "load_average_before": load}
        result |= {"rows": [asdict(row) for row in rows], "provenance": origin}
        args.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        args.json.with_suffix(".json.partial").unlink(missing_ok=True)


if __name__ == "__main__":
    main()

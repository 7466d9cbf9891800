"""Benchmarks of the suite, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from vidcompress.checks import whole_number
from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.tools.evaluation.suite.detail import detail
from vidcompress.tools.evaluation.suite.entry import LAST_BLOCK, Entry, Media
from vidcompress.tools.evaluation.suite.needle import LENGTHS, POSITIONS, needle
from vidcompress.tools.evaluation.suite.questions import (
    TURNS,
    multi_image,
    multi_turn,
    shapes_clip,
    shapes_image,
)

__all__ = ["BENCHMARKS", "Benchmark", "Entry", "Media", "benchmark_of"]

MAX_NEW_TOKENS: Final = 8
"""Longer than every right answer of the suite in the embedded models' words."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of the suite.

    Attributes:
        name: of the benchmark.
        summary: its questions and media, in a line.
        plan: (questions, first held-out seed, **options) -> the questions, with media not yet painted; the first n of
            them are the same for every number.
        questions: default number of questions.
        most: largest number of questions per seed.
        step: the number of questions is a multiple of this.
        options: names of further arguments of `plan`.
        note: a hint for running it, in a line; may be empty.
    """

    name: str
    summary: str
    plan: Callable[..., Iterator[Entry]]
    questions: int = 600
    most: int = 10_000
    step: int = 1
    options: tuple[str, ...] = ()
    note: str = ""

    def count(self, questions: int | None) -> int:
        """Check a number of questions, and fill in the default.

        Raises:
            ArgumentError: out of range, or not a multiple of `step`.
        """
        if questions is None:
            return self.questions
        count = whole_number("questions", questions, most=self.most)
        if count % self.step:
            raise ArgumentError(
                f"questions={questions}: {self.name} asks {self.step} about each of its media; pass a multiple of "
                f"{self.step}"
            )
        return count


_CELLS: Final = len(LENGTHS) * len(POSITIONS)

BENCHMARKS: Final = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("shapes-image", "one question of six types per picture", shapes_image),
        Benchmark("shapes-clip", "one question of eight types per clip of 8 frames", shapes_clip),
        Benchmark(
            "needle",
            f"a digit in one frame of {LENGTHS[0]} to {LENGTHS[-1]}, at {len(POSITIONS)} positions",
            needle,
            questions=3 * _CELLS,
            most=90 * _CELLS,
            note=f"look at every frame: num_frames = {LENGTHS[-1]} (a shorter clip gives each of its frames once)",
        ),
        Benchmark(
            "detail",
            "a digit that crops show and the thumbnail does not, small or hidden from it",
            detail,
            questions=240,
            most=5_000,
            options=("view",),
            note="drawn for one side of view; one that differs from the model's measures something else",
        ),
        Benchmark(
            "multi-image",
            "one question about two to four pictures together",
            multi_image,
            questions=300,
            most=2_000,
            note="for families that take several pictures at once",
        ),
        Benchmark(
            "multi-turn",
            f"{TURNS} questions in a row about a picture or a clip, compressed once",
            multi_turn,
            questions=300,
            most=2_000,
            step=TURNS,
            note="methods that read the question read the first one; those inside the language model are refused",
        ),
    )
}
"""Name to benchmark."""


def benchmark_of(name: str) -> Benchmark:
    """Return a benchmark by its name.

    Raises:
        ArgumentError: there is none of that name; the message lists them.
    """
    if name not in BENCHMARKS:
        raise ArgumentError(f"name={shown(name)}: no benchmark of the suite; {nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]


def check_seed(seed: int) -> int:
    """Return a suite seed.

    Raises:
        ArgumentError: out of range.
    """
    return whole_number("seed", seed, least=0, most=LAST_BLOCK)

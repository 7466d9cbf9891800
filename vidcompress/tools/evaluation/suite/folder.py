"""Writer of benchmark folders, file by file; a killed run resumes, and the folder is the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from PIL import Image

from vidcompress.checks import whole_number
from vidcompress.errors import ArgumentError, shown
from vidcompress.loading.drawn_media import MANIFEST
from vidcompress.tools.evaluation.shapes.clip import write_frames
from vidcompress.tools.evaluation.shapes.examples import CLIP_FPS
from vidcompress.tools.evaluation.suite.benchmark import MAX_NEW_TOKENS, Benchmark, benchmark_of, check_seed
from vidcompress.tools.evaluation.suite.detail import VIEW
from vidcompress.tools.evaluation.suite.entry import Media, first_seed
from vidcompress.tools.evaluation.suite.folder_state import (
    PART,
    QUESTIONS,
    UNFINISHED,
    FinishedFolder,
    check_target,
    finish,
    folder_lock,
    open_journal,
    read_finished,
)

__all__ = ["QUESTIONS", "FinishedFolder", "make", "tasks_folder"]

VIEWS: Final = (56, 512)
"""Least and largest side of a view of `detail`, pixels."""


def make(
    name: str,
    folder: str | os.PathLike[str],
    *,
    questions: int | None = None,
    seed: int = 0,
    view: int | None = None,
    prompt_suffix: str = "",
    on_question: Callable[[int, int], None] = lambda done, of: None,
) -> FinishedFolder:
    """Draw a benchmark into a folder.

    The bytes follow from the arguments and from the versions of the encoders, which the manifest states. A stopped run
    resumes with the same call and ends with the same bytes, but for a bit of a clip that x264 sometimes sets otherwise.
    Two runs at once wait for each other. The media of one question are in memory at a time.

    Args:
        name: one of `BENCHMARKS`.
        folder: a new or empty one, or one that this call began or finished before.
        questions: number of questions; the first are the same for every number.
        seed: 0 to 99, each with scenes of its own that no training has used.
        view: side of a view of the model in pixels, for the benchmark that needs it (`detail`); 112 by default.
        prompt_suffix: put behind every question, such as a line that asks for short answers. The embedded models know
            no words for that.
        on_question: called with (questions that are written, questions in all).

    Returns:
        The finished folder.

    Raises:
        ArgumentError: an argument is not allowed, or the folder holds something else.
        OSError: a file cannot be written.
    """
    benchmark = benchmark_of(name)
    recipe: dict[str, Any] = {
        "benchmark": name,
        "questions": benchmark.count(questions),
        "seed": check_seed(seed),
    }
    recipe |= {"prompt_suffix": _suffix(prompt_suffix), **_options(benchmark, view=view)}
    target = Path(folder)
    check_target(target)
    with folder_lock(target):
        if (target / MANIFEST).exists():
            return read_finished(target, recipe)
        done = open_journal(target, recipe)
        _write_questions(target, benchmark, recipe, done, on_question)
        return finish(target, _settings(benchmark, recipe), recipe)


def tasks_folder() -> Path:
    """The folder with the suite's tasks for lmms-eval, for its `--include_path`."""
    return Path(__file__).resolve().parent / "tasks"


def _options(benchmark: Benchmark, *, view: int | None) -> dict[str, int]:
    if "view" in benchmark.options:
        return {"view": VIEW if view is None else whole_number("view", view, least=VIEWS[0], most=VIEWS[1])}
    if view is not None:
        raise ArgumentError(f"view={shown(view)}: {benchmark.name} is drawn without it; leave it out")
    return {}


def _suffix(text: str) -> str:
    if not isinstance(text, str) or not all(
        character.isprintable() or character == "\n" for character in text
    ):
        raise ArgumentError(
            f"prompt_suffix={shown(text)}: must be a text of printable characters; leave it out for none"
        )
    return text


def _write_questions(
    folder: Path,
    benchmark: Benchmark,
    recipe: Mapping[str, Any],
    done: int,
    on_question: Callable[[int, int], None],
) -> None:
    total, first = recipe["questions"], first_seed(recipe["seed"])
    options = {name: recipe[name] for name in benchmark.options}
    (folder / "media").mkdir(exist_ok=True)
    on_question(done, total)
    with (folder / PART).open("a", encoding="utf-8") as file:
        for number, entry in enumerate(benchmark.plan(total, first, **options)):
            for media in entry.media:
                if not (folder / media.path).exists():
                    _draw(media, folder)
            if number >= done:
                file.write(json.dumps(entry.line(), ensure_ascii=False) + "\n")
                file.flush()
                on_question(number + 1, total)


def _draw(media: Media, folder: Path) -> None:
    """Write one file, whole or not at all."""
    path = folder / media.path
    scratch = path.with_name(f"{UNFINISHED}{path.suffix}")
    if media.is_clip:
        write_frames(media.paint(), scratch, CLIP_FPS, threads=1)
    else:
        Image.fromarray(media.paint()).save(scratch)
    scratch.replace(path)


def _settings(benchmark: Benchmark, recipe: Mapping[str, Any]) -> str:
    note = f"# {benchmark.summary}" + (f"; {benchmark.note}" if benchmark.note else "")
    suffix = recipe["prompt_suffix"]
    lines = [note, f'name = "{benchmark.name}"', 'split = "held-out"', 'metric = "exact"']
    lines += [
        f"max_new_tokens = {MAX_NEW_TOKENS}",
        f"prompt_suffix = {json.dumps(suffix, ensure_ascii=False)}",
    ]
    return "\n".join(lines) + "\n"

"""Writing a benchmark as a folder, file by file; a killed run is gone on with, and the folder comes out the same."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from PIL import Image

from vidcompress.checks import whole_number
from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.evaluate.shapes.clip import write_frames
from vidcompress.evaluate.shapes.examples import CLIP_FPS
from vidcompress.evaluate.suite.benchmark import MAX_NEW_TOKENS, Benchmark, benchmark_of, check_seed
from vidcompress.evaluate.suite.detail import VIEW
from vidcompress.evaluate.suite.entry import Media, first_seed

QUESTIONS, SETTINGS, MANIFEST = "questions.jsonl", "benchmark.toml", "manifest.json"
PART: Final = "questions.jsonl.part"
LOCK: Final = ".lock"
UNFINISHED: Final = "unfinished"
SCHEMA: Final = 1
VIEWS: Final = (56, 512)
"""Least and largest side of a view for which details are drawn."""


@dataclass(frozen=True)
class Made:
    """A finished folder.

    Attributes:
        folder: where it is.
        questions: how many it asks.
        files: how many media it holds.
        revision: SHA-256 over names and contents of all files but the manifest, in hexadecimal.
    """

    folder: Path
    questions: int
    files: int
    revision: str


def make(
    name: str,
    folder: str | os.PathLike[str],
    *,
    questions: int | None = None,
    seed: int = 0,
    view: int | None = None,
    prompt_suffix: str = "",
    on_question: Callable[[int, int], None] = lambda done, of: None,
) -> Made:
    """Draw a benchmark into a folder.

    The bytes follow from the arguments and from the versions of the encoders, which the manifest states. A run that was
    stopped is gone on with by the same call, and ends with the same bytes; two at once wait for each other. One
    question's media are in memory at a time.

    Args:
        name: one of `BENCHMARKS`.
        folder: a new or empty one, or one that this call began or finished before.
        questions: how many; the first are the same for every number.
        seed: 0 to 99, each with scenes of its own, of which no training has seen any.
        view: side of a view of the model in pixels, for the benchmark that needs it (`detail`); 112 by default.
        prompt_suffix: put behind every question, such as a line that asks for short answers. The embedded models know
            no words for that.
        on_question: called with (questions that are written, questions in all).

    Returns:
        What was made.

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
    _check_target(target)
    with _alone(target):
        if (target / MANIFEST).exists():
            return _finished(target, recipe)
        done = _begun(target, recipe)
        _write_questions(target, benchmark, recipe, done, on_question)
        return _finish(target, benchmark, recipe)


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


def _check_target(folder: Path) -> None:
    """Refuse what is no folder, or one with files of somebody else, before anything is written."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ArgumentError(f"folder={shown(str(folder))} is a file; name a new folder")
    strange = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, f"{PART}.new"))
    if strange and not {PART, MANIFEST} & set(strange):
        raise ArgumentError(
            f"folder={shown(str(folder))} is not empty: it holds {shown(strange[0])}; name a new one"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock; the lock of a process that died is free."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(
            f"folder={shown(str(folder))} cannot be made ({one_line(error)}); name another"
        ) from error
    try:
        with FileLock(folder / LOCK):
            yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)


def _finished(folder: Path, recipe: Mapping[str, Any]) -> Made:
    found = _read(folder / MANIFEST)
    if found.get("recipe") != recipe:
        raise ArgumentError(_other(folder, found.get("recipe"), recipe))
    (folder / PART).unlink(missing_ok=True)  # a kill may have come between the manifest and this
    lost = next((path for path in found["files"] if not (folder / path).is_file()), None)
    if lost is not None:
        raise ArgumentError(
            f"folder={shown(str(folder))}: {lost} is gone; delete {MANIFEST} and {QUESTIONS} to have it drawn again"
        )
    return _made(folder, found)


def _made(folder: Path, manifest: Mapping[str, Any]) -> Made:
    media = sum(path.startswith("media/") for path in manifest["files"])
    return Made(folder, manifest["recipe"]["questions"], media, manifest["revision"])


def _other(folder: Path, found: Any, wanted: Mapping[str, Any]) -> str:
    return (
        f"folder={shown(str(folder))} holds another benchmark ({shown(found, 160)}, not {shown(dict(wanted), 160)}); "
        "name another folder, or delete it"
    )


def _begun(folder: Path, recipe: Mapping[str, Any]) -> int:
    """Open or mend the journal; returns how many questions it holds."""
    part = folder / PART
    if not part.exists():
        _write(part, (json.dumps(recipe) + "\n").encode())
        return 0
    whole = 0
    with part.open("rb+") as file:
        head = file.readline()
        if head != (json.dumps(recipe) + "\n").encode():
            raise ArgumentError(_other(folder, head.decode(errors="replace").strip(), recipe))
        end = file.tell()
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole, end = whole + 1, end + len(line)
        file.truncate(end)  # what a kill cut short
    return whole


def _write_questions(
    folder: Path,
    benchmark: Benchmark,
    recipe: Mapping[str, Any],
    done: int,
    on_question: Callable[[int, int], None],
) -> None:
    wanted, first = recipe["questions"], first_seed(recipe["seed"])
    options = {name: recipe[name] for name in benchmark.options}
    (folder / "media").mkdir(exist_ok=True)
    on_question(done, wanted)
    with (folder / PART).open("a", encoding="utf-8") as file:
        for number, entry in enumerate(benchmark.plan(wanted, first, **options)):
            for media in entry.media:
                if not (folder / media.path).exists():
                    _draw(media, folder)
            if number >= done:
                file.write(json.dumps(entry.line(), ensure_ascii=False) + "\n")
                file.flush()
                on_question(number + 1, wanted)


def _draw(media: Media, folder: Path) -> None:
    """Write one file, whole or not at all."""
    path = folder / media.path
    scratch = path.with_name(f"{UNFINISHED}{path.suffix}")
    if media.is_clip:
        write_frames(media.paint(), scratch, CLIP_FPS, threads=1)
    else:
        Image.fromarray(media.paint()).save(scratch)
    scratch.replace(path)


def _finish(folder: Path, benchmark: Benchmark, recipe: Mapping[str, Any]) -> Made:
    """Write what describes the questions, and at the very end the manifest, which says that all is there."""
    for path in (folder / "media").glob(f"{UNFINISHED}.*"):
        path.unlink()
    scratch = folder / f"{PART}.new"
    with (folder / PART).open("rb") as source, scratch.open("wb") as copy:
        source.readline()
        shutil.copyfileobj(source, copy)
    scratch.replace(folder / QUESTIONS)
    _write(folder / SETTINGS, _settings(benchmark, recipe).encode())
    names = [QUESTIONS, SETTINGS, *sorted(f"media/{path.name}" for path in (folder / "media").iterdir())]
    files = {
        name: {"sha256": _digest(folder / name), "bytes": (folder / name).stat().st_size} for name in names
    }
    listed = "".join(f"{entry['sha256']}  {name}\n" for name, entry in files.items())
    manifest = {
        "schema": SCHEMA,
        "recipe": dict(recipe),
        "revision": hashlib.sha256(listed.encode()).hexdigest(),
        "made_with": {name: version(name) for name in ("vidcompress", "numpy", "pillow", "av")},
        "files": files,
    }
    _write(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    (folder / PART).unlink()
    return _made(folder, manifest)


def _settings(benchmark: Benchmark, recipe: Mapping[str, Any]) -> str:
    note = f"# {benchmark.summary}" + (f"; {benchmark.note}" if benchmark.note else "")
    suffix = recipe["prompt_suffix"]
    lines = [note, f'name = "{benchmark.name}"', 'split = "held-out"', 'metric = "exact"']
    lines += [
        f"max_new_tokens = {MAX_NEW_TOKENS}",
        f"prompt_suffix = {json.dumps(suffix, ensure_ascii=False)}",
    ]
    return "\n".join(lines) + "\n"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{PART}.new")
    scratch.write_bytes(content)
    scratch.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        if (
            isinstance(found, dict)
            and isinstance(found["files"], dict)
            and isinstance(found["revision"], str)
        ):
            return found
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise ArgumentError(f"{path} cannot be read ({one_line(error)}); delete its folder") from error
    raise ArgumentError(f"{path} is no manifest of the suite; delete its folder or name another")

"""State of a benchmark folder: new, begun, finished, or foreign.

A begun folder has a journal: the recipe on its first line, then a line per question whose media are all written. A
finished folder has a manifest instead.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from vidcompress import __version__
from vidcompress.errors import ArgumentError, one_line, shown
from vidcompress.loading.drawn_media import MANIFEST, read_manifest

QUESTIONS, SETTINGS = "questions.jsonl", "benchmark.toml"
PART: Final = "questions.jsonl.part"
LOCK: Final = ".lock"
UNFINISHED: Final = "unfinished"
SCHEMA: Final = 1


@dataclass(frozen=True)
class FinishedFolder:
    """Finished benchmark folder.

    Attributes:
        folder: where it is.
        questions: number of questions.
        files: number of media files.
        revision: SHA-256 over names and contents of all files but the manifest, in hexadecimal.
    """

    folder: Path
    questions: int
    files: int
    revision: str


def check_target(folder: Path) -> None:
    """Check a folder before anything is written.

    Raises:
        ArgumentError: it is no folder, or holds foreign files.
    """
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
def folder_lock(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock; the lock of a dead process is free.

    Raises:
        ArgumentError: the folder cannot be made.
    """
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


def open_journal(folder: Path, recipe: Mapping[str, Any]) -> int:
    """Open the journal, drop an unfinished last line, and return its number of questions.

    Raises:
        ArgumentError: it was begun for another recipe, or with other versions of the encoders.
    """
    part = folder / PART
    expected = {"recipe": dict(recipe), "made_with": encoder_versions()}
    if not part.exists():
        _write(part, (json.dumps(expected) + "\n").encode())
        return 0
    whole = 0
    with part.open("rb+") as file:
        head = file.readline()
        if head != (json.dumps(expected) + "\n").encode():
            raise ArgumentError(_other(folder, head.decode(errors="replace").strip(), expected))
        end = file.tell()
        for line in file:
            if not line.endswith(b"\n"):
                break
            whole, end = whole + 1, end + len(line)
        file.truncate(end)  # what a kill cut short
    return whole


def read_finished(folder: Path, recipe: Mapping[str, Any]) -> FinishedFolder:
    """Read a folder with a manifest.

    Raises:
        ArgumentError: it is of another recipe, cannot be read, or a file is gone.
    """
    manifest = read_manifest(folder / MANIFEST)
    if manifest.get("recipe") != recipe:
        raise ArgumentError(_other(folder, manifest.get("recipe"), recipe))
    (folder / PART).unlink(missing_ok=True)  # a kill may have come between the manifest and this
    lost = next((path for path in manifest["files"] if not (folder / path).is_file()), None)
    if lost is not None:
        raise ArgumentError(
            f"folder={shown(str(folder))}: {shown(lost)} is gone; delete the folder to have all of it drawn again"
        )
    return _finished_folder(folder, manifest)


def finish(folder: Path, settings: str, recipe: Mapping[str, Any]) -> FinishedFolder:
    """Write questions, settings and, last of all, the manifest, which marks the folder as finished."""
    for path in (folder / "media").glob(f"{UNFINISHED}.*"):
        path.unlink()
    scratch = folder / f"{PART}.new"
    with (folder / PART).open("rb") as source, scratch.open("wb") as copy:
        source.readline()
        shutil.copyfileobj(source, copy)
    scratch.replace(folder / QUESTIONS)
    _write(folder / SETTINGS, settings.encode())
    names = [QUESTIONS, SETTINGS, *sorted(f"media/{path.name}" for path in (folder / "media").iterdir())]
    files = {
        name: {"sha256": _digest(folder / name), "bytes": (folder / name).stat().st_size} for name in names
    }
    listed = "".join(f"{entry['sha256']}  {name}\n" for name, entry in files.items())
    manifest = {
        "schema": SCHEMA,
        "recipe": dict(recipe),
        "revision": hashlib.sha256(listed.encode()).hexdigest(),
        "made_with": encoder_versions(),
        "files": files,
    }
    _write(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    (folder / PART).unlink()
    return _finished_folder(folder, manifest)


def encoder_versions() -> dict[str, str]:
    """Versions that the bytes of the media depend on."""
    return {"vidcompress": __version__} | {name: version(name) for name in ("numpy", "pillow", "av")}


def _finished_folder(folder: Path, manifest: Mapping[str, Any]) -> FinishedFolder:
    media = sum(path.startswith("media/") for path in manifest["files"])
    return FinishedFolder(folder, manifest["recipe"]["questions"], media, manifest["revision"])


def _other(folder: Path, theirs: Any, ours: Mapping[str, Any]) -> str:
    return (
        f"folder={shown(str(folder))} holds another benchmark ({shown(theirs, 160)}, not {shown(dict(ours), 160)}); "
        "name another folder, or delete it"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f"{PART}.new")
    scratch.write_bytes(content)
    scratch.replace(path)

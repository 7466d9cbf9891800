"""File objects unlike those of `open(path, "rb")`, and benchmark folders with one broken clip."""

from __future__ import annotations

import io
import random
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from vidcompress.tools.evaluation.run.model_cache import ModelCache
from vidcompress.tools.evaluation.run.runner import Runner
from vidcompress.tools.evaluation.run.sweep_file import read_sweep

MODES: tuple[Any, ...] = ("rb", "r+b", "w+b", "a+b", "x+b", 1, None, b"rb")
NAMES: tuple[Any, ...] = (
    "clip.mp4",
    7,
    None,
    b"clip.mp4",
    "http://127.0.0.1:1/a.mp4",
    "concat:a|b",
    "a" * 5000,
)
ERRORS = (
    OSError(5, "Input/output error"),
    ValueError("I/O operation on closed file"),
    EOFError(),
    RuntimeError("gone"),
)


class OddFile(io.RawIOBase):
    """Bytes behind the interface of a binary file, with odd attributes; some reads are short, or fail.

    Args:
        data: what it holds.
        rng: decides how it is odd.
    """

    def __init__(self, data: bytes, rng: random.Random) -> None:
        self._file, self._rng = io.BytesIO(data), rng
        self.mode, self.name = rng.choice(MODES), rng.choice(NAMES)
        self._short = rng.random() < 0.3
        self._left = rng.randrange(2, 30) if rng.random() < 0.3 else -1
        self._error = rng.choice(ERRORS)
        self.written = 0

    def read(self, size: int | None = -1) -> bytes:
        """As a file; the last of the reads that are left fails."""
        if size and self._left > 0:
            self._left -= 1
            if self._left == 0:
                raise self._error
        if self._short and size is not None and size > 1:
            size = self._rng.randrange(1, size)
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As a file."""
        return self._file.tell()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Count what must never be written."""
        self.written += len(data)
        return len(data)


def evaluate(qa: Any, folder: Path, broken: Path, good: Path) -> dict[str, Any]:
    """`vidcompress eval` of four questions, one about a broken clip.

    Args:
        qa: the loaded model.
        folder: for the benchmark and its results; emptied first.
        broken: the clip that is broken.
        good: one that is not.

    Returns:
        The result of the row: `failed` and `samples` as in result.json, `error` of the row.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(broken, folder / broken.name)
    shutil.copy(good, folder / f"good_{good.name}")
    Image.linear_gradient("L").resize((56, 56)).save(folder / "picture.png")
    asked = '"question": "what digit is shown?", "answer": "3"'
    media = ('"image": "picture.png", ', f'"video": "{broken.name}", ', f'"video": "good_{good.name}", ', "")
    lines = [f'{{"id": "{number}", {medium}{asked}}}' for number, medium in enumerate(media)]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "benchmark.toml").write_text('name = "fuzz"\nmax_new_tokens = 2\n')
    sweep = read_sweep(
        {
            "models": ["tiny-onevision"],
            "tasks": [f"data:{folder}"],
            "methods": ["none"],
            "batch_size": 4,
        }
    )
    models = ModelCache(lambda spec: (qa.model, qa.processor))
    outcomes = Runner(sweep, folder / "out", models=models).run()
    return {**(outcomes[-1].result or {}), "error": outcomes[-1].error}

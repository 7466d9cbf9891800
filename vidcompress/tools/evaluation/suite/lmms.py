"""The suite as tasks of lmms-eval: rows, media, prompts and marks. The task files are in `tasks/`.

A task file names one line of JSON, the benchmark and the type of question; `docs` puts the drawn questions in its
place. What is drawn, and where, is chosen by environment variables, because lmms-eval has no other way to tell a task.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vidcompress.errors import ArgumentError, shown
from vidcompress.tools.evaluation.metrics import normalise
from vidcompress.tools.evaluation.suite.benchmark import benchmark_of
from vidcompress.tools.evaluation.suite.folder import QUESTIONS, make

FOLDER: Final = "VIDCOMPRESS_SUITE_FOLDER"
COUNT: Final = "VIDCOMPRESS_SUITE_QUESTIONS"
SEED: Final = "VIDCOMPRESS_SUITE_SEED"
SUFFIX: Final = "VIDCOMPRESS_SUITE_SUFFIX"


def docs(dataset: Any) -> Any:
    """Replace the one row of a task's data by the questions of its benchmark and type, drawn where need be.

    Args:
        dataset: a `datasets.Dataset` with one row, `benchmark` and `kind`; "" stands for every kind.

    Returns:
        A `datasets.Dataset` of `id`, `question`, `answer`, `kind`, `media` (paths, in order) and `facts` (JSON).

    Raises:
        ArgumentError: an environment variable says what is not allowed.
    """
    from datasets import Dataset  # type: ignore[import-untyped, unused-ignore]

    wanted = dataset[0]
    folder = drawn(wanted["benchmark"])
    rows = [json.loads(line) for line in (folder / QUESTIONS).read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list([_doc(row, folder) for row in rows if wanted["kind"] in ("", row["kind"])])


def drawn(name: str) -> Path:
    """The folder of a benchmark, made when it is not there.

    Raises:
        ArgumentError: an environment variable says what is not allowed.
    """
    count, seed = _number(COUNT, benchmark_of(name).questions), _number(SEED, 0)
    root = os.environ.get(FOLDER) or Path.home() / ".cache" / "vidcompress" / "suite"
    return make(name, Path(root) / f"{name}-{count}-{seed}", questions=count, seed=seed).folder


def doc_to_visual(doc: Mapping[str, Any]) -> list[Any]:
    """RGB pictures, or the path of a clip."""
    from PIL import Image

    paths: Sequence[str] = doc["media"]
    return [path if path.endswith(".mp4") else Image.open(path).convert("RGB") for path in paths]


def doc_to_text(doc: Mapping[str, Any], lmms_eval_specific_kwargs: Mapping[str, str] | None = None) -> str:
    """The question in `pre_prompt` and `post_prompt` of the task, then VIDCOMPRESS_SUITE_SUFFIX; empty unless set."""
    around = lmms_eval_specific_kwargs or {}
    words = (around.get("pre_prompt", ""), doc["question"], around.get("post_prompt", ""))
    return "".join((*words, os.environ.get(SUFFIX, "")))


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Mark an answer as `vidcompress eval` does, with "exact"."""
    return {"accuracy": float(normalise(results[0]) == normalise(doc["answer"]))}


def _doc(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    paths = row.get("images") or [row.get("image") or row["video"]]
    kept = {key: row[key] for key in ("id", "question", "answer", "kind")}
    return kept | {"media": [str(folder / path) for path in paths], "facts": json.dumps(row.get("facts", {}))}


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise ArgumentError(f"{name}={shown(text)}: must be a whole number; unset it for {default}")
    return int(text)

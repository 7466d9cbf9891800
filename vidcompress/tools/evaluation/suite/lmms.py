"""Tasks of the suite for lmms-eval: documents, media, prompts and scores. The task files are in `tasks/`.

A task file names one line of JSON, the benchmark and the question type; `docs` replaces it by the drawn questions.
Number, seed and folder come from environment variables, because lmms-eval passes no arguments to a task.
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
    """Questions of a task's benchmark and type, drawn where they are missing.

    Args:
        dataset: a `datasets.Dataset` with one row, `benchmark` and `kind`; "" stands for every kind.

    Returns:
        A `datasets.Dataset` of `id`, `question`, `answer`, `kind`, `media` (paths, in order) and `facts` (JSON).

    Raises:
        ArgumentError: an environment variable says what is not allowed.
    """
    from datasets import Dataset  # type: ignore[import-untyped, unused-ignore]

    selected = dataset[0]
    folder = benchmark_folder(selected["benchmark"])
    rows = [json.loads(line) for line in (folder / QUESTIONS).read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list([_doc(row, folder) for row in rows if selected["kind"] in ("", row["kind"])])


def benchmark_folder(name: str) -> Path:
    """Folder of a benchmark, made where it is missing.

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
    """Return the question between the task's `pre_prompt` and `post_prompt`, then VIDCOMPRESS_SUITE_SUFFIX if set."""
    around = lmms_eval_specific_kwargs or {}
    words = (around.get("pre_prompt", ""), doc["question"], around.get("post_prompt", ""))
    return "".join((*words, os.environ.get(SUFFIX, "")))


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Score an answer with "exact", as in `vidcompress eval`."""
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

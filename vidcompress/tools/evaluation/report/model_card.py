"""Scores as the model-index of a Hugging Face model card."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from vidcompress.errors import ArgumentError, one_line
from vidcompress.tools.evaluation.report.load import ResultRow
from vidcompress.tools.evaluation.report.origins import origin_of

LARGEST = 2**20
"""Most bytes of a card."""
STATED = ("vidcompress", "commit", "torch", "transformers", "dtype", "device", "machine")
"""Of a row's origin, what its entry states."""
SETTINGS = (
    "policy",
    "separators",
    "positions",
    "view_text",
    "mass",
    "mass_strength",
    "mass_cap",
    "num_frames",
    "fps",
    "max_frames",
    "preset",
)
"""Of a row's settings, which its entry states; rows that differ in them are entries of their own."""


def with_model_index(card: str, rows: Sequence[ResultRow], place: str = "card") -> tuple[str, list[str]]:
    """Put the main scores of some rows into the `model-index` of a model card.

    Args:
        card: the card's text, "" for a new one. Its text and its other metadata stay. Of its results those stay that
            the rows do not state anew.
        rows: of one model.
        place: what errors call the card.

    Returns:
        The card, and remarks: rows without a score, and a name in the card that is not the model's.

    Raises:
        ArgumentError: rows of several models or without any score, or a card whose metadata cannot be read.
    """
    models = list(dict.fromkeys(row.model for row in rows))
    if len(models) != 1:
        raise ArgumentError(
            f"runs: a card is about one model, these are of {len(models)} ({', '.join(models)}); pass the runs of one"
        )
    scored = [row for row in rows if row.value is not None]
    if not scored:
        raise ArgumentError(f"runs: no row of {models[0]} has a score; pass runs with answers")
    notes = [f"{row.id} has no score and is not in the card" for row in rows if row.value is None]
    made = _card_of(card, place)
    results = [_entry(row) for row in scored]
    anew = {_identity(result) for result in results}
    kept = [result for result in made.data.eval_results or () if _identity(result) not in anew]
    name = models[0].rstrip("/").rpartition("/")[2]
    if kept and made.data.model_name != name:
        notes.append(
            f"the card names its model {made.data.model_name}, the runs {name}; the card's name stays"
        )
    made.data.model_name = made.data.model_name or name
    made.data.eval_results = [*kept, *results]
    return str(made), notes


def read_card(path: Path) -> str:
    """Text of a card, "" where there is no file.

    Raises:
        ArgumentError: a file that is larger than a mebibyte, or is no text.
    """
    if not path.exists():
        return ""
    try:
        if path.stat().st_size > LARGEST:
            raise ArgumentError(f"{path}: is larger than {LARGEST} bytes; no model card is")
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: is no model card ({one_line(error)}); name another file") from error


def _card_of(text: str, place: str) -> ModelCard:
    try:
        # Of a card without metadata the library warns.
        return ModelCard(text if REGEX_YAML_BLOCK.search(text) else f"---\n{{}}\n---\n{text}")
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise ArgumentError(
            f"{place}: its metadata cannot be read ({one_line(error)}); mend the lines between its ---"
        ) from error


def _entry(row: ResultRow) -> EvalResult:
    """One row's main score, in the unit of its result file."""
    media = [path for of_question in row.media or () for path in of_question]
    is_clip = any((mimetypes.guess_type(path)[0] or "").startswith("video/") for path in media)
    how = "all tokens" if row.is_baseline else f"{row.method}, {row.budget}"
    low, high = row.limits or (None, None)
    stated: dict[str, Any] = {
        "method": row.method,
        "retention_ratio": row.retention_ratio,
        "max_tokens": row.max_tokens,
        "visual_tokens": row.tokens.get("kept"),
        "questions": row.questions,
        "failed": row.failed,
        "low": low and round(low, 4),
        "high": high and round(high, 4),
        **{name: row.settings.get(name) for name in SETTINGS},
        **{name: value for name, value in origin_of(row).items() if name in STATED},
    }
    return EvalResult(
        task_type="video-text-to-text" if is_clip else "visual-question-answering",
        dataset_type=row.task.removeprefix("hub:"),
        dataset_name=row.task,
        dataset_split=row.split or None,
        dataset_revision=row.data or None,
        metric_type=row.main,
        metric_name=f"{row.main} ({how})",
        metric_value=row.value,
        metric_args={name: value for name, value in stated.items() if value is not None},
    )


def _identity(result: EvalResult) -> tuple[Any, ...]:
    stated = result.metric_args if isinstance(result.metric_args, dict) else {}
    settings = [stated.get(name) for name in SETTINGS]
    return (*result.unique_identifier, result.metric_type, result.metric_name, *map(str, settings))

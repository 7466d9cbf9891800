"""Tables of questions as data sets have them: Parquet with pictures and clips inside."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from vidcompress.tools.evaluation.shapes import held_out_questions, paint

CLIP = Path(__file__).parents[1] / "examples" / "clip.mp4"


def png(picture: Image.Image) -> bytes:
    """A picture as PNG."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def shapes_rows(count: int) -> list[dict[str, Any]]:
    """Questions about held-out pictures, with the pictures inside as `datasets` stores them."""
    return [
        {
            "question_id": seed,
            "question": question.text,
            "image": {"bytes": png(Image.fromarray(paint(scene))), "path": None},
            "answer": question.answer,
            "category": question.type,
        }
        for seed, scene, question in held_out_questions("image", count)
    ]


def write_table(path: Path, rows: Sequence[dict[str, Any]], **features: Any) -> Path:
    """Write rows as Parquet; features of columns that Arrow does not tell by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    table = datasets.Dataset.from_list(list(rows))
    for name, feature in features.items():
        table = table.cast_column(name, feature)
    table.to_parquet(path)
    return path

"""Verdicts of `scripts/judge_classes.py` on the classes of transformers, which come with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal

FILE = "classes.json"
VERDICTS = ("served", "refused", "not run")


@dataclass(frozen=True)
class ClassVerdict:
    """Verdict on one class of transformers, found at toy size with random weights.

    Attributes:
        name: of the class.
        model_type: of its config; "" where none could be made.
        verdict: `served`; `refused`, by the generic adapter; or `not run`, where no toy model or inputs were made.
        served: media that the generic adapter serves, `image` and `video`.
        reason: why it serves none.
        axes: number of axes of its positions.
    """

    name: str
    model_type: str
    verdict: Literal["served", "refused", "not run"]
    served: tuple[str, ...]
    reason: str
    axes: int

    def said(self) -> str:
        """The verdict as a clause behind "the generic adapter"."""
        if self.verdict == "served":
            return f"serves {' and '.join(f'{medium}s' for medium in self.served)}, as a toy model showed"
        if self.verdict == "refused":
            return f"refuses it: {self.reason}"
        return "was not run on it, and judges it on its first inputs"


@cache
def known_verdicts() -> tuple[ClassVerdict, ...]:
    """All verdicts, by the name of the class."""
    names = {field.name for field in fields(ClassVerdict)}
    classes: list[dict[str, Any]] = _content()["classes"]
    kept: list[dict[str, Any]] = [{key: one[key] for key in names} for one in classes]
    return tuple(ClassVerdict(**{**one, "served": tuple(one["served"])}) for one in kept)


def judged_with() -> str:
    """Version of transformers that the verdicts are about."""
    return str(_content()["provenance"]["versions"]["transformers"])


@cache
def _content() -> dict[str, Any]:
    text = files("vidcompress.adapters.generic").joinpath(FILE).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content

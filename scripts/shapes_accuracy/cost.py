"""Cost of a sweep on a core, from trial runs: so much per question, and so much per question and cell."""

from __future__ import annotations

from typing import Final

from .accuracy import Sweep
from .sets import Column

SECONDS: Final = {
    "tiny-onevision-clip": (0.13, 0.0115),
    "tiny-onevision-image": (0.25, 0.022),
    "tiny-next-image": (0.25, 0.018),
    "tiny-qwen-clip": (0.25, 0.0185),
    "tiny-qwen-image": (0.25, 0.010),
    "tiny-onevision-clip-32": (0.5, 0.021),
    "tiny-onevision-clip-64": (1.0, 0.043),
}
"""CPU seconds per question: of drawing, encoding and answering with all tokens; and of each further cell. From trials
of 20 and 40 questions on a busy machine of two cores; a quiet one takes less."""


def minutes(column: Column, sweep: Sweep) -> float:
    """CPU minutes of a sweep on one core."""
    fixed, per_cell = SECONDS[column.name]
    return sweep.questions * (fixed + per_cell * (len(sweep.cells()) - 1)) / 60

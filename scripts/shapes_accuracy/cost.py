"""Cost of a sweep on a core, from trial runs: so much per question, and so much per question and cell."""

from __future__ import annotations

from typing import Final

from .accuracy import Sweep
from .sets import Column

SECONDS: Final = {
    "tiny-onevision-clip": (0.18, 0.010),
    "tiny-onevision-image": (0.18, 0.015),
    "tiny-next-image": (0.18, 0.016),
    "tiny-qwen-clip": (0.18, 0.018),
    "tiny-qwen-image": (0.18, 0.018),
    "tiny-onevision-clip-32": (0.6, 0.03),
    "tiny-onevision-clip-64": (1.2, 0.06),
}
"""CPU seconds per question: of drawing, encoding and answering with all tokens; and of each cell."""


def minutes(column: Column, sweep: Sweep) -> float:
    """CPU minutes of a sweep on one core."""
    fixed, per_cell = SECONDS[column.name]
    return sweep.questions * (fixed + per_cell * (len(sweep.cells()) - 1)) / 60

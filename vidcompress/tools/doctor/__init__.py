"""Doctor: checks of an installation and of checkpoints; `vidcompress doctor`, and `run` for programs."""

from __future__ import annotations

from vidcompress.tools.doctor.checks import Check, Diagnosis
from vidcompress.tools.doctor.examine import run

__all__ = ["Check", "Diagnosis", "run"]

"""Examination of an installation and of checkpoints: `vidcompress doctor`, and `run` for programs."""

from __future__ import annotations

from vidcompress.doctor.checks import Check, Diagnosis
from vidcompress.doctor.examine import run

__all__ = ["Check", "Diagnosis", "run"]

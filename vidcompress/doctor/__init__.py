"""Examination of an installation and of checkpoints: `vidcompress doctor`, and `run` for programs."""

from __future__ import annotations

from .checks import Check, Diagnosis
from .examine import run

__all__ = ["Check", "Diagnosis", "run"]

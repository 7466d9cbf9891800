"""Tuning of a budget on the user's own questions, with the statistics that confirm it."""

from vidcompress.tools.evaluation.tuning.run_tuning import TunedRow as TunedRow
from vidcompress.tools.evaluation.tuning.run_tuning import Tuning as Tuning
from vidcompress.tools.evaluation.tuning.run_tuning import tune as tune

__all__ = ["TunedRow", "Tuning", "tune"]

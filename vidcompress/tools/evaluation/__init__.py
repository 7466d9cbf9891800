"""Accuracy: where questions come from and how answers are judged."""

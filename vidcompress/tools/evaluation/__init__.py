"""Evaluation of accuracy: tasks, metrics, runs and reports."""

"""Comparison of runs with a baseline of other runs, on the same questions."""

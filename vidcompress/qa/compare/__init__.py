"""Comparison of methods and budgets on one question: grid, runs, result, table, contact sheet."""

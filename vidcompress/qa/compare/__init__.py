"""Several methods and budgets on one question, side by side."""

"""Layouts, tokens, budgets, methods and reports: the nouns of the package. No model, file or session is known here."""

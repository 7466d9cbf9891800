"""Mutation tests: small, deliberate mistakes in the package that tests must notice. Run by scripts/mutants.py."""

"""Fuzz tests of `scripts/fuzz.py`: valid files, mutations, readers, and the worker process."""

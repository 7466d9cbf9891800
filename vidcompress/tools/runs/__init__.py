"""Runs on disk: journals, run logs, provenance, memory, validation of files."""

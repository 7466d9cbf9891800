"""Runs on disk: journals, provenance, validation of files from outside."""

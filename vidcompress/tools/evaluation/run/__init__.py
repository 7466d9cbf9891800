"""Runs of sweeps: from sweep files to result files."""

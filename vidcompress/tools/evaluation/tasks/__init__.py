"""Tasks: benchmarks as lists of items."""

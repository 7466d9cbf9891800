"""A sweep from its settings to its result files."""

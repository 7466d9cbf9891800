"""Loading of models by name or folder: checks before weights are read, and the reading of weights."""

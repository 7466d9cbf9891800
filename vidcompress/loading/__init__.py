"""From a name or a folder to a model: what is checked before weights are read, and how they are read."""

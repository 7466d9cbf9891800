"""Tensors, numbers and names that methods are made of: nothing here knows a model, a file or a session."""

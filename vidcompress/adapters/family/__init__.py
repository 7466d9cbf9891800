"""Families from the numbers of a config: geometry and layouts, without a model, a device or pixels."""

"""Classes by name: those of this package by decorator, those of other packages by entry point."""

"""Small, deliberate mistakes in the package, and whether the tests notice them. Run by scripts/mutants.py."""

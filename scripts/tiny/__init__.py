"""Training of the two embedded models."""

"""Algorithms on tensors that several methods share."""

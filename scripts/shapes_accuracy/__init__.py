"""Accuracy on the questions about shapes: every method over one encoding of the media, and the tables of it."""

"""Accuracy on shapes questions: every method over one encoding of the media, and tables of the results."""

"""A compression method and a model family that are no part of vidcompress."""

"""Preprocessing of text, pictures and frames to model inputs."""

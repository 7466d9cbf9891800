"""Text, pictures and frames to the tensors that a model takes."""

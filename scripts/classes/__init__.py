"""Every class of transformers that takes encoder outputs, at toy size."""

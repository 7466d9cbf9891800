"""Commands that serve models by vLLM."""

"""Models and processors of vLLM that compress: subclasses of its own, a module per family; each imports vllm."""

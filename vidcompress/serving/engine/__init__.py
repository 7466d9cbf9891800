"""Models and processors of vLLM that compress: subclasses of its own, one module per family; importing one needs vllm."""

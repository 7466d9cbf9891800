"""One call: parse the prompt, encode, select, splice, and hand shorter inputs to the model's own generate."""

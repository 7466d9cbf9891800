"""Analysis of benchmark results: performance targets, growth of cost with input length, checks against the roofline."""

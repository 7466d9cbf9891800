"""What the scripts of the benchmark say about its rows: whether aims are met, how cost grows, a verdict per row."""

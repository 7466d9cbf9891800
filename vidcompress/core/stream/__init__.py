"""Streams: a method's incremental form, which takes frames as they come and holds a bounded number of tokens."""

"""Clips that are remembered by compressed tokens: streams without an end, and memories on disk."""

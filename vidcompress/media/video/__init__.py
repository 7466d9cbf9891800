"""Clips: opened, checked, sampled and decoded."""

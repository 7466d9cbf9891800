"""Processors of families whose pixels or prompts have a form of their own."""

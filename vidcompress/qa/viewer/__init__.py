"""Viewer: one self-contained page that shows what was kept of pictures and clips, row by row."""

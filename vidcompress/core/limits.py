"""Limits that keep hostile or mistaken input in bounds."""

from __future__ import annotations

MAX_FRAME_PIXELS = 64 * 1024 * 1024
"""Largest picture that is decoded, in pixels (height x width): 8192 x 8192."""

MAX_SIDE = 65_535
"""Longest side of a picture or frame, in pixels, JPEG's own limit. One of 1 x 60,000,000 has few pixels, but a resize
keeps a whole row of the encoder's width for each of its rows on the way."""

MAX_BUFFERED_BYTES = 256 * 1024**2
"""Most that is read from a picture stream that cannot seek."""

MAX_SOURCE_FRAMES = 2_000_000
"""Longest clip that is looked through, in frames: about 18 hours at 30 frames per second."""

MAX_DECODED_BYTES = 4 * 1024**3
"""Most memory that the kept frames of one clip may take as uint8 RGB."""

DEFAULT_NUM_FRAMES = 32
"""Frames taken from a clip when the caller asks neither for a count nor for a rate."""

DEFAULT_MAX_FRAMES = 300
"""Most frames returned unless the caller raises it, whether they were asked for by count or by rate."""

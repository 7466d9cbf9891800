"""Shared cases of the contract tests: every method, every family, a scene of each medium."""

from __future__ import annotations

from tiny_models import Scene
from vidcompress.registry import METHODS, available_methods

IMAGE_SCENE = Scene((("image", (112, 80)),))
VIDEO_SCENE = Scene((("video", 5),))
SCENES = {
    ("llava_next", "image"): IMAGE_SCENE,
    ("llava_onevision", "image"): IMAGE_SCENE,
    ("llava_onevision", "video"): VIDEO_SCENE,
}


def served(method: str) -> list[tuple[str, str]]:
    """(family, modality) pairs that a method serves."""
    return [key for key in SCENES if key[1] in METHODS.get(method).modalities]


CASES = [(method, *key) for method in available_methods() for key in served(method)]

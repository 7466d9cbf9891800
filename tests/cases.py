"""Shared cases of the contract tests: every method, every family, a scene of each medium."""

from __future__ import annotations

from tiny_models import FAMILIES, VIDEO_FAMILIES, Scene
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods, get_method

IMAGE_SCENE = Scene((("image", (112, 80)),))
VIDEO_SCENE = Scene((("video", 5),))
SCENES = {
    **{(family, "image"): IMAGE_SCENE for family in FAMILIES},
    **{(family, "video"): VIDEO_SCENE for family in VIDEO_FAMILIES},
}


def served(method: str) -> list[tuple[str, str]]:
    """(family, modality) pairs that a method serves."""
    return [key for key in SCENES if key[1] in METHODS.get(method).modalities]


BEFORE = [method for method in available_methods() if METHODS.get(method).where == "before"]
CASES = [(method, *key) for method in BEFORE for key in served(method)]


def reads_question(method: str) -> bool:
    """Whether a method selects by the question, so that a prompt with more text selects otherwise."""
    wanted = [item for has_cls in (False, True) for item in get_method(method).needs("image", has_cls)]
    return any(item.quantity in ("question", "text_embedding") for item in wanted)

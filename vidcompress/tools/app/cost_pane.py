"""Pane with what a run costs on paper, from settings of sliders; no model is loaded."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from vidcompress.adapters.families import get_family
from vidcompress.errors import VidcompressError
from vidcompress.loading.known_shapes import known_shapes
from vidcompress.tools.app import render
from vidcompress.tools.cost import DEVICES, estimate
from vidcompress.tools.cost.model import Model, model_of
from vidcompress.tools.cost.table import as_table

MODELS_KEPT = 4
"""Models without weights that are kept, since making one takes longer than an estimate."""
TEXT_WIDTH = 100
"""Columns of the full tables."""


def models() -> list[str]:
    """Return the names of the models to choose from."""
    return list(known_shapes())


def devices() -> list[str]:
    """Return the names of the devices to choose from."""
    return list(DEVICES)


@lru_cache(maxsize=MODELS_KEPT)
def _model(name: str) -> Model:
    return model_of(name)


def cost_pane(
    model: str,
    medium: str,
    width: float,
    height: float,
    frames: float,
    method: str,
    retention_ratio: float,
    new_tokens: float,
    device: str,
) -> str:
    """Return the pane as HTML.

    Args:
        model: one of `models`.
        medium: "picture" or "clip".
        width, height: of the picture or the frames, in pixels.
        frames: of the clip.
        method: name of the method.
        retention_ratio: share of the visual tokens to keep, 0 < R <= 1.
        new_tokens: tokens of the answer.
        device: one of `devices`.
    """
    size, note = (int(height), int(width)), ""
    asked: dict[str, Any] = {"new_tokens": int(new_tokens)}
    try:
        shape = _model(model)
        if medium == "picture":
            asked["size"] = size
        else:
            asked["frames"] = int(frames)
            if get_family(shape.geometry.model_type).clip_layout is None:
                note = "Frames of this model have one size, so width and height change nothing."
            else:
                asked["frame_size"] = size
        rows = [
            estimate(shape, **asked),
            estimate(shape, **asked, method=method, retention_ratio=retention_ratio),
        ]
    except VidcompressError as error:
        return render.render("cost.html", problem=str(error))
    return render.cost(rows, device, as_table(rows, TEXT_WIDTH), note)

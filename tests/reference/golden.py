"""Recorded outputs of the public reference implementations, as `VisualTokens` with the recorded geometry."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidcompress.adapters.layouts import image_layout, unpadded_box, video_layout
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.tokens import Evidence, VisualTokens

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CLS = Evidence("cls_logits", -1)
SIDE = 24


@lru_cache(maxsize=3)
def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of one file."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def cases(name: str) -> list[str]:
    return [str(case) for case in load(name)["case_ids"]]


def ragged(data: dict[str, np.ndarray], key: str, item: int) -> np.ndarray:
    """Item `item` of a list stored flat with offsets."""
    stem = key if f"{key}_offsets" in data else key.removesuffix("_kept").removesuffix("_index")
    offsets = data[f"{stem}_offsets"]
    return data[key][offsets[item] : offsets[item + 1]]


def image(case: str, dtype: torch.dtype) -> tuple[VisualTokens, list[int]]:
    """One GlobalCom2 scene, and the recorded identity of every position.

    The identity is crop * 576 + patch for tokens of crops, -1 for newlines and -2 - patch for the thumbnail.
    """
    data = load("globalcom2")
    width, height = (int(v) for v in data[f"{case}_image_size_wh"])
    across, down = (int(v) for v in data[f"{case}_grid_wh"])
    layout = image_layout(
        (SIDE, SIDE),
        (down, across),
        unpadded=unpadded_box((height, width), (down * SIDE, across * SIDE)),
        padded_rows_keep_newline=True,
    )
    top, left, _, _ = unpadded_box((height, width), (down * SIDE, across * SIDE))
    values = np.zeros(len(layout), dtype=np.float64)
    names: list[int] = []
    for i, (view, row, col) in enumerate(
        zip(*(x.tolist() for x in (layout.view, layout.row, layout.col)), strict=True)
    ):
        if view == len(layout.views):
            names.append(-1)
        elif view == 0:
            values[i] = data[f"{case}_g"][row * SIDE + col]
            names.append(-2 - (row * SIDE + col))
        else:
            patch = (row + top) % SIDE * SIDE + (col + left) % SIDE
            values[i] = data[f"{case}_crop_logits"][view - 1, patch]
            names.append((view - 1) * SIDE * SIDE + patch)
    evidence = torch.from_numpy(values).to(dtype)
    return VisualTokens(torch.zeros(len(layout), 1, dtype=dtype), layout, {CLS: evidence}), names


def clip(name: str, case: str, dtype: torch.dtype) -> tuple[VisualTokens, Layout]:
    """One clip of a video file, newlines included (their features are far off on purpose)."""
    data = load(name)
    features = torch.from_numpy(data[f"{case}_feat_q"].astype(np.float32) * data[f"{case}_feat_step"]).to(
        dtype
    )
    if f"{case}_thw" in data:
        frames, rows, cols = (int(v) for v in data[f"{case}_thw"])
        merge = int(data[f"{case}_spatial_merge_size"])
        layout = video_layout(frames, (rows // merge, cols // merge), "none")
    else:
        side = {196: 14, 169: 13}[int(data[f"{case}_tokens_per_frame"])]
        layout = video_layout(int(data[f"{case}_T"]), (side, side), "end" if side == 14 else "row")
    full = torch.full((len(layout), features.shape[1]), 1e3, dtype=dtype)
    full[layout.token_index] = features
    return VisualTokens(full, layout), layout


def quantised(name: str, case: str, key: str, dtype: torch.dtype) -> Tensor:
    """One of the inputs that are stored as integers and a step."""
    data = load(name)
    values = data[f"{case}_{key}_q"].astype(np.float32) * data[f"{case}_{key}_step"]
    return torch.from_numpy(values).to(dtype)


def views_layout(views: int) -> Layout:
    """Views of 24 x 24 patches with no newline, one after another."""
    return video_layout(views, (SIDE, SIDE), "none")


def ratio_plan(layout: Layout, ratio: Fraction) -> VisualBudget:
    """The budget of a retention ratio under `reference`."""
    return visual_budget(layout, 1, ratio=ratio, separators="keep", policy="reference")

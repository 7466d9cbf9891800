"""Token counts of a picture or clip, from sizes alone: views, tokens, separators, and those kept by budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.families import clip_runs, image_runs
from vidcompress.core.budget import Budget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.media.preprocessing.placeholders import expand, tokenize

RATIOS = ("0.5", "0.25", "0.1")


def describe_images(model: Any, processor: Any, pictures: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """Count the tokens of the pictures of one question.

    Args:
        model: a model of a family that an adapter serves; on the meta device will do.
        processor: from `load_processor`.
        pictures: RGB, all of one prompt; only their sizes matter.

    Returns:
        One entry per picture; see `_entry`.
    """
    prepared, lengths = processor.prepare_images(list(pictures), [len(pictures)])
    # Pixels are moved to the meta device, so layouts are made there.
    inputs = {
        name: value.to("meta") if torch.is_tensor(value) and value.is_floating_point() else value
        for name, value in prepared.items()
    }
    family, geometry = processor.family, processor.geometry
    if family.split:
        inputs["input_ids"] = _written(processor, lengths, prepared)
    else:
        runs = [image_runs(family, geometry, length) for length in lengths]
        inputs |= processor.with_token_types({"input_ids": _prompt(geometry.image_token_id, runs)})
    visuals, _ = adapter_for(model).visuals(inputs)
    return [
        _entry(visual.layout, placeholders, f"{picture.width} x {picture.height}")
        for visual, placeholders, picture in zip(visuals, lengths, pictures, strict=True)
    ]


def describe_clip(model: Any, processor: Any, frames: int, size: tuple[int, int]) -> dict[str, Any]:
    """Count the tokens of a clip of `frames` frames.

    Args:
        model, processor: as in `describe_images`.
        frames: at least 1.
        size: (height, width) of these in pixels.

    Returns:
        Its entry; see `_entry`.

    Raises:
        MediaError: the family takes no clips.
    """
    inputs, placeholders = processor.empty_clip(frames, size)
    family, geometry = processor.family, processor.geometry
    token = geometry.image_token_id if family.tiles else geometry.video_token_id
    if token is not None:
        runs = clip_runs(family, placeholders, frames)
        inputs |= processor.with_token_types({"input_ids": _prompt(token, [runs])})
    _, (visual,) = adapter_for(model).visuals(inputs)
    return _entry(visual.layout, placeholders, f"{frames} frames")


def _written(processor: Any, lengths: list[int], prepared: Mapping[str, Any]) -> torch.Tensor:
    """Make one row of ids with the text of all pictures, which says what belongs together."""
    writings = processor.write_images(lengths, prepared)
    rows = tokenize(processor.tokenizer, ["".join(writing.text for writing in writings)])
    runs = [run for writing in writings for run in writing.runs]
    return torch.tensor([expand(rows, [processor.geometry.image_token_id], runs)[0]["input_ids"]])


def _prompt(token: int, visuals: Sequence[Sequence[int]]) -> torch.Tensor:
    """Make one row of ids with the runs of a placeholder of each visual, other ids between them and behind."""
    other = 0 if token else 1
    written = [[*(place for run in runs for place in (*[token] * run, other)), other] for runs in visuals]
    return torch.tensor([sum(written, [])])


def _entry(layout: Layout, placeholders: int, what: str) -> dict[str, Any]:
    """Entry: modality, views, separators, full length, the processor's placeholders, and counts kept by budgets."""
    budgets = {}
    for ratio in RATIOS:
        budget = Budget(retention_ratio=ratio)
        plan = visual_budget(layout, budget.split([layout.full_length])[0], ratio=budget.ratio)
        budgets[ratio] = {"kept": plan.positions, "tokens": plan.tokens, "separators": plan.separators}
    views = [
        {"kind": view.kind, "grid": [view.rows, view.cols], "tokens": size}
        for view, size in zip(layout.views, layout.sizes, strict=True)
    ]
    return {
        "modality": layout.modality,
        "input": what,
        "views": views,
        "crops": _crops(layout),
        "separators": layout.num_separators,
        "full_length": layout.full_length,
        "placeholders": placeholders,
        "budgets": budgets,
    }


def _crops(layout: Layout) -> list[int] | None:
    """(rows, cols) of the crops, or None without any."""
    boxes = [view.nominal_box for view in layout.views if view.nominal_box is not None]
    return [len({box[0] for box in boxes}), len({box[1] for box in boxes})] if boxes else None


def in_words(entry: dict[str, Any]) -> str:
    """Return an entry on one line."""
    parts = []
    for kind in dict.fromkeys(view["kind"] for view in entry["views"]):
        of_kind = [view for view in entry["views"] if view["kind"] == kind]
        counts = Counter(view["tokens"] for view in of_kind)
        many = " + ".join(f"{n} x {tokens}" if n > 1 else str(tokens) for tokens, n in counts.items())
        laid = " ({} x {})".format(*entry["crops"]) if kind == "crop" and entry["crops"] else ""
        parts.append(f"{kind + 's' * (len(of_kind) > 1)}{laid} {many}")
    if entry["separators"]:
        parts.append(f"separators {entry['separators']}")
    kept = ", ".join(f"{plan['kept']} at {ratio}" for ratio, plan in entry["budgets"].items())
    return f"{entry['full_length']} tokens: {'; '.join(parts)}; kept {kept}"

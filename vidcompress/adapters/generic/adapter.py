"""Adapter of any class of transformers that takes `mm_encoder_outputs`, for which no adapter was written.

It knows features, exact counts, and geometry where a grid states it; else each run of placeholders is one view of
unknown shape. Whether the class takes what it is handed is not known beforehand, so it is judged on the first inputs of
each model (`session/entrance.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from vidcompress.adapters.base import ADAPTERS, Adapter, Visual
from vidcompress.adapters.generic.interface import (
    feature_function,
    honours_positions,
    pieces_of_runs,
    pixel_keys,
    placeholder_id,
    position_axes,
    read_features,
    refusal,
    takes_token_types,
)
from vidcompress.adapters.layouts import image_layout, native_layout, video_layout
from vidcompress.adapters.stock import stock_positions
from vidcompress.adapters.traits import Traits, read_traits
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.prompt import placeholder_runs
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError

_CLIPS_AMONG_IMAGES = ("glm4v", "glm4v_moe", "glm46v", "glm_ocr")
"""Model types whose prompts have the image placeholder for clips too (their modeling files)."""


@dataclass(frozen=True, eq=False)
class EncodedVisual(Visual):
    """Visual that is encoded already: `pixels` holds its features (token, D).

    Attributes:
        deep: companions, one (token, D) per level.
    """

    deep: tuple[Tensor, ...] = ()


class GenericAdapter(Adapter):
    """Any class of transformers that takes `mm_encoder_outputs`.

    It serves methods that read features only. What reads attention, CLS tokens, keys or the layers of the language
    model is refused, and so are masses, separators, presets and `encoder_saving`. A view of unknown shape is one row of
    tokens.
    """

    judged: ClassVar[bool] = True
    refused_keys: ClassVar[tuple[str, ...]] = (*Adapter.refused_keys, "vision_feature_layers")
    full_precision: ClassVar[tuple[str, ...]] = ("lm_head",)

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        reason = refusal(type(model))
        if reason is None and not self.image_keys and not self.video_keys:
            reason = "it has neither get_image_features nor get_video_features with named inputs"
        if reason is None and not hasattr(model, "model"):
            reason = "it has no core `model`, as the classes of transformers with encoder outputs have"
        if reason is None and placeholder_id(model.config, "image") is None and self.video_token_id is None:
            reason = "its config names no placeholder (image_token_id)"
        if reason is None and getattr(model.config, "is_encoder_decoder", False):
            reason = "it is an encoder-decoder"
        if reason is not None:
            raise UnsupportedModelError(
                f"no adapter for {type(model).__name__} (model_type {model.config.model_type!r}), and the generic one "
                f"does not serve it: {reason}; {ADAPTERS.unknown(model.config.model_type)}"
            )
        self.takes_lists: bool | None = None

    @cached_property
    def image_keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """Inputs that `get_image_features` reads."""
        return pixel_keys(self.model, "image")

    @cached_property
    def video_keys(self) -> tuple[str, ...]:  # type: ignore[override]
        """Inputs that `get_video_features` reads."""
        return pixel_keys(self.model, "video")

    @property
    def image_token_id(self) -> int:
        token = placeholder_id(self.model.config, "image")
        return -1 if token is None else token

    @property
    def video_token_id(self) -> int | None:
        if not self.video_keys:
            return None
        return self.image_token_id if self._clips_among_images else placeholder_id(self.model.config, "video")

    @property
    def _clips_among_images(self) -> bool:
        return self.model.config.model_type in _CLIPS_AMONG_IMAGES

    @property
    def sent_as(self) -> Mapping[Modality, Modality]:  # type: ignore[override]
        """Key of each modality."""
        return {"image": "image", "video": "image" if self._clips_among_images else "video"}

    @property
    def has_cls(self) -> bool:
        return False

    @property
    def traits(self) -> Traits:
        traits = self._known_traits
        return traits if self.takes_lists is not False else replace(traits, container="tensor")

    @cached_property
    def _known_traits(self) -> Traits:
        return replace(
            read_traits(getattr(self.model.get_decoder(), "layers", ())),
            axes=position_axes(self.model),
            honours_positions=honours_positions(self.model),
            both_ways=takes_token_types(self.model),
        )

    @property
    def decoder(self) -> Any:
        raise UnsupportedModelError(
            f"{type(self.model).__name__} is served by the generic adapter, which does not act inside the language "
            "model: use a method before it and mass='off', or write an adapter, see docs/guide-family.md"
        )

    def positions(self, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> Tensor | None:
        if self.traits.axes == 1:
            return None
        try:
            stock = stock_positions(self.model, inputs, ids, mask)
        except (RuntimeError, ValueError, TypeError, KeyError, IndexError, StopIteration) as error:
            raise UnsupportedInputError(
                f"{type(self.model).__name__} does not count positions of these inputs: {error!r}; pass the "
                "processor's output unchanged, token types and grids among it"
            ) from error
        if len(stock) != self.traits.axes:
            raise UnsupportedInputError(
                f"{type(self.model).__name__} counts positions on {len(stock)} axes for these inputs, and on "
                f"{self.traits.axes} with token types; pass all that its processor returns, mm_token_type_ids "
                "among them"
            )
        return stock

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images, videos = self._encoded("image", inputs), self._encoded("video", inputs)
        if images and videos and self._clips_among_images:
            raise UnsupportedInputError(
                f"{type(self.model).__name__} has one placeholder for pictures and clips, whose order the generic "
                "adapter does not know; pass them in calls of their own"
            )
        return images, videos

    def _encoded(self, modality: Modality, inputs: Mapping[str, Any]) -> list[Visual]:
        """Encode what the inputs have of a modality: the number of its tokens is its geometry."""
        keys = self.image_keys if modality == "image" else self.video_keys
        function, who = feature_function(self.model, modality), type(self.model).__name__
        if function is None or inputs.get(keys[0]) is None:
            return []
        token = self.image_token_id if modality == "image" else self.video_token_id
        runs = placeholder_runs(inputs["input_ids"], -1 if token is None else token)
        given = {key: inputs[key] for key in keys if inputs.get(key) is not None}
        try:
            with nullcontext() if self.model.training else torch.no_grad():
                output = function(**given)
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, AttributeError, RuntimeError, KeyError, IndexError) as error:
            raise UnsupportedInputError(
                f"{who} does not encode {', '.join(given)}: {error}; pass the processor's output unchanged"
            ) from error
        features, levels, is_list = read_features(output, runs, who)
        self.takes_lists = is_list
        frames = _frames_per_clip(given[keys[0]]) if modality == "video" else 1
        if frames > 1 and len(features) == frames * len(given[keys[0]]):  # an entry per frame
            features, levels = _joined(features, frames), [_joined(level, frames) for level in levels]
        pieces = pieces_of_runs(runs, [len(entry) for entry in features], who)
        grids = self._grids(modality, inputs, features)
        visuals: list[Visual] = []
        for number, (entry, parts) in enumerate(zip(features, pieces, strict=True)):
            deep = tuple(level[number] for level in levels)
            if modality == "video":
                layout = _clip_layout(parts, grids[number], frames, str(entry.device))
                visuals.append(EncodedVisual("video", layout, entry, runs=parts, deep=deep))
                continue
            rows = [entry] if len(parts) == 1 else list(entry.split(parts))
            levels_of = [x.split(parts) for x in deep]
            for place, own in enumerate(rows):
                grid = grids[number] if len(parts) == 1 else None
                layout = _picture_layout(len(own), grid, str(own.device))
                visuals.append(EncodedVisual("image", layout, own, deep=tuple(x[place] for x in levels_of)))
        return visuals

    def _grids(
        self, modality: Modality, inputs: Mapping[str, Any], features: Sequence[Tensor]
    ) -> list[tuple[int, int, int] | None]:
        """Return (frames, rows, cols) of tokens of each entry where a grid of patches states them, else None."""
        given = inputs.get(f"{modality}_grid_thw")
        unknown: list[tuple[int, int, int] | None] = [None] * len(features)
        if not isinstance(given, Tensor) or given.ndim != 2 or given.shape != (len(features), 3):
            return unknown
        merge = getattr(getattr(self.model.config, "vision_config", None), "spatial_merge_size", 1) or 1
        grids = [(int(t), int(h) // merge, int(w) // merge) for t, h, w in given.tolist()]
        return [
            grid if grid[0] * grid[1] * grid[2] == len(entry) else None
            for grid, entry in zip(grids, features, strict=True)
        ]

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        if evidence:
            raise UnsupportedModelError(
                f"{type(self.model).__name__} is served by the generic adapter, which has features and no "
                f"{', '.join(dict.fromkeys(item.quantity for item in evidence))}: use divprune, vidcom2, evs, random, "
                "uniform, census:mass=off, or globalcom2:evidence=distance"
            )
        tokens = []
        for visual, some in zip(visuals, frames or [None] * len(visuals), strict=True):
            features: Any = visual.pixels
            whole = VisualTokens(features, visual.layout, deep=getattr(visual, "deep", ()))
            tokens.append(
                whole if some is None or len(some) == len(visual.layout.views) else _frames_of(whole, some)
            )
        return tokens


def _frames_of(tokens: VisualTokens, frames: tuple[int, ...]) -> VisualTokens:
    """Tokens of some frames of a clip."""
    index = torch.tensor(frames, dtype=torch.int64, device=tokens.layout.view.device)
    layout = tokens.layout.restrict_to_frames(index, frames)
    rows = layout.source.to(tokens.features.device)
    return VisualTokens(
        tokens.features.index_select(0, rows),
        layout,
        deep=tuple(x.index_select(0, rows) for x in tokens.deep),
    )


def _picture_layout(count: int, grid: tuple[int, int, int] | None, device: str) -> Layout:
    if grid is not None and grid[0] == 1:
        return native_layout(grid[1:], device)
    return _unshaped(image_layout((1, count), newline=False, device=device))


def _frames_per_clip(pixels: Any) -> int:
    """Frames of each clip in (clip, frame, channel, height, width); 1 for pixels of another form."""
    return int(pixels.shape[1]) if isinstance(pixels, Tensor) and pixels.ndim == 5 else 1


def _joined(entries: Sequence[Tensor], frames: int) -> list[Tensor]:
    """Join the entries of so many frames each."""
    return [torch.cat(list(entries[start : start + frames])) for start in range(0, len(entries), frames)]


def _clip_layout(
    runs: tuple[int, ...], grid: tuple[int, int, int] | None, frames: int, device: str
) -> Layout:
    if grid is not None:
        return video_layout(grid[0], grid[1:], "none", device=device)
    if frames > 1 and sum(runs) % frames == 0:
        return _unshaped(video_layout(frames, (1, sum(runs) // frames), "none", device=device))
    if len(set(runs)) == 1:
        return _unshaped(video_layout(len(runs), (1, runs[0]), "none", device=device))
    return _unshaped(video_layout(1, (1, sum(runs)), "none", device=device))


def _unshaped(layout: Layout) -> Layout:
    """Return a layout that says that the rows and columns of its views are not known."""
    return replace(layout, views=tuple(replace(view, shaped=False) for view in layout.views))


ADAPTERS.otherwise = GenericAdapter

"""LLaVA families in vLLM: layouts from sizes of pictures and frames of clips, and the choice after the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor
from vllm.config import VllmConfig
from vllm.model_executor.models.utils import WeightsMapper
from vllm.multimodal.parse import MultiModalDataItems

from vidcompress.adapters.families import Family, get_family
from vidcompress.adapters.family.geometry import Geometry
from vidcompress.adapters.layouts import Size
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.serving.budgets import read_budget
from vidcompress.serving.choice import SentTokens, choose
from vidcompress.serving.engine.processor import MODALITIES, CompressingProcessor, field_of
from vidcompress.serving.settings import KEY, Served, read_settings, served_with

PIXELS: Mapping[Modality, tuple[str, ...]] = {
    "image": ("pixel_values", "image_sizes"),
    "video": ("pixel_values_videos",),
}
TOWER = WeightsMapper(
    orig_to_new_prefix={
        f"vision_tower.{part}.": f"vision_tower.vision_model.{part}."
        for part in ("embeddings", "encoder", "pre_layrnorm", "post_layernorm")
    }
)
"""Names of the vision tower as transformers 5 saves them, to those of the hub that vLLM reads."""
ANYRES = "anyres_max_9"
"""Rule by which vLLM shrinks canvases of LLaVA-OneVision, whatever the config states."""


class LlavaLayouts:
    """Layouts of a family's items from config and sizes.

    Args:
        config: of the model.
        model_type: of the family.

    Raises:
        ArgumentError: a config that vLLM lays out in another way than the model was trained.
    """

    def __init__(self, config: Any, model_type: str) -> None:
        self.family: Family = get_family(model_type)
        self.geometry: Geometry = self.family.geometry(config)
        if self.family.counts_images and self.geometry.aspect_ratio != ANYRES:
            raise ArgumentError(
                f"vision_aspect_ratio={self.geometry.aspect_ratio!r} in the model's config: vLLM lays pictures out by "
                f"{ANYRES!r} only; answer with transformers"
            )

    def image(self, size: Size) -> Layout:
        """Return the layout of a picture of (height, width) pixels; vLLM cuts each of several pictures into crops."""
        return self.family.image_layout(self.geometry, size)

    def video(self, frames: int) -> Layout:
        """Return the layout of a clip.

        Raises:
            ArgumentError: the family takes none.
        """
        if self.family.video_layout is None:
            raise ArgumentError(f"{self.family.model_type} takes no clips; send pictures")
        return self.family.video_layout(self.geometry, frames)


class LlavaProcessor(CompressingProcessor):
    """Mixin before a LLaVA processor of vLLM."""

    @cached_property
    def _own(self) -> LlavaLayouts:
        return LlavaLayouts(self.info.ctx.model_config.hf_config, self.served.model_type)

    def layouts(
        self, items: MultiModalDataItems, processed: Mapping[str, Any]
    ) -> dict[Modality, list[Layout]]:
        found: dict[Modality, list[Layout]] = {"image": [], "video": []}
        if "image" in items:
            images = items["image"]
            sizes = [images.get_image_size(number) for number in range(len(images))]
            found["image"] = [self._own.image((size.height, size.width)) for size in sizes]
        if "video" in items:
            clips = items["video"]
            found["video"] = [self._own.video(clips.get_num_frames(number)) for number in range(len(clips))]
        return found

    def raw_lengths(self, items: MultiModalDataItems, values: Mapping[str, Any]) -> list[int]:
        return [len(layout) for of_kind in self.layouts(items, {}).values() for layout in of_kind]


class CompressingLlava:
    """Mixin before a LLaVA model of vLLM."""

    served: ClassVar[Served]

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        config = vllm_config.model_config.hf_config
        abilities = served_with(self.served, config)
        self.has_cls, self.compression = (
            abilities.has_cls,
            read_settings(getattr(config, KEY, None), abilities),
        )
        self.item_layouts = LlavaLayouts(config, self.served.model_type)

    def embed_multimodal(self, **kwargs: Any) -> tuple[Tensor, ...]:
        """Encode items and keep of each the tokens that its placeholders stand for."""
        budgets = {kind: kwargs.pop(field_of(kind), None) for kind in MODALITIES}
        order = [kind for key in kwargs for kind in MODALITIES if key == PIXELS[kind][0]]
        sent: list[Tensor] = []
        for kind in order:
            inputs = {name: kwargs[name] for name in PIXELS[kind] if name in kwargs}
            features, evidence = self.encoded(kind, inputs)
            layouts = self._layouts(kind, inputs)
            sent += compressed(features, layouts, budgets[kind], evidence, self.compression)
        return tuple(sent)

    def encoded(
        self, kind: Modality, inputs: dict[str, Any]
    ) -> tuple[list[Tensor], list[dict[Evidence, Tensor]]]:
        """Encode items of one modality as the stock model does.

        Returns:
            Features (N, D) of each item, and its evidence.
        """
        whole = super().embed_multimodal(**inputs)  # type: ignore[misc]
        features = [one.flatten(0, -2) for one in whole]
        return features, [{} for _ in features]

    def _layouts(self, kind: Modality, inputs: dict[str, Any]) -> list[Layout]:
        if kind == "video":
            return [self.item_layouts.video(len(frames)) for frames in inputs["pixel_values_videos"]]
        sizes = inputs["image_sizes"].tolist()
        return [self.item_layouts.image((int(height), int(width))) for height, width in sizes]


def compressed(
    features: Sequence[Tensor],
    layouts: Sequence[Layout],
    rows: Any,
    evidence: Sequence[Mapping[Evidence, Tensor]],
    settings: Any,
) -> list[Tensor]:
    """Return the features (K, D) that each item sends."""
    return [one.features for one in chosen_of(features, layouts, rows, evidence, settings)]


def chosen_of(
    features: Sequence[Tensor],
    layouts: Sequence[Layout],
    rows: Any,
    evidence: Sequence[Mapping[Evidence, Tensor]],
    settings: Any,
    deep: Sequence[tuple[Tensor, ...]] | None = None,
) -> list[SentTokens]:
    """Choose the tokens of items of one modality, and compare their numbers with those of the placeholders.

    Args:
        features: (N, D) of each item.
        layouts: of each item, on the CPU.
        rows: the rows of `ItemBudget` that came with the items.
        evidence: of each item.
        settings: of the engine.
        deep: companions of each item.
    """
    budgets = [
        read_budget([int(value) for value in row], layout, settings)
        for row, layout in zip(_listed(rows), layouts, strict=True)
    ]
    tokens = [
        VisualTokens(own, layout.to(own.device), values, deep=levels)
        for own, layout, values, levels in zip(
            features, layouts, evidence, deep or [()] * len(features), strict=True
        )
    ]
    chosen = choose(tokens, [budget.plan for budget in budgets], settings.method)
    for one, budget, layout in zip(chosen, budgets, layouts, strict=True):
        if len(one.source) != budget.count:
            raise RuntimeError(
                f"method {settings.method.name!r} chose {len(one.source)} tokens of {layout}, whose placeholders are "
                f"{budget.count}; the engine cannot go on, please report it"
            )
    return [
        one._replace(features=one.features.to(own.dtype)) for one, own in zip(chosen, features, strict=True)
    ]


def _listed(rows: Any) -> list[list[int]]:
    """Return rows of integers, which the engine hands over as one tensor or as several."""
    return rows.tolist() if isinstance(rows, Tensor) else [row.tolist() for row in rows]

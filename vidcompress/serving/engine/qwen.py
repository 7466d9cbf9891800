"""Qwen-VL families in vLLM: pictures and clips of any size, positions with axes, companions in the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.multimodal.parse import MultiModalDataItems
from vllm.multimodal.processing import PromptUpdateDetails
from vllm.multimodal.processing.processor import MultiModalProcessingResult

from vidcompress.adapters.layouts import native_layout, video_layout
from vidcompress.core.layout import Layout, Modality
from vidcompress.errors import ArgumentError
from vidcompress.serving.engine.llava import chosen_of
from vidcompress.serving.engine.positions import (
    COLUMNS,
    ItemPositions,
    Offsets,
    clip_positions,
    image_positions,
    prompt_positions,
    timed_clip_positions,
    to_columns,
)
from vidcompress.serving.engine.processor import MODALITIES, CompressingProcessor, field_of
from vidcompress.serving.settings import KEY, Served, read_settings

KEYS: Mapping[Modality, tuple[str, ...]] = {
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts", "timestamps"),
}


def item_layout(modality: Modality, grid: tuple[int, ...], merge: int) -> Layout:
    """Return the layout of an item with a grid of patches."""
    rows, cols = grid[1] // merge, grid[2] // merge
    if modality == "image":
        return _image_layout(rows, cols)
    return video_layout(grid[0], (rows, cols), "none")


@lru_cache(maxsize=256)
def _image_layout(rows: int, cols: int) -> Layout:
    return native_layout((rows, cols))


@dataclass
class Placed(PromptUpdateDetails):
    """Placeholders of an item.

    Attributes:
        extent: by how much the positions of the prompt advance over it.
    """

    extent: int = 0


class QwenItems:
    """Positions and ids of items of a family.

    Args:
        config: of the model.
        tokenizer: of the model.
        replace_clip: the stock function that writes a clip with times between its frames; None where a clip is one run.
    """

    def __init__(self, config: Any, tokenizer: Any, replace_clip: Any = None) -> None:
        self._config, self._tokenizer, self._replace_clip = config, tokenizer, replace_clip
        self.merge = int(config.vision_config.spatial_merge_size)

    @property
    def timed(self) -> bool:
        """Whether text stands between the frames of a clip."""
        return self._replace_clip is not None

    def positions(self, modality: Modality, item: Mapping[str, Any]) -> ItemPositions:
        """Return the positions of an item.

        Args:
            modality: of the item.
            item: its values: the grid in patches, and of clips the seconds of a temporal patch, or of each.
        """
        frames, height, width = (int(n) for n in item[f"{modality}_grid_thw"])
        rows, cols = height // self.merge, width // self.merge
        if modality == "image":
            return image_positions(rows, cols, [self._config.image_token_id] * (rows * cols))
        if not self.timed:
            pace = float(getattr(self._config.vision_config, "tokens_per_second", 1.0))
            seconds = item.get("second_per_grid_ts")
            factor = pace * (1.0 if seconds is None else float(seconds))
            ids = [self._config.video_token_id] * (frames * rows * cols)
            return clip_positions(frames, rows, cols, ids, lambda frame: frame * factor)
        ids = self.clip_ids([rows * cols] * frames, item["timestamps"])
        return timed_clip_positions(rows, cols, ids, self._config.video_token_id)

    def clip_ids(self, counts: list[int], timestamps: Any) -> list[int]:
        """Return the ids of a clip with times between its frames, of so many tokens each."""
        times = timestamps.tolist() if isinstance(timestamps, Tensor) else list(timestamps)
        written = self._replace_clip(
            tokens_per_frame=counts,
            timestamps=times,
            tokenizer=self._tokenizer,
            vision_start_token_id=self._config.vision_start_token_id,
            vision_end_token_id=self._config.vision_end_token_id,
            video_token_id=self._config.video_token_id,
        )
        return list(written.full)


class QwenProcessor(CompressingProcessor):
    """Mixin before a Qwen-VL processor of vLLM.

    Class attributes:
        rope_factor: how many times `max_position_embeddings` vLLM's table of positions holds.
    """

    rope_factor: ClassVar[int] = 1
    replace_clip: ClassVar[Any] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mm_config = self.info.ctx.get_mm_config()
        if mm_config.video_pruning_rate:
            raise ArgumentError(
                f"video_pruning_rate={mm_config.video_pruning_rate} cannot go with vidcompress, which would prune "
                "twice; leave one out"
            )
        processor = self.info.get_hf_processor()
        image, video = processor.image_processor, processor.video_processor
        for name in ("image_mean", "image_std"):
            one, other = (list(getattr(x, name)) for x in (image, video))
            if one != other and getattr(mm_config, "mm_device_do_normalize", False):
                raise ArgumentError(
                    f"{name} of pictures is {one} and of clips {other}: vLLM normalises both by the first; start "
                    "it with mm_device_do_normalize=False"
                )

    @cached_property
    def _items(self) -> QwenItems:
        config = self.info.ctx.model_config.hf_config
        return QwenItems(config, self.info.get_tokenizer(), type(self).replace_clip)

    def layouts(
        self, items: MultiModalDataItems, processed: Mapping[str, Any]
    ) -> dict[Modality, list[Layout]]:
        merge = self._items.merge
        return {
            kind: [item_layout(kind, tuple(grid), merge) for grid in processed[f"{kind}_grid_thw"].tolist()]
            if f"{kind}_grid_thw" in processed
            else []
            for kind in MODALITIES
        }

    def raw_lengths(self, items: MultiModalDataItems, values: Mapping[str, Any]) -> list[int]:
        if items.get("video"):
            raise ArgumentError(
                "max_tokens cannot be split over a clip and other items, for how many frames a clip has is known "
                "later; use retention_ratio"
            )
        sizes = [items["image"].get_image_size(number) for number in range(len(items["image"]))]
        processor = self.info.get_image_processor()
        return [
            int(
                self.info.get_num_image_tokens(
                    image_width=size.width,
                    image_height=size.height,
                    image_processor=processor,
                    mm_kwargs=values,
                )
            )
            for size in sizes
        ]

    def placeholders(self, modality: Modality, count: int, item: Mapping[str, Any], update: Any) -> Placed:
        values = {name: item[name].data for name in KEYS[modality] if name in item}
        whole = self._items.positions(modality, values)
        config = self.info.ctx.model_config.hf_config
        if modality == "video" and self._items.timed:
            # Which frames keep how many is not known yet: all tokens stand in the first, and the model puts the rows of
            # text and of visual tokens into order.
            frames = int(values["video_grid_thw"][0])
            ids = self._items.clip_ids([count, *[0] * (frames - 1)], values["timestamps"])
        else:
            ids = [config.image_token_id if modality == "image" else config.video_token_id] * count
        return Placed(full=ids, extent=whole.extent)

    def _maybe_apply_prompt_updates(self, mm_items: Any, mm_res: MultiModalProcessingResult) -> Any:
        ids, placed = super()._maybe_apply_prompt_updates(mm_items, mm_res)  # type: ignore[misc]
        details = [item[0].content for of_kind in mm_res.prompt_updates.values() for item in of_kind]
        delta = sum(one.extent - len(one.full) for one in details)
        model = self.info.ctx.model_config
        limit = self.rope_factor * int(model.hf_text_config.max_position_embeddings)
        if model.max_model_len + delta > limit:
            raise ArgumentError(
                f"positions of this prompt could reach {model.max_model_len + delta}, beyond the {limit} of the "
                f"model: its items stand for {delta} more positions than they send; lower max_model_len of the "
                "engine, or keep more"
            )
        return ids, placed


class CompressingQwen:
    """Mixin before a Qwen-VL model of vLLM."""

    served: ClassVar[Served]
    replace_clip: ClassVar[Any] = None

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "model") -> None:
        if vllm_config.parallel_config.pipeline_parallel_size > 1:
            raise ArgumentError(
                "pipeline_parallel_size must be 1 for models whose positions have axes: later ranks would get "
                "positions of uncompressed tokens; use tensor_parallel_size"
            )
        if vllm_config.speculative_config is not None:
            raise ArgumentError(
                "speculative_config cannot go with models whose positions have axes: a drafter would get other "
                "positions; leave it out"
            )
        super().__init__(vllm_config=vllm_config, prefix=prefix)  # type: ignore[call-arg]
        model = vllm_config.model_config
        self.compression = read_settings(getattr(model.hf_config, KEY, None), self.served)
        self.item_offsets = Offsets(
            vllm_config.scheduler_config.max_num_batched_tokens, _device_of(vllm_config)
        )
        self.compressed_items = QwenItems(model.hf_config, _tokenizer(model), type(self).replace_clip)

    def embed_multimodal(self, **kwargs: Any) -> tuple[Tensor, ...]:
        """Encode items; keep of each the tokens that its placeholders stand for, with their positions beside them."""
        budgets = {kind: kwargs.pop(field_of(kind), None) for kind in MODALITIES}
        sent: list[Tensor] = []
        for kind in [kind for key in kwargs for kind in MODALITIES if key == KEYS[kind][0]]:
            inputs = {name: kwargs[name] for name in KEYS[kind] if name in kwargs}
            whole = super().embed_multimodal(**inputs)  # type: ignore[misc]
            sent += self._kept(kind, inputs, list(whole), budgets[kind])
        return tuple(sent)

    def _kept(
        self, kind: Modality, inputs: Mapping[str, Any], whole: list[Tensor], rows: Any
    ) -> list[Tensor]:
        items = [
            {name: value[number] for name, value in inputs.items() if name != KEYS[kind][0]}
            for number in range(len(whole))
        ]
        merge, width = self.compressed_items.merge, int(self.config.vision_config.out_hidden_size)  # type: ignore[attr-defined]
        layouts = [
            item_layout(kind, tuple(int(n) for n in item[f"{kind}_grid_thw"]), merge) for item in items
        ]
        main = [one[:, :width] for one in whole]
        deep = [tuple(one[:, width:].split(width, dim=1)) if one.shape[1] > width else () for one in whole]
        chosen = chosen_of(main, layouts, rows, [{} for _ in whole], self.compression, deep)
        sent = []
        for one, item in zip(chosen, items, strict=True):
            features = torch.cat((one.features, *one.deep), dim=1)
            sent.append(self._placed(features, one.source, self.compressed_items.positions(kind, item)))
        return sent

    def _placed(self, features: Tensor, source: Tensor, whole: ItemPositions) -> Tensor:
        """Return rows with positions in the order of their positions, those of text between frames among them."""
        device = features.device
        visual = whole.visual.nonzero().flatten().to(device)[source]
        if bool(whole.visual.all()):
            places, rows = visual, features
        else:
            text = (~whole.visual).nonzero().flatten()
            ids = torch.tensor(whole.ids)[text].to(device)
            words = self.get_language_model().embed_input_ids(ids).to(features.dtype)  # type: ignore[attr-defined]
            words = torch.nn.functional.pad(words, (0, features.shape[1] - words.shape[1]))
            places, order = torch.cat((text.to(device), visual)).sort()
            rows = torch.cat((words, features))[order]
        columns = to_columns(whole.positions.to(device)[:, places], features.dtype)
        return torch.cat((rows, columns), dim=1)

    def embed_input_ids(
        self, input_ids: Tensor, multimodal_embeddings: Any = None, *, is_multimodal: Tensor | None = None
    ) -> Tensor:
        """Embed a step's tokens, and hold the positions that came with the rows of its items until `forward`."""
        if multimodal_embeddings is not None and len(multimodal_embeddings) > 0 and is_multimodal is not None:
            rows = list(multimodal_embeddings)
            self.item_offsets.put(torch.cat([one[:, -COLUMNS:] for one in rows]), is_multimodal)
            multimodal_embeddings = tuple(one[:, :-COLUMNS] for one in rows)
        embedded: Tensor = super().embed_input_ids(  # type: ignore[misc]
            input_ids, multimodal_embeddings, is_multimodal=is_multimodal
        )
        return embedded

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: Any) -> tuple[Tensor, int]:
        """Return positions of a prompt: exact for text, the base of its item for every other token."""
        items = []
        for feature in sorted(mm_features, key=lambda one: one.mm_position.offset):
            values = {
                name: feature.data[name].data for name in KEYS[feature.modality] if name in feature.data
            }
            extent = self.compressed_items.positions(feature.modality, values).extent
            items.append((feature.mm_position.offset, feature.mm_position.length, extent))
        return prompt_positions(len(input_tokens), items)

    def forward(
        self,
        input_ids: Any,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Run the language model at the positions of the uncompressed prompt."""
        positions = self.item_offsets.add_to(positions)
        return super().forward(input_ids, positions, intermediate_tensors, inputs_embeds, **kwargs)  # type: ignore[misc]

    def get_encoder_cudagraph_config(self) -> Any:
        """Take no modality: a graph of the encoder would go past `embed_multimodal`."""
        self.is_multimodal_pruning_enabled = True
        try:
            return super().get_encoder_cudagraph_config()  # type: ignore[misc]
        finally:
            self.is_multimodal_pruning_enabled = False


def _device_of(config: VllmConfig) -> torch.device:
    return torch.device(config.device_config.device)


def _tokenizer(model: Any) -> Any:
    from vllm.tokenizers import cached_tokenizer_from_config

    return cached_tokenizer_from_config(model)

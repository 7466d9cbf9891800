"""Processor of compressed items: the budget of each joins its pixels, its placeholders are as many as will be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar

import torch
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import MultiModalDataItems
from vllm.multimodal.processing import PromptReplacement, PromptUpdate
from vllm.multimodal.processing.inputs import ProcessorInputs

from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Layout, Modality
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown
from vidcompress.serving.budgets import item_budget
from vidcompress.serving.settings import (
    BUDGETS,
    KEY,
    Served,
    Share,
    only_budgets,
    read_settings,
    read_share,
    request_budget,
    served_with,
)

MODALITIES: tuple[Modality, ...] = ("image", "video")


def field_of(modality: str) -> str:
    """Name of the field that holds the budgets of a modality's items, (item, 3) int64."""
    return f"{KEY}_{modality}_budgets"


class CompressingProcessor:
    """Mixin before a processor of vLLM; subclasses state the layouts of its items.

    Class attributes:
        served: abilities of the family.
    """

    served: ClassVar[Served]
    info: Any
    dummy_inputs: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings  # noqa: B018  (refused here, when the engine starts)
        own = self.info.ctx.get_mm_config().mm_processor_kwargs or {}
        for name in (*BUDGETS, KEY):
            if name in own:
                raise ArgumentError(
                    f"{name} in the engine's mm_processor_kwargs is not read; put it into hf_overrides['{KEY}'], "
                    "or into the mm_processor_kwargs of a request"
                )

    @cached_property
    def settings(self) -> CompressionConfig:
        """Settings of the engine."""
        config = self.info.ctx.model_config.hf_config
        return read_settings(getattr(config, KEY, None), served_with(self.served, config))

    # -- stated by each family ------------------------------------------------------------------------------

    def raw_lengths(self, items: MultiModalDataItems, values: Mapping[str, Any]) -> list[int]:
        """Return the positions of each of several items before compression, from the sizes of what came in.

        Args:
            items: of the request.
            values: its `mm_processor_kwargs`.
        """
        raise NotImplementedError

    def layouts(
        self, items: MultiModalDataItems, processed: Mapping[str, Any]
    ) -> dict[Modality, list[Layout]]:
        """Return the layout of each item, from what the processor of transformers made of it."""
        raise NotImplementedError

    def placeholders(
        self, modality: Modality, count: int, item: Mapping[str, Any], update: PromptUpdate
    ) -> Any:
        """Return what stands for an item in the prompt.

        Args:
            modality: of the item.
            count: tokens that it sends.
            item: its processed fields.
            update: that of the stock processor.
        """
        return list(update.target) * count

    # -- the request's budget, on its way ------------------------------------------------------------------

    def get_dummy_inputs(self, *args: Any, **kwargs: Any) -> ProcessorInputs:
        """Inputs that the engine's memory is sized by: whole, since a request may keep more than the engine's share."""
        inputs: ProcessorInputs = super().get_dummy_inputs(*args, **kwargs)  # type: ignore[misc]
        share = Share(Fraction(1), unasked=True)
        return replace(inputs, hf_processor_mm_kwargs={**inputs.hf_processor_mm_kwargs, KEY: share})

    def _cached_apply_hf_processor(self, inputs: ProcessorInputs, timing_ctx: Any) -> Any:
        values = dict(inputs.hf_processor_mm_kwargs)
        if isinstance(values.get(KEY), Share):  # of `get_dummy_inputs`; no request can hold one
            inputs = replace(inputs, hf_processor_mm_kwargs={**values, KEY: str(values[KEY])})
            return super()._cached_apply_hf_processor(inputs, timing_ctx)  # type: ignore[misc]
        if KEY in values:
            raise ArgumentError(
                f"{KEY}={shown(values[KEY])} in mm_processor_kwargs: a request states {' or '.join(BUDGETS)}; the rest "
                "is the engine's"
            )
        own = getattr(self.info.ctx.model_config.hf_config, KEY)
        budget = request_budget(values, self.settings, strict=only_budgets(own))
        values = {name: value for name, value in values.items() if name not in BUDGETS}
        _refuse_embeddings(inputs.mm_data_items)
        share = Share(budget.ratio)
        if budget.max_tokens is not None:
            several = sum(inputs.mm_data_items.get_all_counts().values()) > 1
            whole = sum(self.raw_lengths(inputs.mm_data_items, values)) if several else 0
            share = Share(None, int(budget.max_tokens), whole)
        inputs = replace(inputs, hf_processor_mm_kwargs={**values, KEY: str(share)})
        return super()._cached_apply_hf_processor(inputs, timing_ctx)  # type: ignore[misc]

    def _get_mm_hashes(self, inputs: ProcessorInputs) -> Any:
        values, share = _apart(inputs.hf_processor_mm_kwargs)
        hashes = super()._get_mm_hashes(replace(inputs, hf_processor_mm_kwargs=values))  # type: ignore[misc]
        algorithm, method = self.info.ctx.get_mm_config().mm_hasher_algorithm, repr(self.settings)
        return {
            modality: [
                MultiModalHasher.hash_kwargs(algorithm, mm_hash=own, share=str(share), method=method)
                for own in of_kind
            ]
            for modality, of_kind in hashes.items()
        }

    def _get_cache_missing_processor_kwargs(self, inputs: ProcessorInputs, cached: Any) -> Mapping[str, Any]:
        values, share = _apart(inputs.hf_processor_mm_kwargs)
        stripped = replace(inputs, hf_processor_mm_kwargs=values)
        missing = super()._get_cache_missing_processor_kwargs(stripped, cached)  # type: ignore[misc]
        return {**missing, KEY: str(share)}

    def _apply_hf_processor_main(self, mm_items: MultiModalDataItems, hf_kwargs: Mapping[str, Any]) -> Any:
        values, share = _apart(hf_kwargs)
        processed = super()._apply_hf_processor_main(mm_items, values)  # type: ignore[misc]
        for modality, layouts in self.layouts(mm_items, processed).items():
            if layouts:
                rows = [item_budget(layout, share, self.settings).row() for layout in layouts]
                processed[field_of(modality)] = torch.stack(rows)
        return processed

    def _get_mm_fields_config(
        self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        values, _ = _apart(hf_processor_mm_kwargs)
        fields = dict(super()._get_mm_fields_config(hf_inputs, values))  # type: ignore[misc]
        own = {field_of(kind): MultiModalFieldConfig.batched(kind, keep_on_cpu=True) for kind in MODALITIES}
        return fields | own

    def _get_prompt_updates(
        self, mm_items: MultiModalDataItems, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any
    ) -> Sequence[PromptUpdate]:
        values, _ = _apart(hf_processor_mm_kwargs)
        stock = super()._get_prompt_updates(  # type: ignore[misc]
            mm_items=mm_items, hf_processor_mm_kwargs=values, out_mm_kwargs=out_mm_kwargs
        )
        return [
            PromptReplacement(
                modality=update.modality,
                target=update.target,
                replacement=self._replacement(update, out_mm_kwargs[update.modality]),
            )
            if update.modality in out_mm_kwargs
            else update
            for update in stock
        ]

    def _replacement(self, update: Any, items: Any) -> Callable[[int], Any]:
        def replacement(number: int) -> Any:
            item = items[number]
            count = int(item[field_of(update.modality)].data[0])
            return self.placeholders(update.modality, count, item, update)

        return replacement


def _apart(values: Mapping[str, Any]) -> tuple[dict[str, Any], Share]:
    """Take the share out of a request's values."""
    rest = dict(values)
    return rest, read_share(rest.pop(KEY))


def _refuse_embeddings(items: MultiModalDataItems) -> None:
    for modality, of_kind in items.items():
        if type(of_kind).__name__.endswith("EmbeddingItems"):
            raise UnsupportedInputError(
                f"{modality} embeddings cannot be compressed, for where their tokens lie is not known; send pixels"
            )

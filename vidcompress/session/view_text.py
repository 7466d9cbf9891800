"""Text that belongs to views: its columns in the prompt, and those to drop with views that keep nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.core.config import CompressionConfig
from vidcompress.core.prompt import Prompt, Span, parse_prompt
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown

Texts = Sequence[Sequence[range]]
"""For each run of a visual the columns of its text in the unpadded row."""


def texts_of_views(
    adapter: Adapter,
    prompt: Prompt,
    visuals: Mapping[tuple[str, int], Visual],
    settings: CompressionConfig,
) -> dict[tuple[str, int], Texts]:
    """Return the text of every visual, from the adapter.

    Args:
        adapter: of the model.
        prompt: the parsed rows.
        visuals: by modality and number.
        settings: how to compress.

    Raises:
        ArgumentError: `view_text="drop"`, and the adapter names no text.
        UnsupportedInputError: the adapter names columns that are not text of the row, or not of one run alone.
    """
    texts: dict[tuple[str, int], Texts] = {}
    for row, spans in zip(prompt.rows, prompt.spans, strict=True):
        for span in spans:
            text_of = visuals[span.key].view_text
            if text_of is None and settings.view_text == "drop":
                raise ArgumentError(
                    f"view_text='drop' cannot go with {type(adapter.model).__name__}: {type(adapter).__name__} names "
                    f"no text that belongs to the views of {_a(span)}; use view_text='keep', or leave it out"
                )
            texts[span.key] = () if text_of is None else text_of(row, span.runs)
        _check_row(spans, texts, len(row), adapter)
    return texts


def text_finder(adapter: Adapter, inputs: Mapping[str, Any]) -> Callable[[Tensor], list[Texts]]:
    """Return a function that finds the text of all views in other prompts with the same visuals in the same columns.

    Args:
        adapter: of the model.
        inputs: one prompt with its pixels; they are not kept.

    Returns:
        From (column,) int64 ids on the CPU to the columns of the text of every visual that may have any.
    """
    images, videos = adapter.visuals(inputs)
    visuals = {("image", i): visual for i, visual in enumerate(images)}
    visuals |= {("video", i): visual for i, visual in enumerate(videos)}
    prompt = parse_prompt(
        inputs["input_ids"],
        inputs.get("attention_mask"),
        {"image": adapter.image_token_id, "video": adapter.video_token_id},
        {
            "image": [visual.placeholder_runs for visual in images],
            "video": [visual.placeholder_runs for visual in videos],
        },
        sorted(visuals, key=lambda key: visuals[key].place or 0),
    )
    asked = [(visuals[span.key].view_text, span.runs) for spans in prompt.spans for span in spans]
    return lambda row: [text_of(row, runs) for text_of, runs in asked if text_of is not None]


def _check_row(
    spans: Sequence[Span], texts: Mapping[tuple[str, int], Texts], length: int, adapter: Adapter
) -> None:
    """Refuse text of another number of runs, outside the row, or in columns that are already taken."""
    if not any(any(texts[span.key]) for span in spans):
        return
    owners = torch.zeros(length, dtype=torch.int64, device="cpu")
    for span in spans:
        for run in span.runs:
            owners[run.start : run.stop] += 1
    for span in spans:
        ranges = [text for run in texts[span.key] for text in run]
        for text in ranges:
            owners[text.start : text.stop] += 1
        inside = all(0 <= text.start <= text.stop <= length and text.step == 1 for text in ranges)
        right = len(texts[span.key]) in (0, len(span.runs))
        if ranges and not (inside and right and int(owners.max()) == 1):
            raise UnsupportedInputError(
                f"view_text of a Visual of {type(adapter).__name__} must give for each of the {len(span.runs)} runs of "
                f"{span.modality} {span.number} ranges of text columns below {length}, each column once, got "
                f"{shown(texts[span.key])}"
            )


def _a(span: Span) -> str:
    return "an image" if span.modality == "image" else "a video"


def texts_without_view(
    prompt: Prompt, texts: Mapping[tuple[str, int], Texts], kept: Mapping[tuple[str, int], Tensor]
) -> dict[tuple[str, int], list[range]]:
    """Return the text of the runs of which nothing is sent; synchronises once, where any visual has text.

    Text at the end of a prompt stays, since the positions of an answer continue from its last column.

    Args:
        prompt: the parsed rows.
        texts: from `texts_of_views`.
        kept: for each visual the (K,) source positions that are sent.
    """
    spans = [span for row in prompt.spans for span in row]
    ends = {
        span.key: len(row) for row, placed in zip(prompt.rows, prompt.spans, strict=True) for span in placed
    }
    asked = [span for span in spans if any(texts[span.key])]
    gone: dict[tuple[str, int], list[range]] = {span.key: [] for span in spans}
    if not asked:
        return gone
    device = kept[asked[0].key].device
    counts = torch.cat([_sent_of_runs(span, kept[span.key]).to(device) for span in asked]).tolist()
    for span in asked:
        of_runs, counts = counts[: len(span.runs)], counts[len(span.runs) :]
        pairs = zip(texts[span.key], of_runs, strict=True)
        empty = [run for run, count in pairs if count == 0]
        gone[span.key] = [
            text for run in empty if all(text.stop < ends[span.key] for text in run) for text in run
        ]
    return gone


def _sent_of_runs(span: Span, kept: Tensor) -> Tensor:
    """Return (runs,) int64: tokens of each run that are sent."""
    edges = torch.tensor([0, *accumulate(map(len, span.runs))], device="cpu").to(kept.device)
    return torch.searchsorted(kept.sort().values, edges).diff()


def total_length(texts: Sequence[Sequence[range]] | Sequence[range]) -> int:
    """Return the number of columns in ranges, or in ranges by run."""
    return sum(len(text) if isinstance(text, range) else sum(map(len, text)) for text in texts)

"""Interface of a class of transformers that the generic adapter reads: feature functions, pixels, placeholders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch
from torch import Tensor

from vidcompress.adapters.stock import stock_positions
from vidcompress.core.layout import Modality
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError, one_line

FUNCTIONS: Final[Mapping[Modality, str]] = {"image": "get_image_features", "video": "get_video_features"}
"""Functions of a model that encode pictures and clips."""
_SETTINGS: Final = (
    "vision_feature_layer",
    "vision_feature_layers",
    "vision_feature_select_strategy",
    "vision_aspect_ratio",
    "interpolate_pos_encoding",
    "return_dict",
)
"""Arguments of these functions that describe no pixels."""
_OF_ENCODERS: Final = (
    "pooler_output",
    "deepstack_features",
    "hidden_state",
    "hidden_states",
    "attentions",
    "image_embeds",
)
"""Endings of fields of encoder outputs that are features, or inner states of the encoder."""
_PLACEHOLDERS: Final[Mapping[Modality, tuple[str, ...]]] = {
    "image": ("image_token_id", "image_token_index"),
    "video": ("video_token_id", "video_token_index"),
}


def refusal(model_class: type) -> str | None:
    """Reason why a class cannot be served, as far as the class alone tells; None where nothing speaks against it."""
    function = getattr(model_class, "forward", None)
    forward = {} if function is None else inspect.signature(function).parameters
    if "mm_encoder_outputs" not in forward:
        return "its forward takes no mm_encoder_outputs"
    if not hasattr(model_class, "generate"):
        return "it does not generate"
    return None


def class_of(model_type: Any) -> type | None:
    """Class that transformers makes of a model type for questions about pictures; None where it has none."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    config = CONFIG_MAPPING[model_type]
    model_class = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING.get(config, None)
    if isinstance(model_class, (list, tuple)):
        model_class = model_class[0] if model_class else None
    return model_class  # type: ignore[no-any-return]


def serves(model_type: Any) -> bool:
    """Whether nothing speaks against the generic adapter for a model type, as far as its class tells."""
    model_class = class_of(model_type)
    return model_class is not None and refusal(model_class) is None


def feature_function(model: Any, modality: Modality) -> Callable[..., Any] | None:
    """The function of a model, or of its core, that encodes pictures or clips; None without one.

    Of the two it is the one that names more inputs: the other may hand the rest on without naming them.
    """
    owners = (model, getattr(model, "model", None))
    functions = [getattr(owner, FUNCTIONS[modality], None) for owner in owners]
    named = [function for function in functions if callable(function) and _named(function)]
    return max(named, key=lambda function: len(_named(function)), default=None)


def pixel_keys(model: Any, modality: Modality) -> tuple[str, ...]:
    """Names of the inputs that the feature function of a modality reads, the pixels first; () without one."""
    function = feature_function(model, modality)
    return () if function is None else _named(function)


def _named(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's parameters that may describe pixels."""
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(one.name for one in parameters if one.kind not in variable and one.name not in _SETTINGS)


def placeholder_id(config: Any, modality: Modality) -> int | None:
    """Id of the placeholder of a modality; None where the config names none."""
    for name in _PLACEHOLDERS[modality]:
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def takes_token_types(model: Any) -> bool:
    """Whether forward takes `token_type_ids`, as in classes whose pictures attend to themselves both ways."""
    return "token_type_ids" in inspect.signature(type(model).forward).parameters


def honours_positions(model: Any) -> bool:
    """Whether `generate` hands on the caller's `position_ids`.

    Raises:
        UnsupportedModelError: its preparation fails on a plain prompt, so that it cannot be known.
    """
    ids = torch.zeros(1, 2, dtype=torch.int64)
    given = torch.tensor([[3, 7]])
    try:
        prepared = model.prepare_inputs_for_generation(
            ids, position_ids=given, attention_mask=torch.ones_like(ids), is_first_iteration=True
        )
    except Exception as error:
        raise UnsupportedModelError(
            f"{type(model).__name__} does not prepare a plain prompt for generation ({one_line(error)}), so that what "
            "it makes of positions is not known; write an adapter, see docs/guide-family.md"
        ) from error
    got = prepared.get("position_ids")
    return (
        isinstance(got, Tensor)
        and got.shape[-1] == 2
        and bool((got.reshape(-1, 2)[-1].cpu() == given[0]).all())
    )


def position_axes(model: Any) -> int:
    """Number of axes of the positions that `generate` makes for a model: 1, or 3 or 4 for M-RoPE."""
    ids = torch.zeros(1, 2, dtype=torch.int64)
    positions = stock_positions(model, {"mm_token_type_ids": ids}, ids, torch.ones_like(ids))
    return len(positions)


def read_features(output: Any, runs: list[int], who: str) -> tuple[list[Tensor], list[list[Tensor]], bool]:
    """Read the output of a feature function.

    Args:
        output: of transformers, with `pooler_output`: a list of (token, D), or (picture, token, D), or (token, D).
        runs: lengths of the runs of placeholders, which cut the last form.
        who: name of the model, for errors.

    Returns:
        The entries, each (token, D); for each level of companions the entries likewise, [] without companions; and
        whether the features came as a list.

    Raises:
        UnsupportedModelError: features before the projector, entries that are no (token, D), or fields that the model
            may read behind its language model.
    """
    declared = [field.name for field in fields(output)] if is_dataclass(output) else []
    others = [name for name in declared if not name.endswith(_OF_ENCODERS)]
    if others:
        raise UnsupportedModelError(
            f"{who}: its encoder gives {', '.join(others)} beside its features, which the model may read; write an "
            "adapter, see docs/guide-family.md"
        )
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        raise UnsupportedModelError(
            f"{who}: its encoder gives no pooler_output, the features as the language model takes them; write an "
            "adapter, see docs/guide-family.md"
        )
    levels = getattr(output, "deepstack_features", None)
    levels = [] if levels is None else list(levels)
    return (
        _entries(pooled, runs, who),
        [_entries(level, runs, who) for level in levels],
        isinstance(pooled, (list, tuple)),
    )


def _entries(features: Any, runs: list[int], who: str) -> list[Tensor]:
    if isinstance(features, Tensor) and features.ndim == 2:
        if sum(runs) != len(features):
            raise UnsupportedInputError(
                f"{who}: its encoder gives {len(features)} tokens, the prompts have {sum(runs)} placeholders; pass the "
                "processor's output unchanged"
            )
        return list(features.split(runs))
    entries = list(features)
    for entry in entries:
        if not isinstance(entry, Tensor) or entry.ndim != 2:
            got = tuple(entry.shape) if isinstance(entry, Tensor) else type(entry).__name__
            raise UnsupportedModelError(
                f"{who}: an entry of its features is {got}, and must be (token, D); write an adapter, see "
                "docs/guide-family.md"
            )
    return entries


def pieces_of_runs(runs: list[int], entries: list[int], who: str) -> list[tuple[int, ...]]:
    """Cut runs of placeholders at the borders of entries.

    Args:
        runs: lengths of the runs, in the order of the prompts.
        entries: numbers of tokens of the entries, in the same order.
        who: name of the model, for errors.

    Returns:
        For each entry the lengths of the runs, or parts of runs, that it fills.

    Raises:
        UnsupportedInputError: the sums differ.
    """
    if sum(runs) != sum(entries):
        raise UnsupportedInputError(
            f"{who}: its encoder gives {sum(entries)} tokens, the prompts have {sum(runs)} placeholders; pass the "
            "processor's output unchanged"
        )
    left = [run for run in runs if run]
    cut = []
    for entry in entries:
        pieces = []
        while entry:
            piece = min(entry, left[0])
            pieces.append(piece)
            entry, left[0] = entry - piece, left[0] - piece
            if not left[0]:
                left.pop(0)
        cut.append(tuple(pieces))
    return cut

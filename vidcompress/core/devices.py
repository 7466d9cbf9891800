"""Devices and torch modes: input device of a model, uploads, caches that no caller's mode affects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor

from vidcompress.checks import is_whole
from vidcompress.errors import ArgumentError, shown

DeviceMap: TypeAlias = str | int | torch.device | Mapping[str, str | int | torch.device]
"""Device map of a model: a strategy of accelerate, a device for all, or one for each module."""

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def input_device(model: Any) -> torch.device:
    """Return the device of a model's token ids: that of its embeddings.

    `model.device` is that of any first parameter, which may be another one where a model is spread over devices, and
    "meta" where accelerate keeps weights on disk or in host memory until they are needed.

    Args:
        model: a transformers model.
    """
    embeddings = model.get_input_embeddings()
    device: torch.device = next(embeddings.parameters()).device
    if device.type != "meta":
        return device
    hook = getattr(embeddings, "_hf_hook", None)
    return torch.device(getattr(hook, "execution_device", None) or "cpu")


def check_device_map(value: Any) -> None:
    """Refuse what cannot be a device map before anything is read.

    Raises:
        ArgumentError: neither None, a strategy of accelerate, a device, nor a mapping of modules to devices.
    """
    if value is None or isinstance(value, torch.device) or (isinstance(value, Mapping) and value):
        return
    if is_whole(value) and 0 <= value < torch.cuda.device_count():
        return
    if isinstance(value, str):
        if value in STRATEGIES:
            return
        try:
            torch.device(value)
        except RuntimeError:
            pass
        else:
            return
    raise ArgumentError(
        f"device_map={shown(value)}: must be one of {', '.join(STRATEGIES)}, a device that is there, or a dict of "
        "modules to devices, such as {'': 'cpu'}"
    )


def upload(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy values to a device; a copy to CUDA goes through pinned memory, and the host does not wait for it.

    Args:
        values: any tensor.
        device: where to copy it.

    Returns:
        The same values there; the tensor itself where it is there already.
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def place(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Copy model inputs to a device: tensors and lists of tensors are uploaded, everything else stays as it is.

    Args:
        inputs: of a processor.
        device: for the tensors.
        dtype: of pixels (`pixel_values...`); all other values, such as times, keep theirs.
    """

    def moved(value: Any, pixels: bool) -> Any:
        if isinstance(value, list):
            return [moved(entry, pixels) for entry in value]
        if not isinstance(value, Tensor):  # the name of a preset, frames that are still being decoded
            return value
        value = upload(value, device)
        return value.to(dtype) if pixels and value.is_floating_point() else value

    return {key: moved(value, key.startswith("pixel_values")) for key, value in inputs.items()}


Function = TypeVar("Function", bound=Callable[..., Any])


def under_this_autocast(
    function: Callable[[Tensor], Tensor], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return a function that runs `function` under the autocast block that is open now."""
    if not torch.is_autocast_enabled(device.type):
        return function
    dtype = torch.get_autocast_dtype(device.type)

    def call(values: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            return function(values)

    return call


def outside_caller_modes(function: Function) -> Function:
    """Decorator of functions whose results are cached: the caller's `torch.inference_mode` and `torch.device` are off.

    Otherwise the first caller would decide for all later ones: an inference tensor fails in a graph with gradients, and
    a tensor that names no device is made on the device of a `with torch.device(...)` block.
    """

    @wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.device("cpu"):
            return function(*args, **kwargs)

    return cast(Function, inner)

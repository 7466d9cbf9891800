"""Functions shielded from the modes of torch that a caller has open, or called under them later."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def under_this_autocast(
    function: Callable[[Tensor], Tensor], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The same function, called later under the autocast block that is open now: a part of the model, say."""
    if not torch.is_autocast_enabled(device.type):
        return function
    dtype = torch.get_autocast_dtype(device.type)

    def call(values: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            return function(values)

    return call


def outside_caller_modes(function: Function) -> Function:
    """Shield what is cached from the caller's modes: no inference tensors, new tensors on the CPU unless placed."""

    @wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False), torch.device("cpu"):
            return function(*args, **kwargs)

    return cast(Function, inner)

"""On which device a model takes its inputs, whether it is on one device, spread over several, or offloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .errors import ArgumentError

STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def input_device(model: Any) -> torch.device:
    """The device on which a model wants its token ids: that of its embeddings.

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
    if value is None or isinstance(value, (Mapping, torch.device)):
        return
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
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
        f"device_map={value!r}: must be one of {', '.join(STRATEGIES)}, a device, or a dict of modules to devices, "
        "such as {'': 'cpu'}"
    )

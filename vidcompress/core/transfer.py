"""From host memory to the device."""

from __future__ import annotations

import torch


def upload(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values on a device; a copy to CUDA goes through pinned memory, and the host does not wait for it.

    Args:
        values: any tensor.
        device: where it is wanted.

    Returns:
        The same values there; the tensor itself where it is there already.
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)

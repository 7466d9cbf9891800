"""Resize and normalise pictures on a torch device, to the same numbers as torchvision.

On the CPU a bicubic resize stays in uint8, where PyTorch's kernel is the one torchvision calls. Accelerators
have no uint8 kernel, so there the picture goes through float32, is rounded and clamped; that differs from the CPU
by a few grey levels. Work that has to be the same on every machine therefore resizes on the CPU.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F

from vidcompress.errors import MediaError

Mode = Literal["nearest-exact", "bilinear", "bicubic"]


def resize(pictures: torch.Tensor, size: tuple[int, int], mode: Mode = "bicubic") -> torch.Tensor:
    """Resize with antialiasing.

    Args:
        pictures: uint8 (picture, channel, height, width), values 0 to 255, on any device.
        size: (height, width) wanted, each at least 1.
        mode: the filter.

    Returns:
        uint8 (picture, channel, size[0], size[1]) on the same device; the input itself when it has that size.

    Raises:
        MediaError: `pictures` is not a 4-d uint8 tensor, or `size` holds a number below 1.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4:
        raise MediaError(
            f"pictures: {pictures.dtype} of shape {tuple(pictures.shape)}; pass uint8 (picture, channel, height, width)"
        )
    if min(size) < 1:
        raise MediaError(f"size={size}: height and width must be at least 1")
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    if mode == "nearest-exact":
        return F.interpolate(pictures, size=size, mode=mode)
    if pictures.device.type == "cpu":
        return F.interpolate(pictures, size=size, mode=mode, antialias=True, align_corners=False)
    smooth = F.interpolate(pictures.float(), size=size, mode=mode, antialias=True, align_corners=False)
    return smooth.round_().clamp_(0, 255).to(torch.uint8)


def center_crop(pictures: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut the middle out, or put black around what is too small.

    Args:
        pictures: (picture, channel, height, width).
        size: (height, width) wanted.

    Returns:
        (picture, channel, size[0], size[1]). The odd row or column of a surplus or a lack is at the bottom or right.
    """
    height, width = pictures.shape[-2:]
    lack_h, lack_w = max(0, size[0] - height), max(0, size[1] - width)
    if lack_h or lack_w:
        pictures = F.pad(pictures, (lack_w // 2, lack_w - lack_w // 2, lack_h // 2, lack_h - lack_h // 2))
        height, width = pictures.shape[-2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return pictures[..., top : top + size[0], left : left + size[1]]


def normalise(
    pictures: torch.Tensor,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    rescale: float = 1 / 255,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bring grey levels to the range an encoder was trained on: (x * rescale - mean) / std, in one pass.

    Args:
        pictures: uint8 or float (picture, channel, height, width).
        mean: per channel, in rescaled units.
        std: per channel, in rescaled units, above 0.
        rescale: factor from grey levels to those units.
        out: float32 of the same shape, on the same device, to write to.

    Returns:
        `out`, or float32 of the same shape, on the same device.
    """
    # Folding the factor into mean and std, instead of scaling first, is what torchvision's users do: same roundings.
    scale = 1.0 / rescale
    shape = (1, -1, 1, 1)
    centre = (torch.tensor(mean, device=pictures.device) * scale).view(shape)
    spread = (torch.tensor(std, device=pictures.device) * scale).view(shape)
    values = pictures.to(torch.float32, copy=True) if out is None else out.copy_(pictures)
    return values.sub_(centre).div_(spread)

"""Devices by name, with their makers' stated peaks; real programs reach a part of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Device and its peaks.

    Attributes:
        name: of the device.
        flops_16: floating-point operations per second in bfloat16 or float16, dense, float32 sums.
        flops_32: likewise in float32, without TF32.
        bytes_per_s: between its memory and its cores.
        memory: in bytes.
        source: of the figures.
    """

    name: str
    flops_16: float
    flops_32: float
    bytes_per_s: float
    memory: float
    source: str

    def flops_per_s(self, dtype: str) -> float:
        """Return the peak in "float32", "bfloat16" or "float16"."""
        return self.flops_32 if dtype == "float32" else self.flops_16


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            "H200",
            989.4e12,
            66.9e12,
            4.8e12,
            141e9,
            "NVIDIA H200 datasheet (SXM; half of the sparse figures)",
        ),
        Device(
            "H100",
            989.4e12,
            66.9e12,
            3.35e12,
            80e9,
            "NVIDIA H100 datasheet (SXM; half of the sparse figures)",
        ),
        Device("A100-80G", 312e12, 19.5e12, 2.039e12, 80e9, "NVIDIA A100 80GB datasheet (SXM)"),
        Device(
            "RTX 4090",
            165.2e12,
            82.6e12,
            1.008e12,
            24e9,
            "NVIDIA Ada GPU architecture whitepaper (float32 sums)",
        ),
        Device(
            "EPYC 9654",  # 96 cores at the base clock of 2.4 GHz, 32 float32 or 64 bfloat16 operations a cycle
            14.7e12,
            7.37e12,
            460.8e9,
            384e9,
            "AMD EPYC 9654 product page (clock, DDR5-4800 x 12); Zen 4: two 256-bit FMA units; 384 GB as fitted",
        ),
    )
}

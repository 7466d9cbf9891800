"""Peak memory of a part of a run, in bytes."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import torch


def reset_peak(device: torch.device) -> None:
    """Reset the peak: of the CUDA allocator, or on Linux of the resident memory of this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # then the peak is that of the whole process


def peak_bytes(device: torch.device) -> int:
    """Peak memory since `reset_peak` in bytes: allocated on the GPU, else resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError):
        return resident_peak()


def resident_peak() -> int:
    """Most memory in bytes that this process has had resident since it began."""
    try:
        resource = import_module("resource")
    except ImportError:  # Windows; accelerate brings psutil
        return int(import_module("psutil").Process().memory_info().peak_wset)
    most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return most if sys.platform == "darwin" else most * 1024

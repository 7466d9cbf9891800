"""Counts what the host must wait for; on the CPU, where it costs nothing, as well as on a GPU."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ASKING = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default"}


class CountSyncs(TorchDispatchMode):
    """Counts operations whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        masks = args[1] if name == "aten.index.Tensor" else ()
        if name in ASKING or any(i is not None and i.dtype == torch.bool for i in masks):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))

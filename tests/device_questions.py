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


WATCHED = ("_local_scalar_dense", "nonzero", "masked_select", "boolean index")


class Count(TorchDispatchMode):
    """Counts the operations that make an accelerator wait, and all others."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else ()
        if any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices):
            name = "boolean index"
        self.seen[name] += 1
        return func(*args, **(kwargs or {}))

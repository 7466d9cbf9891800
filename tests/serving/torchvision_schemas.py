"""Two operators that torchvision's Python code expects of its compiled part, which no torch without CUDA can load.

`make serve-test` installs this as the environment's `sitecustomize`, for torchvision is imported in each of vLLM's
processes, before any plugin. Only the declarations are made: calling an operator is still an error. Nothing happens
where torch has CUDA, or torchvision is not imported.
"""

from __future__ import annotations

import importlib.abc
import sys
from typing import Any


class _Declare(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            KEPT.append(self)  # the declarations go with the library


KEPT: list[_Declare] = []
sys.meta_path.insert(0, _Declare())

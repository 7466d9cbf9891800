"""Where lmms-eval's own models of the families run: with torchvision and qwen_vl_utils from a folder of their own.

Their processors need torchvision, which does not go with torch for the CPU unless two operators are declared first.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("VIDCOMPRESS_TORCHVISION", Path(sys.prefix) / "torchvision"))
SHIM = '''
import sys

class Declare:
    """Declares torchvision's operators before it is imported: its parts in Python then work on a torch without CUDA."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                torch._declared_for_torchvision = library = torch.library.Library("torchvision", "DEF")
                library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None

sys.meta_path.insert(0, Declare())
'''


def needs(*packages: str) -> list[Any]:
    """Marks that skip the tests of a module where a package is not in `FOLDER`, or decord not in the environment."""
    marks = [
        pytest.mark.skipif(
            not (FOLDER / package).is_dir(),
            reason=f"{package} is not in {FOLDER} (make install puts it there)",
        )
        for package in packages
    ]
    return [
        *marks,
        pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord is not installed"),
    ]


def search_path(folder: Path) -> str:
    """Write the declaration of the operators into a new folder; the search path for it and for `FOLDER`."""
    (folder / "shim").mkdir()
    (folder / "shim" / "sitecustomize.py").write_text(SHIM)
    return os.pathsep.join([str(folder / "shim"), str(FOLDER)])

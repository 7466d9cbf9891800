"""Classes of the installed transformers whose forward takes `mm_encoder_outputs`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import transformers


def taking_classes() -> dict[str, type]:
    """Classes that generate and take `mm_encoder_outputs`, by name; a class of two names once."""
    found: dict[str, type] = {}
    for path in sorted((Path(transformers.__file__).parent / "models").glob("*/modeling_*.py")):
        if "mm_encoder_outputs" not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(f"transformers.models.{path.parent.name}.{path.stem}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ != module.__name__ or not hasattr(cls, "generate"):
                continue
            if "mm_encoder_outputs" in inspect.signature(cls.forward).parameters:
                found.setdefault(name, cls)
    types = {cls: name for name, cls in reversed(found.items())}
    return {name: cls for cls, name in sorted(types.items(), key=lambda pair: pair[1])}

"""Functions of transformers whose modules import torchvision, which these functions do without."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def stock_function(module: str, name: str) -> Callable[..., Any]:
    """A function, or a method by "Class.method", from the source of a module of `transformers.models`."""
    spec = importlib.util.find_spec(f"transformers.models.{module}")
    assert spec is not None and spec.origin is not None
    *classes, name = name.split(".")
    body: list[Any] = ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
    for owner in classes:
        (body,) = (node.body for node in body if isinstance(node, ast.ClassDef) and node.name == owner)
    (node,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
    node.decorator_list, node.returns = [], None
    for argument in (*node.args.args, *node.args.kwonlyargs):
        argument.annotation = None
    space: dict[str, Any] = {"np": np, "math": math}
    exec(compile(ast.Module([node], []), spec.origin, "exec"), space)
    made: Callable[..., Any] = space[name]
    return made

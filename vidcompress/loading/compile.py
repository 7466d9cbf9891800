"""Compilation of language models by `torch.compile`, and checks of its requirements."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.util import find_spec
from typing import Any

import torch

from vidcompress.checks import device as device_of
from vidcompress.checks import flag
from vidcompress.core.method import Method
from vidcompress.errors import ArgumentError, shown


def check_compile(compile: Any, method: Method, device: Any, **others: Any) -> None:
    """Refuse combinations that cannot be compiled, before any weights are read.

    Args:
        compile: the argument.
        method: compression method.
        device: of the model, as in `load_model`.
        **others: arguments that must be None when compiling.

    Raises:
        ArgumentError: not a bool; or True with an argument that rules it out, an invalid device, or where torch
            cannot compile.
    """
    if not flag("compile", compile):
        return
    if method.inside is not None:
        raise ArgumentError(
            f"compile=True cannot go with method {method.name!r}, which prunes between the layers of the language "
            "model; use a method before it, or leave compile out"
        )
    for name, value in others.items():
        if value is not None:
            raise ArgumentError(
                f"compile=True cannot go with {name}={shown(value)}, which changes the language model's layers; leave "
                "one of them out"
            )
    on_cpu = not torch.cuda.is_available() if device is None else device_of("device", device).type == "cpu"
    from torch._dynamo.eval_frame import is_dynamo_supported  # takes seconds to import

    if not is_dynamo_supported():
        raise ArgumentError("compile=True: torch.compile does not run on this Python; leave it out")
    if on_cpu and cpp_compiler() is None:
        raise ArgumentError(
            "compile=True needs a C++ compiler on the CPU, and there is none; install g++ (or name one in the variable "
            "CXX), or leave it out"
        )
    if not on_cpu and find_spec("triton") is None:
        raise ArgumentError(
            "compile=True needs the package triton on an accelerator; install it, or leave compile out"
        )


def cpp_compiler() -> str | None:
    """Return the path of the C++ compiler that torch would use, or None."""
    words = shlex.split(os.environ.get("CXX", "")) or ["clang++" if sys.platform == "darwin" else "g++"]
    return shutil.which(words[0])


def compile_decoder(decoder: torch.nn.Module) -> None:
    """Compile a language model at its next calls, for prompts of any length.

    It uses torch's own `Module.compile`: neither the class nor the attribute `forward` changes. Prefill and decoding
    are compiled once each, and again for another kind of mask, of cache, or a batch of one.
    """
    decoder.compile(dynamic=True)

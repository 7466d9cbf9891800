"""Probes that a doctor's worker is given in tests: good ones, and some that hang, crash or leave."""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def echo(**values: Any) -> dict[str, Any]:
    return values


def process() -> int:
    return os.getpid()


def hang() -> None:
    time.sleep(600)


def crash() -> None:
    print("about to crash", file=sys.stderr, flush=True)
    os.abort()


def leave() -> None:
    os._exit(3)


def noise() -> str:
    print("to stdout")
    os.write(1, b"to descriptor 1\n")
    return "quiet"


def fail() -> None:
    raise RuntimeError("out\nof luck")


def unspeakable() -> object:
    return object()

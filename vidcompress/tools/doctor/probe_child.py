"""Main module of the worker process, which isolates checks that hang or crash.

It reads one JSON object per line, `{"function": "module:name", "arguments": {...}}`, and writes one per line:
`{"result": ...}` or `{"error": "..."}`. Output of libraries goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from importlib import import_module
from typing import Any


def call(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call `module:name` and return its result or error as JSON types."""
    module, _, name = function.partition(":")
    try:
        return {"result": getattr(import_module(module), name)(**arguments)}
    except Exception as error:  # noqa: BLE001  (the error is the result of the check)
        return {"error": describe(error)}


def describe(error: BaseException) -> str:
    """Return an error in one line of at most 400 characters, with its type unless it is one of this package."""
    text = " ".join(str(error).split()) or type(error).__name__
    ours = type(error).__module__.startswith("vidcompress")
    return (text if ours else f"{type(error).__name__}: {text}")[:400]


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # also what C libraries print
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(call(request["function"], request["arguments"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

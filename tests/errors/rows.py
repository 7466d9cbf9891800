"""What a row of the table of errors is, and what is asked of every message."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vidcompress.errors import ArgumentError, VidcompressError, shown

NEXT = re.compile(
    r"must |pass |use |choose |expected|known: |allowed|give |exclude|takes |only|need|see |leave it out|did you mean|"
    r"fetch |check |download|supported|write one|make it|read it|raise max|cannot go with|another|add |name a|"
    r"take |set it "
)
"""Every message says what is allowed, or what to do next."""


@dataclass(frozen=True)
class Make:
    """A value that needs the world of the tests: `Make(lambda world: world.picture)`."""

    make: Callable[[Any], Any] = field(repr=False)


@dataclass(frozen=True)
class Row:
    """One wrong argument.

    Attributes:
        call: name of the entry, as in `surface.CALLS`.
        parameter: which of its parameters is wrong; `**options` and `**generate` are named by the wrong option.
        value: what is passed for it.
        message: part of what is raised.
        error: exactly that class.
        others: further arguments of this call.
        names: what the message calls the parameter, where it is called otherwise.
        says: how the message shows the value, where it does otherwise than `shown` and the type's name.
    """

    call: str
    parameter: str
    value: Any
    message: str
    error: type[VidcompressError] = ArgumentError
    others: dict[str, Any] = field(default_factory=dict)
    names: str | None = None
    says: str | None = None

    def __str__(self) -> str:
        value = "made" if isinstance(self.value, Make) else shown(self.value, 30)
        return re.sub(r"[^ -~]", "?", f"{self.call}({self.parameter}={value})")


def complaints(row: Row, value: Any, message: str) -> list[str]:
    """What is wrong with a message; nothing for a good one."""
    said = [row.says] if row.says is not None else [shown(value), f"got {type(value).__name__}", repr(value)]
    checks = {
        f"does not hold {row.message!r}": row.message in message,
        f"does not name {row.names or row.parameter!r}": (row.names or row.parameter) in message,
        f"does not show the value as one of {said}": any(text in message for text in said),
        "does not say what is allowed or what to do": NEXT.search(message) is not None,
        "is not one line": "\n" not in message,
        "is longer than 600 characters": len(message) <= 600,
        "holds an address": " object at 0x" not in message,
    }
    return [complaint for complaint, fine in checks.items() if not fine]

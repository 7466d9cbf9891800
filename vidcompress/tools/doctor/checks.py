"""Checks of an examination and the diagnosis that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "missing", "failed"]


@dataclass(frozen=True)
class Check:
    """One check and its status.

    Attributes:
        topic: its group, such as `packages` or `devices`.
        name: of the checked thing.
        status: `ok`; `missing`, it is not installed or found; `failed`, it is there and does not work.
        detail: one line for people: the version, the count, or the error.
        needed: whether vidcompress or the checkpoint needs it.
        data: details for programs, as JSON types.
    """

    topic: str
    name: str
    status: Status
    detail: str = ""
    needed: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_problem(self) -> bool:
        """Whether the check is needed and not ok."""
        return self.needed and self.status != "ok"

    def line(self) -> str:
        """Line of the check for people, with its status in capitals where it is a problem."""
        status = self.status.upper() if self.is_problem else self.status
        return f"  {status:<8} {self.name:<24} {self.detail}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return the check as JSON types."""
        return {
            "topic": self.topic,
            "name": self.name,
            "status": self.status,
            "needed": self.needed,
            "detail": self.detail,
            **({"data": dict(self.data)} if self.data else {}),
        }


@dataclass(frozen=True)
class Diagnosis:
    """All checks of one examination.

    Attributes:
        checks: in the order of their execution.
    """

    checks: Sequence[Check]

    @property
    def problems(self) -> list[Check]:
        """Checks that are problems."""
        return [check for check in self.checks if check.is_problem]

    @property
    def ok(self) -> bool:
        """Whether every needed check is ok."""
        return not self.problems

    def of(self, topic: str) -> list[Check]:
        """The checks of one topic."""
        return [check for check in self.checks if check.topic == topic]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {
            "ok": self.ok,
            "problems": [f"{check.name}: {check.detail}" for check in self.problems],
            "checks": [check.to_dict() for check in self.checks],
        }

    def summary(self) -> list[str]:
        """Summary: a line per problem, or that everything needed works."""
        lines = [f"broken: {check.topic}, {check.name}: {check.detail}" for check in self.problems]
        return lines or ["all that is needed works"]

    def __repr__(self) -> str:
        return f"Diagnosis({len(self.checks)} checks, {len(self.problems)} problems)"

    def __str__(self) -> str:
        lines: list[str] = []
        for topic in dict.fromkeys(check.topic for check in self.checks):
            lines += [topic, *(check.line() for check in self.of(topic))]
        return "\n".join([*lines, *self.summary()])

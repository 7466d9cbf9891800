"""Adapters to trackio and Weights & Biases, which share the calls `init`, `log` and `finish`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Final

from vidcompress.checks import one_of
from vidcompress.errors import ArgumentError, one_line
from vidcompress.tools.evaluation.tracking.base import RowRecord, Tracker

TRACKERS: Final = ("trackio", "wandb")
"""Modules that `open_trackers` serves; nothing imports them before."""


class ModuleTracker:
    """Tracker over a module with `init`, `log` and `finish`: each row is a run of its own.

    Args:
        module: the module.
        options: further arguments of `init`.
    """

    def __init__(self, module: Any, options: Mapping[str, Any]) -> None:
        self._module, self._options = module, options

    def track(self, record: RowRecord) -> None:
        """Send one record as a run with one step."""
        self._module.init(
            project=record.project,
            name=record.name,
            group=record.group,
            config=dict(record.settings),
            **self._options,
        )
        try:
            self._module.log(dict(record.measures))
        finally:
            self._module.finish()


def open_trackers(names: Iterable[str]) -> dict[str, Tracker]:
    """Import trackers by name.

    trackio writes to this machine. Weights & Biases writes to this machine too, unless WANDB_MODE or WANDB_API_KEY
    is set; `wandb sync` uploads later.

    Args:
        names: of `TRACKERS`.

    Returns:
        Name -> tracker, each once.

    Raises:
        ArgumentError: an unknown name, or a module that is not installed.
    """
    trackers: dict[str, Tracker] = {}
    for name in names:
        one_of("--log-to", name, TRACKERS)
        try:
            module = import_module(name)
        except ImportError as error:
            raise ArgumentError(
                f"--log-to={name}: {name} cannot be imported ({one_line(error)}); pip install {name}, or leave it out"
            ) from error
        is_online = bool(os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY"))
        trackers[name] = ModuleTracker(
            module, {"mode": "offline"} if name == "wandb" and not is_online else {}
        )
    return trackers

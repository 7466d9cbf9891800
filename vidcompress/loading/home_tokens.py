"""Clip lengths that known checkpoints were trained on: `models/home_tokens.json`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from vidcompress.loading.resources import find


@lru_cache(maxsize=1)
def home_tokens_by_name() -> dict[str, int]:
    """Return name of a checkpoint -> visual tokens of the clips of its training, without separators."""
    data = json.loads(find("models/home_tokens.json").read_text(encoding="utf-8"))
    return {name: int(entry["home_tokens"]) for name, entry in data["checkpoints"].items()}


def known_home_tokens(model: Any) -> int | None:
    """Return the visual tokens of a clip that a known checkpoint was trained on; None for any other.

    Args:
        model: known by the folder or hub id that it was loaded from; the end `-hf` of a name does not count.
    """
    parts = PurePath(str(getattr(model.config, "_name_or_path", "") or "").replace("\\", "/")).parts
    if not parts:
        return None
    name = parts[-1]
    if len(parts) > 2 and parts[-2] == "snapshots":  # the hub's cache: models--OWNER--NAME/snapshots/REVISION
        name = parts[-3].rpartition("--")[2]
    return home_tokens_by_name().get(name.removesuffix("-hf"))

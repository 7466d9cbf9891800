"""Data files of the package: embedded checkpoints and model cards (`models/`), published runs (`configs/`), and the
picture and the clip of `examples/`.

An installed wheel has them inside the package; a checkout has them beside it. Only this module builds such paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidcompress.loading.distribution import checkout

_PACKAGE = Path(__file__).resolve().parents[1]
ROOMS = ("models", "configs", "examples")
"""The data folders of the package."""


def roots(room: str) -> tuple[Path, ...]:
    """Return the folders that may hold a room, the wheel's first.

    Args:
        room: "models", "configs" or "examples".

    Returns:
        The existing ones of `vidcompress/_<room>` and `<checkout>/<room>`, in this order.

    Raises:
        ValueError: there is no such room.
    """
    if room not in ROOMS:
        raise ValueError(f"room={room!r}: must be one of {', '.join(ROOMS)}")
    candidates = [_PACKAGE / f"_{room}"]
    beside = checkout(_PACKAGE.parent)
    if beside is not None:  # other neighbours of the package, in site-packages, are not searched
        candidates.append(beside / room)
    return tuple(path for path in candidates if path.is_dir())


def find(name: str) -> Path:
    """Locate one data file or folder of the package.

    Args:
        name: its path as in a checkout, with forward slashes: "models/tiny-onevision", "models/cards/x.toml".

    Returns:
        The path of the existing file or folder.

    Raises:
        ValueError: the name does not begin with a room, or leads out of it.
        FileNotFoundError: the package does not hold it; the message lists what the room holds.
    """
    room, _, rest = name.partition("/")
    if room not in ROOMS or ".." in rest.split("/") or rest.startswith("/"):
        raise ValueError(f"name={name!r}: must be a relative path below one of {', '.join(ROOMS)}")
    for root in roots(room):
        if (root / rest).exists():
            return root / rest
    held = ", ".join(path.name for path in listing(room)) or "nothing"
    raise FileNotFoundError(
        f"name={name!r}: this installation of vidcompress does not hold it ({room} holds {held}); "
        f"check the spelling, or reinstall the package"
    )


def listing(room: str) -> Iterator[Path]:
    """Yield the entries of a room, by name; where both places have one, the wheel's."""
    seen: dict[str, Path] = {}
    for root in roots(room):
        for path in root.iterdir():
            if not path.name.startswith((".", "__")):
                seen.setdefault(path.name, path)
    return iter([seen[name] for name in sorted(seen)])


def embedded_models() -> dict[str, Path]:
    """Return the checkpoints that come with the package.

    Returns:
        Name -> folder, by name: every folder of `models/` that holds a `config.json` and safetensors weights.
    """
    return {
        path.name: path
        for path in listing("models")
        if (path / "config.json").is_file() and any(path.glob("*.safetensors"))
    }


def model_name(model: Any) -> str:
    """Return the name of a model: that of an embedded one, else its folder or hub id, else its class."""
    source = str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
    embedded = {str(folder): name for name, folder in embedded_models().items()}
    return embedded.get(source, source)

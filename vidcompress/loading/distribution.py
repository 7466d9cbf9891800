"""Distribution of the package: its name, its installed metadata, and the commands that install its extras.

The module and the command are `vidcompress`. On the package index that name belongs to another project.
"""

from __future__ import annotations

import shlex
from importlib.metadata import PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

DISTRIBUTION: Final = "vidcompress-vlm"
_BESIDE: Final = Path(__file__).resolve().parents[2]


def checkout(folder: Path | None = None) -> Path | None:
    """Return the checkout that the package runs from; None for an installed wheel.

    Args:
        folder: folder of the package; None for that of this package.
    """
    folder = folder or _BESIDE
    project = folder / "pyproject.toml"
    ours = project.is_file() and f'\nname = "{DISTRIBUTION}"\n' in project.read_text(encoding="utf-8")
    return folder if ours else None


def how_to_install(extra: str = "") -> str:
    """Return the command that installs the package, for the end of a message.

    Args:
        extra: of the optional dependencies in pyproject.toml, such as "eval"; "" for none.

    Returns:
        `pip install '.[eval]' in the checkout` where the package runs from one, else `pip install
        'vidcompress-vlm[eval]'`.
    """
    name, where = (DISTRIBUTION, "") if checkout() is None else (".", " in the checkout")
    return f"pip install {shlex.quote(f'{name}[{extra}]' if extra else name)}{where}"


def stated() -> PackageMetadata | None:
    """Return the installed metadata of this package; None for a checkout that was not installed."""
    try:
        return distribution(DISTRIBUTION).metadata
    except PackageNotFoundError:
        return None


def namesake() -> str | None:
    """Return the version of an installed distribution called `vidcompress`, which is another project; else None."""
    try:
        return distribution("vidcompress").version
    except PackageNotFoundError:
        return None

"""Files of plots: the files behind a path for plots, and the writing of figures."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidcompress.errors import ArgumentError, UnsupportedInputError, one_line, shown
from vidcompress.loading.distribution import how_to_install

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png", ".pdf", ".webp", ".jpg")
BOTH = (".svg", ".png")
"""Suffixes of every plot in a folder."""
_SETTINGS: Any = {"svg.hashsalt": "vidcompress", "svg.fonttype": "none"}


def plot_paths(path: Path, names: Sequence[str]) -> list[list[Path]]:
    """Return the files of each of some plots; a folder is made where it is missing.

    Args:
        path: with a suffix the file of one plot; an existing folder, or a path without a suffix, is the folder of all.
        names: of the plots, without a suffix; used in a folder, where each plot has a file of each suffix of `BOTH`.

    Raises:
        ArgumentError: several plots and one file, another suffix, or a folder that is missing or cannot be made.
    """
    text = f"plot={shown(str(path))}"
    if path.suffix and not os.path.isdir(path):  # os.path does not fail on a name that is too long
        if path.suffix.lower() not in SUFFIXES:
            raise ArgumentError(f"{text}: must end in {', '.join(SUFFIXES)}, or be a folder")
        if not os.path.isdir(path.absolute().parent):
            raise ArgumentError(f"{text}: its folder does not exist; make it first")
        if len(names) != 1:
            raise ArgumentError(f"{text}: one file cannot take {len(names)} plots; name a folder")
        return [[path]]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"{text}: cannot be made ({one_line(error)}); name another folder") from error
    return [[path / f"{name}{suffix}" for suffix in BOTH] for name in names]


def figure_of(size: tuple[float, float]) -> Figure:
    """Make an empty figure without pyplot, so that nothing global is changed and no display is needed.

    Args:
        size: width and height in inches.

    Raises:
        UnsupportedInputError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnsupportedInputError(
            f"plots need matplotlib, which is not installed; use {how_to_install('plot')}"
        ) from error
    return Figure(figsize=size, layout="constrained")


def svg_of(figure: Figure) -> str:
    """Return a figure as SVG; the same figure gives the same text."""
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write a figure, whole or not at all, in the suffix's format. The same figure gives the same bytes of SVG and PDF.

    Raises:
        ArgumentError: a suffix that is not in `SUFFIXES`, or a path that cannot be written.
    """
    import matplotlib

    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"path={shown(str(path))}: must end in {', '.join(SUFFIXES)}")
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, matplotlib.rc_context(_SETTINGS):
            unfinished = Path(folder) / path.name
            figure.savefig(unfinished, dpi=150, metadata=undated)
            unfinished.replace(path)
    except OSError as error:
        raise ArgumentError(
            f"path={shown(str(path))}: cannot be written ({one_line(error)}); name another"
        ) from error
    return path

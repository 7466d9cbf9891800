"""Provenance of a result: command, commit, versions, machine."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "numpy", "av", "pillow")


def provenance(root: Path | None = None) -> dict[str, Any]:
    """Return the provenance of this process as JSON types.

    Args:
        root: the checkout whose commit is stated; by default that of this package. The commit of an installed package
            is None.
    """
    import torch

    import vidcompress

    root = root or Path(vidcompress.__file__).resolve().parent.parent
    # An installed package may lie in a foreign repository, whose commit is not this package's.
    is_checkout = (root / "pyproject.toml").is_file()
    return {
        "command": shlex.join(["python", *_started(root), *sys.argv[1:]]),
        "commit": _git(root, "rev-parse", "HEAD") if is_checkout else None,
        "dirty": is_checkout and bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        "vidcompress": vidcompress.__version__,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
    }


def _started(root: Path) -> list[str]:
    """Arguments of python: a file, or `-m` and a package, whose `__main__.py` does not run as a file."""
    # The installed script may lie anywhere.
    if Path(sys.argv[0]).stem == "vidcompress" and Path(sys.argv[0]).suffix in ("", ".exe"):
        return ["-m", "vidcompress"]
    path = os.path.relpath(sys.argv[0], root)
    folder, name = os.path.split(path)
    return ["-m", folder.replace(os.sep, ".")] if name == "__main__.py" and folder[:1].isalpha() else [path]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(root: Path, *args: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

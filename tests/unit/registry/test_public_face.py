"""The names that other packages may import: all there, from the public packages only, in any order."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PUBLIC = (
    "vidcompress",
    "vidcompress.methods",
    "vidcompress.adapters",
    "vidcompress.media",
    "vidcompress.testing",
)
IMPORT = re.compile(r"^ *(?:from|import) (vidcompress[\w.]*)", re.MULTILINE)
PLUG_INS = sorted((ROOT / "tests" / "outside" / "acme_compress").glob("*.py"))
OUTSIDE = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "own_method.py",
    *(ROOT / "tests/outside").rglob("*.py"),
]


@pytest.mark.parametrize("name", ["vidcompress.methods", "vidcompress.adapters"])
def test_every_public_name_is_there(name: str) -> None:
    package = importlib.import_module(name)
    assert list(package.__all__) == sorted(package.__all__)
    assert not [public for public in package.__all__ if not hasattr(package, public)]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_other_packages_need_public_names_only(path: Path) -> None:
    modules = set(IMPORT.findall(path.read_text(encoding="utf-8")))
    assert modules <= {*PUBLIC, "vidcompress.cli"}


@pytest.mark.parametrize("path", PLUG_INS, ids=lambda path: path.stem)
def test_a_plug_in_may_be_the_first_import(path: Path) -> None:
    """No circle: the packages that a plug-in imports need nothing of it, and take its classes when it registers."""
    code = f"import runpy; runpy.run_path({str(path)!r}); import vidcompress; vidcompress.available_methods()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""The documentation is built strictly: what is dead or unknown fails the build; what is right does not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("furo", reason="needs the extra docs")

from check_site import dead
from documents import ROOT
from vidcompress import __all__ as top
from vidcompress import adapters, media, methods, qa, testing
from vidcompress.tools import benchmark, cost, doctor

INDEX = "# Pages\n\n[one](one.md), [its part](one.md#a-part), [a file](../pyproject.toml)\n\n```{toctree}\none\n```\n"
ONE = "# One\n\n## A part\n\n```{eval-rst}\n.. autofunction:: vidcompress.available_methods\n```\n"
MISTAKES = {
    "[x](page.md)": "target not found: 'page.md'",
    "[x](../file.toml)": "target not found: '../file.toml'",
    "[x](#anchor)": "target not found: 'anchor'",
    "[x](one.md#part)": "local id not found in doc 'docs/one': 'part'",
    "![x](picture.png)": "image file not readable: docs/picture.png",
    "```{eval-rst}\n:py:class:`vidcompress.Reference`\n```": "reference target not found: vidcompress.Reference",
    "```{eval-rst}\n.. autoclass:: vidcompress.Docstring\n```": "failed to import 'Docstring' from module",
    "```{eval-rst}\n.. toctree::\n\n   entry\n```": "nonexisting document 'docs/entry'",
    "```{directive}\n```": "Unknown directive type: 'directive'",
}
"""What is wrong, and the warning that says so."""


def build(folder: Path, pages: dict[str, str], builder: str = "dummy") -> subprocess.CompletedProcess[str]:
    """Build a small project with the configuration of this one."""
    (folder / "docs" / "_site").mkdir(parents=True)
    for name in ("docs/conf.py", "docs/_site/index.html", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for name, text in pages.items():
        (folder / "docs" / f"{name}.md").write_text(text, encoding="utf-8")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder, "-c", "docs", ".", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_what_is_right_is_built(tmp_path: Path) -> None:
    done = build(tmp_path, {"index": INDEX, "one": ONE}, "html")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert dead(tmp_path / "out") == []
    page = tmp_path / "out" / "docs" / "index.html"
    assert "pyproject.toml" in page.read_text(encoding="utf-8")
    page.write_text(
        '<a href="one.html#gone"></a><a href="two.html"></a><img src="https://example.org/x.png">'
    )
    from check_site import _read

    _read.cache_clear()
    assert dead(tmp_path / "out") == [
        "docs/index.html: one.html#gone: no such anchor",
        "docs/index.html: two.html: no such file",
        "docs/index.html: https://example.org/x.png: fetched from outside",
    ]


@pytest.mark.slow
def test_each_mistake_fails_the_build(tmp_path: Path) -> None:
    """All in one build, a page each; every one has a warning of its own."""
    names = [f"bad{number}" for number in range(len(MISTAKES))]
    pages = {name: f"# Page\n\n{text}\n" for name, text in zip(names, MISTAKES, strict=True)}
    index = INDEX.replace("\none\n", "\n" + "\n".join(["one", *names]) + "\n")
    done = build(tmp_path, {"index": index, "one": ONE, **pages})
    assert done.returncode == 1
    for said in MISTAKES.values():
        assert said in done.stderr, done.stderr
    assert not [
        line for line in done.stderr.splitlines() if "index.md" in line or "one.md" in line.split(":")[0]
    ]


def test_every_public_name_is_on_an_api_page() -> None:
    """In its own place: a name of `vidcompress` is not repeated under the package that hands it on."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/api/*.md")))
    named = re.findall(r"^\.\. (?:auto\w+|data):: (\S+)$", pages, flags=re.MULTILINE)
    assert len(named) == len(set(named))
    wanted = {f"vidcompress.{name}" for name in top if name != "__version__"}
    for module in (qa, methods, adapters, media, testing, cost, doctor, benchmark):
        wanted |= {f"{module.__name__}.{name}" for name in module.__all__ if name not in top}
    homes = {name.rpartition(".")[2] for name in named}
    assert not {name for name in wanted if name not in named and name.rpartition(".")[2] not in homes}

"""What other systems and other versions of Python lack is asked for only where it is there."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vidcompress.tools.evaluation.lmms_eval import launch
from vidcompress.tools.runs import memory

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vidcompress"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNIX = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "posix", "syslog"}
ON_LINUX_ONLY = "media/video/readers/_decord_child.py"
"""Run beside decord, which has wheels for Linux only."""


def importers(package: Path, modules: set[str]) -> set[str]:
    """Files of a package that import one of some modules, at once or later."""
    return {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if modules
        & {name for node in ast.walk(ast.parse(path.read_text("utf-8"))) for name in _imported(node)}
    }


def test_nothing_imports_what_only_unix_has(tmp_path: Path) -> None:
    assert importers(PACKAGE, UNIX) == {ON_LINUX_ONLY}
    (tmp_path / "late.py").write_text("def f():\n    from fcntl import flock\n", encoding="utf-8")
    (tmp_path / "good.py").write_text("from .fcntl import flock\nimport os.resource\n", encoding="utf-8")
    assert importers(tmp_path, UNIX) == {"late.py"}


def test_peak_memory_without_the_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.resident_peak() > 2**20
    answered = SimpleNamespace(
        Process=lambda: SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    )
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "psutil", answered)
    assert memory.resident_peak() == 123


def test_lmms_eval_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert launch.SERVED == (sys.platform != "win32")
    monkeypatch.setattr(launch, "SERVED", False)
    with pytest.raises(launch.LmmsError, match="Linux and macOS only"):
        launch.run_lmms(task="pope", model_args={}, out=tmp_path / "out", journal=tmp_path / "journal")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_source_is_that_of_the_oldest_python(path: Path) -> None:
    """Python 3.12 and later read everything that 3.11 reads; modules that they dropped are not imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 11))
    imported = {name for node in ast.walk(tree) for name in _imported(node)}
    assert not imported & GONE


GONE = {
    *("asynchat", "asyncore", "distutils", "imp", "smtpd"),  # 3.12
    *(
        "aifc",
        "audioop",
        "cgi",
        "cgitb",
        "chunk",
        "crypt",
        "imghdr",
        "mailcap",
        "msilib",
        "nis",
        "nntplib",
    ),  # 3.13
    *("ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib", "lib2to3"),
}


def _imported(node: Any) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return (
        [node.module.partition(".")[0]]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        else []
    )


def test_the_versions_of_python_that_are_stated_are_one_range() -> None:
    stated = [entry.rpartition(" ")[2] for entry in PROJECT["classifiers"] if "Python :: 3." in entry]
    assert stated == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={stated[0]}"

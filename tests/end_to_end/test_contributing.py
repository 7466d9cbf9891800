"""CONTRIBUTING is true: its walk-through, followed to the letter, makes a method and a family that work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
OUTSIDE = ROOT / "tests" / "outside"
FILES = re.compile(
    r"^(?P<line>[^\n]*`[^\n]*):\n\n```(?:python|markdown|toml)\n(?P<body>.*?)^```", re.DOTALL | re.MULTILINE
)


def blocks() -> dict[str, str]:
    """The content of each file that the line above a code block names."""
    found = {}
    for match in FILES.finditer(TEXT):
        for path in re.findall(r"`([\w./-]+\.\w+)`", match["line"]):
            assert path not in found, f"{path} is written twice"
            found[path] = match["body"]
    return found


HERE = {
    path: body for path, body in blocks().items() if (ROOT / path).parent.is_dir() and path.count("/") > 1
}
ELSEWHERE = {path: body for path, body in blocks().items() if path not in HERE}


def test_the_walk_through_names_its_files() -> None:
    assert set(HERE) == {
        "vidcompress/methods/edges.py",
        "vidcompress/methods/cards/edges.md",
        "tests/unit/methods/test_edges.py",
        "vidcompress/adapters/llava15.py",
        "tests/contract/test_llava15.py",
    }
    assert not [path for path in HERE if (ROOT / path).exists()]


def test_from_a_package_of_ones_own_it_is_the_package_under_test() -> None:
    """Whose tests are run, installed, by test_outside."""
    tracked = {
        str(path.relative_to(OUTSIDE))
        for path in OUTSIDE.rglob("*")
        if path.suffix in (".py", ".md", ".toml")
    }
    assert set(ELSEWHERE) == tracked - {"tests/test_every_way.py"}
    for path, body in ELSEWHERE.items():
        assert body == (OUTSIDE / path).read_text(encoding="utf-8"), (
            f"CONTRIBUTING and tests/outside/{path} differ"
        )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout in which the walk-through was followed."""
    copy = tmp_path_factory.mktemp("followed")
    for name in ("vidcompress", "tests", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("models", "configs", "examples", "docs"):
        (copy / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "Makefile", "README.md", "CONTRIBUTING.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, copy / name)
    for path, body in HERE.items():
        (copy / path).write_text(body, encoding="utf-8")
    rows = re.findall(r"^\| `[^\n]*\|$", TEXT, flags=re.MULTILINE)
    readme = (copy / "README.md").read_text(encoding="utf-8")
    last = re.findall(r"^\| `llava[^\n]*\n", readme, flags=re.MULTILINE)[-1]
    (copy / "README.md").write_text(readme.replace(last, last + "\n".join(rows) + "\n"), encoding="utf-8")
    run(copy, "scripts/refresh_readme.py")  # what `make readme` runs
    return copy


def run(folder: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_here_it_makes_a_method_and_a_family(checkout: Path) -> None:
    files = [path for path in HERE if path.startswith("tests/")]
    files += [
        "tests/unit/methods/test_options.py",
        "tests/unit/registry/test_registry.py",
        "tests/end_to_end/test_readme.py",
    ]
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert " passed" in run(checkout, *options, *files)
    assert " passed" in run(checkout, *options, "tests/contract", "-k", "edges and llava_next-image")


@pytest.mark.slow
def test_here_it_is_in_the_lists_and_in_the_readme(checkout: Path) -> None:
    listed = run(checkout, "-c", "from vidcompress.cli import main; main(['methods'])")
    assert "Tokens unlike their left neighbour" in listed
    assert "llava15" not in listed
    assert "Llava15Adapter" in run(checkout, "-c", "from vidcompress.cli import main; main(['models'])")
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    assert (
        "| `edges` | image, video | Tokens unlike their left neighbour, where something begins or ends. |"
        in readme
    )
    assert "| `llava` (LLaVA-1.5) |" in readme


def test_commands_are_those_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from vidcompress.cli import main

    for words in re.findall(r"^vidcompress ([a-z]+)", TEXT, flags=re.MULTILINE):
        with pytest.raises(SystemExit) as stop:
            main([words, "--help"])
        assert not stop.value.code
    assert "Usage" in capsys.readouterr().out

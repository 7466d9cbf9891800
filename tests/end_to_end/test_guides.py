"""The guides are true: their walks, followed to the letter, make a method and a family that work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documents import blocks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "guide-method.md", ROOT / "docs" / "guide-family.md"]
OUTSIDE = ROOT / "tests" / "outside"


def files() -> dict[str, str]:
    """The content of each file that the line above a code block names."""
    found = {}
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            for path in block.files:
                assert path not in found, f"{path} is written twice"
                found[path] = block.body
    return found


HERE = {path: body for path, body in files().items() if (ROOT / path).parent.is_dir() and path.count("/") > 1}
ELSEWHERE = {path: body for path, body in files().items() if path not in HERE}


def test_the_walk_through_names_its_files() -> None:
    assert set(HERE) == {
        "vidcompress/methods/edges.py",
        "vidcompress/methods/cards/edges.md",
        "tests/unit/methods/test_edges.py",
        "vidcompress/adapters/cohere2_vision.py",
        "vidcompress/adapters/glm/glm4v_moe.py",
        "tests/contract/test_cohere2_vision.py",
        "tests/contract/test_glm4v_moe.py",
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
            f"the guides and tests/outside/{path} differ"
        )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout in which the walk-through was followed."""
    copy = tmp_path_factory.mktemp("followed")
    for name in ("vidcompress", "tests", "scripts"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "docs").mkdir()
    for path in (ROOT / "docs").iterdir():
        if path.suffix == ".md":
            shutil.copy(path, copy / "docs" / path.name)
    for name in ("models", "configs", "examples", "docs/results", "docs/api"):
        (copy / name).symlink_to(ROOT / name)
    for path in (ROOT / name for name in ("pyproject.toml", "Makefile", "LICENSE", "constraints.txt")):
        shutil.copy(path, copy / path.name)
    for path in ROOT.glob("*.md"):
        shutil.copy(path, copy / path.name)
    for name, body in HERE.items():
        (copy / name).write_text(body, encoding="utf-8")
    models = copy / "docs" / "models.md"
    guide = PAGES[1].read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:cohere2_vision|glm4v_moe)`[^\n]*\|$", guide, flags=re.MULTILINE)
    assert len(rows) == 2
    text = models.read_text(encoding="utf-8")
    last = re.findall(r"^\| `llava[^\n]*\n", text, flags=re.MULTILINE)[-1]
    models.write_text(text.replace(last, last + "\n".join(rows) + "\n"), encoding="utf-8")
    run(copy, "scripts/refresh_documents.py", "docs/methods.md")  # what `make snippets` runs
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
        "tests/end_to_end/test_documents.py::test_every_method_has_its_row",
        "tests/end_to_end/test_documents.py::test_every_family_and_embedded_model_is_in_the_list",
    ]
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert " passed" in run(checkout, *options, *files)
    assert " passed" in run(checkout, *options, "tests/contract", "-k", "edges and llava_next-image")


@pytest.mark.slow
def test_here_it_is_in_the_lists_and_in_the_pages(checkout: Path) -> None:
    listed = run(checkout, "-c", "from vidcompress.cli import main; main(['methods'])")
    assert "Tokens unlike their left neighbour" in listed
    assert "glm4v_moe" not in listed
    models = run(checkout, "-c", "from vidcompress.cli import main; main(['models'])")
    assert "Cohere2VisionAdapter" in models
    assert "Glm4vMoeAdapter" in models
    card = "[`edges`](../vidcompress/methods/cards/edges.md)"
    row = f"| {card} | image, video | Tokens unlike their left neighbour, where something begins or ends. |"
    assert row in (checkout / "docs" / "methods.md").read_text(encoding="utf-8")
    table = (checkout / "docs" / "models.md").read_text(encoding="utf-8")
    assert "| `cohere2_vision` (Command A Vision) |" in table
    assert "| `glm4v_moe` (GLM-4.5V) |" in table

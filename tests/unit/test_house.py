"""The house itself: what importing costs, what a wheel holds, what the Makefile and the metadata promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import vidcompress

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_import_loads_nothing_heavy_and_prints_nothing() -> None:
    probe = (
        "import sys, json, vidcompress; "
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'transformers', 'numpy', 'PIL', 'av', 'typer', 'rich'})))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert done.stderr == ""


def test_public_names_exist_and_are_documented() -> None:
    for name in vidcompress.__all__:
        value = getattr(vidcompress, name)
        assert name == "__version__" or value.__doc__, name
    assert set(vidcompress.__all__) <= set(dir(vidcompress))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vidcompress.nothing


def test_version_is_stated_once() -> None:
    assert PROJECT["project"]["dynamic"] == ["version"]
    source = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{vidcompress.__version__}"' in source.read_text(encoding="utf-8")


def test_constraints_pin_every_dependency_within_its_range() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pins = dict(line.split("==") for line in text.splitlines() if "==" in line and not line.startswith("#"))
    pins = {_plain(name): pin for name, pin in pins.items()}
    groups = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(r for g in ("dev", "decord", "plot") for r in groups[g])]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pins[_plain(requirement.name)]), requirement
        assert ">=" in str(requirement.specifier), requirement


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_makefile_has_its_targets_and_explains_them() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, flags=re.MULTILINE))
    assert {
        "demo",
        "test",
        "lint",
        "wheel-test",
        "test-older",
        "test-versions",
        "test-newest",
        "clean",
        "help",
    } <= explained
    assert "set -euo pipefail" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_licence_is_complete() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["project"]["license"] == "Apache-2.0"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names in a wheel built from this checkout."""
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("dist")
    path = next(WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_wheel_takes_one_top_level_name(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {"vidcompress", f"vidcompress_vlm-{vidcompress.__version__}.dist-info"}


def test_wheel_holds_the_data_and_no_code_among_it(wheel: list[str]) -> None:
    for name in (
        "vidcompress/py.typed",
        "vidcompress/_configs/README.md",
        "vidcompress/_models/tiny-onevision/model.safetensors",
        "vidcompress/_models/tiny-next/model.safetensors",
        "vidcompress/methods/cards/globalcom2.md",
        "vidcompress/evaluate/suite/tasks/_template_yaml",
        "vidcompress/evaluate/suite/tasks/shapes_image.yaml",
        "vidcompress/evaluate/suite/tasks/kinds/shapes_image_color.jsonl",
    ):
        assert name in wheel
    assert not [name for name in wheel if "/_models/" in name and name.endswith(".py")]
    assert not [name for name in wheel if "__pycache__" in name or name.endswith(".pyc")]


def test_embedded_models_are_small() -> None:
    for folder in (ROOT / "models").iterdir():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert size < 12 * 2**20, folder.name

"""The house itself: what importing costs, what a wheel holds, what the Makefile and the metadata promise."""

from __future__ import annotations

import json
import os
import pydoc
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import vidcompress
from house_counts import (
    circles,
    circles_of_rooms,
    class_names_twice,
    imports_at_once,
    modules,
    modules_per_folder,
    participles,
    riddles,
)

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PACKAGE = ROOT / "vidcompress"

IN_THE_ROOT = {"__init__", "__main__", "checks", "errors", "progress", "registry", "table"}
MOST_MODULES = 17
METHODS = "methods"  # one file per method: as many as there are


def test_import_loads_nothing_heavy_and_prints_nothing() -> None:
    probe = (
        "import sys, json, vidcompress; "
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'transformers', 'numpy', 'PIL', 'av', 'typer', 'rich', 'pydantic'})))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
    assert done.stderr == ""


def test_import_is_quick() -> None:
    """Processor time, best of several, so that a busy machine does not fail it."""
    probe = "import time; began = time.process_time(); import vidcompress; print(time.process_time() - began)"
    seconds = [
        float(
            subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(7)
    ]
    assert 0 < min(seconds) < 0.05, seconds


def test_help_begins_with_the_names_that_most_users_need() -> None:
    head, *_ = pydoc.plain(pydoc.render_doc(vidcompress)).partition("PACKAGE CONTENTS")
    listed = re.findall(r"^        (\w[\w.]*)  +\S.{10,70}$", head, flags=re.MULTILINE)
    assert len(listed) > 12 and listed[0] == "VisualQA"
    names = [name for name in listed if name != "cost.estimate"]
    assert names == vidcompress.__all__[: len(names)]
    assert "cost.estimate" in listed and callable(vidcompress.cost.estimate)
    assert len(head.splitlines()) < 30
    rest = vidcompress.__all__[len(names) : -1]
    for name in rest:
        error = name.endswith("Error")
        assert issubclass(getattr(vidcompress, name), vidcompress.VidcompressError) == error, name
        assert error or f"`{name}`" in head, name


def test_public_names_exist_and_are_documented() -> None:
    for name in vidcompress.__all__:
        value = getattr(vidcompress, name)
        assert name == "__version__" or value.__doc__, name
    assert {*vidcompress.__all__, "cost"} == set(dir(vidcompress))
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
    wanted = [
        *PROJECT["project"]["dependencies"],
        *(r for g in ("dev", "decord", "plot", "app", "datasets") for r in groups[g]),
    ]
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
        "release-check",
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
        "vidcompress/_examples/scene.png",
        "vidcompress/_examples/clip.mp4",
        "vidcompress/tools/app/templates/cards.html",
        "vidcompress/tools/app/templates/style.css",
        "vidcompress/methods/cards/globalcom2.md",
        "vidcompress/qa/viewer/template.html",
        "vidcompress/qa/viewer/viewer.css",
        "vidcompress/qa/viewer/viewer.js",
        "vidcompress/tools/evaluation/report/page/page.html",
        "vidcompress/tools/evaluation/report/page/page.css",
        "vidcompress/tools/evaluation/report/page/page.js",
        "vidcompress/tools/evaluation/suite/tasks/_template_yaml",
        "vidcompress/tools/evaluation/suite/tasks/shapes_image.yaml",
        "vidcompress/tools/evaluation/suite/tasks/kinds/shapes_image_color.jsonl",
    ):
        assert name in wheel
    assert not [name for name in wheel if "/_models/" in name and name.endswith(".py")]
    assert not [name for name in wheel if "__pycache__" in name or name.endswith(".pyc")]


def test_embedded_models_are_small() -> None:
    for folder in (ROOT / "models").iterdir():
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert size < 12 * 2**20, folder.name


def test_the_contracts_let_no_import_pass() -> None:
    contracts = {entry["id"]: entry for entry in PROJECT["tool"]["importlinter"]["contracts"]}
    assert set(contracts) == {"layers", "tools", "pure"}
    assert not [name for name, entry in contracts.items() if entry.get("ignore_imports")]
    assert contracts["layers"]["exhaustive"] and contracts["tools"]["exhaustive"]
    assert contracts["layers"]["exhaustive_ignores"] == ["__main__"]
    assert set(contracts["pure"]["source_modules"]) == {
        f"vidcompress.{name}" for name in ("core", "ops", "methods")
    }


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        (
            "methods/pool.py",
            "from vidcompress.media import load_image",
            "vidcompress.methods.pool -> vidcompress.media",
        ),
        ("core/layout.py", "import transformers", "vidcompress.core.layout -> transformers"),
        (
            "adapters/base.py",
            "import vidcompress.session.compress",
            "vidcompress.adapters.base -> vidcompress.session.compress",
        ),
        (
            "tools/cost/table.py",
            "from vidcompress.cli import main",
            "vidcompress.tools.cost.table -> vidcompress.cli",
        ),
        (
            "tools/cost/table.py",
            "import vidcompress.tools.benchmark.plan",
            "vidcompress.tools.cost.table -> vidcompress.tools.benchmark.plan",
        ),
        ("newcomer.py", "import json", "newcomer"),
    ],
)
def test_a_new_import_upward_breaks_the_contracts(tmp_path: Path, module: str, line: str, said: str) -> None:
    shutil.copytree(PACKAGE, tmp_path / "vidcompress", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    before = _lint(tmp_path)
    assert before.returncode == 0, before.stdout + before.stderr
    path = tmp_path / "vidcompress" / module
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{source}\n\ndef late() -> None:\n    {line}\n", encoding="utf-8")
    after = _lint(tmp_path)
    assert after.returncode == 1
    assert said in after.stdout


def test_modules_and_rooms_import_one_another_in_no_circle() -> None:
    assert circles("vidcompress") == []
    assert circles_of_rooms("vidcompress") == []


# A small package, file to content: its rooms `hall` and `attic` import each other, though no two of its modules do.
DOORS = {
    "__init__.py": "",
    "base.py": "import json\n",
    "hall/__init__.py": "",
    "hall/door.py": "from {0}.attic import beam\n",
    "hall/floor.py": "from {0} import base\n",
    "attic/__init__.py": "",
    "attic/beam.py": "from {0}.base import json\n",
    "attic/roof.py": "import {0}.hall.floor\n",
}
LAZY = "\n\ndef late():\n    from {0}.hall import door\n"
TYPED = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from {0}.hall.door import beam\n"


@pytest.mark.parametrize("last", [LAZY, TYPED])
def test_a_circle_of_imports_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for package, closed in ((f"open_house_{len(last)}", False), (f"round_house_{len(last)}", True)):
        for name, text in {**DOORS, **({"base.py": last} if closed else {})}.items():
            path = tmp_path / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(package), encoding="utf-8")
        around = [{f"{package}.{name}" for name in ("base", "hall.door", "attic.beam")}] if closed else []
        assert circles(package) == around
        rooms = {f"{package}.{name}" for name in ("hall", "attic", *(["base"] if closed else []))}
        assert circles_of_rooms(package) == [rooms]


def test_no_class_name_means_two_things() -> None:
    assert class_names_twice(PACKAGE) == {}


def test_few_modules_lie_in_the_root_and_in_each_folder() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == IN_THE_ROOT
    counts = modules_per_folder(PACKAGE)
    assert {folder for folder, count in counts.items() if count > MOST_MODULES} <= {METHODS}


def test_no_participle_is_a_name_in_the_core() -> None:
    folders = ("core", "ops", "methods", "adapters", "session", "llm_pruning")
    paths = [path for name, path in modules(PACKAGE).items() if name.partition(".")[0] in folders]
    assert len(paths) > 60
    assert participles(paths) == 0


def test_no_word_names_no_thing() -> None:
    assert riddles(PACKAGE) == 0


def test_commands_load_torch_only_when_they_run() -> None:
    assert imports_at_once(PACKAGE / "cli", "torch") == []


GOOD = {
    "one.py": "class Row: ...\nclass _Row: ...\nnumbers = [1]\n\ndef run():\n    import torch\n",
    "media/other.py": "class Column: ...\nclass _Row: ...\nfound_rows = 1  # untold\n",
    "__init__.py": "if TYPE_CHECKING:\n    from torch import Tensor\n",
}
BAD = {
    "one.py": "class Column: ...\nfor found in (1, 2):\n    made = found\nimport torch.nn\n",
    "media/other.py": "class Column: ...  # what nobody was Told\ntry:\n    from torch import nn\nfinally: ...\n",
    "media/card.md": "Somebody said so.\n",
}


def _write(package: Path, files: dict[str, str]) -> list[Path]:
    (package / "media").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (package / name).write_text(text, encoding="utf-8")
    return [package / "one.py", package / "media" / "other.py"]


def test_the_counts_behind_the_limits_notice_what_they_count(tmp_path: Path) -> None:
    paths = _write(tmp_path, GOOD)
    assert modules(tmp_path) == {"one": paths[0], "media.other": paths[1]}
    assert modules_per_folder(tmp_path) == {".": 1, "media": 1}
    assert class_names_twice(tmp_path) == {}
    assert participles(paths) == riddles(tmp_path) == 0
    assert imports_at_once(tmp_path, "torch") == []
    _write(tmp_path, BAD)
    assert class_names_twice(tmp_path) == {"Column": 2}
    assert participles(paths) == 2
    assert riddles(tmp_path) == 3
    assert imports_at_once(tmp_path, "torch") == ["other.py:3", "one.py:4"]

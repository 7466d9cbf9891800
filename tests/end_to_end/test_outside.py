"""Other packages: one that works, found by its entry points, and many that do not, each reported and harmless.

They are installed into a folder, as pip would, and used from another process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = ROOT / "tests" / "outside"


def run(words: list[str], *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with these folders, and this checkout, on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}
    environment |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )


def vidcompress(words: list[str], *paths: Path) -> subprocess.CompletedProcess[str]:
    return run(["-c", f"from vidcompress.cli import main; main({words!r})"], *paths)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel of tests/outside was installed into."""
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("outside")
    wheel = next(WheelBuilder(str(OUTSIDE)).build(directory=str(folder), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_package_works_without_touching_the_core(site: Path) -> None:
    """Its own tests: the contract, the processor, every way in."""
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir", str(OUTSIDE)]
    done = run(["-m", "pytest", *options, str(OUTSIDE / "tests")], site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


METHOD = """
from dataclasses import dataclass
import torch
from vidcompress import Method, Selection, register_method

{decorators}
class Theirs({base}):
    name = "{name}"
    summary = "theirs"
    modalities = frozenset({{"image"}})
{body}
"""
SELECT = (
    "    def select(self, batch, budgets):\n"
    "        return [Selection(torch.arange(budget.positions)) for budget in budgets]"
)
DECORATORS = "@register_method\n@dataclass(frozen=True)"


def method(name: str, body: str = SELECT, decorators: str = DECORATORS, base: str = "Method") -> str:
    return METHOD.format(name=name, body=body, decorators=decorators, base=base)


def without(line: str, source: str) -> str:
    return "\n".join(kept for kept in source.splitlines() if line not in kept)


ADAPTER = """
from vidcompress import register_adapter
from vidcompress.adapters import Adapter

@register_adapter
class Theirs(Adapter):
    model_types = ("{model_type}",)
    {has_cls}
    def visuals(self, inputs):
        return [], []
    def encode(self, visuals, evidence=(), frames=None, max_views=16):
        return []
"""
FAMILY = """
from vidcompress.media import Family, register_family
register_family(Family("{model_type}", lambda geometry, size: 1, crops=False))
"""
HAS_CLS = "has_cls = True"

# Entry point (also the module's name): group, source, what the reason says.
BROKEN: dict[str, tuple[str, str, str]] = {
    "no_library": (
        "methods",
        "import no_such_library",
        "ModuleNotFoundError: No module named 'no_such_library'",
    ),
    "syntax": ("methods", "def (", "SyntaxError"),
    "exits": ("methods", "raise SystemExit(3)", "SystemExit: 3"),
    "own_error": ("methods", "class Bad(BaseException): pass\nraise Bad('two\\nlines')", "Bad: two lines"),
    "half": (
        "methods",
        method("half") + "\nraise RuntimeError('after it registered')",
        "RuntimeError: after it",
    ),
    "nothing": (
        "methods",
        "x = 1",
        "it registers no method; put @register_method above a class of that module",
    ),
    "no_dataclass": (
        "methods",
        method("no_dataclass", decorators="@register_method"),
        "must be a frozen dataclass",
    ),
    "no_name": ("methods", without("name =", method("x")), "must define the class attribute 'name'"),
    "no_summary": ("methods", without("summary =", method("x")), "must define the class attribute 'summary'"),
    "ill_named": ("methods", method("Their Method"), "method name must be lower-case letters"),
    "no_select": ("methods", method("no_select", body=""), "Theirs does not define select"),
    "option": (
        "methods",
        method("option", body=SELECT + "\n    policy: int = 3"),
        "method Theirs has the option 'policy', which is an argument of compress_inputs or VisualQA",
    ),
    "no_method": (
        "methods",
        method("x", base="object"),
        "takes a subclass of vidcompress.core.method.Method",
    ),
    "taken": (
        "methods",
        method("uniform"),
        "method 'uniform' of taken.Theirs is already registered by vidcompress.methods.controls.Uniform",
    ),
    "taken_twice": (
        "methods",
        method("edges"),
        "method 'edges' of taken_twice.Theirs is already registered by "
        "acme_compress.edges.Edges (package acme-compress 1.0)",
    ),
    "adapter_property": (
        "adapters",
        ADAPTER.format(model_type="x", has_cls="def has_cls(self):\n        return True"),
        "adapter Theirs: has_cls must be a property or a plain value",
    ),
    "adapter_taken": (
        "adapters",
        FAMILY.format(model_type="theirs") + ADAPTER.format(model_type="llava_next", has_cls=HAS_CLS),
        "adapter 'llava_next' of adapter_taken.Theirs is already registered by "
        "vidcompress.adapters.llava_next.LlavaNextAdapter",
    ),
    "family_taken": (
        "adapters",
        FAMILY.format(model_type="llava_next") + ADAPTER.format(model_type="x", has_cls=HAS_CLS),
        "model_type='llava_next' is registered already",
    ),
}


def install(folder: Path, name: str, points: dict[str, dict[str, str]], **modules: str) -> None:
    """Lay down modules and the metadata of a distribution, version 1.0; points: group to entry points."""
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    sections = [
        f"[vidcompress.{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections))


@pytest.fixture(scope="module")
def rubble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages that are broken, each in its own way, among them some that work."""
    folder = tmp_path_factory.mktemp("rubble")
    for name, (group, source, _) in BROKEN.items():
        install(folder, f"their-{name.replace('_', '-')}", {group: {name: name}}, **{name: source})
    install(folder, "their-nowhere", {"methods": {"nowhere": "not a module!"}})
    install(folder, "their-loud", {"methods": {"loud": "loud"}}, loud="print('hello')\n" + method("loud"))
    bare = method("by_class", decorators="@dataclass(frozen=True)")
    install(folder, "their-class", {"methods": {"by_class": "by_class:Theirs"}}, by_class=bare)
    (folder / "mixed").mkdir()
    (folder / "mixed" / "__init__.py").write_text("")
    (folder / "mixed" / "good.py").write_text(method("mixed_good") + FAMILY.format(model_type="mixed_good"))
    bad = method("mixed_bad") + FAMILY.format(model_type="mixed_bad")
    (folder / "mixed" / "bad.py").write_text(f"from . import good\n{bad}\nraise ImportError('only here')")
    install(folder, "their-mixed", {"methods": {"a_bad": "mixed.bad", "b_good": "mixed.good"}})
    return folder


@pytest.fixture(scope="module")
def listed(site: Path, rubble: Path) -> dict[str, Any]:
    """What `vidcompress methods` and `models` say with all of them installed."""
    listings = {}
    for command in ("methods", "models"):
        done = vidcompress([command, "--json"], site, rubble)
        assert done.returncode == 0, done.stderr
        listings[command] = json.loads(done.stdout)
        listings[f"{command} stderr"] = done.stderr
    return listings


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_one_is_reported_by_name(listed: dict[str, Any], name: str) -> None:
    group, _, reason = BROKEN[name]
    listing = "methods" if group == "methods" else "models"
    (entry,) = [entry for entry in listed[listing]["broken"] if entry["name"] == name]
    assert entry["package"] == f"their-{name.replace('_', '-')} 1.0"
    assert entry["value"] == name
    assert reason in entry["reason"]
    assert "\n" not in entry["reason"]
    warned = f"{group[:-1]} entry point {name!r} ({name}, from {entry['package']}): {entry['reason']}"
    assert listed[f"{listing} stderr"].count(warned) == 1


def test_an_entry_point_to_nowhere_is_reported(listed: dict[str, Any]) -> None:
    found = {entry["package"]: entry["reason"] for entry in listed["methods"]["broken"]}
    assert "not of the form 'module' or 'module:name'" in found["their-nowhere 1.0"]


def test_the_others_are_not_harmed(listed: dict[str, Any]) -> None:
    methods = {entry["name"]: entry for entry in listed["methods"]["methods"]}
    ours = {"frames", "globalcom2", "none", "pool", "random", "uniform", "vidcom2"}
    assert ours | {"edges", "loud", "by_class", "mixed_good"} <= set(methods)
    assert {name for name, entry in methods.items() if entry["package"] is None} >= ours
    assert methods["uniform"]["options"] == {"rule": "stride"}
    assert methods["edges"]["package"] == "acme-compress 1.0"
    assert methods["by_class"]["package"] == "their-class 1.0"
    assert methods["mixed_good"]["package"] == "their-mixed 1.0"
    assert not {"half", "mixed_bad", "no_dataclass", "option", "Their Method"} & set(methods)
    families = {entry["model_type"]: entry["package"] for entry in listed["models"]["families"]}
    assert families["cohere2_vision"] == families["glm4v_moe"] == "acme-compress 1.0"
    assert families["llava_next"] is None
    assert "x" not in families
    broken = len(listed["methods"]["broken"])
    assert broken == sum(group == "methods" for group, _, _ in BROKEN.values()) + 2


@pytest.mark.parametrize("first", ["", "from vidcompress.adapters.base import ADAPTERS; ADAPTERS.names()\n"])
def test_what_a_module_that_fails_registered_is_removed(site: Path, rubble: Path, first: str) -> None:
    """Its methods and families; those of the modules that it imported stay."""
    probe = (
        "import warnings; warnings.simplefilter('ignore')\n"
        f"{first}"
        "from vidcompress import available_methods\n"
        "from vidcompress.adapters.families import get_family\n"
        "print(sorted(name for name in available_methods() if name in ('half', 'mixed_bad', 'mixed_good')))\n"
        "for name in ('theirs', 'mixed_bad', 'mixed_good', 'glm4v_moe'):\n"
        "    try: print(get_family(name).crops)\n"
        "    except Exception as error: print(error)\n"
    )
    done = run(["-c", probe], site, rubble)
    names, theirs, mixed_bad, *rest = done.stdout.replace("hello\n", "").splitlines()
    assert names == "['mixed_good']"
    assert "model_type='theirs' has no processor here; known: " in theirs
    assert "model_type='mixed_bad' has no processor here; known: " in mixed_bad
    assert rest == ["False", "False"]


def test_using_a_broken_one_says_why(site: Path, rubble: Path) -> None:
    ask = ["ask", "--question", "what?", "--image", str(ROOT / "examples" / "scene.png")]
    done = vidcompress([*ask, "--method", "exits"], site, rubble)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "unknown method 'exits'; known: " in done.stderr
    assert "failed to load: 'exits' (exits, from their-exits 1.0): SystemExit: 3" in done.stderr
    text = vidcompress(["methods"], site, rubble)
    assert "exits is broken and was left out" in text.stdout
    assert "exits, from their-exits 1.0: SystemExit: 3" in text.stdout


def test_the_rest_still_answers(site: Path, rubble: Path) -> None:
    ask = [
        "ask",
        "--question",
        "what digit is shown?",
        "--image",
        str(ROOT / "examples" / "scene.png"),
        "--json",
    ]
    done = vidcompress([*ask, "--method", "edges", "--max-tokens", "30"], site, rubble)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["method"], answer["visual_tokens"]["kept"]) == ("edges", 30)


def test_warnings_that_are_errors_stop_once_and_harm_no_later_call(rubble: Path) -> None:
    probe = (
        "import vidcompress\n"
        "for _ in range(2):\n"
        "    try: print(len(vidcompress.available_methods()) > 7)\n"
        "    except UserWarning as warning: print('warned')"
    )
    done = run(["-W", "error::UserWarning", "-c", probe], rubble)
    assert done.stdout.replace("hello\n", "") == "warned\nTrue\n", done.stderr


def test_of_two_copies_of_a_package_the_first_on_the_path_counts(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        install(folder, "their-copy", {"methods": {"copy": "copied"}}, copied=method(f"copy_{number}"))
    probe = (
        "import vidcompress, warnings; warnings.simplefilter('error'); print(vidcompress.available_methods())"
    )
    done = run(["-c", probe], tmp_path / "1", tmp_path / "2")
    assert "copy_1" in done.stdout, done.stderr
    assert "copy_2" not in done.stdout


def test_a_malformed_card_is_said_and_harms_nothing(tmp_path: Path) -> None:
    package = tmp_path / "carded"
    (package / "cards").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name, card in (("no_head", "text"), ("other", "+++\n+++\n"), ("wrong_type", "+++\nname = 3\n+++\n")):
        (package / f"{name}.py").write_text(method(name))
        (package / "cards" / f"{name}.md").write_text(card)
    points = {name: f"carded.{name}" for name in ("no_head", "other", "wrong_type")}
    install(tmp_path, "their-cards", {"methods": points})
    done = vidcompress(["methods", "--json"], tmp_path)
    found = {entry["name"]: entry for entry in json.loads(done.stdout)["methods"]}
    assert found["no_head"]["summary"] == "theirs"
    assert "card 'no_head' must begin with a TOML head" in found["no_head"]["card_problem"]
    assert "card 'other' lacks the key 'name'" in found["other"]["card_problem"]
    assert (
        "card 'wrong_type' has name = 3 in its head; it must be a text" in found["wrong_type"]["card_problem"]
    )
    assert found["pool"]["card_problem"] is None
    done = vidcompress(["methods", "no_head"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "card 'no_head' must begin with a TOML head" in done.stderr

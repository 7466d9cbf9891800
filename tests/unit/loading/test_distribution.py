"""The name that the package is distributed under: stated rightly everywhere, and never that of another project."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidcompress
from vidcompress.loading import distribution
from vidcompress.tools.doctor import packages
from vidcompress.tools.evaluation.suite import folder_state

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

IN_A_LINE = re.compile(r"pip3?\ install\b[^\n`;&|]*?(?<![\w./-])vidcompress(?![\w/.-])")
"""Installed, also after other words and options."""
BARE = re.compile(
    r"""pip3?\ install\ (?:-\S+\ )*["']?vidcompress(?![\w/.-])  # what follows directly, over a line's end too
    | (?<![\w./-])vidcompress\[[a-z]                                     # an extra of it
    | dependencies\s*=\s*\[[^\]]*["']vidcompress["'\[ <>=~!]           # a requirement of a project
    | ["'`\s]vidcompress\s?(?:==|>=|~=|<=)\s?\d                         # one with versions
    | \b(?:metadata|version|distribution|requires|files)\(["']vidcompress["']\)
    """,
    re.VERBOSE,
)
"""What takes `vidcompress` for the name of the distribution."""
ALLOWED = {("vidcompress/loading/distribution.py", 'distribution("vidcompress")')}
"""Where another distribution of that name is looked for."""


def said(text: str) -> list[str]:
    """The places in a text, whose lines may break anywhere, that use the bare name."""
    joined = re.sub(r"\s+(?:[#>]\s+)?", " ", text)
    return [found[0] for found in (*IN_A_LINE.finditer(text), *BARE.finditer(joined))]


def texts() -> Iterator[Path]:
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "Makefile",
        "constraints.txt",
        "pyproject.toml",
    ):
        yield ROOT / name
    for folder in ("docs", "vidcompress", "scripts", "examples", "configs", "models", "tests/outside"):
        for path in sorted((ROOT / folder).rglob("*")):
            if (
                path.suffix in (".md", ".py", ".sh", ".toml", ".yaml", ".txt")
                and "__pycache__" not in path.parts
            ):
                yield path


def test_the_bare_name_is_installed_nowhere() -> None:
    found = {
        (str(path.relative_to(ROOT)), place)
        for path in texts()
        for place in said(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


@pytest.mark.parametrize(
    "bad",
    [
        "pip install vidcompress",
        "pip install 'vidcompress[eval]'",
        "pip install -U --no-deps vidcompress",
        'run `pip install\n# "vidcompress[plot]"` first',
        "pip install torch vidcompress\n",
        'dependencies = [\n  "torch",\n  "vidcompress"\n]',
        'dependencies = ["vidcompress>=0.1"]',
        "needs vidcompress>=0.1",
        'importlib.metadata.version("vidcompress")',
        "metadata('vidcompress')",
        "or vidcompress[quantization]",
    ],
)
def test_the_search_finds_the_bare_name(bad: str) -> None:
    assert said(bad)


@pytest.mark.parametrize(
    "good",
    [
        "pip install vidcompress-vlm",
        "pip install 'vidcompress-vlm[eval]'",
        "pip install .",
        "pip install -e '.[eval,plot]'\nvidcompress doctor",
        "`pip install .`, then import vidcompress",
        'dependencies = ["vidcompress-vlm"]',
        'version("lmms-eval")',
        "pip install -e .\nvidcompress methods edges",
        "vidcompress.compress(model)",
    ],
)
def test_the_search_leaves_the_right_name_alone(good: str) -> None:
    assert said(good) == []


def test_the_project_has_the_name_and_the_module_keeps_its_own() -> None:
    assert PROJECT["name"] == distribution.DISTRIBUTION == "vidcompress-vlm"
    assert PROJECT["scripts"] == {"vidcompress": "vidcompress.cli:main"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of the path that the package seems to be installed into, without metadata."""
    monkeypatch.setattr(distribution, "_BESIDE", tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def install(site: Path, name: str, version: str, *requirements: str) -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    lines = [f"Requires-Dist: {requirement}" for requirement in requirements]
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.11"]
    (info / "METADATA").write_text("\n".join([*head, *lines, ""]))


def test_from_a_checkout_the_folder_is_installed() -> None:
    assert distribution.checkout() == ROOT
    assert distribution.how_to_install() == "pip install . in the checkout"
    assert distribution.how_to_install("eval") == "pip install '.[eval]' in the checkout"


def test_elsewhere_the_distribution_is_installed(site: Path) -> None:
    assert distribution.checkout() is None
    assert distribution.how_to_install() == "pip install vidcompress-vlm"
    assert distribution.how_to_install("eval") == "pip install 'vidcompress-vlm[eval]'"
    for extra in PROJECT["optional-dependencies"]:
        assert not said(distribution.how_to_install(extra))


def test_requirements_are_those_of_the_right_distribution(site: Path) -> None:
    assert packages._stated() == ("", [])  # installed without metadata
    install(site, "vidcompress", "9.9", "somebodys-player>=1")
    assert packages._stated() == ("", [])
    install(site, "vidcompress-vlm", "0.1", "torch>=2.6", "lmms-eval>=0.7.3; extra == 'eval'")
    entries = {entry["name"]: entry for entry in packages.requirements()}
    assert entries["torch"] == {"name": "torch", "versions": ">=2.6", "needed": True}
    assert entries["lmms-eval"]["extra"] == "eval"
    assert "somebodys-player" not in entries


def test_versions_of_drawn_benchmarks_need_no_metadata(site: Path) -> None:
    install(site, "vidcompress", "9.9")
    for name in ("numpy", "pillow", "av"):
        install(site, name, "1.2")
    ours = folder_state.encoder_versions()
    assert ours == {"vidcompress": vidcompress.__version__, "numpy": "1.2", "pillow": "1.2", "av": "1.2"}


def test_doctor_names_what_is_not_ours_and_how_to_install_what_is(site: Path) -> None:
    assert packages.itself()["status"] == "ok" and "checkout" not in packages.itself()["detail"]
    install(site, "vidcompress", "9.9")
    found = packages.itself()
    assert found["status"] == "failed" and found["data"]["namesake"] == "9.9"
    assert "the distribution vidcompress 9.9" in found["detail"]
    assert "pip uninstall vidcompress, then pip install vidcompress-vlm" in found["detail"]
    missing = packages.package("no-such-package", ">=1", "eval")
    assert missing["detail"] == "not installed (wanted >=1); pip install 'vidcompress-vlm[eval]'"

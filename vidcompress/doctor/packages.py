"""Which packages are installed, in a version that is supported, and whether they can be imported."""

from __future__ import annotations

import platform
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..versions import NEWEST_TESTED, beyond_tested

MODULES = {"pillow": "PIL", "flash-attn": "flash_attn", "lmms-eval": "lmms_eval"}
"""Import names, where they differ."""
OPTIONAL = ("torchcodec", "bitsandbytes", "flash-attn", "torchvision")
"""Packages that something here makes use of, or that people think is needed, beside the extras."""


def wanted() -> list[dict[str, Any]]:
    """Name, version range and necessity of the packages, from this package's own metadata."""
    python, requirements = _stated()
    listed = [{"name": "python", "versions": python, "needed": True}]
    for requirement in map(Requirement, requirements):
        extra = requirement.marker is not None and "extra" in str(requirement.marker)
        if extra and '"dev"' in str(requirement.marker).replace("'", '"'):
            continue
        listed.append(
            {"name": requirement.name.lower(), "versions": str(requirement.specifier), "needed": not extra}
        )
    known = {entry["name"] for entry in listed}
    return listed + [
        {"name": name, "versions": "", "needed": False} for name in OPTIONAL if name not in known
    ]


def package(name: str, versions: str) -> dict[str, Any]:
    """Look at one package.

    Args:
        name: of the distribution, or "python".
        versions: those that are supported, as in "torch>=2.6"; "" for any.

    Returns:
        `status`, `detail` and `data` of a check.
    """
    try:
        found = platform.python_version() if name == "python" else version(name)
    except PackageNotFoundError:
        return {"status": "missing", "detail": f"not installed{f' (wanted {versions})' if versions else ''}"}
    data: dict[str, Any] = {"version": found, "supported": versions}
    if versions and not SpecifierSet(versions).contains(found, prereleases=True):
        detail = f"{found} is outside {versions}; install a version inside"
        return {"status": "failed", "detail": detail, "data": data}
    more = {}
    if name != "python":
        try:
            more = _more(name, import_module(MODULES.get(name, name)))
        except Exception as error:  # noqa: BLE001  (a package may raise anything)
            text = " ".join(str(error).split())[:200]
            detail = f"{found} cannot be imported: {type(error).__name__}: {text}"
            return {"status": "failed", "detail": detail, "data": data}
    words = [
        f"{found} ({versions})" if versions else found,
        *(f"{key} {value}" for key, value in more.items()),
    ]
    if name == "transformers" and beyond_tested(found):
        words.append(f"newer than {NEWEST_TESTED}, the newest that was tested")
    return {"status": "ok", "detail": ", ".join(words), "data": data | more}


def _more(name: str, module: Any) -> dict[str, Any]:
    """What else to know of a package."""
    if name == "torch":
        return {"cuda": module.version.cuda or "no", "threads": module.get_num_threads()}
    if name == "av":
        numbers = getattr(module, "library_versions", {}).get("libavcodec", ())
        return {"libavcodec": ".".join(map(str, numbers))} if numbers else {}
    return {}


def _stated() -> tuple[str, list[str]]:
    """`requires-python` and the requirements, of the installed package or of the checkout."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        extras = table.get("optional-dependencies", {})
        listed = [f"{_base(r)}{_marker(r, name)}" for name, group in extras.items() for r in group]
        return table["requires-python"], [*table["dependencies"], *listed]
    try:
        stated = metadata("vidcompress")
    except PackageNotFoundError:
        return "", []
    return str(stated["Requires-Python"] or ""), stated.get_all("Requires-Dist") or []


def _base(requirement: str) -> str:
    return requirement.partition(";")[0].strip()


def _marker(requirement: str, extra: str) -> str:
    marker = requirement.partition(";")[2].strip()
    return f'; ({marker}) and extra == "{extra}"' if marker else f'; extra == "{extra}"'

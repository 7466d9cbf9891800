"""Checks of packages: installed, in a supported version, and importable."""

from __future__ import annotations

import platform
import re
import tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from vidcompress.loading.distribution import checkout, how_to_install, namesake, stated
from vidcompress.loading.versions import NEWEST_TESTED, beyond_tested

MODULES = {
    "flash-attn": "flash_attn",
    "lmms-eval": "lmms_eval",
    "myst-parser": "myst_parser",
    "pillow": "PIL",
}
"""Import names, where they differ."""
OPTIONAL = ("torchcodec", "bitsandbytes", "flash-attn", "torchvision")
"""Optional packages beside the extras."""
_EXTRA = re.compile(r"""\bextra == ["'](\w+)["']""")


def itself() -> dict[str, Any]:
    """Check this package: its version, and whether another distribution has its name.

    Returns:
        `status`, `detail` and `data` of a check.
    """
    from vidcompress import __version__

    other, beside = namesake(), checkout() is not None
    data = {"version": __version__, "checkout": beside, "namesake": other}
    if other is not None:
        detail = (
            f"{__version__}, and beside it the distribution vidcompress {other}, which writes a module of this "
            "name: this package under its former name, or another project; pip uninstall vidcompress, then "
            f"{how_to_install()}"
        )
        return {"status": "failed", "detail": detail, "data": data}
    return {
        "status": "ok",
        "detail": f"{__version__}{', from a checkout' if beside else ''}",
        "data": data,
    }


def requirements() -> list[dict[str, Any]]:
    """Required and optional packages with their version ranges, from this package's metadata."""
    python, stated_requirements = _stated()
    listed = [{"name": "python", "versions": python, "needed": True}]
    for requirement in map(Requirement, stated_requirements):
        extra = _EXTRA.search(str(requirement.marker or ""))
        if extra is not None and extra[1] == "dev":
            continue
        entry = {"name": requirement.name.lower(), "versions": str(requirement.specifier)}
        listed.append(entry | ({"needed": True} if extra is None else {"needed": False, "extra": extra[1]}))
    names = {entry["name"] for entry in listed}
    return listed + [
        {"name": name, "versions": "", "needed": False} for name in OPTIONAL if name not in names
    ]


def package(name: str, versions: str, extra: str = "") -> dict[str, Any]:
    """Check one package.

    Args:
        name: of the distribution, or "python".
        versions: supported versions, as in "torch>=2.6"; "" for any.
        extra: the extra of this package that installs it; "" for none.

    Returns:
        `status`, `detail` and `data` of a check.
    """
    try:
        installed = platform.python_version() if name == "python" else version(name)
    except PackageNotFoundError:
        supported = f" (wanted {versions})" if versions else ""
        how = f"; {how_to_install(extra)}" if extra else ""
        return {"status": "missing", "detail": f"not installed{supported}{how}"}
    data: dict[str, Any] = {"version": installed, "supported": versions}
    if versions and not SpecifierSet(versions).contains(installed, prereleases=True):
        detail = f"{installed} is outside {versions}; install a version inside"
        return {"status": "failed", "detail": detail, "data": data}
    more = {}
    if name != "python":
        try:
            more = _more(name, import_module(MODULES.get(name, name)))
        except Exception as error:  # noqa: BLE001  (a package may raise anything)
            text = " ".join(str(error).split())[:200]
            detail = f"{installed} cannot be imported: {type(error).__name__}: {text}"
            return {"status": "failed", "detail": detail, "data": data}
    words = [
        f"{installed} ({versions})" if versions else installed,
        *(f"{key} {value}" for key, value in more.items()),
    ]
    if name == "transformers" and beyond_tested(installed):
        words.append(f"newer than {NEWEST_TESTED}, the newest that was tested")
    return {"status": "ok", "detail": ", ".join(words), "data": data | more}


def _more(name: str, module: Any) -> dict[str, Any]:
    """Further details of a package."""
    if name == "torch":
        return {"cuda": module.version.cuda or "no", "threads": module.get_num_threads()}
    if name == "av":
        numbers = getattr(module, "library_versions", {}).get("libavcodec", ())
        return {"libavcodec": ".".join(map(str, numbers))} if numbers else {}
    return {}


def _stated() -> tuple[str, list[str]]:
    """`requires-python` and the requirements, of the installed package or of the checkout."""
    beside = checkout()
    if beside is not None:
        table = tomllib.loads((beside / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = table.get("optional-dependencies", {})
        listed = [f"{_base(r)}{_marker(r, name)}" for name, group in extras.items() for r in group]
        return table["requires-python"], [*table["dependencies"], *listed]
    metadata = stated()
    if metadata is None:
        return "", []
    return str(metadata["Requires-Python"] or ""), metadata.get_all("Requires-Dist") or []


def _base(requirement: str) -> str:
    return requirement.partition(";")[0].strip()


def _marker(requirement: str, extra: str) -> str:
    marker = requirement.partition(";")[2].strip()
    return f'; ({marker}) and extra == "{extra}"' if marker else f'; extra == "{extra}"'

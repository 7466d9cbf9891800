"""Check of a release: build it as it is uploaded, look at what it says of itself, and use it from an empty environment.

    python scripts/release_check.py --out runs/release

A source distribution and a wheel are built; the wheel that the source distribution makes must hold the same files, byte
by byte. `twine check --strict` reads metadata and long description. Then every Python of `--pythons` that is on this
machine gets an environment of its own with the wheel in it, where `wheel_check.py` runs; the others are named.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
CONSTRAINTS = ROOT / "constraints.txt"
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)\)|src=\"(?!https?://)([^\"]+)\"")
"""A link or picture of Markdown or HTML whose address is relative, which leads nowhere on a package index."""


def run(*command: object) -> None:
    """Run a command and stop with its output where it fails.

    Raises:
        SystemExit: the command failed.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"release check: {' '.join(words)} failed with {done.returncode}:\n{done.stdout}{done.stderr}"
        )


def check(condition: bool, message: str) -> None:
    """Stop with a message unless the condition holds.

    Raises:
        SystemExit: it does not hold.
    """
    if not condition:
        sys.exit(f"release check: {message}")


def build(out: Path) -> tuple[Path, Path]:
    """Source distribution and wheel of the checkout.

    Args:
        out: folder for them, emptied first.

    Returns:
        The source distribution and the wheel, which was built from it.
    """
    shutil.rmtree(out, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT)
    (source,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return source, wheel


def build_directly(out: Path) -> Path:
    """Wheel of the checkout itself, without a source distribution between."""
    shutil.rmtree(out, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, ROOT)
    (wheel,) = out.glob("*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, str]:
    """Digest of every file of a wheel by its name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of files that only one of two wheels has, or that differ between them."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def metadata(wheel: Path) -> Message:
    """METADATA of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name))


def check_metadata(fields: Message, version: str, changelog: str) -> list[str]:
    """Check what an index shows of a distribution.

    Args:
        fields: METADATA.
        version: of the package.
        changelog: text of CHANGELOG.md.

    Returns:
        Addresses in the long description that lead nowhere on an index.

    Raises:
        SystemExit: a field is missing or contradicts the package.
    """
    check(
        fields["Version"] == version, f"version {fields['Version']} in the metadata, {version} in the package"
    )
    dated = re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changelog, flags=re.MULTILINE)
    check(dated is not None, f"CHANGELOG.md has no section '## {version} - YYYY-MM-DD'")
    check(fields["Description-Content-Type"] == "text/markdown", "the long description is not Markdown")
    check(fields["License-Expression"] == "Apache-2.0", f"licence {fields['License-Expression']!r}")
    text = fields.get_payload()
    check(isinstance(text, str) and len(text) > 1000, "the long description is missing")
    return [first or second for first, second in LINK.findall(str(text))]


def runs(python: str) -> bool:
    """Whether a command is a Python that starts; a version manager has commands for versions that it does not run."""
    path = shutil.which(python)
    return (
        path is not None
        and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0
    )


def use(python: str, wheel: Path, folder: Path) -> None:
    """Install a wheel into an empty environment of one Python, and run `wheel_check.py` there."""
    run(python, "-m", "venv", "--clear", folder)
    own = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = (own, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", CONSTRAINTS)
    torch = re.search(r"^torch==\S+", CONSTRAINTS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    run(*pip, torch[0] if torch else "torch")
    run(*pip, wheel)
    run(own, ROOT / "scripts" / "wheel_check.py", "--examples", ROOT / "examples")


def main() -> None:
    """Build, check and use a release."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "release", help="folder for all that is made"
    )
    parser.add_argument("--pythons", nargs="*", default=PYTHONS, help="versions to install the wheel on")
    arguments = parser.parse_args()
    out = arguments.out.resolve()

    source, wheel = build(out / "dist")
    run(sys.executable, "-m", "twine", "check", "--strict", source, wheel)
    differ = differences(contents(wheel), contents(build_directly(out / "direct")))
    check(not differ, f"the source distribution makes another wheel than the checkout: {differ}")
    written = (ROOT / "vidcompress" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+)"$', written, flags=re.MULTILINE)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    nowhere = check_metadata(metadata(wheel), version[1] if version else "", changelog)
    print(f"{source.name}, {wheel.name}: {len(contents(wheel))} files, metadata and long description fine")
    if nowhere:
        print(
            f"{len(nowhere)} relative addresses in the long description lead nowhere on an index: {nowhere}"
        )
    absent = [python for python in arguments.pythons if not runs(f"python{python}")]
    for python in arguments.pythons:
        if python not in absent:
            use(f"python{python}", wheel, out / f"venv-{python}")
            print(f"Python {python}: installed in an empty environment and used")
    if absent:
        print(f"not on this machine, so not tried: Python {', '.join(absent)}")
    check(len(absent) < len(arguments.pythons) or not arguments.pythons, "no Python to install the wheel on")
    print("release check: fine")


if __name__ == "__main__":
    main()

"""The release check notices what is wrong with a release; and what this checkout would release is right."""

from __future__ import annotations

import re
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

import release_check
import vidcompress

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CHANGELOG = f"# Changelog\n\n## Unreleased\n\n## {vidcompress.__version__} - 2026-11-29\n"


def fields(**changes: str) -> Message:
    given = {
        "Version": vidcompress.__version__,
        "Description-Content-Type": "text/markdown",
        "License-Expression": "Apache-2.0",
        **changes,
    }
    body = given.pop(
        "body", "[docs](docs/a.md) ![](a.png) [out](https://example.org) [here](#top) " + "x" * 1000
    )
    return Parser().parsestr("".join(f"{name}: {value}\n" for name, value in given.items()) + "\n" + body)


def test_metadata_that_is_right_passes_and_relative_addresses_are_named() -> None:
    assert release_check.check_metadata(fields(), vidcompress.__version__, CHANGELOG) == [
        "docs/a.md",
        "a.png",
    ]
    assert release_check.check_metadata(
        fields(body='<img src="b.svg">' + "x" * 1000), vidcompress.__version__, CHANGELOG
    ) == ["b.svg"]


@pytest.mark.parametrize(
    ("changes", "changelog", "said"),
    [
        ({"Version": "9.9.9"}, CHANGELOG, "version 9.9.9 in the metadata"),
        ({}, "# Changelog\n\n## Unreleased\n", "CHANGELOG.md has no section"),
        ({}, f"## {vidcompress.__version__}\n", "CHANGELOG.md has no section"),
        ({"Description-Content-Type": "text/plain"}, CHANGELOG, "is not Markdown"),
        ({"License-Expression": "MIT"}, CHANGELOG, "licence 'MIT'"),
        ({"body": "short"}, CHANGELOG, "the long description is missing"),
    ],
)
def test_metadata_that_is_wrong_stops_the_release(changes: dict[str, str], changelog: str, said: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(said)):
        release_check.check_metadata(fields(**changes), vidcompress.__version__, changelog)


def test_wheels_are_compared_byte_by_byte(tmp_path: Path) -> None:
    wheels = []
    for number, files in enumerate(({"a.py": "1", "b.py": "2"}, {"a.py": "1", "b.py": "3", "c.py": ""})):
        wheels.append(tmp_path / f"{number}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    one, other = map(release_check.contents, wheels)
    assert release_check.differences(one, other) == ["b.py", "c.py"]
    assert release_check.differences(one, dict(one)) == []


def test_a_command_that_fails_stops_the_release() -> None:
    with pytest.raises(SystemExit, match="false failed with 1"):
        release_check.run("false")


def test_the_citation_has_what_the_format_needs() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "date-released", "license"} <= set(CITATION)
    assert CITATION["version"] == vidcompress.__version__
    assert CITATION["license"] == PROJECT["project"]["license"]
    assert all(author.get("name") or author.get("family-names") for author in CITATION["authors"])
    for reference in CITATION["references"]:
        assert {"type", "title", "authors", "year", "url"} <= set(reference)
        assert all(author["family-names"] and author["given-names"] for author in reference["authors"])


def test_the_citation_names_the_papers_of_the_cards() -> None:
    cards = {
        name: (ROOT / "vidcompress/methods/cards" / f"{name}.md").read_text("utf-8")
        for name in ("globalcom2", "vidcom2")
    }
    for (name, card), reference in zip(cards.items(), CITATION["references"], strict=True):
        assert name in reference["notes"]
        assert reference["title"] in card
        assert reference["url"].rpartition("/")[2] in card


def test_the_release_is_the_date_of_the_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.index("## Unreleased") < text.index(
        f"## {vidcompress.__version__} - {CITATION['date-released']}"
    )


def test_what_is_released_is_in_the_source_distribution() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"/CITATION.cff", "/SECURITY.md", "/CHANGELOG.md", "/LICENSE"} <= set(included)
    assert [path for path in included if not (ROOT / path.lstrip("/")).exists()] == []


def test_limits_in_the_security_note_are_those_of_the_code() -> None:
    from vidcompress import checks

    note = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    side = round(checks.MAX_FRAME_PIXELS**0.5)
    assert side * side == checks.MAX_FRAME_PIXELS
    for said in (
        f"{side} x {side} pixels in all and {checks.MAX_SIDE:,} on a side",
        f"| {checks.MAX_SOURCE_FRAMES:,} |",
        f"{checks.DEFAULT_MAX_FRAMES} unless the caller raises it, and {checks.MAX_DECODED_BYTES >> 30} GiB",
        f"| {checks.MAX_BUFFERED_BYTES >> 20} MiB |",
    ):
        assert said in note


def test_a_command_that_does_not_start_is_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("python3.98", 0), ("python3.99", 127)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert release_check.runs("python3.98")
    assert not release_check.runs("python3.99")
    assert not release_check.runs("python3.97")

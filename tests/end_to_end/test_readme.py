"""The README is true: its snippets run and print what it says, its tables name what is registered."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from vidcompress.cli.listings import embedded_entries, family_entries, method_entries

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_first_snippet_is_short_and_early() -> None:
    before = README[: README.index("```python")]
    assert before.count("\n") + 1 <= 40
    assert BLOCKS[0].count("\n") <= 16


def test_snippets_print_what_their_comments_say() -> None:
    spec = importlib.util.spec_from_file_location("refresh_readme", ROOT / "scripts" / "refresh_readme.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.without_times(script.refreshed(README)) == script.without_times(README)


def test_every_method_has_its_row() -> None:
    for entry in method_entries():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{entry['name']}` |"))
        assert f"| {', '.join(entry['modalities'])} |" in row
        assert entry["summary"] in row
    assert README.count("\n| `") == len(method_entries()) + len(family_entries())


def test_every_family_and_embedded_model_is_named() -> None:
    for entry in family_entries():
        assert f"| `{entry['model_type']}`" in README
    for entry in embedded_entries():
        assert f"(models/{entry['name']}/README.md)" in README


def test_links_to_files_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_commands_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z-]+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_every_option_of_ask_is_in_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    from vidcompress.cli import app, main

    assert app is not None
    with pytest.raises(SystemExit, match="^0$"):
        main(["ask", "--help"])
    for option in re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out):
        if option not in ("--help", "--images"):
            assert option in README, option

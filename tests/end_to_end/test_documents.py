"""The documents are true: snippets print what they say, commands run, links lead somewhere, lists are complete."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image

from benchmark_folder import write_benchmark
from documents import ROOT, Block, blocks, documents, name_of
from refresh_documents import refreshed, without_times
from result_files import run_of
from vidcompress.cli import app, main
from vidcompress.cli.listings import embedded_entries, family_entries, method_entries
from vidcompress.tools.evaluation.run.sweep_file import read_sweep

TEXTS = {name_of(page): page.read_text(encoding="utf-8") for page in documents()}
BLOCKS = [(name, block) for name, text in TEXTS.items() for block in blocks(text)]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


# -- blocks ------------------------------------------------------------------------------------------------------------


def is_snippet(block: Block) -> bool:
    return block.language == "python" and not block.files


SHOWN = {
    "README.md": "how tokens flow",
    "configs/README.md": "an example of a sweep, whose keys stand beside it",
    "docs/design.md": "how the code flows",
    "models/tiny-next/README.md": "how the model was trained, and its table",
    "models/tiny-onevision/README.md": "how the model was trained, and its table",
    "models/tiny-qwen/README.md": "how the model was trained, and its tables",
    "CONTRIBUTING.md": "how the code flows",
}
"""Documents with blocks of plain text, which are looked at by people, and what those are."""
ROWS = "| `cohere2_vision` (Command A Vision) |"


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_block_is_run_or_has_a_reason(name: str, block: Block) -> None:
    """Snippets, commands and files are run by tests of their own here, in test_guides and in test_reproduce."""
    if block.language.startswith("{"):  # a directive, which the build runs
        assert block.language in ("{toctree}", "{eval-rst}")
    elif block.files:
        assert name in ("docs/guide-method.md", "docs/guide-family.md")
    elif block.language == "json":
        for line in block.body.splitlines():
            assert json.loads(line)["question"]
    elif block.language == "toml":
        rest = {"models": [{"name": "tiny-onevision"}], "methods": ["random"], "ratios": [0.25]}
        assert read_sweep({**rest, **tomllib.loads(block.body)}, name="of the page").rows()
    elif block.language == "markdown":
        assert block.body.startswith(ROWS)  # which test_guides puts into the table
    elif block.language == "bibtex":
        assert block.body.startswith("@")
    elif block.language in ("", "text"):
        assert name in SHOWN, f"{name}, line {block.line}: name the language"
    else:
        assert block.language in ("python", "bash"), f"{name}, line {block.line}"


@pytest.mark.slow
@pytest.mark.parametrize("name", dict.fromkeys(name for name, block in BLOCKS if is_snippet(block)))
def test_snippets_print_what_their_comments_say(name: str) -> None:
    assert without_times(refreshed(TEXTS[name], ROOT / name)) == without_times(TEXTS[name])


def test_a_snippet_that_prints_something_else_is_found() -> None:
    page = "# P\n\n```python\nprint(1 + 1)\n# 3\n```\n"
    assert refreshed(page, ROOT / "docs" / "p.md") == page.replace("# 3", "# 2")
    file = page.replace("# P", "In `a/b.py`:")
    assert refreshed(file, ROOT / "docs" / "p.md") == file
    with pytest.raises(ZeroDivisionError, match="division") as error:
        refreshed("\n\n```python\n1 / 0\n```\n", ROOT / "docs" / "p.md")
    assert error.value.__notes__ == ["in the snippet of docs/p.md, line 3"]


# -- commands ----------------------------------------------------------------------------------------------------------


def commands(text: str) -> list[str]:
    """The command lines of the bash blocks, continued lines joined, comments left out."""
    found = []
    for block in blocks(text):
        if block.language == "bash":
            lines = block.body.replace("\\\n", " ").splitlines()
            found += [shlex.join(shlex.split(line, comments=True)) for line in lines]
    return [line for line in found if line]


COMMANDS = [(name, line) for name, text in TEXTS.items() for line in dict.fromkeys(commands(text))]
ONLY_READ = {
    r"vidcompress eval .*configs/": "a sweep of minutes or days: it is planned instead, with --dry-run",
    r"vidcompress methods edges": "the method of the walk, which test_guides and test_outside follow",
    r"vidcompress bench .*--geometry": "widths of 7B models, for a GPU: test_bench runs toys of them",
    r"vidcompress bench .*--serve": "needs servers: tests/unit/tools/benchmark has one whose delays are known",
    r"torchrun ": "several processes: tests/end_to_end/test_eval_ranks.py starts them",
    r"python -m lmms_eval ": "needs lmms-eval's data: tests/lmms run its model and its tasks",
    r"python scripts/": "half an hour or more: the tests of tests/unit/scripts call them",
    r"(\w+=\w+ )*scripts/": "whole sweeps: test_reproduce looks at their words",
    r"make ": "the tests are part of `make test` themselves; .ci/run calls the others",
    r"pip install|python3.11 -m venv|\. ": "environments are made by `make install`, which CI runs",
    r"python -m pytest tests": "test_outside does",
}
"""Commands of which only the words are looked at, and why."""
OF_ITS_OWN = {"docs/reproduce.md": "test_reproduce"}
"""Pages whose commands, which need checkpoints, have a test module."""
EXTRA = {"eval": ["--limit", "2"], "bench": ["--rounds", "1", "--warmup", "0"]}
"""What makes a command of minutes one of seconds."""


def is_read(line: str) -> bool:
    return any(re.match(pattern, line) for pattern in ONLY_READ)


def run_of_each() -> dict[str, list[str]]:
    """The commands that are run, by the last page that has them: pages before may quote them."""
    home = {line: name for name, line in COMMANDS if name not in OF_ITS_OWN and not is_read(line)}
    return {name: [line for line in home if home[line] == name] for name in dict.fromkeys(home.values())}


RUN = run_of_each()


def words_of(line: str) -> list[str]:
    """The words behind `vidcompress`, for models and sizes that are here: a hub id is the embedded model."""
    words = shlex.split(line)[1:]
    for number, word in enumerate(words[:-1]):
        if word == "--model" and "/" in words[number + 1]:
            words[number + 1] = "tiny-onevision"
        if word == "--questions" and words[0] == "suite":
            words[number + 1] = "2"
    return words + EXTRA.get(words[0], [])


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the commands name."""
    for name in ("examples", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "examples" / "clip.mp4", tmp_path)
    with Image.open(ROOT / "examples" / "scene.png") as scene:
        scene.convert("RGB").save(tmp_path / "photo.jpg", quality=95)
    write_benchmark(tmp_path / "my-benchmark", broken=False)
    for run in ("first-look", "first", "second"):
        run_of(tmp_path / "runs" / run, questions=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_commands_run(name: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in RUN[name]:
        assert line.startswith("vidcompress "), f"{line}: give ONLY_READ a reason, or run it"
        shutil.rmtree(desk / "runs" / "my-benchmark", ignore_errors=True)  # each as if it were the first
        with pytest.raises(SystemExit) as stop:
            main(words_of(line))
        said = capsys.readouterr()
        assert not stop.value.code, f"{line}\n{said.out}{said.err}"
        assert said.out.strip(), line
    written = [
        word for line in RUN[name] for word in shlex.split(line) if word.endswith((".png", "run.json"))
    ]
    assert all((desk / word).is_file() for word in written)


def options_of(words: list[str]) -> set[str]:
    command: Any = typer.main.get_command(app)
    for word in words:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}


@pytest.mark.parametrize(("name", "line"), COMMANDS, ids=lambda value: value)
def test_words_of_commands_exist(name: str, line: str) -> None:
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", MAKEFILE, flags=re.MULTILINE)
    for extra in re.findall(r"\.\[([\w,]+)\]", line):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(extra.split(",")) <= project["optional-dependencies"].keys()
    if "vidcompress" in words[:5] and words[:2] != ["python", "-m"]:
        ours = words[words.index("vidcompress") + 1 :]
        assert {word.partition("=")[0] for word in ours if word.startswith("--")} <= options_of(ours)
    for word in words:
        if word.startswith(("scripts/", "configs/")):
            assert (ROOT / word).exists(), word
            if word.endswith(".py"):
                text = (ROOT / word).read_text(encoding="utf-8")
                for option in (given[2:] for given in words if given.startswith("--")):
                    assert f"--{option}" in text or option.replace("-", "_") in text, option


@pytest.mark.parametrize(
    "line", [line for _, line in COMMANDS if "vidcompress eval" in line and "configs/" in line]
)
def test_sweeps_can_be_planned(line: str, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)
    words = words[words.index("vidcompress") + 1 :]
    with pytest.raises(SystemExit, match="^0$"):
        main([*words[:1], *(["--dry-run"] if "--dry-run" not in words else []), *words[1:]])
    assert len(capsys.readouterr().out.splitlines()) > 1


@pytest.mark.parametrize("pattern", ONLY_READ)
def test_reasons_are_needed(pattern: str) -> None:
    assert any(re.match(pattern, line) for _, line in COMMANDS)


# -- links, in the repository's own view -------------------------------------------------------------------------------


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """The anchors of a document, repeated headings numbered."""
    found: dict[str, int] = {}
    for line in re.findall(
        r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    ):
        found[slug(line)] = found.get(slug(line), 0) + 1
    return {f"{name}-{n}" if n else name for name, count in found.items() for n in range(count)}


def dead_links(text: str, page: Path) -> list[str]:
    """Relative links of a document that lead nowhere, anchors included."""
    dead = []
    prose = re.sub(r"^```.*?^```|`[^`\n]*`(?!\])", "", text, flags=re.DOTALL | re.MULTILINE)
    for target in (
        *re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose),
        *re.findall(r'<img src="([^"]+)"', prose),
    ):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or ROOT not in (file, *file.parents):
            dead.append(target)
        elif anchor:
            there = text if file == page else file.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                dead.append(target)
    return dead


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    assert dead_links(TEXTS[name], ROOT / name) == []


def test_a_dead_link_is_found() -> None:
    page = ROOT / "docs" / "faq.md"
    picture = '<img src="results/length.png"> <img src="gone.png">'
    links = ("limits.md", "nowhere.md", "#a-b-c", "#not-there", "models.md#families", "models.md#f")
    text = "# A `b` c?\n\n" + "\n".join(f"[x]({link})" for link in links) + picture
    assert dead_links(text, page) == ["nowhere.md", "#not-there", "models.md#f", "gone.png"]


# -- lists that must be complete ---------------------------------------------------------------------------------------


def test_every_method_has_its_row() -> None:
    text = TEXTS["docs/methods.md"]
    rows = {found[1]: found[0] for found in re.finditer(r"^\| \[`(\w+)`\]\(.*$", text, flags=re.MULTILINE)}
    ours = {entry["name"]: entry for entry in method_entries() if entry["package"] is None}
    assert rows.keys() == ours.keys()
    for name, entry in ours.items():
        assert f"(../vidcompress/methods/cards/{name}.md) | {', '.join(entry['modalities'])} | " in rows[name]
        assert entry["summary"] in rows[name]


def test_every_family_and_embedded_model_is_in_the_list() -> None:
    text = TEXTS["docs/models.md"]
    for entry in family_entries():
        assert f"| `{entry['model_type']}`" in text
    table = text.split("## Families")[1].split("\n\n")[1]
    assert len(re.findall(r"^\| `", table, flags=re.MULTILINE)) == len(family_entries())
    for entry in embedded_entries():
        assert f"(../models/{entry['name']}/README.md)" in text


def test_every_option_of_ask_is_in_the_guide() -> None:
    for option in options_of(["ask"]) - {"--help", "--images"}:
        assert not option.startswith("--") or option in TEXTS["docs/guide-questions.md"], option

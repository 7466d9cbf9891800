"""What a path for plots stands for: a file or a folder, in every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidcompress.errors import ArgumentError
from vidcompress.tools.runs.plot_files import plot_paths


def test_a_suffix_means_a_file_and_none_means_a_folder(tmp_path: Path) -> None:
    assert plot_paths(tmp_path / "x.PNG", ["a"]) == [[tmp_path / "x.PNG"]]
    assert list(tmp_path.iterdir()) == []
    folder = tmp_path / "new" / "plots"
    both = [[folder / f"{name}{suffix}" for suffix in (".svg", ".png")] for name in "ab"]
    assert plot_paths(folder, ["a", "b"]) == both
    assert folder.is_dir()
    dotted = tmp_path / "v1.2"
    dotted.mkdir()
    assert plot_paths(dotted, ["a"]) == [[dotted / "a.svg", dotted / "a.png"]], (
        "a folder that is there is one, whatever its name"
    )


@pytest.mark.parametrize(
    ("path", "names", "message"),
    [
        ("x.png", ["a", "b"], "one file cannot take 2 plots; name a folder"),
        ("v1.3", ["a"], r"must end in .svg, .png, .pdf, .webp, .jpg, or be a folder"),
        ("no/x.png", ["a"], "its folder does not exist; make it first"),
        ("file", ["a"], r"cannot be made \(.*name another folder"),
        ("file/plots", ["a"], r"cannot be made \(.*name another folder"),
    ],
)
def test_what_is_neither_is_refused(tmp_path: Path, path: str, names: list[str], message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArgumentError, match=rf"^plot='.*: {message}"):
        plot_paths(tmp_path / path, names)

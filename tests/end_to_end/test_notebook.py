"""The notebook of `examples/`: run cell by cell, it shows an answer and a comparison; the pages work in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browser import open_file, pixels, watched_page

NOTEBOOK = Path(__file__).parents[2] / "examples" / "look.ipynb"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The HTML below each cell that shows something, after a run in a kernel of its own."""
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install '.[dev]'")
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install '.[dev]'")
    folder = tmp_path_factory.mktemp("jupyter")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(folder / name.lower()))
        where = {"metadata": {"path": str(NOTEBOOK.parent)}}
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    return [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]


def test_the_cells_show_an_answer_and_a_comparison(shown: list[str]) -> None:
    assert len(shown) == 2
    assert all(text.startswith("<iframe ") and len(text) < 250_000 for text in shown)
    assert "Methods and budgets" in shown[0] and "vidcom2" not in shown[0] and "vidcom2" in shown[1]


def test_the_notebook_is_stored_without_outputs() -> None:
    assert '"outputs": []' in NOTEBOOK.read_text(encoding="utf-8") and NOTEBOOK.stat().st_size < 5_000


def test_what_the_cells_show_works_in_a_browser(shown: list[str], chromium: Any, tmp_path: Path) -> None:
    path = tmp_path / "notebook.html"
    path.write_text("<!doctype html>" + "".join(f"<div>{text}</div>" for text in shown), encoding="utf-8")
    with watched_page(chromium) as (page, watch):
        url = open_file(page, path)
        answer, comparison = (page.frame_locator("iframe").nth(number) for number in range(2))
        for frame in (answer, comparison):
            frame.locator(".kept-viewer[data-ready]").wait_for()
        assert answer.locator("h1").inner_text() == "what digit is shown?"
        assert answer.locator(".list").count() == 0 and comparison.locator(".list label").count() > 4
        drawn = [pixels(comparison.locator("canvas"))]
        comparison.locator(".scrubber").fill("9")
        drawn.append(pixels(comparison.locator("canvas")))
        comparison.locator("input.rows").fill("4")
        drawn.append(pixels(comparison.locator("canvas")))
        assert len(set(drawn)) == 3
        assert watch.strangers(url) == [] and watch.complaints == []

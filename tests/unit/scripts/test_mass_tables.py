"""Tables of the mass measurements, on results small enough to check by hand; the documents hold the last ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from shapes_accuracy import mass_tables, sets
from shapes_accuracy.mass_tables import NOT_YET, compared, content, fill, read_results
from vidcompress.errors import ArgumentError
from vidcompress.tools.evaluation.report.statistics import paired_limits, wilson

ROOT = Path(__file__).resolve().parents[3]
BOTH = "mass=on,positions=original"
OF = 40
TYPES = ["count", "place"] * (OF // 2)
WHERE = {
    "command": "python x",
    "commit": "abcdef0123456789",
    "dirty": False,
    "machine": "m",
    "versions": {"torch": "1", "transformers": "2"},
}


def row(method: str, ratio: float, right: int) -> dict[str, Any]:
    marks = "1" * right + "0" * (OF - right)
    kinds = {
        kind: sum(m == "1" for m, t in zip(marks, TYPES, strict=True) if t == kind) / (OF / 2)
        for kind in ("count", "place")
    }
    return {
        "method": method,
        "retention_ratio": ratio,
        "accuracy": right / OF,
        "interval": list(wilson(right, OF)),
        "per_type": kinds,
        "tokens": {"kept": 12.5},
        "correct": marks,
    }


def write(folder: Path, name: str, rows: list[dict[str, Any]], **changes: Any) -> None:
    sweep = {"questions": OF, "batch_size": 20, "frames": None, "first_seed": 900_000}
    result = {
        "model": "tiny-next",
        "medium": "image",
        "sweep": sweep | changes.pop("sweep", {}),
        "types": TYPES,
        "rows": [row("none", 1.0, 38), *rows],
        "provenance": WHERE,
    }
    (folder / name).write_text(json.dumps(result | changes))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`fastervlm` plays census here, which is not the point."""
    monkeypatch.setattr(mass_tables, "OURS", "fastervlm")
    ratio = 0.1
    main = [
        row("fastervlm", ratio, 20),
        row(f"fastervlm:{BOTH}", ratio, 37),
        row("divprune", ratio, 30),
        row(f"divprune:{BOTH}", ratio, 36),
        row("random", ratio, 18),
        row(f"random:{BOTH}", ratio, 19),
        row("uniform", ratio, 19),
        row(f"uniform:{BOTH}", ratio, 19),
        {"method": "fastv", "retention_ratio": ratio, "unreachable": "too few"},
        {"method": "fastv:mass=on", "retention_ratio": ratio, "unreachable": "too few"},
    ]
    write(tmp_path, "main-tiny-next-image.json", main)
    alone = [row("divprune:positions=original", ratio, 33), row("divprune:mass=on", ratio, 31)]
    write(tmp_path, "levers-tiny-next-image.json", alone)
    strength = [row(f"divprune:{BOTH},mass_strength=0.5", ratio, 34)]
    write(tmp_path, "strength-tiny-next-image.json", strength)
    (tmp_path / "dose.json").write_text('{"model": "other"}')
    return tmp_path


def test_sets_of_a_column_are_one_result(folder: Path) -> None:
    found = read_results(folder)
    assert list(found) == ["tiny-next-image"]
    one = found["tiny-next-image"]
    assert one.row("divprune:mass=on", 0.1) and one.row("divprune", 0.1) and one.row("fastv", 0.1) is None
    assert one.best_published(0.1) == ("divprune", one.row("divprune", 0.1)), "not the one that plays ours"
    assert one.best_published(0.5) is None


def test_an_answer_that_another_processor_gives_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main set's answers with all tokens stay; that many that differ are no other questions."""
    monkeypatch.setattr(mass_tables, "MOST_APART", 1 / OF)
    write(folder, "parts-tiny-next-image.json", [])
    path = folder / "parts-tiny-next-image.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": [row("none", 1.0, 37)]}))
    one = read_results(folder)["tiny-next-image"]
    assert one.apart == {path.name: 1} and one.all_tokens["accuracy"] == 38 / OF
    assert f"`{path.name}`" in content("origin", folder)
    assert "answers with all tokens other than in the first file: 1\n" in content("origin", folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"sweep": {"questions": 60}},
        {"sweep": {"first_seed": 0}},
        {"types": ["place"] * OF},
        {"rows": [row("none", 1.0, 37)]},
    ],
    ids=str,
)
def test_other_questions_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    rows = changes.pop("rows", None)
    write(folder, "parts-tiny-next-image.json", [], **changes)
    if rows:
        path = folder / "parts-tiny-next-image.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"rows": rows}))
    with pytest.raises(
        ArgumentError, match="does not ask the questions of the other files of tiny-next-image"
    ):
        read_results(folder)


def test_differences_are_paired() -> None:
    mean, low, high = compared(row("a", 0.1, 36), row("b", 0.1, 30))
    assert mean == pytest.approx(0.15) and (low, high) == paired_limits(6, 0, OF)
    alike = row("a", 0.1, 30) | {"correct": "0" * 10 + "1" * 30}
    assert compared(alike, row("b", 0.1, 30))[0] == 0 != compared(alike, row("b", 0.1, 30))[2]


def test_published_and_both_levers_side_by_side(folder: Path) -> None:
    low, high = (100 * x for x in paired_limits(6, 0, OF))
    text = content("both/0.1", folder)
    assert f"| divprune | 75.0 → 90.0, **+15.0** ({low:+.1f} to {high:+.1f}) |" in text
    assert "| uniform | 47.5 → 47.5, +0.0 (" in text, "no bold where zero is inside"
    assert "| fastv | – |" in text and "| all tokens | 95.0 |" in text
    lines = text.splitlines()
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| random", "| uniform"], "controls last"
    assert content("both/0.5", folder).count("\n") == 3, "nothing was run at half"


def test_one_lever(folder: Path) -> None:
    assert "| divprune | 75.0 / 82.5 / 77.5 / 90.0 |" in content("alone/0.1", folder)
    assert "| random | 45.0 / – / – / 47.5 |" in content("alone/0.1", folder)


def test_ours_is_compared_with_the_best_as_published_and_with_all_tokens(folder: Path) -> None:
    text = content("census", folder)
    assert "tiny-next, images | 0.1 | 95.0 | 50.0 (" in text and "| divprune 75.0 | **-25.0** (" in text
    assert text.count("with both levers") == 3 and "0.25" not in text


def test_types_have_controls(folder: Path) -> None:
    text = content("types/0.1", folder)
    assert "| tiny-next, images | divprune, both levers | 90 | 90 |" in text
    assert "| random, both levers | 50 | 45 |" in text and "| uniform, both levers |" in text


def test_strength_and_claims(folder: Path) -> None:
    text = content("strength", folder)
    assert "| tiny-next, images | 0.1 | divprune | 82.5 (85) | 85.0 (85) | – | 90.0 (90) | – | – |" in text
    assert "| 0.1 | random | – | – | – | 47.5 (50) | – | – |" in text, "controls are in every comparison"
    text = content("claims", folder)
    assert "within 2 points of all tokens" in text and text.count("**no**") == 3 and "yes" not in text
    write(folder, "parts-tiny-next-image.json", [row("fastervlm:x=1", 0.1, 37)])
    assert "`fastervlm:x=1` | 92.5, **+42.5** (" in content("parts", folder)
    assert "| random with both levers | 47.5, -2.5 (" in content("parts", folder)


def test_what_was_claimed_can_hold(folder: Path) -> None:
    path = folder / "main-tiny-next-image.json"
    result = json.loads(path.read_text())
    result["rows"] = [row("none", 1.0, 38), row("fastervlm", 0.1, 38), row("divprune", 0.1, 30)]
    path.write_text(json.dumps(result))
    text = content("claims", folder)
    assert text.count("yes") == 3 and "no**" not in text


def test_positions_by_clip_length(folder: Path) -> None:
    assert content("positions", folder) == NOT_YET
    long = {"model": "tiny-onevision", "medium": "clip", "sweep": {"frames": 32}}
    cells = [row("divprune", 0.1, 20), row("divprune:mass=on", 0.1, 30), row(f"divprune:{BOTH}", 0.1, 31)]
    write(folder, "positions-tiny-onevision-clip-32.json", cells, **long)
    assert "| 32 | 0.1 | divprune | 50.0 | 75.0 | 77.5 | – | 95.0 |" in content("positions", folder)
    assert "clips of 32 frames" not in content("both/0.1", folder), "long clips have tables of their own"


def test_every_cell_and_where_it_comes_from(folder: Path) -> None:
    text = content("full/tiny-next-image", folder)
    assert text.count("\n") == 2 + 1 + 10 + 2 + 1 and "| 0.1 | `fastv` | – |" in text
    assert "`divprune:mass=on` | 12.5 | 77.5 (" in text
    assert "seeds from 900,000 on" in content("origin", folder) and "abcdef0123" in content("origin", folder)


def test_marks_are_filled_and_unknown_ones_refused(folder: Path, tmp_path: Path) -> None:
    text = "a\n<!-- mass:both/0.1 -->\nold\n<!-- /mass -->\n<!-- mass:full/none -->\n<!-- /mass -->\nb\n"
    new = fill(text, folder)
    assert "old" not in new and "| divprune |" in new and NOT_YET in new and new.endswith("b\n")
    assert fill(new, folder) == new
    with pytest.raises(ArgumentError, match="mass:bothh/0.1 names no table; known: census"):
        fill(text.replace("both/", "bothh/"), folder)


def test_the_documents_hold_the_last_tables() -> None:
    spec = importlib.util.spec_from_file_location("mass_table", ROOT / "scripts" / "mass_table.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    pages = script.pages()
    assert {"docs/methods/mass.md", "docs/results/mass.md"} <= {script.name_of(page) for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert fill(text, ROOT / "docs/results/mass") == text, page
    assert sets.OURS == "census"

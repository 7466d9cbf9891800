"""The pictures of the README and the docs are what the script draws today, and show what their record says."""

from __future__ import annotations

import hashlib
import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import make_pictures
from pictures import allocation
from vidcompress.tools.runs.provenance import provenance

RECORD = json.loads((make_pictures.FOLDER / make_pictures.RECORD).read_text(encoding="utf-8"))
FILE = ("bytes", "sha256")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What is drawn today."""
    return make_pictures.draw_all(tmp_path_factory.mktemp("pictures"))


def shown(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts without those of the file; of sums, what is printed."""
    text = json.dumps({key: value for key, value in facts.items() if key not in FILE})
    return dict(json.loads(text, parse_float=lambda number: round(float(number), 2)))


@pytest.mark.parametrize("name", make_pictures.PICTURES)
def test_the_same_is_shown_as_in_the_record(name: str, drawn: dict[str, dict[str, Any]]) -> None:
    assert shown(drawn[name]) == shown(RECORD["pictures"][name])
    if (
        provenance()["versions"] == RECORD["provenance"]["versions"]
    ):  # fonts and compression are the library's
        assert drawn[name]["sha256"] == RECORD["pictures"][name]["sha256"]


def test_another_scene_is_another_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(allocation, "SEED", 216)
    facts = allocation.draw(tmp_path / "a.png")
    recorded = RECORD["pictures"]["allocation.png"]
    assert shown(facts)["runs"][1]["kept_mask"] != recorded["runs"][1]["kept_mask"]
    assert facts["captions"] != recorded["captions"]


@pytest.mark.parametrize("name", make_pictures.PICTURES)
def test_the_committed_file_is_the_recorded_one(name: str) -> None:
    path = make_pictures.FOLDER / name
    content, facts = path.read_bytes(), RECORD["pictures"][name]
    assert hashlib.sha256(content).hexdigest() == facts["sha256"]
    assert len(content) == facts["bytes"] <= make_pictures.MOST_BYTES[path.suffix]
    with Image.open(path) as picture:
        assert picture.format == path.suffix[1:].upper()


def test_answers_stay_the_same_with_a_part_of_the_tokens() -> None:
    for name, most in (("hero.png", 0.11), ("clip.gif", 0.26), ("allocation.png", 0.26)):
        whole, part = RECORD["pictures"][name]["runs"][:2]
        assert whole["answer"] == part["answer"] and whole["kept"] == whole["total"] == part["total"]
        assert part["kept"] <= most * part["total"]
        assert any(
            f"{part['kept']} of {part['total']}" in text for text in RECORD["pictures"][name]["captions"]
        )


def test_the_allocation_is_uneven_where_the_pictures_show_that() -> None:
    def kept(name: str, run: int) -> list[int]:
        return [int(view.split("/")[0]) for view in RECORD["pictures"][name]["runs"][run]["per_view"]]

    _, *crops = kept("allocation.png", 1)
    assert max(crops) >= 1.5 * min(crops)
    assert max(kept("clip.gif", 1)) >= 2 * min(kept("clip.gif", 1))
    assert max(kept("clip.gif", 2)) <= min(kept("clip.gif", 2)) + 1  # globalcom2, as the remark there says


def test_the_record_says_where_it_comes_from() -> None:
    origin = RECORD["provenance"]
    assert origin["command"] == "python scripts/make_pictures.py" and origin["commit"] and not origin["dirty"]
    assert origin["device"] == "cpu"


def test_a_second_run_leaves_the_record_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drawn: dict[str, dict[str, Any]]
) -> None:
    monkeypatch.setattr(make_pictures, "draw_all", lambda folder: drawn)
    runs = count(1)
    monkeypatch.setattr(make_pictures, "provenance", lambda: {"run": next(runs)})
    record = tmp_path / make_pictures.RECORD
    for _ in range(2):
        make_pictures.main(["--out", str(tmp_path)])
        assert json.loads(record.read_text())["provenance"] == {"run": 1}
    record.write_text(record.read_text().replace(drawn["hero.png"]["sha256"], "0"))
    make_pictures.main(["--out", str(tmp_path)])
    assert json.loads(record.read_text())["provenance"] == {"run": 3}


def test_a_picture_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write(path: Path) -> dict[str, Any]:
        path.write_bytes(bytes(150_001))
        return {}

    monkeypatch.setattr(make_pictures, "PICTURES", {"hero.png": write})
    with pytest.raises(ValueError, match=r"hero.png has 150001 bytes, allowed are 150000"):
        make_pictures.draw_all(tmp_path)

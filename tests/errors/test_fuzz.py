"""A slice of the fuzz run, in this process, and what `scripts/fuzz.py` promises: cases are the same every time,
a worker that crashes or hangs is noticed and replaced."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import fuzz
from fuzzing.cases import READERS, Case, make_case
from fuzzing.clip_mutations import clock, palette, side_data
from fuzzing.material import CLIPS, make_material
from fuzzing.mutations import BLIND, TEMPLATES, chunks, mutate_json, mutate_safetensors
from fuzzing.odd_files import MODES, OddFile
from fuzzing.readers import Readers, _judge
from fuzzing.worker import Crew
from vidcompress.errors import ArgumentError
from vidcompress.media import read_video

CASES = 150
UNSERVED = {
    "av1.mp4": ("decord",),
    "h264.ts": ("decord",),
    "animated.gif": ("decord",),
    "animated.png": ("decord",),
    "animated.webp": ("decord", "pyav"),
    "exif.png": ("decord",),
    **dict.fromkeys(
        ("palette.avi", "palette.mov", "turned.avi", "turned.mov", "alpha.mov", "alpha.webm"), ("decord",)
    ),
    **dict.fromkeys(("joined.ts", "joined.mpg"), ("decord",)),
}
"""Backends that say they do not serve a format."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return make_material(tmp_path_factory.mktemp("fuzz") / "material")


@pytest.fixture(scope="module")
def readers(material: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Readers:
    return Readers(material["checkpoint"][0].parent, tmp_path_factory.mktemp("room"))


def test_broken_files_give_a_result_or_a_clear_error(
    material: dict[str, list[Path]], readers: Readers
) -> None:
    outcomes: Counter[str] = Counter()
    for number in range(CASES):
        case = make_case(material, 7, number)
        if "decord" in case.reader:
            pytest.importorskip("decord")
        outcome, said = readers.outcome(case, readers.place(case))
        assert outcome in fuzz.FINE, f"python scripts/fuzz.py --seed 7 --case {number}: {case}: {said}"
        outcomes[outcome] += 1
    assert min(outcomes["answer"], outcomes["refused"]) > CASES // 10, outcomes


@pytest.mark.parametrize("number", range(len(TEMPLATES)))
def test_hostile_templates_end(number: int, material: dict[str, list[Path]], readers: Readers) -> None:
    whole = next(path for path in material["checkpoint"] if path.suffix == ".jinja").read_text()
    case = Case(
        0, "checkpoint", "chat_template.jinja", "load_processor", (), (TEMPLATES[number] + whole).encode()
    )
    outcome, said = readers.outcome(case, readers.place(case))
    assert outcome in fuzz.FINE, said
    assert "MemoryError" not in said


def test_valid_files_are_read(material: dict[str, list[Path]], readers: Readers) -> None:
    """Otherwise every broken one would be refused for the wrong reason."""
    assert {path.name for path in material["video"]} >= {"h264.mp4", "animated.gif"}
    assert len(material["video"]) > len(CLIPS) // 2
    for kind, paths in material.items():
        for path in paths:
            for reader in READERS[kind]:
                if (
                    reader.split()[-1] in UNSERVED.get(path.name, ()) or "odd file" in reader
                ):  # their reads may fail
                    continue
                case = Case(0, kind, path.name, reader, (), path.read_bytes())
                outcome, said = readers.outcome(case, readers.place(case))
                assert outcome == "answer", f"{path.name} by {reader}: {said}"


def test_cases_depend_on_seed_and_number_alone(material: dict[str, list[Path]]) -> None:
    first, again, other = (make_case(material, seed, 3) for seed in (0, 0, 1))
    assert (first, first.data) == (again, again.data)
    assert first.data != other.data
    drawn = [make_case(material, 0, number) for number in range(200)]
    assert {case.kind for case in drawn} == set(READERS)
    assert sum(case.data != (material[case.kind][0].parent / case.base).read_bytes() for case in drawn) > 180


def test_mutations_break_what_they_say(material: dict[str, list[Path]]) -> None:
    rng = random.Random(0)
    clip = next(path for path in material["video"] if path.name == "h264.mp4").read_bytes()
    for mutation in BLIND:
        assert any(bytes(mutation(bytearray(clip), rng)) != clip for _ in range(20)), mutation.__name__
    assert {clip[start + 4 : start + 8] for start, _ in chunks(clip)} >= {b"ftyp", b"moov", b"stbl", b"stsz"}
    assert all(json.loads(mutate_json(b'{"a": [1, {"b": 2}]}', rng)[0]) is not None for _ in range(50))
    weights = next(path for path in material["checkpoint"] if path.suffix == ".safetensors").read_bytes()
    assert all(mutate_safetensors(weights, rng)[0] != weights for _ in range(10))


def test_clip_mutations_break_what_they_say(material: dict[str, list[Path]]) -> None:
    """EXIF, palettes and clocks are reached; a file without any is broken blindly."""
    rng = random.Random(0)
    clips = {path.name: path.read_bytes() for path in material["video"]}
    changed: dict[str, set[int]] = {}
    for mutation, name in ((side_data, "turned.avi"), (side_data, "exif.png"), (palette, "palette.avi")):
        whole = clips[name]
        for _ in range(30):
            broken = bytes(mutation(bytearray(whole), rng))
            assert len(broken) == len(whole), "in its place"
            places = changed.setdefault(name, set())
            places |= {at for at, (one, two) in enumerate(zip(whole, broken, strict=True)) if one != two}
    exif = [at for at in range(len(clips["turned.avi"])) if clips["turned.avi"][at : at + 6] == b"Exif\0\0"]
    assert (
        all(any(start < at < start + 50 for start in exif) for at in changed["turned.avi"]) and len(exif) == 6
    )
    chunk = clips["exif.png"].index(b"eXIf")
    assert changed["exif.png"] and all(chunk < at < chunk + 60 for at in changed["exif.png"])
    assert changed["palette.avi"]
    blind = [bytes(palette(bytearray(clips["h264.mkv"]), rng)) != clips["h264.mkv"] for _ in range(20)]
    assert any(blind)


def test_broken_clocks_are_clocks(material: dict[str, list[Path]]) -> None:
    """The stream keeps its frames; when they are shown, changes."""
    rng = random.Random(0)
    whole = next(path for path in material["video"] if path.name == "h264.ts").read_bytes()
    plain = read_video(whole, num_frames=24)
    made = []
    for _ in range(12):
        broken = bytes(clock(bytearray(whole), rng))
        if len(broken) == len(whole):
            made.append(read_video(broken, num_frames=24))
    assert len(made) > 4 and all(clip.total_frames == plain.total_frames for clip in made)
    assert {len(clip.notes) for clip in made} == {0, 1}, "some jumps are new clocks, some are none"
    assert any(clip.times != plain.times for clip in made)


def test_odd_files_are_read_and_never_written(material: dict[str, list[Path]]) -> None:
    whole = next(path for path in material["video"] if path.name == "h264.mp4").read_bytes()
    files = [OddFile(whole, random.Random(seed)) for seed in range(40)]
    assert {repr(file.mode) for file in files} == {repr(mode) for mode in MODES}
    failed = 0
    for file in files:
        try:
            while file.read(1000):
                pass
        except (OSError, ValueError, EOFError, RuntimeError):
            failed += 1
    assert 0 < failed < 40 and not any(file.written for file in files)


def test_what_no_reader_expected_is_a_finding(
    material: dict[str, list[Path]], readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller gets a clear error; the fuzzer sees through it."""
    from vidcompress.media.video import frame_decoder as decoding

    def stumble(self: Any, packet: Any) -> Any:
        raise KeyError("side data 31")

    data = next(path for path in material["video"] if path.name == "h264.mp4").read_bytes()
    case = Case(0, "video", "h264.mp4", "read_video auto", (), data)
    assert readers.outcome(case, readers.place(case))[0] == "answer"
    monkeypatch.setattr(decoding.Decoder, "decode", stumble)
    outcome, said = readers.outcome(case, readers.place(case))
    assert outcome == "foreign" and "its reader failed (KeyError: 'side data 31')" in said


def test_an_evaluation_around_a_broken_clip_is_judged(
    material: dict[str, list[Path]], readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip that fails alone is a refusal; a row without answers, or another question that failed, is a finding."""
    case = Case(0, "video", "h264.mp4", "eval", (), b"no clip")
    outcome, said = readers.outcome(case, readers.place(case))
    assert (outcome, "is not a video in a known format" in said) == ("refused", True)
    lost = {"error": "the row failed", "failed": [], "samples": {"id": []}}
    monkeypatch.setattr("fuzzing.readers.evaluate", lambda *arguments: lost)
    assert readers.outcome(case, readers.place(case)) == ("absurd", "the row has no result: the row failed")
    others = {"error": None, "failed": [{"id": "2", "error": "new"}], "samples": {"id": list("0123")}}
    monkeypatch.setattr("fuzzing.readers.evaluate", lambda *arguments: others)
    assert readers.outcome(case, readers.place(case))[0] == "absurd"


@pytest.mark.parametrize(
    "message", ["no", "two\nlines of an error", "x" * 5000, "<vidcompress.Thing object at 0x7f00> is wrong"]
)
def test_messages_that_say_nothing_are_findings(message: str) -> None:
    assert _judge(message)[0] == "absurd"
    assert _judge("video='a.mp4' is cut short; fetch it again")[0] == "refused"


@pytest.mark.slow
def test_a_worker_that_dies_or_hangs_is_replaced(tmp_path: Path) -> None:
    """A real worker, stopped and killed from outside."""
    crew = Crew(tmp_path, 7, seconds=1.5, memory_mb=2048)
    assert crew.run(0)["outcome"] in fuzz.FINE
    assert crew.process is not None
    os.kill(crew.process.pid, signal.SIGSTOP)
    assert crew.run(1)["outcome"] == "hang"
    entry = crew.run(1)
    assert (entry["outcome"] in fuzz.FINE, crew.starts) == (True, 2)
    assert crew.process is not None
    os.kill(crew.process.pid, signal.SIGSEGV)
    crew.process.wait(10)
    crashed = crew.run(2)
    assert (crashed["outcome"], crashed["said"][:7]) == ("crash", "SIGSEGV")
    crew.close()


def test_a_run_goes_on_from_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Fake:
        def __init__(self, *settings: Any) -> None:
            pass

        def run(self, number: int) -> dict[str, Any]:
            asked.append(number)
            outcome = "crash" if number == 4 else "refused"
            return {"case": number, "outcome": outcome, "said": "why", "ms": 1.0, "mb": number}

        def close(self) -> None:
            pass

    monkeypatch.setattr(fuzz, "Crew", Fake)
    fuzz.run(3, 7, 1.0, 64, tmp_path)
    results, took = fuzz.run(6, 7, 1.0, 64, tmp_path)
    assert asked == [0, 1, 2, 3, 4, 5]
    assert [entry["case"] for entry in results] == asked
    found = list((tmp_path / "findings").iterdir())
    assert len(found) == 1 and found[0].name.startswith("4-") and (found[0] / "broken").is_file()
    stated = fuzz.summary(results, took, 1.0, 64, 7)
    assert (stated["cases"], stated["findings"], stated["outcomes"]) == (6, 1, {"crash": 1, "refused": 5})
    assert stated["largest"]["mb"] == 5
    with pytest.raises(
        ArgumentError, match="journal.jsonl belongs to another run: seed is 7 there and 8 here"
    ):
        fuzz.run(6, 8, 1.0, 64, tmp_path)
    assert torch.get_num_threads() == 1

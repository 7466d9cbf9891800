"""The offline suite: what is asked, that it follows from the seed, and that a killed run ends with the same folder."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vidcompress.errors import ArgumentError
from vidcompress.media import read_video
from vidcompress.tools.evaluation import shapes
from vidcompress.tools.evaluation.suite import BENCHMARKS, FinishedFolder, benchmark_of, make, tasks_folder
from vidcompress.tools.evaluation.suite.detail import KINDS, VIEW, detail, reduction
from vidcompress.tools.evaluation.suite.entry import SEEDS_PER_BLOCK, Entry
from vidcompress.tools.evaluation.suite.needle import LENGTHS, POSITIONS
from vidcompress.tools.evaluation.suite.questions import MULTI_IMAGE_TYPES, TURNS
from vidcompress.tools.evaluation.tasks.folder import FolderTask

NAMES = sorted(BENCHMARKS)
PER_NAME = {"needle": 10, "multi-turn": 20}
"""Few of the long clips; media of both kinds."""


def planned(name: str, questions: int, first: int = 0) -> list[Entry]:
    return list(BENCHMARKS[name].plan(questions, first))


def contents(folder: Path) -> dict[str, str]:
    """Every file with its digest."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_alike(one: Path, other: Path) -> None:
    """The same files and bytes; clips the same frames up to x264, which now and then differs by a bit."""
    ours, theirs = contents(one), contents(other)
    assert ours.keys() == theirs.keys()
    differ = {name for name in ours if ours[name] != theirs[name]}
    assert {Path(name).suffix for name in differ - {"manifest.json"}} <= {".mp4"}
    for name in differ - {"manifest.json"}:
        clips = [read_video(folder / name).frames.float() for folder in (one, other)]
        assert clips[0].shape == clips[1].shape and (clips[0] - clips[1]).abs().max() <= 16
    assert differ == set() or len(differ) > 1  # a manifest differs only where a clip does


def scene_of(entry: Entry) -> Any:
    """What the first of its media shows."""
    return entry.media[0].paint.args[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_questions_are_in_the_models_words_and_follow_from_the_seed(name: str) -> None:
    entries, known = planned(name, 100), set(shapes.words())
    for entry in entries:
        assert set(entry.question.replace("?", " ?").split()) | set(entry.answer.split()) <= known
    assert len({entry.id for entry in entries}) == 100
    told = [entry.line() for entry in entries]
    assert [entry.line() for entry in planned(name, 30)] == told[:30], (
        "the first ones are the same for any number"
    )
    others = planned(name, 100, SEEDS_PER_BLOCK)
    assert not any(scene_of(entry) == scene_of(other) for entry, other in zip(entries, others, strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "needle"])
def test_one_seed_has_scenes_for_its_most_questions(name: str) -> None:
    """The last question is still in the block of held-out seeds; a tenth of the most stands for the rest."""
    share = BENCHMARKS[name].most // 50
    last = planned(name, share)[-1].media[-1].path
    assert int(Path(last).stem.split("-")[0]) < SEEDS_PER_BLOCK // 50 * 1.3


def test_nothing_is_from_training() -> None:
    last = planned("detail", 4, 99 * SEEDS_PER_BLOCK)[-1]
    assert int(last.id) in shapes.HELD_OUT_SEEDS
    with pytest.raises(ArgumentError, match="seed=100: must be a whole number from 0 to 99"):
        make("detail", "nowhere", seed=100)


def test_shapes_are_the_questions_of_the_accuracy_tables() -> None:
    for name, medium in (("shapes-image", "image"), ("shapes-clip", "clip")):
        asked = [question for _, _, question in shapes.held_out_questions(medium, 40)]
        assert [(q.text, q.answer, q.type) for q in asked] == [
            (entry.question, entry.answer, entry.kind) for entry in planned(name, 40)
        ]


def test_a_needle_is_in_one_frame_at_its_position() -> None:
    entries = planned("needle", len(LENGTHS) * len(POSITIONS))
    assert Counter((e.facts["frames"], e.facts["position"]) for e in entries) == Counter(
        (frames, position) for frames in LENGTHS for position in POSITIONS
    )
    assert len(Counter(entry.answer for entry in entries)) == 10
    assert len({scene_of(entry).background for entry in entries}) == len(entries), "each a clip of its own"
    by_cell = {(entry.facts["frames"], entry.facts["position"]): entry for entry in entries}
    for where, at in ((0.0, 0), (0.5, 8), (1.0, 15)):
        entry = by_cell[16, where]
        assert entry.facts["frame"] == at and str(scene_of(entry).flash.value) == entry.answer
        with_digit, without = (
            entry.media[0].paint(),
            shapes.paint_clip(replace(scene_of(entry), flash=None)),
        )
        changed = (with_digit != without).any(axis=(1, 2, 3))
        assert np.flatnonzero(changed).tolist() == [at]


def test_a_needle_survives_the_encoder(tmp_path: Path) -> None:
    entries = planned("needle", 14)
    made = make("needle", tmp_path / "needle", questions=14)
    for entry in entries[9:12]:
        clip = read_video(made.folder / entry.media[0].path, num_frames=256)
        painted = entry.media[0].paint().astype(int)
        assert clip.frames.shape == painted.shape
        steps = np.abs(np.diff(np.asarray(clip.frames).astype(int), axis=0)).mean(axis=(1, 2, 3))
        wanted = np.abs(np.diff(painted, axis=0)).mean(axis=(1, 2, 3))
        assert np.corrcoef(steps, wanted)[0, 1] > 0.95


def with_and_without(style: str, grid: int) -> tuple[Entry, np.ndarray, np.ndarray]:
    """A detail picture, and the same one without its digit."""
    from vidcompress.tools.evaluation.suite import detail as module

    entry = next(e for e in detail(16, 0) if e.kind == f"{style} {grid}x{grid}")
    scene = module._scene(int(entry.id), grid, VIEW)
    return entry, entry.media[0].paint(), shapes.paint(scene)


@pytest.mark.parametrize("grid", [2, 3])
def test_a_hidden_digit_is_not_in_the_thumbnail(grid: int) -> None:
    """As the embedded model sees it, through its own preparation: 2 grey levels in the thumbnail, 50 in its crop."""
    import vidcompress

    processor = vidcompress.VisualQA.from_pretrained(local_files_only=True).processor
    entry, marked, plain = with_and_without("hidden", grid)
    views = [
        processor.prepare_images([Image.fromarray(p)])[0]["pixel_values"][0] * 127.5 for p in (marked, plain)
    ]
    assert len(views[0]) == 1 + grid * grid
    apart = (views[0] - views[1]).abs().amax(dim=(1, 2, 3))
    crop = 1 + entry.facts["row"] * grid + entry.facts["column"]
    assert apart[0] <= 2.5, "less than a hundredth of the grey scale"
    assert apart[crop] >= 50
    small, with_digit, without = with_and_without("small", grid)
    views = [
        processor.prepare_images([Image.fromarray(p)])[0]["pixel_values"][0] * 127.5
        for p in (with_digit, without)
    ]
    assert (views[0] - views[1])[0].abs().max() > 30, "a small one is there as a speck"
    assert small.facts["height"] / grid <= 9


def test_the_reduction_is_pillows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 336)).astype(np.float32)
    reduced = np.asarray(Image.fromarray(pixels).resize((112, 1), Image.Resampling.BICUBIC))
    assert np.allclose(reduction(112, 336) @ pixels[0], reduced[0], atol=1e-3)


def test_only_crops_show_a_small_digit() -> None:
    """The embedded model reads it from the picture, and is at chance with the thumbnail alone."""
    import vidcompress

    qa = vidcompress.VisualQA.from_pretrained(method="none", local_files_only=True)
    entries = list(islice((e for e in detail(120, 0) if e.kind == "small 3x3"), 20))
    whole = [Image.fromarray(entry.media[0].paint()) for entry in entries]
    right = []
    for pictures in (whole, [picture.resize((VIEW, VIEW), Image.Resampling.BICUBIC) for picture in whole]):
        asked = [
            {"question": entry.question, "image": picture}
            for entry, picture in zip(entries, pictures, strict=True)
        ]
        said = qa.ask_batch(asked, max_new_tokens=4, progress=False)
        right.append(sum(answer.text == entry.answer for answer, entry in zip(said, entries, strict=True)))
    assert right[0] >= 17
    assert right[1] <= 6


def test_details_come_in_turns_and_in_every_crop() -> None:
    entries = planned("detail", 320)
    assert Counter(e.kind for e in entries) == {f"{style} {grid}x{grid}": 80 for style, grid in KINDS}
    assert set(Counter(e.answer for e in entries).values()) == {32}
    cells = {(e.facts["row"], e.facts["column"]) for e in entries if e.facts["grid"] == 3}
    assert len(cells) == 9
    for entry in planned("detail", 4)[1:2]:
        assert entry.media[0].paint().shape == (3 * VIEW, 3 * VIEW, 3)
    assert next(detail(1, 0, 168)).media[0].paint().shape == (336, 336, 3)


def test_several_pictures_hold_the_answer_together() -> None:
    entries, hosts = planned("multi-image", 240), 0
    assert {len(entry.media) for entry in entries} == {2, 3, 4}
    assert Counter(entry.kind for entry in entries) == dict.fromkeys(MULTI_IMAGE_TYPES, 48)
    assert Counter(e.answer for e in entries if e.kind == "existence") == {"yes": 24, "no": 24}
    for entry in entries:
        where = entry.facts["where"]
        scenes: list[Any] = [media.paint.args[0] for media in entry.media]  # type: ignore[attr-defined]
        items = [[(item.color, item.shape) for item in scene.items] for scene in scenes]
        named = entry.question.rstrip("?").split()
        if entry.kind == "color":
            held = [place for place, found in enumerate(items) if named[-1] in {shape for _, shape in found}]
            assert held == [where] and (entry.answer, named[-1]) in items[where]
        elif entry.kind == "digit":
            shown = [[str(digit.value) for digit in scene.digits] for scene in scenes]
            assert shown[where] == [entry.answer] and sum(map(len, shown)) == 1
            if named[0] == "which":
                hosts += 1
                assert items[where][scenes[where].digits[0].on] == (named[-2], named[-1])
        elif entry.question == "how many objects are there?":
            assert entry.answer == str(sum(map(len, items))) and where is None
        elif entry.kind == "existence":
            asked = (named[3], named[4])
            assert (
                (asked in items[where]) if where is not None else not any(asked in found for found in items)
            )


def test_turns_share_their_media() -> None:
    entries = planned("multi-turn", 40)
    groups = [entries[start : start + TURNS] for start in range(0, 40, TURNS)]
    for number, group in enumerate(groups):
        assert len({entry.media for entry in group}) == len({entry.group for entry in group}) == 1
        assert len({entry.kind for entry in group}) == TURNS
        assert group[0].media[0].is_clip == (number % 2 == 1)
    assert len({group[0].group for group in groups}) == len(groups)
    with pytest.raises(
        ArgumentError, match="questions=12: multi-turn asks 5 about each of its media; pass a multiple"
    ):
        benchmark_of("multi-turn").count(12)


@pytest.mark.parametrize("name", NAMES)
def test_folders_are_benchmarks(name: str, tmp_path: Path) -> None:
    count = PER_NAME.get(name, 12)
    made = make(name, tmp_path / name, questions=count, prompt_suffix='\nAnswer "briefly".')
    task = FolderTask(made.folder)
    assert (task.name, task.split, task.metric, task.max_new_tokens) == (name, "held-out", "exact", 8)
    items = task.items()
    assert len(items) == made.questions == count
    for item, entry in zip(items, planned(name, count), strict=True):
        assert item.question == entry.question + '\nAnswer "briefly".'
        assert (item.answers, item.kind, item.group) == ((entry.answer,), entry.kind, entry.group)
        assert dict(item.facts) == dict(entry.facts)
        assert all(path.is_file() for path in (*item.images, *filter(None, [item.video])))
    manifest = json.loads((made.folder / "manifest.json").read_text())
    files = contents(made.folder)
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == {
        name: digest for name, digest in files.items() if name != "manifest.json"
    }
    assert manifest["revision"] == made.revision and len(made.revision) == 64
    assert make(name, made.folder, questions=count, prompt_suffix='\nAnswer "briefly".') == made, (
        "nothing is redone"
    )
    assert contents(made.folder) == files


class StopError(Exception):
    """What stands for a kill."""


def stopped_after(last: int, **given: Any) -> None:
    def stop(done: int, of: int) -> None:
        if done == last:
            raise StopError

    with pytest.raises(StopError, match="^$"):
        make(on_question=stop, **given)


@pytest.mark.parametrize("name", ["multi-image", "multi-turn"])
def test_a_stopped_run_goes_on_and_ends_the_same(name: str, tmp_path: Path) -> None:
    whole = make(name, tmp_path / "whole", questions=15)
    cut = tmp_path / "cut"
    for questions in (0, 4, 11):
        stopped_after(questions, name=name, folder=cut, questions=15)
        assert not (cut / "questions.jsonl").exists(), "an unfinished folder is no benchmark"
        with (cut / "questions.jsonl.part").open("a") as part:
            part.write('{"id": "torn')  # the kill came in the middle of a line
        (cut / "media" / "unfinished.png").write_bytes(b"half")
        (cut / "questions.jsonl.part.new").write_bytes(b"half")
    lost = next(iter(sorted((cut / "media").iterdir())))
    lost.unlink()
    make(name, cut, questions=15)
    assert_alike(cut, whole.folder)


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """SIGKILL at whatever moment, three times over."""
    code = (
        "import sys, time; from vidcompress.tools.evaluation.suite import folder, make; write = folder.write_frames\n"
        "folder.write_frames = lambda *args, **options: (time.sleep(0.03), write(*args, **options))\n"
        "make('shapes-clip', sys.argv[1], questions=60)"
    )  # not so fast that nobody can stop it
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "whole")], check=True)
    cut, kills = tmp_path / "cut", 0
    for media in (5, 25, 45):
        process = subprocess.Popen([sys.executable, "-c", code, str(cut)])
        while process.poll() is None and len(list(cut.glob("media/[0-9]*"))) < media:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 3
    subprocess.run([sys.executable, "-c", code, str(cut)], check=True)
    assert_alike(cut, tmp_path / "whole")


def test_two_at_once_make_one_folder(tmp_path: Path) -> None:
    alone = make("shapes-image", tmp_path / "alone", questions=20)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(make, "shapes-image", tmp_path / "shared", questions=20) for _ in range(3)]
        made = [future.result() for future in futures]
    assert {entry.revision for entry in made} == {alone.revision}
    assert contents(tmp_path / "shared") == contents(alone.folder)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ArgumentError, match=r"is not empty: it holds 'thesis\.txt'; name a new one"):
        make("detail", tmp_path, questions=4)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(ArgumentError, match="is a file; name a new folder"):
        make("detail", tmp_path / "thesis.txt", questions=4)
    with pytest.raises(ArgumentError, match=r"cannot be made \(.*\); name another"):
        make("detail", tmp_path / "thesis.txt" / "below", questions=4)


def test_another_benchmark_is_not_mixed_in(tmp_path: Path) -> None:
    made = make("multi-turn", tmp_path / "done", questions=5)
    with pytest.raises(ArgumentError, match=r"holds another benchmark .* name another folder, or delete it"):
        make("multi-turn", made.folder, questions=5, seed=1)
    stopped_after(1, name="multi-turn", folder=tmp_path / "begun", questions=5)
    with pytest.raises(ArgumentError, match=r"holds another benchmark .*'seed': 1"):
        make("multi-turn", tmp_path / "begun", questions=5, seed=1)
    lost = next((made.folder / "media").iterdir())
    lost.unlink()
    with pytest.raises(ArgumentError, match=f"'media/{lost.name}' is gone; delete the folder"):
        make("multi-turn", made.folder, questions=5)
    part = tmp_path / "begun" / "questions.jsonl.part"
    part.write_text(part.read_text().replace('"pillow": "', '"pillow": "0.'))
    with pytest.raises(ArgumentError, match=r"holds another benchmark .*name another folder, or delete it"):
        make("multi-turn", tmp_path / "begun", questions=5)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": 5, "revision": "x"}'])
def test_a_broken_manifest_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ArgumentError, match=r"manifest\.json (cannot be read|is no manifest of the suite)"):
        make("detail", tmp_path, questions=4)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"name": "haystack"}, "name='haystack': no benchmark of the suite; known: detail, "),
        ({"questions": 0}, "questions=0: must be a whole number from 1 to 10000"),
        ({"questions": 2.5}, "questions=2.5: must be a whole number"),
        ({"seed": -1}, "seed=-1: must be a whole number from 0 to 99"),
        ({"view": 112}, "view=112: shapes-image is drawn without it; leave it out"),
        ({"name": "detail", "view": 5}, "view=5: must be a whole number from 56 to 512"),
        ({"prompt_suffix": 5}, "prompt_suffix=5: must be a text of printable characters"),
        ({"prompt_suffix": "a\x00"}, "must be a text of printable characters; leave it out"),
    ],
)
def test_wrong_arguments_are_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(**{"name": "shapes-image", "folder": tmp_path / "new", **given})
    assert not (tmp_path / "new").exists()


def test_importing_needs_no_torch() -> None:
    code = "import sys; import vidcompress.tools.evaluation.suite; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


def test_made_says_what_there_is(tmp_path: Path) -> None:
    made = make("multi-image", tmp_path / "several", questions=3)
    assert isinstance(made, FinishedFolder) and made.files == 6
    assert (tasks_folder() / "utils.py").is_file()

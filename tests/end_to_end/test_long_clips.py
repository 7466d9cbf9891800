"""Clips in bounded memory: as the whole clip where it fits, exact counts always, and memories that are refused."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tiny_models import Scene, batch, tiny_model
from vidcompress import VisualQA, compress_inputs
from vidcompress.adapters.base import adapter_for
from vidcompress.core.config import CompressionConfig
from vidcompress.core.report import Report
from vidcompress.core.report.visual import VisualReport
from vidcompress.core.stream.stream import StreamSize, frames_layout
from vidcompress.errors import ArgumentError, BudgetError, MediaError, UnsupportedInputError
from vidcompress.media import read_video
from vidcompress.media.video.frames import FileFrames
from vidcompress.qa.memory import memory_file
from vidcompress.qa.memory.clip_memory import ClipMemory
from vidcompress.session.held_clips import clip_size, open_stream

QUESTION = "what digit is shown?"
STREAMING = ["evs", "globalcom2", "vidcom2", "census", "dycoke"]
pytestmark = pytest.mark.transformers


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 100 frames in which a square moves over a background that drifts."""
    import av

    path = tmp_path_factory.mktemp("long") / "long.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 112, 112, "yuv420p"  # type: ignore[attr-defined]
        stream.options = {"g": "25"}
        for number in range(100):
            frame = np.full((112, 112, 3), 40 + number, np.uint8)
            frame[30:60, number % 80 : number % 80 + 30] = [255 - 2 * number, 0, 2 * number]
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):  # type: ignore[attr-defined]
                container.mux(packet)
        for packet in stream.encode():  # type: ignore[attr-defined]
            container.mux(packet)
    return path


def sent(answer: Any) -> list[int]:
    positions: list[int] = answer.report.visuals[0].kept_positions.tolist()
    return positions


@pytest.mark.parametrize("method", STREAMING)
def test_what_fits_is_as_the_whole_clip(qa: VisualQA, long_clip: Path, method: str) -> None:
    """Of 100 frames of 16 tokens, 60 are kept of 1,600: a hold of 30 takes all, and one of 2 does not."""
    own = qa.using(method=method, max_tokens=60)
    whole = own.ask(QUESTION, video=long_clip, num_frames="all")
    fits = own.ask(QUESTION, video=long_clip, num_frames="all", hold=30)
    bound = own.ask(QUESTION, video=long_clip, num_frames="all", hold=2)
    assert sent(fits) == sent(whole) and fits.text == whole.text
    assert bound.report.kept == whole.report.kept == 60
    assert [note for note in fits.notes if "0 evictions; the choice is as from the whole clip" in note]
    assert [note for note in bound.notes if "at most " in note and "0 evictions" not in note]
    other = own.ask(QUESTION, video=long_clip, num_frames=50, hold=30)
    assert sent(other) != sent(whole), "other frames are another clip"


@pytest.mark.parametrize("family", ["llava_onevision", "llava_video", "llava_next_video", "qwen2_5_vl"])
def test_features_and_logits_are_those_of_the_whole_clip(family: str) -> None:
    """Newlines of every kind are where they were, and masses too; another order of frames is another answer."""
    if family == "qwen2_5_vl":
        from qwen_models import qwen_inputs, qwen_model

        model = qwen_model(family)
        inputs = qwen_inputs(model, [[5, ("video", (6, 4, 8)), 6, 7]])
    else:
        model = tiny_model(family)
        inputs = batch(model, [Scene((("video", 12),))])
    options = {
        "method": "census" if family != "llava_next_video" else "evs",
        "max_tokens": 11,
        "max_views": 5,
    }
    whole = compress_inputs(model, inputs, **options)
    held = compress_inputs(model, inputs, **options, hold=1000)
    for one, two in zip(whole.features.rows.values(), held.features.rows.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert torch.equal(whole["input_ids"], held["input_ids"])
    with torch.no_grad(), whole.pruning():
        expected = model(**whole).logits
    with torch.no_grad(), held.pruning():
        assert torch.equal(model(**held).logits, expected)
    pixels = inputs["pixel_values_videos"]
    turned = {**inputs, "pixel_values_videos": pixels.flip(1 if pixels.ndim == 5 else 0)}
    other = compress_inputs(model, turned, **options, hold=1000)
    with torch.no_grad(), other.pruning():
        assert (model(**other).logits - expected).abs().max() > 1e-4, (
            "another order of frames is another answer"
        )
    short = compress_inputs(model, inputs, **options, hold=2)
    assert short["input_ids"].shape == whole["input_ids"].shape, "the count is exact"


def test_frames_of_files_are_not_held(qa: VisualQA, long_clip: Path) -> None:
    answer = qa.using(method="evs", max_tokens=60).ask(QUESTION, video=long_clip, num_frames=64, hold=4)
    (clip,) = answer.media
    assert isinstance(clip, FileFrames) and len(clip) == 64
    assert torch.equal(clip.frames, read_video(long_clip, num_frames=64).frames), "they are read again"
    assert answer.overlay().size[0] > 64
    plain = qa.ask(QUESTION, video=long_clip, num_frames=64)
    assert not isinstance(plain.media[0], FileFrames)
    (first, second) = qa.ask_batch([{"question": QUESTION, "video": long_clip}] * 2, batch_size=2)
    assert isinstance(first.media[0], FileFrames), "a batch holds no frames of files"
    assert torch.equal(second.media[0].frames, read_video(long_clip, rule=qa.processor.frame_rule).frames)


def test_a_long_report_is_short() -> None:
    layout = frames_layout(200, (4, 4))
    report = Report(
        "evs", visuals=[VisualReport.from_selection(layout, torch.arange(0, 3200, 2), budget=1600)]
    )
    text = str(report)
    assert "200 frames   in stretches of 17:" in text
    (counts,) = [line for line in text.splitlines() if "136/272" in line]
    assert len(counts.split()) == 12 and counts.split()[-1] == "104/208"
    short = Report(
        "evs", visuals=[VisualReport.from_selection(frames_layout(100, (4, 4)), torch.arange(9), budget=9)]
    )
    assert "stretches" not in str(short) and str(short).count("/16") == 100


def test_far_positions_are_noted(qa: VisualQA, long_clip: Path) -> None:
    config = qa.model.config.get_text_config()
    before, config.max_position_embeddings = config.max_position_embeddings, 200
    try:
        far = qa.using(method="evs", max_tokens=60).ask(QUESTION, video=long_clip, num_frames="all", hold=4)
        near = qa.using(method="vidcom2", max_tokens=60).ask(
            QUESTION, video=long_clip, num_frames="all", hold=4
        )
    finally:
        config.max_position_embeddings = before
    assert [note for note in far.notes if "was made for 200 (max_position_embeddings)" in note]
    assert not [note for note in near.notes if "max_position_embeddings" in note]


# -- memories ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["evs", "census", "vidcom2"])
def test_a_memory_answers_as_the_clip(qa: VisualQA, long_clip: Path, tmp_path: Path, method: str) -> None:
    own = qa.using(method=method, positions="contiguous", separators="drop")
    path = own.remember(long_clip, tmp_path / "a" / "clip.memory", max_tokens=60, num_frames="all")
    assert path.stat().st_size < 60 * 4 * (192 + 16) * 4 + 65536
    for budget in (60, 20, None):
        direct = own.ask(QUESTION, video=long_clip, num_frames="all", max_tokens=60, hold=4)
        from_file = own.ask(QUESTION, memory=path, max_tokens=budget)
        assert from_file.report.kept == (budget or 60)
        if budget != 20:
            assert from_file.text == direct.text
            kept = {v.time: v.kept for v in from_file.report.visuals[0].views}
            assert kept == {v.time: v.kept for v in direct.report.visuals[0].views if v.kept}
    with pytest.raises(MediaError, match="were not kept"):
        from_file.overlay()
    with pytest.raises(BudgetError, match="at most 60"):
        own.ask(QUESTION, memory=path, max_tokens=61)


def hostile_parts(tensors: dict[str, torch.Tensor]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Fields of the header and tensors that no memory has."""
    inf, nan, features = float("inf"), float("nan"), tensors["table.features"]
    sizes = {"most": (0, -1, inf, 10**30), "hold": (nan, 1), "rows": (3, 10**12)}
    clip = {
        "size": ([-1, 5], [inf, 5], [0, 0], [10**9, 10**9], [5]),
        "view": ([-3, 1, 1], [3, nan, 1], [0, 0, 0]),
        "times": ([[inf, 1]], [], {"0": 1}),
        "duration": (nan, -1),
        "fps": (inf, "x"),
    }
    frame, place, numbers = tensors["table.frame"], tensors["table.place"], tensors["numbers"]
    changed = {
        "size": [{"grid": grid} for grid in ([inf, 4], [-4, -4], [2, 8], [4])],
        "tensors": [
            {"table.frame": value}
            for value in (frame - 1000, frame.flip(0), frame * 0 + 10**6, frame.float())
        ],
        "places": [{"table.place": value} for value in (place - 100, place + 100, place * 0)],
        "numbers": [{"numbers": value} for value in (numbers[:4], -numbers, numbers * 10**15, numbers * 0)],
        "features": [{"table.features": value} for value in (features[:, None], features.long())],
        "width": [{"table.features": features[:, :5].contiguous(), "newline": torch.zeros(1, 5)}],
        "others": [{"grid": tensors["grid"][:1]}, {"newline": torch.zeros(0, features.shape[1])}],
        "lacking": [{name: None} for name in tensors],
    }
    headers = [({"size": {name: value}}, {}) for name, values in sizes.items() for value in values]
    headers += [({"clip": {name: value}}, {}) for name, values in clip.items() for value in values]
    headers += [({"size": value}, {}) for value in changed.pop("size")]
    return headers + [({}, value) for values in changed.values() for value in values]


def test_a_memory_of_something_else_is_refused_in_one_line(
    qa: VisualQA, long_clip: Path, tmp_path: Path
) -> None:
    own = qa.using(method="evs")
    path = own.remember(long_clip, tmp_path / "clip.memory", max_tokens=30, num_frames=40)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()

    def write(name: str, header: dict[str, Any] | None = None, **changed: torch.Tensor) -> Path:
        new = tmp_path / name
        own_header = json.dumps({**json.loads(metadata["header"]), **(header or {})})
        save_file({**tensors, **changed}, new, metadata={**metadata, "header": own_header})
        return new

    def hostile(number: int, header: dict[str, Any], changed: dict[str, torch.Tensor]) -> Path:
        """A memory whose digest is right, so that what it holds has to be checked."""
        new, whole = tmp_path / f"hostile{number}", json.loads(metadata["header"])
        parts = {key: value for key, value in {**tensors, **changed}.items() if value is not None}
        for name, fields in header.items():
            whole[name] |= fields
        text = json.dumps({**whole, "digest": memory_file._digest(parts)})
        save_file(parts, new, metadata={**metadata, "header": text})
        return new

    (tmp_path / "cut").write_bytes(path.read_bytes()[:-100])
    other = VisualQA.from_pretrained("tiny-onevision", local_files_only=True, method="evs")
    with torch.no_grad():
        next(other.model.parameters()).add_(1.0)
    save_file({"a": torch.zeros(1)}, tmp_path / "plain")
    cases = [
        (qa.using(method="vidcom2"), path, "was written by 'evs'"),
        (qa.using(method="evs"), tmp_path / "cut", "is damaged or cut short"),
        (
            own,
            write("changed", **{"table.features": tensors["table.features"] + 1}),
            "was changed after it was written",
        ),
        (own, write("version", {"version": 2}), "has version 2, this release reads 1"),
        (own, write("header", {"size": 5}), "is damaged or cut short"),
        *(
            (own, hostile(number, *parts), "^memory='.*")
            for number, parts in enumerate(hostile_parts(tensors))
        ),
        (other, path, "is of another model"),
        (own, tmp_path / "plain", "is no memory of a clip"),
        (own, tmp_path / "none", "no such file"),
    ]
    for asked, file_path, message in cases:
        with pytest.raises(ArgumentError, match=message) as caught:
            asked.ask(QUESTION, memory=file_path)
        assert "\n" not in str(caught.value)
    for same in (write("same"), hostile(-1, {}, {})):
        assert own.ask(QUESTION, memory=same).text == own.ask(QUESTION, memory=path).text


@pytest.mark.parametrize("budget", [4, 7, 13, 30])
def test_a_memory_with_separators_of_each_frame_is_near_its_budget(qa: VisualQA, budget: int) -> None:
    """With `separators="keep"` a token more may come from a frame more, whose separators have no room."""
    adapter = adapter_for(tiny_model("llava_video"))
    config = CompressionConfig("globalcom2", max_tokens=budget, hold=2, separators="keep")
    stream = open_stream(adapter, config, StreamSize(budget, 2, grid=(2, 2)))
    memory = ClipMemory(stream, torch.zeros(1, 32), (3, 56, 56), (56, 56), torch.float32, "clip")
    memory.add(
        torch.randn(40, 4, 32, generator=torch.Generator().manual_seed(0)), [float(n) for n in range(40)]
    )
    clip = memory.clip(adapter, config)
    frames, tokens = len(clip.times), len(clip.views(None, None).kept.frame)  # type: ignore[arg-type, attr-defined]
    assert budget - 2 <= tokens + 2 * frames <= budget and tokens >= 1


def test_separators_may_take_the_whole_budget_of_a_held_clip() -> None:
    model = tiny_model("llava_video")
    inputs = batch(model, [Scene((("video", 1),))])
    options: dict[str, Any] = {"method": "evs", "retention_ratio": 0.3, "separators": "keep"}
    whole, held = (compress_inputs(model, inputs, **options, **more) for more in ({}, {"hold": 4}))
    for one, two in zip(whole.features.rows.values(), held.features.rows.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert held.report.kept == whole.report.kept == 2


def test_a_stream_has_no_room_beyond_its_clip() -> None:
    layout = frames_layout(10, (4, 4))
    size = clip_size(layout, 20, 1000.0)
    assert 160 <= size.capacity(16) <= 161 and clip_size(layout, 20, 4.0).capacity(16) == 80


def test_a_folder_is_no_memory(qa: VisualQA, tmp_path: Path) -> None:
    for folder in (tmp_path, "/", "."):
        with pytest.raises(ArgumentError, match="is a folder; name a file in it"):
            qa.using(method="evs").remember(tmp_path / "none.mp4", folder, max_tokens=20)


def test_a_killed_remember_leaves_nothing(long_clip: Path, tmp_path: Path) -> None:
    """Killed while it writes and before that; an old memory stays as it was."""
    script = """
import os, sys
from vidcompress import VisualQA
from vidcompress.qa.memory import memory_file
real = memory_file.save_file
def half(tensors, path, metadata=None):
    real(tensors, path, metadata=metadata)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    os._exit(9)
if sys.argv[3] == "half":
    memory_file.save_file = half
qa = VisualQA.from_pretrained(local_files_only=True, method="evs")
qa.remember(sys.argv[1], sys.argv[2], max_tokens=30, num_frames=int(sys.argv[4]))
"""
    target = tmp_path / "clip.memory"

    def run(how: str, frames: int) -> int:
        words = [sys.executable, "-c", script, str(long_clip), str(target), how, str(frames)]
        return subprocess.run(words, capture_output=True).returncode

    assert run("half", 40) == 9 and not target.exists()
    assert run("whole", 40) == 0
    before = target.read_bytes()
    assert run("half", 20) == 9 and target.read_bytes() == before


# -- streams ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", STREAMING)
def test_a_watch_is_asked_at_any_time_and_uses_nothing_up(qa: VisualQA, long_clip: Path, method: str) -> None:
    clip = read_video(long_clip, num_frames=100)
    own = qa.using(method=method, separators="drop")
    with own.watch(max_tokens=60) as stream:
        with pytest.raises(MediaError, match="has seen no frame yet"):
            stream.ask(QUESTION)
        stream.add(clip.frames[:30], list(clip.times[:30]))
        early = stream.ask(QUESTION)
        for start in range(30, 100, 7):
            stream.add(clip.frames[start : start + 7].numpy(), clip.times[start : start + 7])
        late, small, again = (stream.ask(QUESTION, max_tokens=n) for n in (60, 13, 60))
        assert stream.frames == 100
    assert late.report.kept == again.report.kept == early.report.kept == 60 and small.report.kept == 13
    assert late.text == again.text
    views = [{v.time: v.kept for v in a.report.visuals[0].views} for a in (late, again)]
    assert views[0] == views[1]
    direct = own.ask(QUESTION, video=clip, max_tokens=60, hold=4)
    assert views[0] == {v.time: v.kept for v in direct.report.visuals[0].views if v.kept}
    assert max(v.time for v in early.report.visuals[0].views) < 3.0 < max(views[0])


def test_what_a_watch_refuses(qa: VisualQA) -> None:
    own = qa.using(method="evs")
    frames = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    with own.watch(max_tokens=20) as stream:
        stream.add(frames, [0.0, 1.0])
        for wrong, times, message in (
            (frames.float(), None, "pass uint8"),
            (frames[0], None, "pass uint8"),
            (frames, [1.0], "1 for 2 frames"),
            (frames, [2.0, 1.5], "must not go back"),
            (frames, [0.5, 2.0], "must not go back, and be from 1 on"),
            (frames, "ab", "must be a list of seconds"),
            (torch.zeros(1, 16, 32, 3, dtype=torch.uint8), None, "resize them to one size"),
        ):
            with pytest.raises(MediaError, match=message):
                stream.add(wrong, times)
        assert stream.frames == 2
        with pytest.raises(BudgetError, match="at most 20"):
            stream.ask(QUESTION, max_tokens=21)
    for method in ("divprune", "uniform", "fastv"):
        with pytest.raises(UnsupportedInputError, match=method):
            qa.using(method=method).watch(max_tokens=20)
    with pytest.raises(ArgumentError, match="mass='on' cannot go with hold"):
        qa.using(method="evs", mass="on").ask(QUESTION, video=frames, max_tokens=8, hold=4)


def test_a_watch_counts_a_second_per_frame(qa: VisualQA) -> None:
    frames = torch.arange(5, dtype=torch.uint8).mul(50).view(5, 1, 1, 1).expand(5, 32, 32, 3)
    with qa.using(method="evs", separators="drop").watch(max_tokens=80) as stream:
        for block in (frames[:1], frames[1:2], frames[2:].numpy()[..., ::-1]):
            stream.add(block)
        views = stream.ask(QUESTION).report.visuals[0].views
        for wrong in ("x", None, [frames[0]]):
            with pytest.raises(MediaError, match="must be an array or a tensor"):
                stream.add(wrong)
    assert [view.time for view in views] == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("method", STREAMING)
def test_a_stream_outlives_the_mode_it_was_filled_in(qa: VisualQA, method: str) -> None:
    frames = torch.randint(0, 256, (40, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    answers = []
    for inside in (True, False):
        with qa.using(method=method).watch(max_tokens=20, hold=2) as stream:
            with torch.inference_mode(inside):
                stream.add(frames[:20])
            stream.add(frames[20:])
            answers.append(stream.ask(QUESTION))
    assert answers[0].text == answers[1].text and sent(answers[0]) == sent(answers[1])
    held, other = (features_of(method, autocast) for autocast in (True, False))
    assert torch.equal(held, other), "the caller's autocast does not round what a stream compares"


def features_of(method: str, autocast: bool) -> torch.Tensor:
    stream = CompressionConfig(method, max_tokens=20).method.stream(StreamSize(20, 2, grid=(4, 4)))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        stream.add(torch.randn(40, 16, 64, generator=torch.Generator().manual_seed(1)))
        return stream.keep(20).features


def test_a_watch_may_be_saved_and_asked_from_a_thread(qa: VisualQA, long_clip: Path, tmp_path: Path) -> None:
    clip = read_video(long_clip, num_frames=60)
    own = qa.using(method="census")
    texts: list[str] = []
    with own.watch(max_tokens=40) as stream:
        stream.add(clip.frames[:1], clip.times[:1])

        def add() -> None:
            for number in range(1, 60):
                stream.add(clip.frames[number : number + 1], clip.times[number : number + 1])

        thread = threading.Thread(target=add)
        thread.start()
        while thread.is_alive():
            texts.append(stream.ask(QUESTION, max_new_tokens=2).text)
        last = stream.ask(QUESTION)
        path = stream.save(tmp_path / "watch.memory")
    assert texts and own.ask(QUESTION, memory=path).text == last.text


def run_cli(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidcompress", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=300)


def test_a_file_that_grows_is_watched(long_clip: Path, tmp_path: Path) -> None:
    grows = tmp_path / "grows.ts"
    content = long_clip.read_bytes()
    grows.write_bytes(content[:10_000])

    def write() -> None:
        for start in range(10_000, len(content), 20_000):
            time.sleep(0.2)
            with grows.open("ab") as file:
                file.write(content[start : start + 20_000])

    thread = threading.Thread(target=write)
    thread.start()
    words = (
        "watch",
        str(grows),
        "--idle",
        "3",
        "--at-end",
        "--max-tokens",
        "40",
        "--method",
        "evs",
        "--json",
    )
    done = run_cli(*words, text=f"{QUESTION}\n\nhow many objects are there?\n")
    thread.join()
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["frames"] == second["frames"] == 100 and first["question"] == QUESTION and first["answer"]
    assert "100 frames seen, 40 tokens sent" in done.stderr
    few = run_cli(*words, "--fps", "2", text=QUESTION)
    assert json.loads(few.stdout)["frames"] == 20


def test_a_question_sees_the_newest_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that come too slowly to be encoded together are added when a question comes."""
    from vidcompress.cli.clips.watch import _Feed
    from vidcompress.media.video import growing

    came, end, added = threading.Event(), threading.Event(), []

    def slow(*_: object) -> Any:
        for number in range(4):
            yield growing.LiveFrame(np.zeros((2, 2, 3), np.uint8), float(number))
        came.set()
        end.wait(20)

    class Seen:
        def add(self, frames: Any, times: Any) -> None:
            added.extend(times)

    monkeypatch.setattr(growing, "live_frames", slow)
    with _Feed(Seen(), "-", None, None) as feed:  # type: ignore[arg-type]
        assert came.wait(20)
        feed.wait(False)
        assert added == [0.0, 1.0, 2.0, 3.0]
        end.set()


def test_the_command_line_remembers(long_clip: Path, tmp_path: Path, qa: VisualQA) -> None:
    memory = str(tmp_path / "clip.memory")
    words = ("--max-tokens", "40", "-n", "all", "--max-frames", "400", "--method", "evs")
    done = run_cli("remember", str(long_clip), "-o", memory, *words)
    assert done.returncode == 0 and memory in done.stdout, done.stderr
    asked = run_cli("ask", QUESTION, "--memory", memory, "--method", "evs", "--max-tokens", "20", "--json")
    entry = json.loads(asked.stdout)
    assert entry["visual_tokens"]["kept"] == 20
    expected = qa.using(method="evs").ask(QUESTION, memory=memory, max_tokens=20)
    assert entry["answer"] == expected.text
    held = run_cli("ask", QUESTION, "-v", str(long_clip), *words, "--hold", "4", "--json")
    assert json.loads(held.stdout)["visual_tokens"]["kept"] == 40
    for text, message in (
        (("watch", str(tmp_path / "none.ts")), "cannot be opened ("),
        (("watch", memory, "--idle", "0.2"), "is not a video in a known format"),
        (("watch", memory, "--at-end"), "--at-end waits for the end of the source"),
    ):
        failed = run_cli(*text, text=QUESTION)
        assert failed.returncode and message in failed.stderr and len(failed.stderr.strip().splitlines()) == 1

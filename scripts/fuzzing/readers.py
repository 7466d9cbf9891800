"""Readers of broken files: the public entries, and checks of their results."""

from __future__ import annotations

import gzip
import io
import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import vidcompress
from shapes_accuracy.accuracy import journal_of
from vidcompress.errors import VidcompressError
from vidcompress.loading.load import load_model
from vidcompress.media import MediaError, Processor, load_image, read_video
from vidcompress.methods.card import parse_card

from .cases import Case
from .material import CHECKPOINT_FILES, JOURNAL_HEAD
from .odd_files import OddFile, evaluate

QUESTION = "what digit is shown?"
LONGEST_MESSAGE = 1200
FAILED = "its reader failed"
"""What is said of an error that no reader expected: one question fails, and fuzzing counts it as a finding."""


class Absurd(Exception):
    """A result that cannot be right, or an error that does not say what is wrong."""


class Readers:
    """The entries, with one loaded model for those that only need one.

    Args:
        checkpoint: folder of the valid checkpoint files.
        room: folder for the broken file.
    """

    def __init__(self, checkpoint: Path, room: Path) -> None:
        self.checkpoint, self.room = checkpoint, room
        room.mkdir(parents=True, exist_ok=True)
        self.qa = vidcompress.VisualQA.from_pretrained(str(checkpoint), local_files_only=True, num_frames=4)
        self.picture = Image.linear_gradient("L").resize((40, 30))
        self.read: dict[str, Callable[[Case, Path], str]] = {
            "read_video auto": lambda case, path: self._video(path, case),
            "read_video pyav": lambda case, path: self._video(path, case, backend="pyav"),
            "read_video decord": lambda case, path: self._video(path, case, backend="decord"),
            "read_video stream": lambda case, path: self._video(io.BytesIO(path.read_bytes()), case),
            "read_video odd file": lambda case, path: self._odd_file(path, case, self._video),
            "load_image odd file": lambda case, path: self._odd_file(
                path, case, lambda file, case: _picture(load_image(file))
            ),
            "eval": self._eval,
            "load_image": lambda case, path: _picture(load_image(path)),
            "load_image bytes": lambda case, path: _picture(load_image(path.read_bytes())),
            "load_image gzip": lambda case, path: _picture(load_image(_compressed(case, path))),
            "VisualQA": self._ask,
            "load_processor": lambda case, path: self._processor(vidcompress.load_processor(path)),
            "load_model": lambda case, path: self._model(load_model(path, local_files_only=True)),
            "VisualQA.from_pretrained": lambda case, path: self._pretrained(path),
            "parse_card": lambda case, path: repr(parse_card(path.stem, _text(path)))[:80],
            "run_sweep": lambda case, path: repr(journal_of(path, JOURNAL_HEAD).done),
        }

    def place(self, case: Case) -> Path:
        """Write the broken file; for a checkpoint, a folder with the other files unbroken beside it."""
        if case.kind != "checkpoint":
            path = self.room / case.base
            path.write_bytes(case.data)
            return path
        folder = self.room / "checkpoint"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in CHECKPOINT_FILES:
            if name == case.base:
                (folder / name).write_bytes(case.data)
            else:
                os.symlink((self.checkpoint / name).resolve(), folder / name)
        return folder

    def outcome(self, case: Case, path: Path) -> tuple[str, str]:
        """Read the file and name what came of it.

        Returns:
            (`answer`, `refused`, `foreign`, `absurd` or `memory`; what was returned or said).
        """
        try:
            return "answer", self.read[case.reader](case, path)
        except VidcompressError as error:
            if FAILED in str(error):
                return "foreign", str(error)
            return _judge(str(error))
        except Absurd as error:
            return "absurd", str(error)
        except MemoryError as error:
            return "memory", f"MemoryError: {error}"
        except Exception as error:  # noqa: BLE001  (finding these is the point)
            return "foreign", f"{type(error).__name__}: {error} at {_where(error)}"

    # -- entries -------------------------------------------------------------------------------------------------

    def _video(self, source: Any, case: Case, **options: Any) -> str:
        rng = random.Random(case.seed)
        wanted: dict[str, Any] = rng.choice(
            ({"num_frames": 4}, {"num_frames": 1}, {"fps": 3.0}, {"num_frames": 24}, {})
        )
        clip = read_video(source, **wanted, **options)
        times = clip.times
        _sane(clip.frames.dtype == torch.uint8 and clip.frames.shape[-1] == 3, f"frames {clip.frames.shape}")
        _sane(1 <= len(clip) <= 300 and len(times) == len(clip), f"{len(clip)} frames, {len(times)} times")
        _sane(
            all(math.isfinite(t) for t in (*times, clip.duration, clip.fps)), f"times {times} {clip.duration}"
        )
        _sane(
            list(times) == sorted(times) and times[0] >= 0 and clip.duration >= 0 and clip.fps >= 0,
            f"times {times} of {clip.duration} s at {clip.fps}",
        )
        _sane(clip.total_frames >= len(clip), f"{len(clip)} frames of {clip.total_frames}")
        return f"{tuple(clip.frames.shape)} over {clip.duration:.2f} s"

    def _ask(self, case: Case, path: Path) -> str:
        what = {"video": str(path)} if case.kind == "video" else {"image": str(path)}
        return _answered(self.qa.ask(QUESTION, max_new_tokens=2, **what))

    def _odd_file(self, path: Path, case: Case, read: Callable[[Any, Case], str]) -> str:
        file = OddFile(path.read_bytes(), random.Random(case.seed))
        try:
            return read(file, case)
        finally:
            _sane(file.written == 0, f"{file.written} bytes were written into the file object")

    def _eval(self, case: Case, path: Path) -> str:
        """The other questions keep their answers; that about the broken clip has one, or a reason."""
        found = evaluate(self.qa, self.room / "eval", path, self.checkpoint.parent / "video" / "animated.gif")
        _sane(found["error"] is None, f"the row has no result: {found['error']}")
        failed = {entry["id"]: entry["error"] for entry in found["failed"]}
        _sane(found["samples"]["id"] == list("0123"), f"questions {found['samples']['id']}")
        _sane(set(failed) <= {"1"}, f"questions {sorted(failed)} failed: {list(failed.values())[:1]}")
        if failed:
            raise MediaError(failed["1"])  # judged as every other refusal
        return "4 answers"

    def _processor(self, processor: Processor) -> str:
        messages = [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
            {"role": "user", "content": "and this?"},
        ]
        text = processor.apply_chat_template(messages)
        _sane(isinstance(text, str), f"the template made a {type(text).__name__}")
        inputs = processor(text=processor.image_token + " " + QUESTION, images=[self.picture])
        _sane(bool(torch.isfinite(inputs["pixel_values"]).all()), "pixels are not finite")
        clip = torch.zeros(2, 30, 40, 3, dtype=torch.uint8)
        if processor.video_token is not None:
            processor(text=processor.video_token + " " + QUESTION, videos=[clip])
        return f"{tuple(inputs['pixel_values'].shape)}"

    def _model(self, model: Any) -> str:
        return f"{sum(p.numel() for p in model.parameters())} parameters"

    def _pretrained(self, path: Path) -> str:
        qa = vidcompress.VisualQA.from_pretrained(path, local_files_only=True)
        return _answered(qa.ask(QUESTION, image=self.picture, max_new_tokens=2))


def _answered(answer: Any) -> str:
    report = answer.report
    _sane(0 < report.kept <= report.budget <= report.total, f"kept {report.kept} of {report.budget}")
    return f"{answer.text!r}, {report.kept} of {report.total}"[:120]


def _picture(picture: Image.Image) -> str:
    _sane(picture.mode == "RGB" and min(picture.size) >= 1, f"{picture.mode} {picture.size}")
    return f"{picture.size}"


def _compressed(case: Case, path: Path) -> Any:
    """A file object that is decompressed on the way; at times it is cut short."""
    content = gzip.compress(path.read_bytes())
    cut = len(content) // 2 if case.mutations and case.seed % 4 == 0 else len(content)
    return gzip.GzipFile(fileobj=io.BytesIO(content[:cut]))


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")


def _sane(held: bool, what: str) -> None:
    if not held:
        raise Absurd(what)


def _judge(message: str) -> tuple[str, str]:
    """A refusal must be one line of sensible length that says something."""
    odd = (
        len(message) < 20
        or len(message) > LONGEST_MESSAGE
        or "\n" in message
        or "Traceback" in message
        or " object at 0x" in message
    )
    return ("absurd" if odd else "refused"), message


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    last = "?"
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "vidcompress" in name:
            last = f"{Path(name).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return last

"""Accuracy against retention on the shapes questions: every method sees the same inputs in one run.

The run is journalled batch by batch and resumes where it was killed; the result holds one right-or-wrong score
per question, so differences between methods can be paired.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import torch

from vidcompress.adapters.base import Adapter, Visual, adapter_for
from vidcompress.adapters.traits import Traits
from vidcompress.core.budget import exact_ratio
from vidcompress.core.config import CompressionConfig, read_config
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import available_methods
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.core.report import Report
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import ArgumentError, BudgetError
from vidcompress.session.compress import compress_with
from vidcompress.tools.evaluation.shapes import (
    HELD_OUT_SEEDS,
    ClipExample,
    ImageExample,
    held_out,
    write_clip,
)
from vidcompress.tools.runs.journal import RunJournal

Medium = Literal["image", "clip"]

COMPOSITIONS = tuple(
    f"{before}+{within}"
    for before in ("globalcom2", "random")
    for within in ("fastv", "pdrop", "sparsevlm", "sparsevlm2")
)
"""Each method inside the language model behind the one this package is about, and behind a control."""


@dataclass(frozen=True)
class Sweep:
    """What to measure.

    Attributes:
        medium: `image` or `clip`.
        questions: held-out questions, one per scene.
        ratios: retention ratios; 1.0 is run once, with `none`.
        methods: names, compositions (`globalcom2+fastv`), with options as in `globalcom2:allocation=uniform,tau=5`;
            `all` stands for all that serve the medium; all and `COMPOSITIONS` by default.
        batch_size: questions per batch.
        frames: frames per clip.
        max_new_tokens: longest answer.
        first_seed: seed of the first question's scene; the others follow it.
    """

    medium: Medium
    questions: int = 1000
    ratios: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1)
    methods: tuple[str, ...] = ()
    batch_size: int = 20
    frames: int = 8
    max_new_tokens: int = 6
    first_seed: int = HELD_OUT_SEEDS.start

    def cells(self) -> list[tuple[str, float]]:
        """(method, ratio) pairs in order, the uncompressed model first.

        Raises:
            ArgumentError: a method that does not serve the medium, or a ratio or seed out of range.
        """
        check_seeds(self.first_seed, self.questions)
        for ratio in self.ratios:
            exact_ratio(ratio)
        modality = "video" if self.medium == "clip" else "image"
        serving = [name for name in available_methods() if modality in METHODS.get(name).modalities]
        listed = self.methods or ("all", *COMPOSITIONS)
        for name in (part for method in listed for part in _parts(method)):
            if name not in (*serving, "all"):
                raise ArgumentError(
                    f"methods: {name!r} does not serve {modality}s; choose from {', '.join(serving)}, compositions "
                    "of two such as globalcom2+fastv, or all"
                )
        whole = chain.from_iterable(serving if name == "all" else [name] for name in listed)
        names = [name for name in dict.fromkeys(whole) if name != "none"]
        return [("none", 1.0), *((name, ratio) for ratio in self.ratios if ratio < 1 for name in names)]


@dataclass
class Cell:
    """One method at one ratio.

    Attributes:
        correct: one character per question, `1` right and `0` wrong.
        kept, budget, total: visual positions summed over the questions.
        encoded, views: views that the encoder saw, of how many, likewise.
        unreachable: why the cell is empty, when it is.
    """

    correct: str = ""
    kept: float = 0
    budget: float = 0
    total: int = 0
    encoded: int = 0
    views: int = 0
    unreachable: str | None = None


@dataclass
class Progress:
    """Marks so far, by cell, and how many batches they cover."""

    cells: dict[str, Cell] = field(default_factory=dict)
    types: list[str] = field(default_factory=list)
    batches: int = 0

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in one journal line."""
        self.types += line["types"]
        self.batches += 1
        for key, entry in line["cells"].items():
            cell = self.cells.setdefault(key, Cell())
            cell.correct += entry["correct"]
            cell.kept += entry["kept"]
            cell.budget += entry["budget"]
            cell.total += entry["total"]
            cell.encoded += entry.get("encoded", 0)
            cell.views += entry.get("views", 0)
            cell.unreachable = entry.get("unreachable") or cell.unreachable


class EncodeOnce(Adapter):
    """Wraps an adapter for one batch: what was encoded for one method is not encoded again for the next."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(adapter.model)
        self._inner = adapter
        self._seen: dict[Any, list[VisualTokens]] = {}
        self.image_keys, self.video_keys = adapter.image_keys, adapter.video_keys  # type: ignore[misc]
        self.refused_keys, self.sent_as = adapter.refused_keys, adapter.sent_as  # type: ignore[misc]

    @property
    def has_cls(self) -> bool:
        """As the wrapped adapter."""
        return self._inner.has_cls

    @property
    def traits(self) -> Traits:
        """As the wrapped adapter."""
        return self._inner.traits

    @property
    def video_token_id(self) -> int | None:
        """As the wrapped adapter."""
        return self._inner.video_token_id

    def positions(
        self, inputs: Mapping[str, Any], ids: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor | None:
        """As the wrapped adapter."""
        return self._inner.positions(inputs, ids, mask)

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        """As the wrapped adapter."""
        return self._inner.visuals(inputs)

    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        """As the wrapped adapter, or what it returned before for the same evidence and frames."""
        key = (visuals[0].modality, tuple(evidence), tuple(frames or ()))
        if key not in self._seen:
            # The next method may read all features.
            whole = [replace(visual, may_defer=False) for visual in visuals]
            self._seen[key] = self._inner.encode(whole, evidence, frames, max_views)
        return self._seen[key]

    def encode_chosen(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence],
        choose: Callable[[int, VisualTokens], Sequence[int] | None],
        max_views: int = 16,
    ) -> list[tuple[VisualTokens, int]]:
        """As the wrapped adapter; what is chosen is the method's own."""
        return self._inner.encode_chosen(visuals, evidence, choose, max_views)


def run_sweep(
    model: Any, processor: Any, sweep: Sweep, journal: Path, on_batch: Any = lambda done, of: None
) -> Progress:
    """Ask every question with every method and ratio.

    Args:
        model: a loaded model. processor: from `load_processor`.
        sweep: what to measure.
        journal: a JSONL file that is appended to and read back on resumption; it must belong to the same sweep.
        on_batch: called with (batches done, batches in all).

    Raises:
        ArgumentError: the journal belongs to another sweep.
    """
    cells, model = sweep.cells(), unwrap(model)
    head = {"sweep": repr(sweep), "model": str(model.config._name_or_path), "weights": fingerprint(model)}
    lines = journal_of(journal, head)
    progress = Progress({f"{name}@{ratio:g}": Cell() for name, ratio in cells})  # in this order, also resumed
    adapter = adapter_for(model)
    of = math.ceil(sweep.questions / sweep.batch_size)
    on_batch(len(lines.done), of)
    for number, examples in enumerate(_batches(sweep)):
        if str(number) in lines.done:
            progress.add(lines.done[str(number)])
            continue
        texts = [question.text for _, question in examples]
        inputs = prepare(processor, [example for example, _ in examples], texts)
        questions = [question for _, question in examples]
        once = EncodeOnce(adapter)
        line: dict[str, Any] = {"id": str(number), "types": [q.type for q in questions], "cells": {}}
        for name, ratio in cells:
            settings = settings_of(name, ratio, **({"seed": number} if "random" in _parts(name) else {}))
            answers = [q.answer for q in questions]
            line["cells"][f"{name}@{ratio:g}"] = _ask(once, processor, inputs, settings, answers, sweep)
        lines.add([line])
        progress.add(line)
        on_batch(len(lines.done), of)
    lines.finish(map(str, range(of)))
    return progress


def _parts(label: str) -> list[str]:
    """The methods of a label: `globalcom2+fastv:rank=0.1` has two."""
    return label.partition(":")[0].split("+")


def settings_of(label: str, ratio: float, **options: Any) -> CompressionConfig:
    """The settings of a label such as `globalcom2:allocation=uniform,positions=original`; numbers are read as numbers.

    Args:
        label: a method's name and, after a colon, any arguments of `compress_inputs` as key=value.
        ratio: retention ratio.
        options: further arguments.

    Raises:
        ArgumentError: an option without a value, or one that neither the method nor `compress_inputs` has.
    """
    name, listed = parse_method_spec(label)
    return read_config({"method": name, "retention_ratio": ratio, **options, **listed})


def _ask(
    adapter: Adapter,
    processor: Any,
    inputs: Mapping[str, Any],
    settings: CompressionConfig,
    answers: Sequence[str],
    sweep: Sweep,
) -> dict[str, Any]:
    try:
        said, report = answer(adapter, processor, inputs, settings, sweep.max_new_tokens)
    except BudgetError as error:
        return {"correct": "", "kept": 0, "budget": 0, "total": 0, "unreachable": str(error)}
    return {
        "correct": "".join("01"[text == right] for text, right in zip(said, answers, strict=True)),
        "kept": report.mean_kept,  # averaged over layer inputs, as the budget
        "budget": report.mean_budget,
        "total": report.total,
        "encoded": sum(visual.encoded for visual in report.visuals),
        "views": sum(len(visual.views) for visual in report.visuals),
    }


def answer(
    adapter: Adapter,
    processor: Any,
    inputs: Mapping[str, Any],
    settings: CompressionConfig,
    max_new_tokens: int = 6,
) -> tuple[list[str], Report]:
    """Answer a batch of questions greedily.

    Returns:
        An answer per prompt row, lower case with single spaces, and the report of the compression.

    Raises:
        BudgetError: the method cannot reach the budget.
    """
    compressed = compress_with(adapter, inputs, settings)
    with compressed.pruning():
        out = adapter.model.generate(**compressed, max_new_tokens=max_new_tokens, do_sample=False)
    said = processor.batch_decode(out[:, compressed["input_ids"].shape[1] :], skip_special_tokens=True)
    return [" ".join(text.lower().split()) for text in said], compressed.report


def check_seeds(first: int, count: int) -> None:
    """Refuse seeds that training draws from.

    Args:
        first: the first seed. count: number of questions; each takes a seed or more.

    Raises:
        ArgumentError: a seed lies outside `HELD_OUT_SEEDS`.
    """
    # A scene that allows none of the questions is passed over; that is rare, so a quarter more is enough.
    if first not in HELD_OUT_SEEDS or first + count + count // 4 > HELD_OUT_SEEDS.stop:
        raise ArgumentError(
            f"first_seed={first} with {count} questions must lie in {HELD_OUT_SEEDS.start} to "
            f"{HELD_OUT_SEEDS.stop - 1}, seeds that no training uses; choose an earlier seed, or fewer questions"
        )


def _batches(sweep: Sweep) -> Iterator[list[tuple[Any, Any]]]:
    frames = () if sweep.medium == "image" else (sweep.frames,)
    stream = held_out(sweep.medium, sweep.questions, *frames, first=sweep.first_seed)
    while batch := list(islice(stream, sweep.batch_size)):
        yield batch


def prepare(
    processor: Any, examples: Sequence[ImageExample | ClipExample], texts: Sequence[str]
) -> Mapping[str, Any]:
    """Processor outputs of questions, one per picture or clip of one length; clips go through a real H.264 file."""
    clips = [example for example in examples if isinstance(example, ClipExample)]
    kind = "video" if clips else "image"
    prompts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": text}]}],
            add_generation_prompt=True,
        )
        for text in texts
    ]
    if not clips:
        pictures = [[example.image] for example in examples if isinstance(example, ImageExample)]
        return processor(text=prompts, images=pictures)  # type: ignore[no-any-return]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, example in enumerate(clips):
            paths.append(str(Path(folder) / f"{i}.mp4"))
            write_clip(example, paths[-1])
        return processor(text=prompts, videos=paths, num_frames=len(clips[0].frames))  # type: ignore[no-any-return]


def journal_of(path: Path, head: Mapping[str, str]) -> RunJournal:
    """Journal of the batches that were asked; a line per batch, whose id is its number."""
    return RunJournal(path, head, _is_batch)


def _is_batch(line: Mapping[str, Any]) -> bool:
    """Whether a line can be counted."""
    try:
        Progress().add(line)
    except (KeyError, TypeError, AttributeError):
        return False
    return True


def fingerprint(model: Any) -> str:
    """A short number that changes when the weights do."""
    with torch.no_grad():
        return f"{sum(float(p.double().abs().sum()) for p in model.parameters()):.6f}"

"""Sweep: models x tasks x methods x budgets, each combination a row."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from vidcompress.core.config import CompressionConfig, read_config, takes_seed
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import ArgumentError, shown

BASELINE = "none"
FAILED = ("wrong", "left-out")
"""Policy on failed questions: wrong in every score, as in lmms-eval, or left out of all."""
DEFAULT_BATCH = 8


@dataclass(frozen=True)
class ModelSpec:
    """Specification of a model; None leaves a value to the checkpoint or the machine.

    Attributes:
        name: embedded model, folder or hub id.
        label: what tables and folders call it where `name` stands in a sweep twice.
        revision: of the hub repository.
        dtype, attn_implementation, device, device_map, quantization, preset: as in `VisualQA.from_pretrained`.
        batch_size: questions per batch.
        num_frames, fps, max_frames: as in `VisualQA`.
    """

    name: str
    label: str | None = None
    revision: str | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    device: str | None = None
    device_map: str | None = None
    quantization: str | None = None
    preset: str | None = None
    batch_size: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    max_frames: int | None = None

    @property
    def shown(self) -> str:
        """Name in tables and folders."""
        return self.label or self.name

    def loading(self) -> dict[str, Any]:
        """Arguments of `VisualQA.from_pretrained` beyond the name."""
        names = ("revision", "dtype", "attn_implementation", "device", "device_map", "quantization", "preset")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def sampling(self) -> dict[str, Any]:
        """Arguments of `VisualQA` for frame sampling."""
        names = ("num_frames", "fps", "max_frames")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class TaskSpec:
    """Specification of a task: a benchmark and how much of it.

    Attributes:
        name: "shapes:image", "shapes:clip", "data:FOLDER", "parquet:FILE", "hub:OWNER/NAME" or "lmms:NAME".
        label: what tables and folders call it where `name` stands in a sweep twice.
        limit: only the first so many questions.
        max_new_tokens: longest answer; None is the task's own.
        questions, seed, frames: of `shapes:` tasks, see `ShapesTask`.
        columns, metric, prompt_suffix: of `parquet:` and `hub:` tasks, see `TableTask`.
        split: of `hub:` tasks and of folders of Parquet.
        include_path: of `lmms:` tasks, a folder with further task files.
        form: of `lmms:` tasks, "simple" (the default) or "chat".
        prompts_of: of `lmms:` tasks, a built-in model whose prompts are used, such as "llava_vid".
    """

    name: str
    label: str | None = None
    limit: int | None = None
    max_new_tokens: int | None = None
    questions: int | None = None
    seed: int | None = None
    frames: int | None = None
    columns: tuple[tuple[str, str | tuple[str, ...]], ...] | None = None
    metric: str | None = None
    prompt_suffix: str | None = None
    split: str | None = None
    include_path: str | None = None
    form: str | None = None
    prompts_of: str | None = None

    @property
    def kind(self) -> str:
        """ "shapes", "data", "parquet", "hub" or "lmms"."""
        return self.name.partition(":")[0]

    @property
    def rest(self) -> str:
        """The name behind the colon."""
        return self.name.partition(":")[2]


@dataclass(frozen=True)
class SweepRow:
    """One row of a sweep: a model on a task with a method at a budget.

    Attributes:
        model, task: their specifications.
        method: label, such as "globalcom2:tau=5".
        budget: `retention_ratio` or `max_tokens`.
        batch_size: questions per batch.
        seed: of random methods.
        settings: checked method and budget.
        failed: one of `FAILED`.
    """

    model: ModelSpec
    task: TaskSpec
    method: str
    budget: Mapping[str, Any]
    batch_size: int
    seed: int
    settings: CompressionConfig = field(repr=False)
    failed: str = FAILED[0]

    @property
    def id(self) -> str:
        """Name of its folder: readable, and different for different rows."""
        return row_id(self.model, self.task, self.method, self.budget)

    @property
    def baseline(self) -> str | None:
        """Id of the uncompressed row of the same model and task; None for itself."""
        base = row_id(self.model, self.task, BASELINE, {"retention_ratio": 1.0})
        return None if base == self.id else base

    @property
    def budget_text(self) -> str:
        """The budget as a table shows it: 0.25, or "64 tokens"."""
        ratio = self.budget.get("retention_ratio")
        return f"{float(ratio):g}" if ratio is not None else f"{self.budget['max_tokens']} tokens"

    def compression(self, batch: int) -> dict[str, Any]:
        """Arguments of `compress_inputs`; random methods get another seed in every batch, the same in every run.

        Args:
            batch: number of the batch.
        """
        name, options = parse_method_spec(self.method)
        drawn = {"seed": self.seed + batch} if takes_seed(self.settings, self.method) else {}
        return {"method": name, **self.budget, **drawn, **options}

    def config(self, batch: int) -> CompressionConfig:
        """Return the configuration of a batch; see `compression` for methods that draw at random.

        Args:
            batch: number of the batch.
        """
        return (
            self.settings.replace(seed=self.seed + batch)
            if takes_seed(self.settings, self.method)
            else self.settings
        )


@dataclass(frozen=True)
class Sweep:
    """Sweep over models, tasks, methods and budgets.

    Attributes:
        name: of the sweep.
        models, tasks: see there.
        methods: labels, without "none", which is always run at 1.0.
        budgets: one dict per budget, with `retention_ratio` or `max_tokens`.
        published: name of the published table for comparison.
        seed: of random methods.
        batch_size: questions per batch, for models that do not state it.
        failed: one of `FAILED`; answers do not depend on it.
    """

    name: str
    models: tuple[ModelSpec, ...]
    tasks: tuple[TaskSpec, ...]
    methods: tuple[str, ...] = ()
    budgets: tuple[Mapping[str, Any], ...] = ()
    published: str | None = None
    seed: int = 0
    batch_size: int = DEFAULT_BATCH
    failed: str = FAILED[0]

    def rows(self) -> list[SweepRow]:
        """All rows: by model, of each the tasks that run here before those of lmms-eval, the baseline of a task first.

        Raises:
            ArgumentError: a method or budget is not allowed, or two rows would have the same folder.
        """
        rows = list(self._rows())
        seen: dict[str, SweepRow] = {}
        for row in rows:
            other = seen.setdefault(row.id, row)
            if other is not row:
                raise ArgumentError(
                    f"models and tasks: {row.model.shown} on {row.task.label or row.task.name} with {row.method} at "
                    f"{row.budget_text} stands in the sweep twice; give one of the models or tasks another label"
                )
        return rows

    def _rows(self) -> Iterator[SweepRow]:
        cells: list[tuple[str, Mapping[str, Any]]] = [(BASELINE, {"retention_ratio": 1.0})]
        cells += [(method, budget) for budget in self.budgets for method in self.methods if not _full(budget)]
        checked = [(label, budget, check_label(label, budget)) for label, budget in cells]
        for model in self.models:
            for task in sorted(self.tasks, key=lambda task: task.kind == "lmms"):
                for label, budget, settings in checked:
                    size = model.batch_size or self.batch_size
                    yield SweepRow(model, task, label, budget, size, self.seed, settings, self.failed)


def _full(budget: Mapping[str, Any]) -> bool:
    ratio = budget.get("retention_ratio")
    return ratio is not None and float(ratio) == 1.0


def check_label(label: str, budget: Mapping[str, Any]) -> CompressionConfig:
    """Check a method's label with a budget, without a model.

    Raises:
        ArgumentError, BudgetError: as `compress_inputs`.
    """
    if not isinstance(label, str) or not label.strip():
        raise ArgumentError(f"methods: {shown(label)} must be a name, such as 'globalcom2:tau=5'")
    return read_config({"method": label, **budget})


def row_id(model: ModelSpec, task: TaskSpec, method: str, budget: Mapping[str, Any]) -> str:
    """Folder name of a row: model, task, method, budget and a digest that keeps similar names apart."""
    whole = [model.name, model.label, model.revision, task.name, task.label, method, sorted(budget.items())]
    digest = hashlib.sha256(json.dumps(whole, default=str).encode()).hexdigest()[:6]
    (amount,) = budget.values()
    parts = (model.shown.rstrip("/").rpartition("/")[2], task.label or task.name, method, str(amount))
    return (
        "--".join(re.sub(r"[^A-Za-z0-9.+=-]+", "_", part)[:40].strip("-") for part in parts) + f"--{digest}"
    )

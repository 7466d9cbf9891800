"""Plan of a benchmark: model, inputs, methods and budgets, checked before a model is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidcompress.checks import device as checked_device
from vidcompress.checks import flag, one_of, whole_number
from vidcompress.errors import ArgumentError, nearest, shown
from vidcompress.qa.compare.grid import Variant, make_grid, read_budgets
from vidcompress.tools.benchmark.row import BenchRow, Workload

STOCK = "stock"
"""Row of the stock model: its own `generate`, without this package."""
DTYPES = ("float32", "float16", "bfloat16")
CONCURRENCY = ("batch", "threads")
SCALES = ("full", "tiny")
TINY_SIDE = 56
"""Resolution of the encoder at scale `tiny`, in pixels."""
MOST_FRAMES = 4096
MOST_PIXELS = 1 << 14
MOST_REQUESTS = 1024
MOST_NEW_TOKENS = 1 << 16
MOST_TEXT = 1 << 20
MOST_LAYERS = 1000


@dataclass(frozen=True)
class BenchPlan:
    """Plan of a benchmark, checked on construction.

    Attributes:
        geometry: a named shape with random weights (`models/shapes.json`).
        model: instead of a geometry, an embedded model, a folder or a hub id.
        decoder_layers, encoder_layers: fewer layers than the geometry has.
        scale: `full`, or `tiny`: widths and resolution of the geometry cut to a toy's, for trying a run out.
        sizes: (width, height) of images in pixels, one workload each.
        frames: lengths of clips, one workload each.
        methods: labels as in `VisualQA.compare`, compositions too, and `stock`; None for all that serve an input.
        retention_ratios, max_tokens: budgets; 0.25 and 0.1 by default.
        controls: whether `random` and `uniform` take part without being named.
        baseline: whether the uncompressed model takes part, the reference of every ratio.
        batch_sizes: requests at once.
        concurrency: several requests as one `batch`, or from `threads` with one request each.
        new_tokens: lengths of the answer for which totals are stated.
        text_tokens: words of the prompt beside the visual tokens.
        rounds: timed runs per row, in turns. warmup: runs per row before these.
        memory: whether peak memory is measured, in a run of its own.
        media: whether a drawn file is decoded and prepared in every round, and its pixels used.
        image, video: a file of yours, instead of a drawn one.
        device, dtype, attn_implementation: as in `VisualQA.from_pretrained`.
        seed: of weights, pixels and prompts.

    Raises:
        ArgumentError: naming the argument. UnsupportedInputError: a named method that does not serve the input.
    """

    geometry: str | None = None
    model: str | None = None
    decoder_layers: int | None = None
    encoder_layers: int | None = None
    scale: Literal["full", "tiny"] = "full"
    sizes: Sequence[tuple[int, int]] = ()
    frames: Sequence[int] = ()
    methods: str | Sequence[str] | None = None
    retention_ratios: Sequence[float | str] | None = None
    max_tokens: Sequence[int] | None = None
    controls: bool = True
    baseline: bool = True
    batch_sizes: Sequence[int] = (1,)
    concurrency: Literal["batch", "threads"] = "batch"
    new_tokens: Sequence[int] = (8,)
    text_tokens: int = 40
    rounds: int = 3
    warmup: int = 1
    memory: bool = True
    media: bool = False
    image: str | None = None
    video: str | None = None
    device: str | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_model()
        one_of("concurrency", self.concurrency, CONCURRENCY)
        for name in ("sizes", "frames", "batch_sizes", "new_tokens"):
            _check_list(name, getattr(self, name))
        for size in self.sizes:
            if not isinstance(size, (list, tuple)) or len(size) != 2:
                raise ArgumentError(f"sizes: {shown(size)} must be (width, height) in pixels")
            for side in size:
                whole_number("sizes", side, most=MOST_PIXELS)
        for count in self.frames:
            whole_number("frames", count, most=MOST_FRAMES)
        for name, most in (("batch_sizes", MOST_REQUESTS), ("new_tokens", MOST_NEW_TOKENS)):
            for count in getattr(self, name):
                whole_number(name, count, most=most)
            if not getattr(self, name):
                raise ArgumentError(f"{name}=[]: give at least one")
        whole_number("text_tokens", self.text_tokens, least=2, most=MOST_TEXT)
        for name, least in (("rounds", 1), ("warmup", 0), ("seed", 0)):
            whole_number(name, getattr(self, name), least=least, most=2**31 - 1)
        for name in ("controls", "baseline", "memory", "media"):
            flag(name, getattr(self, name))
        self._check_files()
        if not self.workloads:
            raise ArgumentError(
                "there is nothing to measure: give sizes= (images) or frames= (clips), or both"
            )
        for workload in self.workloads:
            self.rows(workload)

    def _check_model(self) -> None:
        if (self.geometry is None) == (self.model is None):
            raise ArgumentError(
                f"geometry={shown(self.geometry)} and model={shown(self.model)}: give one of them, a named shape with "
                "random weights or a checkpoint"
            )
        if self.geometry is not None:
            from vidcompress.loading.known_shapes import known_shapes

            if self.geometry not in known_shapes():
                raise ArgumentError(
                    f"geometry={shown(self.geometry)}: no such geometry; {nearest(str(self.geometry), known_shapes())}"
                )
        one_of("scale", self.scale, SCALES)
        for name, least in (("decoder_layers", 1), ("encoder_layers", 2)):
            value = getattr(self, name)
            if value is not None:
                whole_number(name, value, least=least, most=MOST_LAYERS)
        for name, unset in (("decoder_layers", None), ("encoder_layers", None), ("scale", "full")):
            if self.geometry is None and getattr(self, name) != unset:
                raise ArgumentError(
                    f"{name}={shown(getattr(self, name))}: a checkpoint is as it is; use geometry= instead"
                )
        if self.dtype is not None:
            one_of("dtype", self.dtype, DTYPES)
        if self.attn_implementation is not None:
            from vidcompress.loading.attention import check_attention

            check_attention(self.attn_implementation)
        if self.device is not None:
            checked_device("device", self.device)

    def _check_files(self) -> None:
        from vidcompress.media.images.image import local_path

        for name, count in (("image", len(self.sizes)), ("video", len(self.frames))):
            path = getattr(self, name)
            if path is None:
                continue
            if name == "video" and not count:
                raise ArgumentError(f"video={shown(path)}: say how many frames to take of it; add frames=")
            if not (name == "video" and Path(path).is_dir()):
                local_path(path, name)
        if self.image is not None and self.sizes:
            raise ArgumentError(f"image={shown(self.image)} has a size of its own; use it without sizes=")

    @property
    def workloads(self) -> list[Workload]:
        """Images, then clips."""
        sizes = list(self.sizes)
        if self.image is not None:
            from vidcompress.media.images.image import load_image

            sizes = [load_image(self.image).size]
        if self.scale == "tiny":
            sizes = [(_toy(width, self.geometry), _toy(height, self.geometry)) for width, height in sizes]
        return [
            *(Workload("image", size=(int(height), int(width))) for width, height in sizes),
            *(Workload("video", frames=int(count)) for count in self.frames),
        ]

    def rows(self, workload: Workload) -> list[BenchRow]:
        """Return the rows of a workload, the uncompressed model first, without methods of the default set that do not
        serve it.
        """
        return self._grid(workload)[0]

    def left_out(self, workload: Workload) -> dict[str, str]:
        """Return the reason for each method of the default set that has no row."""
        return self._grid(workload)[1]

    def _grid(self, workload: Workload) -> tuple[list[BenchRow], dict[str, str]]:
        from vidcompress.core.method_spec import split_method_specs

        named = split_method_specs(self.methods) if isinstance(self.methods, str) else self.methods
        stock = named is not None and STOCK in named
        if named is not None:
            named = [label for label in named if label != STOCK]
        budgets = read_budgets(
            (0.25, 0.1)
            if self.retention_ratios is None and self.max_tokens is None
            else self.retention_ratios,
            self.max_tokens,
        )
        both = bool(self.sizes or self.image) and bool(self.frames)
        if stock and not named:
            named = ["none"]
        variants, skipped = make_grid(
            {workload.modality},
            _serving(named, workload.modality) if both and named is not None else named,
            budgets,
            controls=self.controls,
            seed=self.seed,
            common={},
        )
        rows = [BenchRow(variant.label, _budget(variant), variant) for variant in variants]
        first = rows[:1] if self.baseline else []
        return [*first, *([BenchRow(STOCK, "1", None)] if stock else []), *rows[1:]], skipped

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}


def _toy(side: int, geometry: str | None) -> int:
    """Return a side in pixels with as many crops at the toy's resolution as `side` at the real one; for an encoder of
    patches the side itself.
    """
    from vidcompress.loading.known_shapes import known_shapes

    real = int(known_shapes()[str(geometry)].encoder.get("image_size", TINY_SIDE))
    return max(1, round(side * TINY_SIDE / real))


def _serving(labels: Sequence[str], modality: str) -> list[str]:
    """Return the labels that serve a modality, where images and clips are measured in one run."""
    from vidcompress.core.method_lookup import get_method
    from vidcompress.core.method_spec import parse_method_spec

    serving = []
    for label in labels:
        name, _ = parse_method_spec(label)
        if name == "none" or modality in get_method(name).modalities:
            serving.append(label)
    return serving or ["none"]


def _budget(variant: Variant) -> str:
    budget = variant.settings.budget
    return f"{float(budget.ratio):g}" if budget.ratio is not None else f"{budget.max_tokens} tokens"


def _check_list(name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{name}={shown(value)}: must be a list")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)

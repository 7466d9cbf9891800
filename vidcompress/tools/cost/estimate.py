"""Cost estimate: operations, bytes and roofline time of a model, an input and a method, without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from vidcompress.adapters.model_shape import ModelShape
from vidcompress.checks import one_of, whole_number
from vidcompress.core.config import CompressionConfig, read_config
from vidcompress.core.method import Method
from vidcompress.errors import ArgumentError, shown
from vidcompress.tools.cost import everything, fastv, llm_viewer
from vidcompress.tools.cost.devices import DEVICES
from vidcompress.tools.cost.encoder_work import work_of
from vidcompress.tools.cost.load import Load, PromptSpec, load_of
from vidcompress.tools.cost.memory import Memory, kv_bytes, memory
from vidcompress.tools.cost.model import Model, model_of
from vidcompress.tools.cost.operations import PRECISIONS, Operation, total, total_seconds
from vidcompress.tools.cost.selection import selection

PARTS = ("encoder", "projector", "selection", "decoder", "lm_head")
HEADLINE_TOKENS = 2880
MOST = 10**9


@dataclass(frozen=True)
class Estimate:
    """Cost of a run, for the whole batch.

    Attributes:
        model: name of the model. geometry: its shape. parameters: their number.
        method: compression method; "none" for the uncompressed model.
        retention_ratio, max_tokens: the budget.
        dtype, batch_size, text_tokens, new_tokens: as in the request.
        visual: per prompt: `total` positions, `sent`, `separators` among these, `per_layer` and their `average`.
        views: encoded per prompt.
        prefill_flops: operations to the first token by convention: `llm_viewer`, `fastv` (both: the language model
            alone at its visual tokens) and `everything`. The first two are left out where `undefined` says why.
        parts: of `everything`: `encoder`, `projector`, `selection`, `decoder` at visual tokens alone, and the additions
            of `separators`, `text` and the `lm_head`.
        undefined: reason why `llm_viewer` and `fastv` have no figure for this decoder; None where they do.
        decode_flops: of all tokens after the first, by `llm_viewer` and `everything`.
        kv_cache_bytes: after prefill.
        memory: see `Memory`.
        time_s: by device: roofline seconds of `encode`, `select`, `prefill`, `first_token` (their sum), one later token
            (`per_token`) and `total`.
    """

    model: str
    geometry: ModelShape
    parameters: int
    method: str
    retention_ratio: float | None
    max_tokens: int | None
    dtype: str
    batch_size: int
    text_tokens: int
    new_tokens: int
    visual: dict[str, Any]
    views: int
    prefill_flops: dict[str, int]
    parts: dict[str, int]
    decode_flops: dict[str, int]
    kv_cache_bytes: int
    memory: Memory
    time_s: dict[str, dict[str, float]] = field(repr=False)
    undefined: str | None = None

    def __repr__(self) -> str:
        asked = {"retention_ratio": self.retention_ratio, "max_tokens": self.max_tokens}
        budget = "".join(f", {name}={value:g}" for name, value in asked.items() if value is not None)
        tokens = f"{self.visual['sent']} of {self.visual['total']} tokens"
        return (
            f"Estimate({self.model!r}, {self.method!r}{budget}, {tokens}, "
            f"prefill {self.prefill_flops['everything'] / 1e12:.2f} TFLOP, peak {self.memory_bytes / 1e9:.2f} GB)"
        )

    @property
    def memory_bytes(self) -> int:
        """Peak memory in bytes, weights included."""
        return self.memory.peak

    @property
    def left_out(self) -> int:
        """Operations of `everything` without those of the language model at its visual tokens."""
        return self.prefill_flops["everything"] - self.parts["decoder"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON; with `memory_bytes`."""
        return {**asdict(self), "memory_bytes": self.memory_bytes}


def estimate(
    model: Any = "llava-next-7b",
    *,
    method: str | Method = "none",
    config: CompressionConfig | None = None,
    retention_ratio: float | str | Fraction | None = None,
    max_tokens: int | None = None,
    visual_tokens: int | None = None,
    size: tuple[int, int] | None = None,
    images: int = 1,
    preset: str | None = None,
    frames: int | None = None,
    frame_size: tuple[int, int] | None = None,
    text_tokens: int = 64,
    new_tokens: int = 1,
    batch_size: int = 1,
    dtype: str = "bfloat16",
    max_views: int = CompressionConfig.max_views,
    max_patches: int = CompressionConfig.max_patches,
    **options: Any,
) -> Estimate:
    """Estimate the cost of a run from the model's config alone.

    Args:
        model: a named geometry, an embedded model, a folder, a hub id, or a config or model of transformers.
        method: a method's name, or a `Method`.
        config: replaces the method, its options, the budget and `max_views`.
        retention_ratio: share of the visual positions to keep.
        max_tokens: visual positions per prompt, instead of a share.
        visual_tokens: of each prompt, where no picture and no clip is described; 2880 by default. They have no
            separators, and as many views as they need.
        size: (height, width) in pixels of a picture.
        images: number of pictures of that size in each prompt.
        preset: a named layout of these pictures instead of the model's own, such as "2880"; see `load_processor`.
        frames: of a clip in each prompt.
        frame_size: (height, width) of these in pixels, for families that take frames of any size (Qwen-VL); 480 x 640
            by default.
        text_tokens: of each prompt's text.
        new_tokens: generated per prompt, the first included.
        batch_size: number of equal prompts at once.
        dtype: "float32", "float16" or "bfloat16".
        max_views: most views per encoder call.
        max_patches: most patches per call of an encoder that takes any number of them.
        **options: options of the method, and `separators` and `policy` as in `compress_inputs`.

    Returns:
        The estimate.

    Raises:
        ArgumentError: an argument is not allowed. BudgetError: a budget out of reach.
        UnsupportedModelError: no adapter serves the model. UnsupportedInputError: it takes no such input.
    """
    named = {} if config is not None and method == "none" else {"method": method}
    budget = {"retention_ratio": retention_ratio, "max_tokens": max_tokens}
    settings = read_config(
        {**named, **budget, "max_views": max_views, "max_patches": max_patches, **options}, config=config
    )
    prompt = _prompt_spec(visual_tokens, size, images, preset, frames, frame_size, text_tokens)
    one_of("dtype", dtype, PRECISIONS)
    rows = whole_number("batch_size", batch_size, most=MOST)
    new = whole_number("new_tokens", new_tokens, most=MOST)
    cost_model = model_of(model)
    load = load_of(cost_model.adapter, cost_model.geometry, prompt, settings)
    return _estimate(cost_model, load, settings, rows, new, dtype)


def allowed_ratio(model: Any = "llava-next-7b", **arguments: Any) -> float:
    """Return the speed-up of the first token by operations: uncompressed / compressed, by `everything`.

    Args:
        model: as in `estimate`.
        **arguments: of `estimate`, with the method and its budget.

    Returns:
        A ratio; a measured speed-up above it has another cause.
    """
    plain = {key: value for key, value in arguments.items() if key in _OF_INPUT}
    compressed, whole = estimate(model, **arguments), estimate(model, **plain)
    return whole.prefill_flops["everything"] / compressed.prefill_flops["everything"]


_OF_INPUT = (
    "visual_tokens",
    "size",
    "images",
    "preset",
    "frames",
    "frame_size",
    "text_tokens",
    "new_tokens",
    "batch_size",
    "dtype",
    "max_views",
    "max_patches",
)


def _prompt_spec(
    visual_tokens: int | None,
    size: tuple[int, int] | None,
    images: int,
    preset: str | None,
    frames: int | None,
    frame_size: tuple[int, int] | None,
    text_tokens: int,
) -> PromptSpec:
    described = size is not None or frames is not None
    if visual_tokens is not None:
        whole_number("visual_tokens", visual_tokens, most=MOST)
        if described:
            raise ArgumentError(
                f"visual_tokens={visual_tokens}: a picture or a clip says itself how many tokens it has; pass either"
            )
    size, frame_size = _pixels("size", size), _pixels("frame_size", frame_size)
    whole_number("images", images, most=10_000)
    if images != 1 and size is None:
        raise ArgumentError(f"images={images}: of which size? pass size= too")
    if preset is not None and size is None:
        raise ArgumentError(
            f"preset={shown(preset)}: it lays out pictures, and none is described; pass size= (instead of "
            "visual_tokens), or leave it out"
        )
    if frames is not None:
        whole_number("frames", frames, most=10_000)
    if frame_size is not None and frames is None:
        raise ArgumentError(f"frame_size={shown(frame_size)}: of how many frames? pass frames= too")
    text = whole_number("text_tokens", text_tokens, least=0, most=MOST)
    count = None if described else int(visual_tokens or HEADLINE_TOKENS)
    return PromptSpec(count, size, int(images), frames, text, preset, frame_size)


def _pixels(name: str, size: Any) -> tuple[int, int] | None:
    """Check a size in pixels, or None.

    Raises:
        ArgumentError: not such a pair.
    """
    from vidcompress.checks import MAX_FRAME_PIXELS

    if size is None:
        return None
    pair = isinstance(size, (tuple, list)) and len(size) == 2 and all(type(n) is int and n >= 1 for n in size)
    if not pair or size[0] * size[1] > MAX_FRAME_PIXELS:
        raise ArgumentError(
            f"{name}={shown(size)}: must be (height, width), whole pixels, at most {MAX_FRAME_PIXELS} in all"
        )
    return size[0], size[1]


def _estimate(
    model: Model, load: Load, settings: CompressionConfig, rows: int, new: int, dtype: str
) -> Estimate:
    shape, size, method = model.geometry, PRECISIONS[dtype], settings.method
    tokens = [n + load.text for n in load.visual]
    work = work_of(
        shape.encoder,
        rows * load.views,
        load.grids * rows,
        max_views=settings.max_views,
        max_patches=settings.max_patches,
    )
    run: dict[str, list[Operation]] = {
        "encoder": everything.encoder(shape.encoder, work, size),
        "projector": everything.projector(
            shape, rows * load.projected, size, passes=1 if load.late else work.passes
        ),
        "selection": selection(shape, load, work, method, rows, size),
        "decoder": everything.decoder(shape.decoder, rows, tokens, size),
        "lm_head": [everything.head(shape.decoder, rows, size)],
    }
    step = everything.decode_step(shape.decoder, rows, tokens, new, size) if new > 1 else []
    budget, undefined = settings.budget, llm_viewer.undefined(shape.decoder)
    prefill = {"everything": int(sum(total(part) for part in run.values()))}
    decode = {"everything": int((new - 1) * total(step))}
    if undefined is None:
        viewed, later = (
            rows * count(shape.decoder, load.tokens)
            for count in (llm_viewer.prefill_flops, llm_viewer.decode_flops)
        )
        formula = rows * fastv.prefill_flops(shape.decoder, load.tokens)
        prefill = {"llm_viewer": viewed, "fastv": formula, **prefill}
        decode = {"llm_viewer": (new - 1) * later, **decode}
    return Estimate(
        model=model.name,
        geometry=shape,
        parameters=model.parameters,
        method=method.name,
        retention_ratio=None if budget.ratio is None else float(budget.ratio),
        max_tokens=budget.max_tokens,
        dtype=dtype,
        batch_size=rows,
        text_tokens=load.text,
        new_tokens=new,
        visual={
            "total": load.total,
            "sent": load.sent,
            "separators": load.separators,
            "average": sum(load.visual) / len(load.visual),
            "per_layer": list(load.visual),
        },
        views=load.views,
        prefill_flops=prefill,
        parts=_parts(shape, run, load, rows, size),
        decode_flops=decode,
        kv_cache_bytes=kv_bytes(shape.decoder, rows, tokens, size),
        memory=memory(
            shape,
            parameters=model.parameters,
            rows=rows,
            work=work,
            features=load.total,
            tokens=tokens,
            new_tokens=new,
            size=size,
        ),
        time_s={name: _times(run, step, new, name, dtype) for name in DEVICES},
        undefined=undefined,
    )


def _parts(
    shape: ModelShape, run: Mapping[str, list[Operation]], load: Load, rows: int, size: int
) -> dict[str, int]:
    """Split the decoder's operations: visual tokens alone, the addition of separators, and that of text."""
    flops = {name: int(total(part)) for name, part in run.items()}
    tokens = int(total(everything.decoder(shape.decoder, rows, load.tokens, size)))
    visual = int(total(everything.decoder(shape.decoder, rows, load.visual, size)))
    split = {"decoder": tokens, "separators": visual - tokens, "text": flops.pop("decoder") - visual}
    order = ("encoder", "projector", "selection", "decoder", "separators", "text", "lm_head")
    return {name: (flops | split)[name] for name in order}


def _times(
    run: Mapping[str, list[Operation]], step: list[Operation], new: int, name: str, dtype: str
) -> dict[str, float]:
    device = DEVICES[name]
    seconds = {part: total_seconds(operations, device, dtype) for part, operations in run.items()}
    first = sum(seconds.values())
    later = total_seconds(step, device, dtype)
    return {
        "encode": seconds["encoder"] + seconds["projector"],
        "select": seconds["selection"],
        "prefill": seconds["decoder"] + seconds["lm_head"],
        "first_token": first,
        "per_token": later,
        "total": first + (new - 1) * later,
    }

"""Checks of a checkpoint without loading its weights: config, files, processor, and token counts of an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vidcompress.adapters.base import ADAPTERS
from vidcompress.loading import meta_model
from vidcompress.tools.doctor import inputs, weights
from vidcompress.tools.doctor.probe_child import describe

Finding = dict[str, Any]
"""`name`, `status`, `detail` and `data` of a check."""

DEFAULT_SIZE, DEFAULT_FRAMES = (480, 640), 32
ROOM_FOR_TEXT = 256
"""Approximate number of tokens of a question and its answer."""


def embedded() -> list[tuple[str, str | None]]:
    """Names and folders of the embedded checkpoints; the folder is None for a missing default one."""
    from vidcompress.loading.load import DEFAULT_MODEL
    from vidcompress.loading.resources import listing

    folders = {path.name: str(path) for path in listing("models") if (path / "config.json").is_file()}
    return [*({DEFAULT_MODEL: None} | folders).items()]


def inspect(
    source: str,
    *,
    images: Sequence[str] = (),
    video: str | None = None,
    size: Sequence[int] | None = None,
    frames: int | None = None,
    fps: float | None = None,
    preset: str | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> list[Finding]:
    """Check a checkpoint and the token counts of an input.

    Args:
        source: a folder or a hub id.
        images: paths of pictures of one question.
        video: path of a clip, or of a folder of frames.
        size: (height, width) of a picture in pixels, instead of `images`.
        frames: frames taken of the clip; without `video`, of a hypothetical clip.
        fps: frames taken per second of `video`, instead.
        preset: a named layout of pictures instead of the model's own.
        revision: of the hub repository.
        local_files_only: do not access the hub.

    Returns:
        The findings in order; checks that depend on a failed one are left out. With no input named, a
        picture of 640 x 480 and, where the family takes clips, one of the checkpoint's usual number of frames.
    """
    where = {"revision": revision or "main", "local_files_only": local_files_only}
    findings: list[Finding] = []

    def look(name: str, at: Callable[[], Any]) -> Any:
        """Store the finding that `at` returns, alone or in a pair with a value, and return the value."""
        try:
            outcome = at()
        except Exception as error:  # noqa: BLE001  (the error of a strange checkpoint is the finding)
            findings.append({"name": name, "status": "failed", "detail": describe(error)})
            return None
        value, finding = outcome if isinstance(outcome, tuple) else (None, outcome)
        findings.append({"name": name, "status": "ok", **finding})
        return value

    config = look("config", lambda: _config(source, where))
    headers = look("files", lambda: _files(source, revision, local_files_only))
    if config is None:
        return findings
    model_config, layout = config
    empty = look("geometry", lambda: _geometry(model_config))
    if empty is not None and headers is not None:
        look("tensors", lambda: _tensors(empty, headers, layout == "original", model_config))
    if model_config.model_type not in ADAPTERS.names():
        look("processor", lambda: _stock_processor(source, model_config, where))
        return findings
    processor = look("processor", lambda: _processor(source, preset, revision, local_files_only))
    if empty is None or processor is None:
        return findings
    for name, at in _inputs(empty, processor, images, video, size, frames, fps):
        look(name, at)
    return findings


def _config(source: str, where: dict[str, Any]) -> tuple[Any, Finding]:
    config, layout = meta_model.read_model_config(source, **where)
    packed = getattr(config, "quantization_config", None)
    method = packed.get("quant_method") if isinstance(packed, dict) else getattr(packed, "quant_method", None)
    detail = f"{config.model_type}, in the layout of {'transformers' if layout == 'transformers' else 'its authors'}"
    own = config.model_type in ADAPTERS.names()
    adapter = ADAPTERS.get(config.model_type, otherwise=True).__name__
    data = {"model_type": config.model_type, "adapter": adapter, "layout": layout}
    data["quantisation"] = None if packed is None else str(method)
    return (config, layout), {
        "detail": detail
        + (f", quantised ({method})" if packed is not None else "")
        + ("" if own else f"; no adapter of its own: {_generic(config.model_type)}"),
        "data": data,
    }


def _generic(model_type: str) -> str:
    """What is known of a class that only the generic adapter serves."""
    from vidcompress.adapters.generic.verdicts import known_verdicts

    found = [one for one in known_verdicts() if one.model_type == model_type]
    if not found:
        return "the generic adapter judges it on its first inputs"
    return f"the generic adapter {found[0].said()}"


def _files(source: str, revision: str | None, local: bool) -> tuple[Any, Finding]:
    headers = weights.read_weights(source, revision=revision, local_files_only=local)
    data = {
        "where": headers.where,
        "files": headers.files,
        "tensors": len(headers.shapes),
        "bytes": headers.bytes,
        "dtypes": sorted(headers.dtypes),
        "problems": headers.problems,
    }
    if headers.problems:
        return headers, {"status": "failed", "detail": _some(headers.problems), "data": data}
    count = f"{len(headers.files)} safetensors file{'s' * (len(headers.files) != 1)}"
    detail = f"{count} ({headers.where}), {headers.bytes / 1e9:.2f} GB, {', '.join(sorted(headers.dtypes))}"
    return headers, {"detail": detail, "data": data}


def _geometry(config: Any) -> tuple[Any, Finding]:
    empty = meta_model.empty_model(config)
    parts, count = meta_model.geometry(config), meta_model.parameter_count(empty)
    encoder, decoder = parts["encoder"], parts["decoder"]
    side = f"{encoder['image_size']} px" if "image_size" in encoder else "pictures of any size"
    detail = (
        f"{count / 1e6:,.1f} M parameters; {encoder['model_type']}: {encoder['num_hidden_layers']} layers, "
        f"{side} in patches of {encoder['patch_size']}; {decoder['model_type']}: "
        f"{decoder['num_hidden_layers']} layers of {decoder['hidden_size']}"
    )
    return empty, {"detail": detail, "data": {**parts, "parameters": count}}


def _tensors(empty: Any, headers: weights.Weights, original: bool, config: Any) -> Finding:
    packed = getattr(config, "quantization_config", None) is not None
    differences = meta_model.fit(empty, headers.shapes, original=original, packed=packed)
    wrong = {kind: names for kind, names in differences.items() if names}
    if wrong:
        listed = "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in wrong.items())
        return {"status": "failed", "detail": listed, "data": differences}
    matched = "by name (quantised: shapes are packed)" if packed else "by name and shape"
    return {"detail": f"all {len(headers.shapes)} fit the model {matched}", "data": differences}


def _processor(source: str, preset: str | None, revision: str | None, local: bool) -> tuple[Any, Finding]:
    from vidcompress.media import load_processor

    processor = load_processor(source, preset=preset, revision=revision, local_files_only=local)
    template = processor.chat_template is not None
    data = {
        "image_token": processor.image_token,
        "video_token": processor.video_token,
        "chat_template": template,
        "preset": preset,
    }
    if not template:
        detail = (
            "no chat template, so questions cannot be put; fetch chat_template.jinja or chat_template.json"
        )
        return processor, {"status": "failed", "detail": detail, "data": data}
    laid_out = "" if preset is None else f"; pictures laid out by the preset {preset}"
    detail = f"{len(processor.tokenizer):,} words, with a chat template{laid_out}"
    return processor, {"detail": detail, "data": data}


def _stock_processor(source: str, config: Any, where: dict[str, Any]) -> Finding:
    """What transformers makes of a checkpoint whose model type has no processor here."""
    from vidcompress.media.preprocessing.stock_processor import stock_processor

    processor = stock_processor(source, str(config.model_type), **where)
    name = type(processor.stock).__name__
    return {
        "detail": f"{name} of transformers; tokens are counted where inputs are compressed",
        "data": {
            "processor": name,
            "image_token": processor.image_token,
            "video_token": processor.video_token,
        },
    }


def _inputs(
    empty: Any,
    processor: Any,
    images: Sequence[str],
    video: str | None,
    size: Sequence[int] | None,
    frames: int | None,
    fps: float | None,
) -> Iterator[tuple[str, Callable[[], Finding]]]:
    """Names of the requested or default inputs, each with the function that checks it."""
    from PIL import Image

    from vidcompress.media import load_image, read_video

    config, takes_clips = empty.config, processor.family.takes_clips
    usual = not images and video is None and size is None and frames is None

    def seen(pictures: Sequence[Any]) -> Finding:
        return _seen(inputs.describe_images(empty, processor, pictures), config)

    if images:
        opened: list[Any] = []
        for path in images:
            yield f"image {Path(path).name}", lambda path=path: _opened(load_image(path), opened)  # type: ignore[misc]
        if len(opened) == len(images):
            yield "as tokens", lambda: seen(opened)
    elif size is not None or usual:
        height, width = size or DEFAULT_SIZE
        yield f"image of {width} x {height}", lambda: seen([Image.new("RGB", (width, height))])
    sampled: list[tuple[int, tuple[int, int]]] = []
    if video is not None:
        yield (
            f"clip {Path(video).name}",
            lambda: _sampled(
                read_video(video, num_frames=frames, fps=fps, rule=processor.frame_rule), sampled
            ),
        )
    elif frames is not None or (usual and takes_clips):
        count = frames or processor.frame_rule.usual or DEFAULT_FRAMES
        sampled.append((count, (DEFAULT_SIZE[0], DEFAULT_SIZE[1])))
    if sampled:
        yield (
            f"clip of {sampled[0][0]} frames",
            lambda: _seen([inputs.describe_clip(empty, processor, *sampled[0])], config),
        )


def _opened(picture: Any, pictures: list[Any]) -> Finding:
    pictures.append(picture)
    return {"detail": f"{picture.width} x {picture.height} pixels"}


def _sampled(clip: Any, counts: list[tuple[int, tuple[int, int]]]) -> Finding:
    height, width = (int(side) for side in clip.frames.shape[1:3])
    counts.append((len(clip), (height, width)))
    count = f"{len(clip)} of {clip.total_frames} frames"
    detail = f"{count}, {width} x {height} pixels, {clip.duration:.1f} s ({clip.backend})"
    return {"detail": detail, "data": {"times": [round(time, 3) for time in clip.times]}}


def _seen(entries: list[dict[str, Any]], config: Any) -> Finding:
    """Finding on views and token counts, and whether processor, model and context agree."""
    data = {"inputs": entries}
    words = " | ".join(map(inputs.in_words, entries))
    for entry in entries:
        if entry["placeholders"] != entry["full_length"]:
            count = f"{entry['placeholders']} placeholders for {entry['full_length']} tokens"
            return {"status": "failed", "detail": f"the processor writes {count}; {words}", "data": data}
    length = sum(entry["full_length"] for entry in entries)
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is not None and length + ROOM_FOR_TEXT > context:
        words += f"; all of it does not fit into the decoder's context of {context}, a compressed input may"
    return {"detail": words, "data": data}


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

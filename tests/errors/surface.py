"""The public surface: every parameter of every public name, found by inspection, and how the tests call each."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import SimpleNamespace, UnionType
from typing import Any

import numpy as np
import torch
from PIL import Image

import vidcompress
from layouts import LAYOUTS
from tiny_models import Scene, batch, tiny_model
from vidcompress import media
from vidcompress.adapters.families import get_family
from vidcompress.core.method import METHODS

ROOT = Path(__file__).parents[2]

EXEMPT = {
    "Answer": "made by VisualQA",
    "Report": "made by the session",
    "CompressedInputs": "made by the session",
    "CompressedInputs.continued": "called by chats with what they made",
    "Chat": "made by VisualQA.chat",
    "Processor": "made by load_processor, which checks the files it is made from",
    "Geometry": "made from a config, which is checked there",
    "Family": "checked by register_family",
    "Method.needs": "called by the session with what it made",
    "Method.crops": "called by the session with what it made",
    "Method.frames": "called by the session with what it made",
    "Method.select": "called by the session with what it made",
    "Method.reads_features": "called by the session with what it made",
    "Method.multiplications": "called by the cost estimate with what it counted",
    "Method.stream": "takes a StreamSize, whose wrong values are in tests/unit/core/test_stream.py",
    "Method.sent": "called by the session with what it made",
    "Method.check": "called by the session with what it made",
    "Layout.to": "handed to torch",
    "Layout.restrict_to_frames": "called by adapters with what a method returned",
    "VisualTokens.replace": "makes VisualTokens, which checks what it is given",
    "VisualTokens.rows": "called by methods with positions that they selected",
    "Selection.gather": "called by the session with what it made",
    "Selection.source": "called by the session with what it made",
    "Selection.companions": "called by the session with what it made",
    "Geometry.canvas": "called by the processor with the size of a loaded picture",
    "Geometry.covered_box": "called by the processor with the size of a loaded picture",
    "Geometry.crop_grid": "called by the processor with the size of a loaded picture",
    "Geometry.tile_grid": "called by the processor with the size of a loaded picture",
    "Geometry.tile_rule": "called by the processor with the size of a loaded picture",
    "Family.tile_rule": "called by the processor with the size of a loaded picture",
    "PixelBudget.frame_size": "called by the processor with the size of a loaded clip",
    "PixelBudget.image_size": "called by the processor with the size of a loaded picture",
    "VideoFrames.on": "called by readers with what they decoded",
    "Processor.as_seen": "called with a picture that was opened",
    "Processor.empty_clip": "called by the doctor with numbers that it checked",
    "Processor.view_times": "called with a clip that was read",
    "Processor.with_token_types": "called by the processor with what it made",
    "Processor.join": "called by the processor with what it made",
    "Processor.write_images": "called by the processor with what it made",
    "Processor.write_clips": "called by the processor with what it made",
    "Family.geometry": "called with the config of a model",
    "MediaProcessor": "a protocol: what calls it says what it passes",
    "MediaProcessor.__call__": "a protocol",
    "MediaProcessor.apply_chat_template": "a protocol",
    "MediaProcessor.as_seen": "a protocol",
    "MediaProcessor.batch_decode": "a protocol",
    "MediaProcessor.view_times": "a protocol",
    "Processor.decode": "handed to the tokenizer",
    "Processor.batch_decode": "handed to the tokenizer",
}
"""What takes no arguments from callers, and why."""


def world() -> SimpleNamespace:
    """Valid things to call with: the embedded model, a tiny random one, a picture, a clip."""
    qa = vidcompress.VisualQA.from_pretrained(local_files_only=True)
    picture, model = Image.new("RGB", (60, 40), (200, 10, 10)), tiny_model("llava_onevision")
    return SimpleNamespace(
        qa=qa,
        processor=qa.processor,
        picture=picture,
        model=model,
        inputs=batch(model, [Scene((("image", (56, 56)),))]),
        answer=qa.ask("what digit is shown?", image=picture, max_new_tokens=1),
        clip=str(ROOT / "examples" / "clip.mp4"),
        photo=str(ROOT / "examples" / "scene.png"),
        memory=str(Path(mkdtemp()) / "clip.memory"),
        frames=np.zeros((4, 32, 32, 3), np.uint8),
        layout=LAYOUTS["image, two by two"],
    )


Call = Callable[..., Any]


def calls(here: SimpleNamespace) -> dict[str, tuple[Call, dict[str, Any]]]:
    """Name of an entry -> (how to call it, valid arguments that a row's are put over)."""
    qa, processor, layout = here.qa, here.processor, here.layout
    question = {"question": "what digit is shown?", "max_new_tokens": 1}
    frames = {"frames": torch.zeros(1, 2, 2, 3).byte(), "times": (0.0,), "duration": 1.0, "fps": 1.0}
    made: dict[str, tuple[Call, dict[str, Any]]] = {
        "VisualQA": (vidcompress.VisualQA, {"model": qa.model, "processor": processor}),
        "VisualQA.from_pretrained": (vidcompress.VisualQA.from_pretrained, {"local_files_only": True}),
        "VisualQA.using": (qa.using, {}),
        "VisualQA.ask": (qa.using(method="evs").ask, question),
        "VisualQA.remember": (
            qa.using(method="evs").remember,
            {"video": here.clip, "path": here.memory, "max_tokens": 20},
        ),
        "VisualQA.watch": (qa.using(method="evs").watch, {"max_tokens": 20}),
        "VisualQA.stream": (lambda **given: list(qa.stream(**given)), question),
        "VisualQA.chat": (
            lambda **given: qa.chat(**given).ask("what digit is shown?", max_new_tokens=1),
            {},
        ),
        "VisualQA.compare": (
            qa.compare,
            {"question": "what digit is shown?", "image": here.picture, "methods": "random", "repeats": 2}
            | {"retention_ratios": 0.5, "controls": False, "max_new_tokens": 1},
        ),
        "VisualQA.compare_rows": (
            lambda **given: list(qa.compare_rows(**given)),
            {"question": "what digit is shown?", "image": here.picture, "methods": "random"}
            | {"retention_ratios": 0.5, "controls": False, "max_new_tokens": 1},
        ),
        "Chat.ask": (qa.chat().ask, question),
        "Chat.stream": (lambda **given: list(qa.chat().stream(**given)), question),
        "Chat.reset": (qa.chat().reset, {}),
        "VisualQA.ask_batch": (
            qa.ask_batch,
            {"items": [{"question": "what digit is shown?"}], "max_new_tokens": 1},
        ),
        "compress": (_block, {"model": here.model, "retention_ratio": 0.5}),
        "compress_inputs": (
            vidcompress.compress_inputs,
            {"model": here.model, "inputs": here.inputs, "retention_ratio": 0.5},
        ),
        "CompressionConfig": (vidcompress.CompressionConfig, {"retention_ratio": 0.5}),
        "CompressionConfig.replace": (
            vidcompress.CompressionConfig("random", retention_ratio=0.5).replace,
            {},
        ),
        "CompressionConfig.from_dict": (vidcompress.CompressionConfig.from_dict, {}),
        "CompressionConfig.save_pretrained": (_saved, {}),
        "CompressionConfig.from_pretrained": (vidcompress.CompressionConfig.from_pretrained, {}),
        "CompressedInputs.to": (
            vidcompress.compress_inputs(here.model, here.inputs, retention_ratio=0.5).to,
            {},
        ),
        "load_processor": (
            vidcompress.load_processor,
            {"model_or_path": qa.model, "local_files_only": True},
        ),
        "available_methods": (vidcompress.available_methods, {}),
        "get_method": (vidcompress.get_method, {"method": "globalcom2"}),
        "register_method": (vidcompress.register_method, {}),
        "register_adapter": (vidcompress.register_adapter, {}),
        "ViewSkipping": (vidcompress.ViewSkipping, {}),
        "Budget": (vidcompress.Budget, {}),
        "Budget.split": (vidcompress.Budget(0.5).split, {}),
        "Answer.overlay": (here.answer.overlay, {}),
        "Answer.animation": (here.answer.animation, {}),
        "Answer.masks": (here.answer.masks, {}),
        "Answer.scores": (here.answer.scores, {}),
        "Answer.to_dict": (here.answer.to_dict, {}),
        "draw_overlay": (vidcompress.draw_overlay, {"report": here.answer.report, "picture": here.picture}),
        "Report.for_row": (here.answer.report.for_row, {}),
        "Report.text": (here.answer.report.text, {}),
        "Report.explain": (here.answer.report.explain, {}),
        "Report.to_dict": (here.answer.report.to_dict, {}),
        "Report.visual_tokens": (here.answer.report.visual_tokens, {}),
        "View": (vidcompress.View, {"kind": "frame", "rows": 2, "cols": 2}),
        "Evidence": (vidcompress.Evidence, {"quantity": "cls_logits"}),
        "Layout": (
            vidcompress.Layout,
            {field.name: getattr(layout, field.name) for field in dataclasses.fields(layout)},
        ),
        "Selection": (vidcompress.Selection, {"index": torch.arange(3)}),
        "VisualTokens": (
            vidcompress.VisualTokens,
            {"features": torch.zeros(len(layout), 4), "layout": layout},
        ),
        "read_video": (media.read_video, {"source": here.clip}),
        "load_image": (media.load_image, {"source": here.photo}),
        "sample_indices": (media.sample_indices, {"total": 5, "num_frames": 3}),
        "register_backend": (media.register_backend, {}),
        "register_family": (media.register_family, {}),
        "tiled_family": (media.tiled_family, {"model_type": "x"}),
        "native_family": (media.native_family, {"model_type": "x", "rules": get_family("qwen3_vl").native}),
        "PixelBudget": (media.PixelBudget, {"least": 10, "most": 20}),
        "NativeRules": (
            media.NativeRules,
            {
                name: getattr(get_family("qwen3_vl").native, name)
                for name in ("image_budget", "clip_budget", "mean", "std")
            },
        ),
        "time_instruction": (media.time_instruction, {"duration": 3.0, "times": [1.0]}),
        "VideoFrames": (
            media.VideoFrames,
            {**frames, "total_frames": 1, "backend": "memory", "source": "x"},
        ),
        "Processor.__call__": (processor, {"text": "hello"}),
        "Processor.prepare_images": (processor.prepare_images, {"pictures": [here.picture]}),
        "Processor.prepare_videos": (processor.prepare_videos, {"clips": []}),
        "Processor.image_tokens": (processor.image_tokens, {"size": (4, 4)}),
        "Processor.video_tokens": (processor.video_tokens, {"frames": 4}),
        "Processor.apply_chat_template": (
            processor.apply_chat_template,
            {"conversation": [{"role": "user", "content": "hello"}]},
        ),
    }
    for name in vidcompress.available_methods():
        made[f"method {name}"] = (METHODS.get(name), {})
    return made


def _saved(**given: Any) -> None:
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        vidcompress.CompressionConfig("random", retention_ratio=0.5).save_pretrained(**given)


def _block(**given: Any) -> None:
    with vidcompress.compress(**given):
        pass


def parameters() -> Iterator[tuple[str, str]]:
    """(entry, parameter) of everything public that is not exempt; `**` before those of open ends."""
    public = {name: getattr(vidcompress, name) for name in vidcompress.__all__ if name != "__version__"}
    public |= {name: getattr(media, name) for name in media.__all__}
    public |= {f"method {name}": METHODS.get(name) for name in vidcompress.available_methods()}
    for name, value in public.items():
        if isinstance(value, UnionType) or (isinstance(value, type) and issubclass(value, Exception)):
            continue
        entries: dict[str, Any] = {name: value}
        if isinstance(value, type) and not name.startswith("method "):
            for method, function in vars(value).items():
                called = inspect.isfunction(function) or isinstance(function, classmethod)
                if called and (not method.startswith("_") or method == "__call__"):
                    entries[f"{name}.{method}"] = getattr(value, method)
        for entry, function in entries.items():
            if entry not in EXEMPT:
                yield from ((entry, parameter) for parameter in _named(function))


def _named(function: Any) -> Iterator[str]:
    for parameter in inspect.signature(function).parameters.values():
        if (
            parameter.name in ("self", "cls")
            and parameter.default is parameter.empty
            and _is_method(function)
        ):
            continue
        yield ("**" if parameter.kind is parameter.VAR_KEYWORD else "") + parameter.name


def _is_method(function: Any) -> bool:
    return inspect.isfunction(function) and "." in function.__qualname__

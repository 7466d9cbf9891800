"""Contract checks of registered classes: members and signatures against those of the base class."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

from vidcompress.errors import ArgumentError

CALL_ARGUMENTS = frozenset(
    "model inputs method config retention_ratio max_tokens separators positions policy max_views max_patches processor "
    "num_frames fps max_frames backend name_or_path device dtype torch_dtype attn_implementation device_map "
    "revision local_files_only resize_device time_instruction quantization quantization_config preset "
    "visual_tokens size images frames frame_size text_tokens new_tokens batch_size encoder_saving view_text "
    "compile".split()
)
"""Arguments of the public functions that also take a method's options; an option of such a name would never arrive."""

_OURS = __name__.partition(".")[0]
"""The package whose classes say how a member is called."""


def check_members(cls: type[Any], noun: str, also: tuple[str, ...] = ()) -> None:
    """Refuse abstract methods that are missing, and overrides that cannot be used as what they override.

    Args:
        cls: the class to check.
        noun: how messages call it, such as "method Mine".
        also: names with a leading underscore to check, beside the public ones.

    Raises:
        ArgumentError: naming the member, how it is declared and how it is called.
    """
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ArgumentError(f"{noun} does not define {', '.join(missing)}, which its base class leaves to it")
    for name in dir(cls):
        owners = [owner for owner in cls.__mro__ if name in vars(owner)]
        ours = [owner for owner in owners if owner.__module__.partition(".")[0] == _OURS]
        if (name.startswith("_") and name not in also) or not ours or ours[-1] is owners[0]:
            continue
        _check_member(cls, name, vars(ours[-1])[name], noun)


def _check_member(cls: type[Any], name: str, declared: Any, noun: str) -> None:
    own = inspect.getattr_static(cls, name)
    if isinstance(declared, (property, cached_property)):
        if callable(own) or isinstance(own, (staticmethod, classmethod)):
            raise ArgumentError(f"{noun}: {name} must be a property or a plain value; put @property above it")
        return
    if not inspect.isfunction(declared):
        return
    function = getattr(cls, name)
    if not callable(function):
        raise ArgumentError(f"{noun}: {name} must be a method, got {own!r}")
    try:
        theirs, ours = inspect.signature(function), inspect.signature(declared)
    except ValueError:  # written in C
        return
    bound = not isinstance(own, (staticmethod, classmethod))
    problem = _call_problem(theirs, ours, bound)
    if problem:
        raise ArgumentError(
            f"{noun}: {name}{_names(theirs)} cannot be called as {name}{_names(ours)} ({problem}); give it those "
            "parameters"
        )


def _call_problem(theirs: inspect.Signature, ours: inspect.Signature, bound: bool) -> str | None:
    """What is wrong with `theirs` in the ways in which `ours` may be called; None where nothing is."""
    parameters = list(ours.parameters.values())[1:]
    placed = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    named = {p.name: None for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    needed = [p for p in placed if p.default is inspect.Parameter.empty]
    options = {p.name: None for p in placed if p.default is not inspect.Parameter.empty}
    first = [None] if bound else []
    calls: list[tuple[int, dict[str, None]]] = [
        (len(placed), named),
        (len(needed), {**options, **named}),
        (len(needed), named),
    ]
    for count, keywords in calls:
        try:
            theirs.bind(*first, *[None] * count, **keywords)
        except TypeError as error:
            return str(error)
    return None


def _names(signature: inspect.Signature) -> str:
    """The parameters without annotations: (self, tokens, budget)."""
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def check_method_class(cls: type[Any], base: type[Any]) -> None:
    """Refuse a class that cannot be used as a compression method.

    Args:
        cls: anything that derives from `base`.
        base: `vidcompress.core.method.Method`.

    Raises:
        ArgumentError: naming the class, what is wrong with it and what to do.
    """
    who = f"method {cls.__name__}"
    _check_dataclass(cls, base, who)
    for name in ("name", "summary", "modalities"):
        if not getattr(cls, name, None):
            raise ArgumentError(f"{who} must define the class attribute {name!r}")
    if not isinstance(cls.summary, str) or "\n" in cls.summary:
        raise ArgumentError(f"{who}: summary must be one line of text, got {cls.summary!r}")
    modalities = cls.modalities
    if not isinstance(modalities, frozenset) or not modalities <= {"image", "video"}:
        raise ArgumentError(
            f"{who}: modalities must be a frozenset of 'image' and 'video', got {modalities!r}"
        )
    if cls.positions not in ("contiguous", "original"):
        raise ArgumentError(f"{who}: positions must be one of contiguous, original, got {cls.positions!r}")
    for name in ("exact", "uses_budget"):
        if not isinstance(getattr(cls, name), bool):
            raise ArgumentError(f"{who}: {name} must be True or False, got {getattr(cls, name)!r}")
    _check_defaults(cls, who)
    check_members(cls, who)
    _check_made(cls, who)


def _check_dataclass(cls: type[Any], base: type[Any], who: str) -> None:
    if "__dataclass_params__" not in vars(
        cls
    ):  # its base class is one, and frozen, so that it must be frozen too
        raise ArgumentError(
            f"{who} must be a frozen dataclass, because its fields are its options; put @dataclass(frozen=True) "
            "directly above the class, below @register_method"
        )
    annotated = set(vars(base).get("__annotations__", {}))
    for field in dataclasses.fields(cls):
        if field.name in annotated:
            raise ArgumentError(
                f"{who} annotates {field.name!r}, which makes it an option; leave the annotation out or write "
                f"{field.name}: ClassVar[...] = ..."
            )
        if field.name in CALL_ARGUMENTS:
            raise ArgumentError(
                f"{who} has the option {field.name!r}, which is an argument of compress_inputs or VisualQA; call it "
                "otherwise"
            )


def _check_defaults(cls: type[Any], who: str) -> None:
    """Every option has a default, so that the name alone makes a method."""
    for field in dataclasses.fields(cls):
        if (
            field.init
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        ):
            raise ArgumentError(f"{who}: option {field.name!r} has no default; give it one")


def _check_made(cls: type[Any], who: str) -> None:
    make: Callable[[], Any] = cls
    try:
        hash(make())
    except Exception as error:
        raise ArgumentError(
            f"{who} cannot be made with its own defaults ({type(error).__name__}: {error})"
        ) from error


def check_adapter_class(cls: type[Any]) -> None:
    """Refuse a class that cannot be used as an adapter.

    Args:
        cls: anything that derives from `vidcompress.adapters.Adapter`.

    Raises:
        ArgumentError: naming the class, what is wrong with it and what to do.
    """
    who = f"adapter {cls.__name__}"
    for name in ("model_types", "image_keys", "video_keys", "refused_keys"):
        value = getattr(cls, name)
        if not isinstance(value, tuple) or not all(isinstance(entry, str) and entry for entry in value):
            raise ArgumentError(
                f"{who}: {name} must be a tuple of names, such as ('llava_next',), got {value!r}"
            )
    if not cls.model_types:
        raise ArgumentError(f"{who} must define model_types, such as ('llava_next',)")
    if not (cls.image_keys or cls.video_keys):
        raise ArgumentError(
            f"{who} must name inputs with pixels in image_keys or video_keys, such as ('pixel_values',)"
        )
    check_members(cls, who, also=("__init__",))

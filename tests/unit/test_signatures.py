"""What an editor reads of the public functions: types that say something, and nothing that is open to anything."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypedDict, Unpack

import pytest

import vidcompress
from vidcompress import Chat, CompressionConfig, VisualQA, media
from vidcompress.core.budget import POLICIES, SEPARATORS, Policy, Separators
from vidcompress.core.method import MASS, POSITIONS, Mass, Positions
from vidcompress.core.prompt import VIEW_TEXT, ViewText
from vidcompress.loading.arguments import OWN, GenerateOptions, _known
from vidcompress.media.video.backends import BackendName, backend_names
from vidcompress.qa.visual_qa import CompareOptions

MAIN = {
    "VisualQA": VisualQA.__init__,
    "VisualQA.from_pretrained": VisualQA.from_pretrained,
    "VisualQA.using": VisualQA.using,
    "VisualQA.ask": VisualQA.ask,
    "VisualQA.ask_batch": VisualQA.ask_batch,
    "VisualQA.stream": VisualQA.stream,
    "VisualQA.chat": VisualQA.chat,
    "VisualQA.compare": VisualQA.compare,
    "VisualQA.compare_rows": VisualQA.compare_rows,
    "Chat.ask": Chat.ask,
    "Chat.stream": Chat.stream,
    "CompressionConfig": CompressionConfig.__init__,
    "CompressionConfig.replace": CompressionConfig.replace,
    "CompressionConfig.from_dict": CompressionConfig.from_dict,
    "CompressionConfig.from_pretrained": CompressionConfig.from_pretrained,
    "CompressionConfig.save_pretrained": CompressionConfig.save_pretrained,
    "CompressedInputs.to": vidcompress.CompressedInputs.to,
    "Budget": vidcompress.Budget.__init__,
    "compress": vidcompress.compress,
    "compress_inputs": vidcompress.compress_inputs,
    "draw_overlay": vidcompress.draw_overlay,
    "get_method": vidcompress.get_method,
    "available_methods": vidcompress.available_methods,
    "load_processor": vidcompress.load_processor,
    "load_image": media.load_image,
    "read_video": media.read_video,
    "register_adapter": vidcompress.register_adapter,
    "register_method": vidcompress.register_method,
}
UNREACHED = {"transformers_version"}
"""Of transformers' GenerationConfig: what is no argument."""


def parts(hint: Any) -> Iterator[Any]:
    """A type, and all types that it is made of; of a typed dictionary those of its keys."""
    yield hint
    if typing.is_typeddict(hint):
        inner: Sequence[Any] = list(typing.get_type_hints(hint).values())
    elif isinstance(hint, typing.TypeVar):
        bound = hint.__bound__
        inner = [] if bound is None else [bound]
    else:
        inner = [part for part in typing.get_args(hint) if typing.get_origin(hint) is not Literal]
    for part in inner:
        yield from parts(part)


def untyped(function: Callable[..., Any]) -> list[str]:
    """Parameters, and "return", that have no type or one with `Any` in it."""
    hints = typing.get_type_hints(function)
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    return [
        name
        for name in [*names, "return"]
        if name not in hints or any(part is Any for part in parts(hints[name]))
    ]


@pytest.mark.parametrize("name", MAIN)
def test_no_argument_of_the_main_functions_takes_anything(name: str) -> None:
    assert untyped(MAIN[name]) == []


class Bag(TypedDict, total=False):
    good: int
    bad: list[Any]


def test_what_is_open_to_anything_is_noticed() -> None:
    def loose(a: int, b: Any, c: dict[str, list[Any]], d, *, e: str | None, **bag: Unpack[Bag]) -> Any:  # type: ignore[no-untyped-def]
        """Loose."""

    def tight(a: int, b: str | None, c: object, d: Literal["Any"]) -> list[str]:
        return []

    assert untyped(loose) == ["b", "c", "d", "bag", "return"]
    assert untyped(tight) == []


@pytest.mark.parametrize(
    ("alias", "words"),
    [
        (Policy, POLICIES),
        (Separators, SEPARATORS),
        (Positions, POSITIONS),
        (ViewText, VIEW_TEXT),
        (Mass, MASS),
    ],
)
def test_words_for_the_type_checker_are_those_that_are_allowed(alias: Any, words: tuple[str, ...]) -> None:
    assert typing.get_args(alias) == words


def test_backends_for_the_type_checker_are_those_that_are_there() -> None:
    literal, text = typing.get_args(BackendName)
    assert text is str
    assert set(typing.get_args(literal)) == set(backend_names())


@pytest.mark.transformers
def test_arguments_of_generate_are_those_that_a_question_may_bring() -> None:
    qa = VisualQA.from_pretrained(local_files_only=True)
    forward = set(inspect.signature(qa.model.forward).parameters)
    asked = set(inspect.signature(VisualQA.ask).parameters)
    listed = set(GenerateOptions.__annotations__)
    shared = {"policy", "separators", "positions", "encoder_saving", "view_text", "mass", "mass_strength"}
    assert listed | shared | {"mass_cap"} == set(typing.get_type_hints(CompareOptions))
    assert not listed & (set(OWN) | asked)
    missing = _known(qa.model) - forward - set(OWN) - asked - listed - UNREACHED
    assert missing == set(), "arguments of generate without a type; add them to GenerateOptions"
    assert len(listed - _known(qa.model)) <= 12, "older versions of transformers lack some, not most"

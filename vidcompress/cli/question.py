"""Question and media of a command line, from positional words and named options."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import typer

from vidcompress.cli.options import INPUT

Text = Annotated[
    str | None,
    typer.Argument(
        metavar="QUESTION", help="What to ask; with --question, a picture or clip.", show_default=False
    ),
]
Media = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MEDIA",
        help="Pictures and at most one clip, recognised by content; pictures of --image come first.",
        show_default=False,
    ),
]
Questions = Annotated[
    list[str] | None,
    typer.Option(
        "--question",
        "-q",
        help="What to ask, by name.",
        metavar="<text>",
        show_default=False,
        rich_help_panel=INPUT,
    ),
]
EXAMPLE = 'vidcompress {command} "what is this?" photo.jpg'


class Asked(NamedTuple):
    """Question of a command line, with its pictures in order and its clip."""

    question: str
    images: list[str]
    video: str | None


def read_asked(
    command: str,
    text: str | None,
    media: Sequence[str] | None,
    questions: Sequence[str] | None,
    images: Sequence[str] | None,
    video: str | None,
) -> Asked:
    """Combine the positional words and the named options, and find the kind of each file.

    The first word is the question, unless `--question` states it; the other words are media. Pictures of `--image` come
    before those of the words.

    Args:
        command: name of the command, for messages.
        text: the first word.
        media: the words after it.
        questions: of `--question`.
        images: of `--image`.
        video: of `--video`.

    Raises:
        ArgumentError: no question, or two; more than one clip.
        MediaError: a word names no file, or a file that is neither picture nor clip.
    """
    from vidcompress.errors import ArgumentError

    words = [*([] if text is None else [text]), *(media or ())]
    question = _named_question(command, words, questions)
    if question is None:
        question, *words = words
        _check_order(command, question, words)
    named = list(images or ())
    clips = [] if video is None else [video]
    for word in words:
        (named if _kind(word) == "image" else clips).append(word)
    if len(clips) > 1:
        raise ArgumentError(
            f"media: {', '.join(map(repr, clips))} are {len(clips)} clips, and a question takes pictures and at most "
            "one clip; ask about each clip by itself"
        )
    return Asked(question, named, clips[0] if clips else None)


def _named_question(command: str, words: Sequence[str], questions: Sequence[str] | None) -> str | None:
    """Return the question of `--question`, or None where it is the first word.

    Raises:
        ArgumentError: no question, or two.
    """
    from vidcompress.errors import ArgumentError, shown

    if not questions:
        if not words:
            raise ArgumentError(
                f"question: there is none; pass it first, then the media: {EXAMPLE.format(command=command)}"
            )
        return None
    second = questions[1] if len(questions) > 1 else None
    if second is None and words and not os.path.exists(words[0]) and not _looks_like_file(words[0]):
        second = words[0]
    if second is not None:
        raise ArgumentError(
            f"question={shown(second)}: there is another one, {shown(questions[0])}; pass one question, and name files "
            "that exist after it"
        )
    return questions[0]


def _check_order(command: str, question: str, words: Sequence[str]) -> None:
    """Refuse a file in the place of the question.

    Raises:
        ArgumentError: the first word names a file.
    """
    from vidcompress.errors import ArgumentError, shown

    if os.path.isfile(question):
        example = EXAMPLE.format(command=command)
        raise ArgumentError(
            f"question={shown(question)}: is a file; pass the question first, then the media: {example} (a question "
            "that is called like a file goes after --question)"
        )


def _looks_like_file(word: str) -> bool:
    """Whether a word that names no file is more likely a mistyped file or a URL than a question."""
    return " " not in word and (os.sep in word or bool(os.path.splitext(word)[1]) or not word)


def _kind(word: str) -> str:
    from vidcompress.media.kind import media_kind

    return media_kind(word)

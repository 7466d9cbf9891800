"""Tokenisation of prompts with the placeholders written out, as rows of one left-padded batch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from vidcompress.errors import MediaError, shown


def tokenize(tokenizer: Any, rows: list[str]) -> list[dict[str, list[int]]]:
    """Tokenise each row on its own, without padding, with the tokenizer's usual special tokens.

    Returns:
        Per row, the tokenizer's outputs, all of one length: `input_ids`, `attention_mask`, for some also
        `token_type_ids`.
    """
    encoded = tokenizer(rows, padding=False, truncation=False, return_attention_mask=True)
    return [{key: list(encoded[key][i]) for key in encoded} for i in range(len(rows))]


class Writing(NamedTuple):
    """Text of one picture or clip in a prompt.

    Attributes:
        text: replaces its placeholder, with one placeholder for each run.
        runs: number of repetitions of each of these.
    """

    text: str
    runs: tuple[int, ...]


@lru_cache(maxsize=16)
def placeholder_pattern(*tokens: str | None) -> re.Pattern[str]:
    """Return the pattern of placeholders of pictures and clips in text; None is ignored."""
    return re.compile("|".join(map(re.escape, sorted(filter(None, tokens), key=len, reverse=True))))


def write_text(rows: Sequence[str], writings: Mapping[str, Sequence[Writing]]) -> tuple[list[str], list[int]]:
    """Replace placeholders by the text of their pictures and clips.

    Args:
        rows: prompts.
        writings: per placeholder, the texts of its occurrences over all rows, in order.

    Returns:
        The rows, and the lengths of the runs of the placeholders in them, in order over all rows.
    """
    queues = {token: iter(entries) for token, entries in writings.items()}
    tokens = placeholder_pattern(*queues)
    runs: list[int] = []

    def written(match: re.Match[str]) -> str:
        entry = next(queues[match[0]])
        runs.extend(entry.runs)
        return entry.text

    return [tokens.sub(written, row) for row in rows], runs


def expand(
    rows: list[dict[str, list[int]]], placeholders: Sequence[int | None], runs: Sequence[int]
) -> list[dict[str, list[int]]]:
    """Repeat each placeholder as often as its picture or clip has tokens.

    Args:
        rows: tokenised prompts.
        placeholders: ids; None is ignored.
        runs: lengths in order of appearance over all rows, one per placeholder.

    Returns:
        The rows, written out; the other outputs of the tokenizer are repeated alongside.

    Raises:
        MediaError: another number of placeholders, where the tokenizer takes one in the text for a part of a word.
    """
    count = sum(token in placeholders for row in rows for token in row["input_ids"])
    if count != len(runs):
        raise MediaError(
            f"text: holds {len(runs)} placeholders, and the tokenizer makes {count} of them; write each as a word of "
            "its own, with spaces around it"
        )
    lengths, written = iter(runs), []
    for row in rows:
        repeats = [next(lengths) if token in placeholders else 1 for token in row["input_ids"]]
        written.append(
            {
                key: [v for v, n in zip(values, repeats, strict=True) for _ in range(n)]
                for key, values in row.items()
            }
        )
    return written


def pad_left(rows: list[dict[str, list[int]]], pad_id: int, padding: bool | str) -> dict[str, torch.Tensor]:
    """Stack rows, filling shorter ones on the left, where generation needs it.

    Args:
        rows: token lists per key.
        pad_id: fills `input_ids`; masks and other outputs are filled with 0.
        padding: True or "longest"; False refuses rows of different length.

    Returns:
        int64 (row, token) per key.

    Raises:
        MediaError: the rows differ in length and padding is off, or `padding` is something else.
    """
    if not isinstance(padding, bool) and not (isinstance(padding, str) and padding == "longest"):
        raise MediaError(f"padding={shown(padding)}: must be True, 'longest' or False")
    longest = max(len(row["input_ids"]) for row in rows)
    lengths = [len(row["input_ids"]) for row in rows]
    if not padding and min(lengths) != longest:
        raise MediaError(f"padding=False, but the rows have {lengths} tokens; pass padding=True")
    stacked = {}
    for key in rows[0]:
        fill = pad_id if key == "input_ids" else 0
        padded = [[fill] * (longest - len(row[key])) + row[key] for row in rows]
        stacked[key] = torch.tensor(padded, dtype=torch.long)
    return stacked


def without_second_start(prompt: str, tokenizer: Any) -> str:
    """Remove the start token of a prompt when the tokenizer adds one itself."""
    start = getattr(tokenizer, "bos_token", None)
    if start and prompt.startswith(start) and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        return prompt[len(start) :]
    return prompt

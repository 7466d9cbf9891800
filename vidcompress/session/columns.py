"""Arguments that count columns of the caller's prompt: translated to the shortened prompt, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidcompress.checks import is_whole
from vidcompress.errors import UnsupportedInputError, shown

if TYPE_CHECKING:
    from vidcompress.core.prompt import Prompt
    from vidcompress.core.pruning.plan import PruningPlan

COUNTED = ("cache_position", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
"""Arguments of forward that place the tokens of a prompt; an attention mask does the same."""


def check_counted(inputs: Mapping[str, Any]) -> None:
    """Refuse arguments that place the tokens of the caller's prompt.

    Raises:
        UnsupportedInputError: naming the argument.
    """
    for name in COUNTED:
        if inputs.get(name) is not None:
            raise UnsupportedInputError(
                f"{name}={shown(inputs[name])} places tokens of the uncompressed prompt; leave it out and pass an "
                "attention_mask (a prompt per row, padded on one side)"
            )


class ShortColumns:
    """Columns of the tokens of a prompt once it is shortened.

    Args:
        prompt: the caller's parsed rows.
        kept: for each (modality, number) the (K,) positions that are sent; only K is read of a visual of one run.
        width: L, columns of the caller's prompt.
        inside: pruning plan of a method inside the language model, which leaves out more, or None.
    """

    def __init__(
        self,
        prompt: Prompt,
        kept: Mapping[tuple[str, int], Tensor],
        width: int,
        inside: PruningPlan | None = None,
    ) -> None:
        self._prompt, self._kept, self._full = prompt, kept, width
        self._counts = [[int(kept[s.key].shape[0]) for s in spans] for spans in prompt.spans]
        self._lengths = [
            len(row) - sum(s.length - n for s, n in zip(spans, counts, strict=True))
            for row, spans, counts in zip(prompt.rows, prompt.spans, self._counts, strict=True)
        ]
        self._inside = inside if inside is not None and inside.layers else None
        self.width = max(self._lengths)
        if self._inside is not None:
            last = self._inside.tokens_in(self._inside.layers[-1])
            self.width = max(a + b for a, b in zip(self._inside.texts, last, strict=True))

    def column(self, row: int, column: int) -> int | None:
        """Return the column of a token of the caller's prompt in the sequence that has logits; None for padding.

        Raises:
            UnsupportedInputError: a visual token of an input that sends fewer than it has.
        """
        where, spans = self._prompt.columns[row], self._prompt.spans[row]
        dropped = self._prompt.dropped[row] if self._prompt.dropped else ()
        if column in dropped:
            raise _not_text(row, column, "that stays (view_text='drop' leaves this out)")
        at = int(torch.searchsorted(where, column))
        if at == len(where) or int(where[at]) != column:
            return None
        if self._inside is not None:
            if spans and at < spans[-1].stop:
                raise _not_text(
                    row, column, f"behind the last visual token (method {self._inside.method.name!r})"
                )
            # Rows end together: they are padded on the left.
            return self.width - (self._full - column) + sum(place > column for place in dropped)
        gone = 0
        for span, count in zip(spans, self._counts[row], strict=True):
            if at < span.start:
                break
            if at >= span.stop or count == span.length:
                gone += span.length - count
                continue
            before = sum(len(run) for run in span.runs if run.stop <= at)
            if any(at in run for run in span.runs):
                raise _not_text(row, column, "of the text")
            gone += before - int((self._kept[span.key] < before).sum())
            break
        start = 0 if self._prompt.pad_right else self.width - self._lengths[row]
        return start + at - gone

    def logits_to_keep(self, value: Any) -> Any:
        """Translate `logits_to_keep` of forward, which names columns of the caller's prompt.

        Args:
            value: the last n columns (0 is all of them), a tensor (k,) of columns for every row, (row, k) of columns of
                each, or a bool mask (row, L).

        Returns:
            The same for the shortened prompt. All columns stay all columns.

        Raises:
            UnsupportedInputError: another value; a column that is not there, or holds a visual token of which some are
                left out; rows in which the columns lie apart, where this transformers takes no (row, k).
        """
        if is_whole(value) and value >= 0:
            count = int(value)
            if count == 0 or count >= self._full:
                return 0
            columns = [list(range(self._full - count, self._full))] * len(self._prompt.rows)
            short = self._translate(columns)
            tail = list(range(self.width - count, self.width))
            return count if all(row == tail for row in short) else self._tensor(short, None)
        if not isinstance(value, Tensor) or value.is_floating_point() or not 1 <= value.ndim <= 2:
            raise UnsupportedInputError(
                f"logits_to_keep={shown(value)}: must be a number of last columns, a tensor of columns, or a bool mask "
                "in the shape of input_ids"
            )
        rows = len(self._prompt.rows)
        if value.dtype == torch.bool and value.shape == (self._full,):
            value = value.nonzero().flatten()  # of every row
        if value.dtype == torch.bool:
            return self._mask(value)
        given = value.tolist() if value.ndim == 2 else [value.tolist()] * rows
        if len(given) != rows or not all(-self._full <= c < self._full for row in given for c in row):
            raise UnsupportedInputError(
                f"logits_to_keep={shown(value)}: must name columns of input_ids, from {-self._full} to "
                f"{self._full - 1}, for {rows} rows or for all at once"
            )
        return self._tensor(self._translate([[c % self._full for c in row] for row in given]), value)

    def _translate(self, columns: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the columns of each row; at padding those of another row, for its logits have no meaning."""
        places = [[self.column(row, c) for c in given] for row, given in enumerate(columns)]
        stand_in = [next((c for c in place if c is not None), 0) for place in zip(*places, strict=True)]
        return [[other if c is None else c for c, other in zip(row, stand_in, strict=True)] for row in places]

    def _tensor(self, rows: list[list[int]], like: Tensor | None) -> Tensor:
        device = "cpu" if like is None else like.device
        if (like is None or like.ndim == 1) and all(row == rows[0] for row in rows):
            return torch.tensor(rows[0], dtype=torch.int64, device=device)
        from transformers import modeling_utils

        if not hasattr(modeling_utils, "slice_logits_to_keep"):
            raise UnsupportedInputError(
                "logits_to_keep names tokens that stand in other columns of each row once the prompts are shortened, "
                "and this transformers takes one list of columns for all rows; pass the rows one by one"
            )
        return torch.tensor(rows, dtype=torch.int64, device=device)

    def _mask(self, value: Tensor) -> Tensor:
        rows = len(self._prompt.rows)
        if value.shape != (rows, self._full):
            raise UnsupportedInputError(
                f"logits_to_keep: a bool mask must have the shape of input_ids ({rows}, {self._full}), got "
                f"{tuple(value.shape)}"
            )
        short = torch.zeros((rows, self.width), dtype=torch.bool, device="cpu")
        for row, column in value.nonzero().tolist():
            place = self.column(row, column)
            if place is None:
                raise _not_text(row, column, "that is no padding")
            short[row, place] = True
        return short.to(value.device)


def _not_text(row: int, column: int, allowed: str) -> UnsupportedInputError:
    return UnsupportedInputError(
        f"logits_to_keep reaches column {column} of row {row}: once the prompt is shortened, logits can be named only "
        f"of tokens {allowed}; name others, or leave it out for all logits of the shortened prompt"
    )

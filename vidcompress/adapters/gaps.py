"""Images of which some crops were never encoded: their places hold zeros, which no method may keep."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vidcompress.adapters.packing import Encoded, join


class Collected:
    """The encoded views of one image, as they come."""

    def __init__(self) -> None:
        self._parts: list[Encoded] = []

    def add(self, encoded: Encoded) -> None:
        """Take the next views."""
        self._parts.append(encoded)

    @property
    def empty(self) -> bool:
        """Whether none came."""
        return not self._parts

    @property
    def encoded(self) -> Encoded:
        """All of them, in order; at least one must have come."""
        first, parts = self._parts[0], self._parts
        return Encoded(
            join([part.features for part in parts]),
            {item: join([part.of_tokens[item] for part in parts]) for item in first.of_tokens},
            {item: join([part.of_views[item] for part in parts]) for item in first.of_views},
        )


def with_gaps(thumbnail: Encoded, crops: Collected, numbers: Sequence[int], views: int) -> Encoded:
    """The thumbnail and some crops at their places among all views, zeros at the others.

    Args:
        thumbnail: one view.
        crops: the crops that were encoded.
        numbers: which views they are.
        views: how many there are in all, the thumbnail included.
    """
    found = None if crops.empty else crops.encoded

    def placed(first: Tensor, rest: Tensor | None) -> Tensor:
        whole = first.new_zeros((views, *first.shape[1:]))
        whole[:1] = first
        if rest is not None:
            whole[list(numbers)] = rest
        return whole

    return Encoded(
        placed(thumbnail.features, None if found is None else found.features),
        {i: placed(v, None if found is None else found.of_tokens[i]) for i, v in thumbnail.of_tokens.items()},
        {i: placed(v, None if found is None else found.of_views[i]) for i, v in thumbnail.of_views.items()},
    )

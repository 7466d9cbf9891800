"""Clips whose tokens are there already: in place of frames they have what a stream keeps of them."""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.core.stream.stream import Kept, Stream
from vidcompress.core.tokens import FrameSource


class TokenSource(FrameSource):
    """Encoder input without pixels, of the frames of which a stream keeps tokens.

    Args:
        stream: that took the whole clip.
        kept: from its `keep`.
        newline: (1, D), features of a separator; (0, D) where the family has none.
        view: (channel, height, width) of a frame in the encoder.
        dtype: of such a frame.

    Attributes:
        shape, ndim, device, dtype: of the frames of which tokens are kept.
        numbers: (F,) int64 on the CPU, the numbers of these frames in the whole clip, ascending.
        kept: the same tokens, with frames counted among these.
    """

    def __init__(
        self, stream: Stream, kept: Kept, newline: Tensor, view: tuple[int, int, int], dtype: torch.dtype
    ) -> None:
        numbers, frame = kept.frame.unique(return_inverse=True)
        self.stream, self.newline, self.numbers = stream, newline, numbers.cpu()
        self.kept = kept._replace(frame=frame)
        self.shape = torch.Size((len(numbers), *view))
        self.ndim, self.device, self.dtype = len(self.shape), kept.frame.device, dtype

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        """Raise RuntimeError: the pixels are gone."""
        raise RuntimeError("pixels of a remembered clip were asked for; this is a mistake, please report it")

    def __len__(self) -> int:
        return self.shape[0]

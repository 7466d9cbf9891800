"""Benchmark of streams: what they keep beside the whole clip, what they hold, and time and memory without an end.

    python scripts/bench_stream.py --json docs/results/stream.json

Needle clips are drawn as the suite draws them (other seeds, not compressed as H.264) and encoded by tiny-onevision; the
others are features that `stream_clips` makes up. Every clip is given to streams of hold 2, 4 and 8, and the tokens kept
are compared with those of `select` on the whole clip. A row is the mean over its clips: the overlap of the kept sets,
the largest distance of a token to its nearest kept one over that of the whole clip (covering radius, in direction, place
and time), and the share of the frames whose choice is certified. An endless stream of features then states the time per
frame, the bytes of tensors and the resident memory, as it goes on.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from bench_encode_memory import memory
from torch import Tensor

from stream_clips import KINDS, clip, endless
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.stream.stream import ROWS, Kept, StreamSize, frames_layout
from vidcompress.core.tokens import VisualTokens
from vidcompress.methods.census import places_of
from vidcompress.progress import counting_bar
from vidcompress.table import Table, terminal_width
from vidcompress.tools.runs.provenance import provenance

METHODS: dict[str, dict[str, Any]] = {
    "evs": {},
    "globalcom2": {},
    "vidcom2": {},
    "census": {},
    "dycoke": {},
    "random": {"rule": "hash"},
    "uniform": {"rule": "golden"},
}
HOLDS = (2, 4, 8)
NEEDLE_SEED = 900_000
NEEDLE_FRAMES, BUDGETS = 256, {"needle": (64, 409)}
MADE_UP_BUDGETS = (1_000, 6_553)
ENDLESS: dict[str, dict[str, Any]] = {name: METHODS[name] for name in ("globalcom2", "vidcom2", "census", "evs")}
ENDLESS_SIZE = StreamSize(256, 4, rows=ROWS)
CHUNK, CHANNELS = 100, 64


def needle_clips(count: int) -> Iterator[Tensor]:
    """Yield features (256, 16, 192) of needle clips, with the needle at other places."""
    from vidcompress.media.video.in_memory import read_frames  # noqa: F401
    raise NotImplementedError


def offline(method: Method, x: Tensor, count: int) -> Tensor:
    """Return the positions that `select` keeps of features (frames, tokens, channels)."""
    tokens = VisualTokens(x.flatten(0, 1), frames_layout(len(x), grid_of(x)))
    return method.select(VisualBatch([tokens]), [visual_budget(tokens.layout, count)])[0].index


def grid_of(x: Tensor) -> tuple[int, int]:
    """Rows and columns of a frame, square if it can be."""
    side = int(x.shape[1] ** 0.5)
    return (side, side) if side * side == x.shape[1] else (1, x.shape[1])

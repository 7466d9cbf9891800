"""Script that `decord_process` runs: opens clips with decord and takes frames, one request per line of stdin.

Stdout has one JSON line per answer, followed by the bytes of the frames, if there are any.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

import numpy as np

MAX_MEMORY = 16 << 30
"""Bytes of address space; the system refuses larger allocations, as for a damaged header."""


def main() -> None:
    """Answer until stdin ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # prints of decord's FFmpeg must not reach stdout
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MAX_MEMORY if hard == resource.RLIM_INFINITY else min(MAX_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    import decord

    reader: Any = None
    for line in sys.stdin:
        request, frames = json.loads(line), b""
        answer: dict[str, Any]
        try:
            if "path" in request:
                reader = None  # releases the previous clip
                reader = decord.VideoReader(request["path"], ctx=decord.cpu(0), num_threads=1)
                answer = {"frames": len(reader)}
            else:
                block = _take(reader, request["frames"])
                answer, frames = {"shape": block.shape}, block.tobytes()
        except Exception as error:  # noqa: BLE001  (decord raises plain RuntimeErrors too; the caller reports it)
            answer = {"error": (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]}
        out.write(json.dumps(answer).encode() + b"\n" + frames)
        out.flush()


def _take(reader: Any, chosen: list[int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return uint8 (frame, height, width, 3) of the chosen frames, read from the start on.

    decord's own `get_batch`, `seek` and `skip_frames` return neighbours of the requested frame where groups of pictures
    are open, near the end of a clip, and in FLV, AVI, ASF and MPEG files. Reading every frame is always right.
    """
    positions, kept = set(chosen), []
    for position in range(chosen[-1] + 1):
        frame = reader.next()
        if position in positions:
            kept.append(frame.asnumpy())
    return np.stack(kept)


if __name__ == "__main__":
    main()

"""`vidcompress eval` in which one process is killed: `torchrun ... dying_rank.py RANK BATCHES eval ...`.

The process of that rank kills itself with SIGKILL once it has answered so many batches.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from vidcompress.cli import main
from vidcompress.tools.evaluation.run.batches import Batch, BatchInference

rank, left = int(sys.argv[1]), int(sys.argv[2])
call = BatchInference.__call__


def dying(self: BatchInference, batch: Batch) -> Any:
    """Answer a batch, or die."""
    global left
    if os.environ["RANK"] == str(rank):
        if left == 0:
            print(f"dying at {time.time()}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    return call(self, batch)


BatchInference.__call__ = dying  # type: ignore[method-assign]
main(sys.argv[3:])

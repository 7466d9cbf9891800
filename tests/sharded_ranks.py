"""Two processes over gloo, with a model spread over them in one way: `python sharded_ranks.py WAY FOLDER`.

Each writes what it saw into FOLDER, `RANK.json`: the error that `compress`, `compress_inputs` and `VisualQA` raise, or
the answers inside and outside the block.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

import vidcompress
from tiny_models import Scene, batch, tiny_model

OPTIONS = {"max_new_tokens": 3, "do_sample": False}


def spread(model: Any, way: str) -> Any:
    """The model in the wrapper that a training script would put around it."""
    if way == "fsdp1":
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    if way == "fully_shard":
        for layer in model.model.language_model.layers:
            fully_shard(layer)
        return fully_shard(model)
    return DistributedDataParallel(model)


def see(way: str, rank: int) -> dict[str, Any]:
    """What this process sees."""
    model = copy.deepcopy(tiny_model("llava_next"))
    raw = batch(model, [Scene((("image", (112, 80)),), seed=rank)])
    with torch.no_grad(), vidcompress.compress(model, retention_ratio=0.3):
        right = model(**raw).logits
    stock = model.generate(**raw, **OPTIONS)
    outer = spread(model, way)
    errors = []
    for call in (
        lambda: vidcompress.compress(outer, retention_ratio=0.3).__enter__(),
        lambda: vidcompress.compress_inputs(outer, raw, retention_ratio=0.3),
        lambda: vidcompress.VisualQA(outer, None),
    ):
        if way == "ddp":
            break
        try:
            call()
            errors.append("none")
        except vidcompress.VidcompressError as error:
            errors.append(f"{type(error).__name__}: {error}")
    if way != "ddp":
        return {"errors": errors}
    with torch.no_grad(), vidcompress.compress(outer, retention_ratio=0.3) as session:
        logits = outer(**raw).logits
    kept = session.report.kept
    short = vidcompress.compress_inputs(outer, raw, retention_ratio=0.3)
    return {
        "kept": [kept, short.report.kept, short.report.total],
        "logits": torch.equal(logits, right),
        "stock": torch.equal(outer(**raw).logits, right),
        "after": torch.equal(outer.module.generate(**raw, **OPTIONS), stock),
        "qa": vidcompress.VisualQA(outer, None).model is model,
    }


def work(rank: int, way: str, folder: str) -> None:
    """One process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        Path(folder, f"{rank}.json").write_text(json.dumps(see(way, rank)))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, (sys.argv[1], sys.argv[2]), nprocs=2)

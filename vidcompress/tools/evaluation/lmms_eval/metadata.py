"""What a run was about: the data, the model, and what it took."""

from __future__ import annotations

import re
import resource
from typing import Any

import torch

from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.evaluation.lmms_eval.frame_rules import FrameRule

_COMMIT = re.compile(r"@([0-9a-f]{40})/")


def describe(dataset: Any, split: str | None) -> dict[str, Any]:
    """The split of a data set of the `datasets` library, its revision and its size.

    Args:
        dataset: a DatasetDict.
        split: which part is asked about.

    Returns:
        `split`; `revision`, the commit on the hub where the data came from there, else the library's fingerprint of
        the data, with "fingerprint:" before it; `rows`.
    """
    if split not in dataset:
        return {"split": split, "revision": "unknown", "rows": None}
    part = dataset[split]
    sources = getattr(getattr(part, "info", None), "download_checksums", None) or {}
    commits = sorted({found[1] for name in sources if (found := _COMMIT.search(str(name)))})
    fingerprint = f"fingerprint:{getattr(part, '_fingerprint', 'unknown')}"
    return {"split": split, "revision": ", ".join(commits) or fingerprint, "rows": len(part)}


def facts(qa: VisualQA, rule: FrameRule, batch_size: int) -> dict[str, Any]:
    """The model and the settings of a run, as they turned out, as JSON values."""
    model, chosen = qa.model, qa.config
    return {
        "model": {
            "family": model.config.model_type,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "settings": {
            "policy": chosen.policy,
            "separators": chosen.resolved_separators,
            "positions": chosen.resolved_positions,
            "max_frames": rule.frames,
            "fps": rule.fps,
            "batch_size": batch_size,
            "dtype": str(model.dtype).removeprefix("torch."),
            "attention": model.config._attn_implementation,
            "device": str(model.device),
        },
    }


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process has held: of the GPU where the model is on one, else of the machine's memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

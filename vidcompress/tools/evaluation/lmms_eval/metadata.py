"""Metadata of a run: data set, model, settings and peak memory."""

from __future__ import annotations

import re
from typing import Any

import torch

from vidcompress.qa.visual_qa import VisualQA
from vidcompress.session.prompt import served_positions
from vidcompress.tools.evaluation.lmms_eval.conventions import Convention
from vidcompress.tools.runs.memory import resident_peak

_COMMIT = re.compile(r"@([0-9a-f]{40})/")


def dataset_metadata(dataset: Any, split: str | None) -> dict[str, Any]:
    """Metadata of a split of a `datasets` data set: revision and number of rows.

    Args:
        dataset: a DatasetDict.
        split: its name.

    Returns:
        `split`; `revision`, the commit on the hub where the data came from there, else the library's fingerprint of
        the data, with "fingerprint:" before it; `rows`.
    """
    if split not in dataset:
        return {"split": split, "revision": "unknown", "rows": None}
    part = dataset[split]
    sources = getattr(getattr(part, "info", None), "download_checksums", None) or {}
    commits = sorted({match[1] for name in sources if (match := _COMMIT.search(str(name)))})
    fingerprint = f"fingerprint:{getattr(part, '_fingerprint', 'unknown')}"
    return {"split": split, "revision": ", ".join(commits) or fingerprint, "rows": len(part)}


def run_metadata(qa: VisualQA, convention: Convention, batch_size: int) -> dict[str, Any]:
    """Metadata of the loaded model and the settings of a run, as JSON values."""
    model, chosen = qa.model, qa.config
    return {
        "model": {
            "family": model.config.model_type,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
        "settings": {
            "policy": chosen.policy,
            "separators": chosen.resolved_separators,
            "positions": served_positions(qa.pipeline.adapter, chosen).resolved_positions,
            "view_text": chosen.view_text,
            "mass": chosen.resolved_mass,
            "mass_strength": chosen.mass_strength,
            "mass_cap": chosen.mass_cap,
            **convention.facts,
            "batch_size": batch_size,
            "dtype": str(model.dtype).removeprefix("torch."),
            "attention": model.config._attn_implementation,
            "device": str(model.device),
        },
    }


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: on the GPU where the model is on one, else resident."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident_peak()

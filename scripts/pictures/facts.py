"""Facts of a picture: what was asked of which model, the counts, the answers, and which tokens were kept."""

from __future__ import annotations

from typing import Any

import numpy as np

import vidcompress


def facts_of(answer: vidcompress.Answer) -> dict[str, Any]:
    """What a picture shows of one answer, as JSON types; `kept_mask` has a hexadecimal digit per four positions."""
    (visual,) = answer.report.visuals
    mask = np.zeros(visual.total, dtype=np.bool_)
    mask[visual.kept_positions.numpy()] = True
    return {
        "method": answer.report.method,
        "retention_ratio": float(answer.report.retention_ratio or 1.0),
        "answer": answer.text,
        "kept": visual.kept,
        "total": visual.total,
        "per_view": [f"{view.kept}/{view.total}" for view in visual.views],
        "separators": f"{visual.separators_kept}/{visual.separators_total}",
        "kept_mask": np.packbits(mask).tobytes().hex(),
    }

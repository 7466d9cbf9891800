"""Which data a run was about."""

from __future__ import annotations

import re
from typing import Any

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
    part = dataset[split]
    sources = getattr(getattr(part, "info", None), "download_checksums", None) or {}
    commits = sorted({found[1] for name in sources if (found := _COMMIT.search(str(name)))})
    fingerprint = f"fingerprint:{getattr(part, '_fingerprint', 'unknown')}"
    return {"split": split, "revision": ", ".join(commits) or fingerprint, "rows": len(part)}

"""Checks of measured rows against the roofline: time to the first token, and peak memory."""

from __future__ import annotations

from typing import Any

OF_ALLOWED = {0.25: 0.85, 0.1: 0.75}
"""Least share of the speed-up allowed by operations, by retention ratio."""
MEMORY_SLACK = 1.1
"""Memory may shrink to this times the predicted share."""


def check_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Check every row of a summarised run that is compressed to a ratio of `OF_ALLOWED`.

    Returns:
        One entry per row: `group`, `method`, `retention_ratio`; `speed_up` measured (of the minima, of the medians,
        the median of the ratios of the same round, and of the processor time), `allowed`, `of_allowed`, `wanted` and
        `fast`, which goes by the minima: what else runs on a machine only ever adds time; on the CPU also
        `fast_when_alone`, which goes by processor time and means something with one thread; `memory` and `predicted`,
        shares of the uncompressed row's peak above weights and pixels, `prefill_memory` and `prefill_predicted`, the
        same of the phase that compression is about, and `small`: whether neither is above `MEMORY_SLACK` times what
        is predicted.
    """
    entries = []
    for group in result["groups"]:
        base = next((row for row in group["rows"] if row["method"] == "none"), None)
        if base is None or "summary" not in base:
            continue
        for row in group["rows"]:
            least_share = OF_ALLOWED.get(row["retention_ratio"] or 0)
            if least_share is not None and "summary" in row:
                entries.append({"group": group["name"], **_checked(row, base, least_share)})
    return entries


def _checked(row: dict[str, Any], base: dict[str, Any], least_share: float) -> dict[str, Any]:
    ratios = row["summary"]["against"]
    first = ratios["first_token"]
    entry: dict[str, Any] = {
        "method": row["method"],
        "retention_ratio": row["retention_ratio"],
        "speed_up": first,
    }
    if "flops" in ratios:
        entry |= {
            "allowed": ratios["flops"],
            "of_allowed": {k: v / ratios["flops"] for k, v in first.items()},
        }
        entry |= {"wanted": least_share, "fast": entry["of_allowed"]["min"] >= least_share}
        if "busy" in first:
            entry["fast_when_alone"] = entry["of_allowed"]["busy"] >= least_share
    if "peak_above" in ratios and row["paper"]:
        predicted = _predicted(row) / _predicted(base)
        prefill = _measured(row) / _measured(base)
        of_prefill = row["paper"]["prefill_bytes"] / base["paper"]["prefill_bytes"]
        small = ratios["peak_above"] <= MEMORY_SLACK * predicted and prefill <= MEMORY_SLACK * of_prefill
        entry |= {"memory": ratios["peak_above"], "predicted": predicted}
        entry |= {"prefill_memory": prefill, "prefill_predicted": of_prefill, "small": small}
    return entry


def _predicted(row: dict[str, Any]) -> float:
    return float(max(row["paper"]["encode_bytes"], row["paper"]["prefill_bytes"]))


def _measured(row: dict[str, Any]) -> float:
    return float(row["summary"]["peak_bytes"]["above_by_phase"]["prefill"])

"""Performance targets on a GPU, whether a run meets them, and the published figures of GlobalCom²."""

from __future__ import annotations

from typing import Any

HEADLINE = {
    "model": "LLaVA-NeXT-7B at 10 % of the visual tokens",
    "tflops": (41.7, 3.8),
    "gigabytes": (23.0, 13.9),
    "samples_per_s": (3.8, 6.7),
}
"""GlobalCom² as published (https://arxiv.org/abs/2501.05179), without compression and with."""
RATIO = 0.1
THROUGHPUT, ABOVE, TOTAL, OF_ALLOWED, IMAGE_MS, OF_ENCODE = 1.8, 0.25, 0.65, 0.9, 1.0, 0.01


def check_targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare every compressed row of a summarised run with the targets; those of throughput and memory at 10 %.

    Returns:
        Entries of `group`, `method`, `retention_ratio`, `aim`, `wanted` ("above" or "below" a number), `found`, `met`.
    """
    longest = str(max(result["plan"]["new_tokens"]))
    entries = []
    for group in result["groups"]:
        for row in group["rows"]:
            if "summary" not in row or row["method"] in ("none", "stock"):
                continue
            for target, sign, limit, value in _of_row(row, group, longest):
                entries.append(
                    {
                        "group": group["name"],
                        "method": row["method"],
                        "retention_ratio": row["retention_ratio"],
                        "aim": target,
                        "wanted": f"{sign} {limit:g}",
                        "found": value,
                        "met": value > limit if sign == "above" else value < limit,
                    }
                )
    return entries


def _of_row(row: dict[str, Any], group: dict[str, Any], longest: str) -> list[tuple[str, str, float, float]]:
    summary = row["summary"]
    ratios = summary.get("against", {})
    targets: list[tuple[str, str, float, float]] = []
    if row["retention_ratio"] == RATIO and ratios:
        targets.append(("samples/s against none", "above", THROUGHPUT, ratios["samples_per_s"][longest]))
        if "peak" in ratios:
            targets.append(("peak above weights, share of none", "below", ABOVE, ratios["peak_above"]))
            if group["batch"] == 8:
                targets.append(("peak in total, share of none", "below", TOTAL, ratios["peak"]))
    if "of_allowed" in ratios:
        targets.append(("first token, of the allowed speed-up", "above", OF_ALLOWED, ratios["of_allowed"]))
    compress, encode = (summary["phases_ms"][name]["median"] for name in ("compress", "encode"))
    if group["modality"] == "image":
        targets.append(("compress, ms per image", "below", IMAGE_MS, compress / group["batch"]))
    elif group["views"] >= 32:
        targets.append(("compress, share of encode", "below", OF_ENCODE, compress / encode))
    return targets

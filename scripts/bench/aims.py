"""What is aimed at on a GPU, and whether a run reached it; and the published figures it is held against."""

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


def aims(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Hold every compressed row of a summarised run against the aims; those of throughput and memory at 10 %.

    Returns:
        Entries of `group`, `method`, `retention_ratio`, `aim`, `wanted` ("above" or "below" a number), `found`, `met`.
    """
    longest = str(max(result["plan"]["new_tokens"]))
    found = []
    for group in result["groups"]:
        for row in group["rows"]:
            if "summary" not in row or row["method"] in ("none", "stock"):
                continue
            for aim, sign, wanted, value in _of_row(row, group, longest):
                found.append(
                    {
                        "group": group["name"],
                        "method": row["method"],
                        "retention_ratio": row["retention_ratio"],
                        "aim": aim,
                        "wanted": f"{sign} {wanted:g}",
                        "found": value,
                        "met": value > wanted if sign == "above" else value < wanted,
                    }
                )
    return found


def _of_row(row: dict[str, Any], group: dict[str, Any], longest: str) -> list[tuple[str, str, float, float]]:
    summary = row["summary"]
    against = summary.get("against", {})
    made: list[tuple[str, str, float, float]] = []
    if row["retention_ratio"] == RATIO and against:
        made.append(("samples/s against none", "above", THROUGHPUT, against["samples_per_s"][longest]))
        if "peak" in against:
            made.append(("peak above weights, share of none", "below", ABOVE, against["peak_above"]))
            if group["batch"] == 8:
                made.append(("peak in total, share of none", "below", TOTAL, against["peak"]))
    if "of_allowed" in against:
        made.append(("first token, of the allowed speed-up", "above", OF_ALLOWED, against["of_allowed"]))
    compress, encode = (summary["phases_ms"][name]["median"] for name in ("compress", "encode"))
    if group["modality"] == "image":
        made.append(("compress, ms per image", "below", IMAGE_MS, compress / group["batch"]))
    elif group["views"] >= 32:
        made.append(("compress, share of encode", "below", OF_ENCODE, compress / encode))
    return made

"""Summary of raw rounds: minima, medians, and ratios against the uncompressed row of the same run."""

from __future__ import annotations

from statistics import median
from typing import Any

from vidcompress.tools.benchmark.measure import PHASES
from vidcompress.tools.benchmark.media import MEDIA_PHASES


def summarise(result: dict[str, Any]) -> dict[str, Any]:
    """Add summary statistics to the raw rounds of a run.

    Args:
        result: from `run_bench`.

    Returns:
        The result with `summary` in every measured row:

        - `phases_ms`, `first_token_ms`, `token_ms`: `min` and `median` over the rounds; `first_token_ms` is measured as
          one stretch, `summed` is encode + compress + prefill, `busy` the processor time; `token_ms` is per later token
        - `total_ms` and `samples_per_s` by length of the answer, medians; decoding and preparing files is not in them
        - `share`: of the time to the last token of the longest answer, by phase, files included
        - `peak_bytes`: by phase and at all; `above` without weights and inputs
        - `visual`: visual tokens sent and their total; `per_layer` inside the language model
        - `against`: the uncompressed row over this one: `first_token` (`min`, `median`, `paired`: the median of the
          ratios of the same round, `least` and `most`: the smallest and largest of them, and on the CPU `busy`),
          `samples_per_s` by length, `peak` and `peak_above` as shares, `flops` (speed-up of the first token by
          operations alone) and `of_allowed` (the share of it that was reached)
    """
    groups = []
    for group in result["groups"]:
        media = _phases([round_["phases"] for round_ in group["media"]])
        rows = [_summarised(row, group, media, result) for row in group["rows"]]
        base = next((row for row in rows if row["method"] == "none" and "summary" in row), None)
        for row in rows:
            if "summary" in row and base is not None:
                row["summary"]["against"] = _ratios_to_baseline(row, base, result["model"]["device"])
        groups.append({**group, "rows": rows, "media_ms": media})
    return {**result, "groups": groups}


def _summarised(
    row: dict[str, Any], group: dict[str, Any], media: dict[str, Any], result: dict[str, Any]
) -> dict[str, Any]:
    rounds = row["rounds"]
    if row["skipped"] is not None or not rounds:
        return row
    phases = _phases([{k: v for k, v in r["phases"].items() if k in PHASES} for r in rounds])
    tokens = [t for r in rounds for t in r["tokens"]]
    summary: dict[str, Any] = {
        "phases_ms": phases,
        "first_token_ms": _min_and_median([r["first_token"] for r in rounds]),
        "token_ms": _min_and_median(tokens) if tokens else None,
        "visual": rounds[0]["visual"],
    }
    summary["first_token_ms"]["busy"] = median(r["busy"] for r in rounds)
    if "encode" in phases:
        summed = [sum(r["phases"][name] for name in ("encode", "compress", "prefill")) for r in rounds]
        summary["first_token_ms"]["summed"] = median(summed)
    summary["total_ms"], summary["samples_per_s"] = _totals(rounds, group, result["plan"]["new_tokens"])
    summary["share"] = _share(summary, media, rounds)
    summary["peak_bytes"] = _peaks(row["memory"], result["model"]["weights_bytes"])
    return {**row, "summary": summary}


def _min_and_median(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": median(values)}


def _phases(rounds: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    names = list(dict.fromkeys(name for phases in rounds for name in phases))
    return {name: _min_and_median([phases[name] for phases in rounds if name in phases]) for name in names}


def _totals(
    rounds: list[dict[str, Any]], group: dict[str, Any], lengths: list[int]
) -> tuple[dict[str, float], dict[str, float]]:
    totals = {str(n): median(r["first_token"] + sum(r["tokens"][: n - 1]) for r in rounds) for n in lengths}
    rates = {n: group["batch"] / total * 1e3 for n, total in totals.items()}
    if all("wall" in r for r in rounds):  # threads: only the total time gives a rate
        longest = str(max(lengths))
        rates = {longest: group["batch"] / median(r["wall"] for r in rounds) * 1e3}
    return totals, rates


def _share(summary: dict[str, Any], media: dict[str, Any], rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return the share of time by phase; time outside of all phases (splicing, attaching hooks) is `other`."""
    parts = {name: media[name]["median"] for name in MEDIA_PHASES if name in media}
    phases = {name: spread["median"] for name, spread in summary["phases_ms"].items()}
    if "encode" not in phases:  # the stock model has no phase for encoding
        phases = {"encode + prefill": phases["prefill"]}
    parts |= phases
    parts["decode"] = median(sum(r["tokens"]) for r in rounds)
    parts["other"] = max(0.0, summary["first_token_ms"]["median"] - sum(phases.values()))
    whole = sum(parts.values())
    return {name: value / whole for name, value in parts.items()}


def _peaks(memory: dict[str, Any] | None, weights: int) -> dict[str, Any] | None:
    """Return the peaks with weights and inputs (`phases`, `all`), and without (`above`)."""
    if memory is None or "peaks" not in memory:
        return None
    given = weights + memory["inputs_bytes"]
    extra = 0 if memory["counts_weights"] else given
    phases = {name: peak + extra for name, peak in memory["peaks"].items()}
    whole = max(phases.values())
    return {
        "phases": phases,
        "all": whole,
        "above": whole - given,
        "above_by_phase": {name: peak - given for name, peak in phases.items()},
        "inputs": memory["inputs_bytes"],
        "weights": weights,
    }


def _ratios_to_baseline(row: dict[str, Any], base: dict[str, Any], device: str) -> dict[str, Any]:
    mine, other = row["summary"], base["summary"]
    pairs = zip(row["rounds"], base["rounds"], strict=False)
    first = {name: other["first_token_ms"][name] / mine["first_token_ms"][name] for name in ("min", "median")}
    by_round = [b["first_token"] / a["first_token"] for a, b in pairs]
    first |= {"paired": median(by_round), "least": min(by_round), "most": max(by_round)}
    if "cuda" not in device:
        first["busy"] = other["first_token_ms"]["busy"] / mine["first_token_ms"]["busy"]
    ratios: dict[str, Any] = {
        "first_token": first,
        "samples_per_s": {n: rate / other["samples_per_s"][n] for n, rate in mine["samples_per_s"].items()},
    }
    if mine["peak_bytes"] and other["peak_bytes"]:
        ratios["peak"] = mine["peak_bytes"]["all"] / other["peak_bytes"]["all"]
        ratios["peak_above"] = mine["peak_bytes"]["above"] / other["peak_bytes"]["above"]
    if row["paper"] and base["paper"]:
        ratios["flops"] = base["paper"]["first_token_flops"] / row["paper"]["first_token_flops"]
        ratios["of_allowed"] = first["paired"] / ratios["flops"]
    return ratios

"""Summary of the rounds of a server: throughput and times to the first token, with their spread over the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

Round = Mapping[str, Any]
PERCENTILES = (50, 95)


def summary_of(rounds: Sequence[Round], base: Sequence[Round] | None = None) -> dict[str, Any] | None:
    """Summarise the rounds of a row.

    Args:
        rounds: each with its number `round`, `seconds` and `exchanges`.
        base: rounds of the row that ratios are against; a round of the same number had the same traffic.

    Returns:
        `requests_per_s` and `tokens_per_s` (new tokens): `median`, `least` and `most` over the rounds;
        `first_token_ms`: `p50` and `p95` over the requests of all rounds, and for each its `least` and `most` over the
        rounds; `token_ms`: median time of a later token; `prompt_tokens`: median; `requests` and `errors` in all;
        `load`: median of the machine's load average; `against`: row over base for throughput and base over row for
        the first token, paired by round: `median`, `least`, `most`. None where no request was answered.
    """
    figures = _figures(rounds)
    measured = list(figures.values())
    if not measured:
        return None
    good = [exchange for one in rounds for exchange in answered(one)]
    firsts = [1e3 * (exchange["first"] - exchange["sent"]) for exchange in good]
    later = [
        1e3 * (exchange["ended"] - exchange["first"]) / (exchange["new_tokens"] - 1)
        for exchange in good
        if exchange["new_tokens"] > 1
    ]
    first_token: dict[str, Any] = {}
    for name, value in zip((f"p{p}" for p in PERCENTILES), np.percentile(firsts, PERCENTILES), strict=True):
        first_token[name] = {**_spread([one[name] for one in measured]), "all": float(value)}
    loads = [one["load"] for one in rounds if one.get("load") is not None]
    return {
        "requests_per_s": _spread([one["requests_per_s"] for one in measured]),
        "tokens_per_s": _spread([one["tokens_per_s"] for one in measured]),
        "first_token_ms": first_token,
        "token_ms": median(later) if later else None,
        "prompt_tokens": median(exchange["prompt_tokens"] for exchange in good),
        "requests": sum(len(one["exchanges"]) for one in rounds),
        "errors": sum(len(one["exchanges"]) for one in rounds) - len(good),
        "load": median(loads) if loads else None,
        "against": None if base is None else _against(figures, _figures(base)),
    }


def answered(one: Round) -> list[dict[str, Any]]:
    """Exchanges of a round without an error."""
    return [exchange for exchange in one["exchanges"] if exchange["error"] is None]


def _figures(rounds: Sequence[Round]) -> dict[int, dict[str, float]]:
    """Figures of each round in which a request was answered, by its number."""
    figures = {}
    for one in rounds:
        good = answered(one)
        if good:
            firsts = [1e3 * (exchange["first"] - exchange["sent"]) for exchange in good]
            p50, p95 = np.percentile(firsts, PERCENTILES)
            figures[int(one["round"])] = {
                "requests_per_s": len(good) / one["seconds"],
                "tokens_per_s": sum(exchange["new_tokens"] for exchange in good) / one["seconds"],
                "p50": float(p50),
                "p95": float(p95),
            }
    return figures


def _against(
    rows: Mapping[int, dict[str, float]], base: Mapping[int, dict[str, float]]
) -> dict[str, Any] | None:
    pairs = [(mine, base[number]) for number, mine in rows.items() if number in base]
    if not pairs:
        return None
    return {
        "requests_per_s": _spread(
            [mine["requests_per_s"] / theirs["requests_per_s"] for mine, theirs in pairs]
        ),
        "first_token": _spread([theirs["p50"] / mine["p50"] for mine, theirs in pairs]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}

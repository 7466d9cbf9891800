"""Forecast for named devices from the cost model: what limits a server's requests, and whether compression pays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidcompress.errors import ArgumentError, nearest
from vidcompress.tools.benchmark.serving.plan import ServePlan
from vidcompress.tools.cost import DEVICES, Estimate, estimate
from vidcompress.tools.cost.model import model_of

GPUS = ("H200", "H100", "A100-80G", "RTX 4090")
PAYS = 1.1
"""Least factor of requests per second that is said to pay: less is within the spread of a server."""


def forecast(
    plan: ServePlan,
    model: Any,
    *,
    method: str = "globalcom2",
    dtype: str = "bfloat16",
    devices: Sequence[str] = GPUS,
) -> dict[str, Any]:
    """Forecast a plan's requests per second from operations and bytes, at the devices' stated peaks.

    The requests in flight are one batch, each phase of which takes its roofline time; queueing, the processor's work
    and what an engine does between steps are not in it, so that real servers are slower.

    Args:
        plan: traffic, ratios and requests at once.
        model: as in `vidcompress.tools.cost.estimate`.
        method: compression method. dtype: as in `estimate`. devices: names of `vidcompress.tools.cost.DEVICES`.

    Returns:
        `encoder_share` of a request's operations with all tokens, and its `source`; `rows`: by device, requests at once
        and ratio the `requests_per_s`, its `factor` over all tokens, `first_token_ms`, the shares of `encode`,
        `prefill` and `decode` in the time, and whether it `fits` into the device's memory; `words`: a sentence per
        device.

    Raises:
        ArgumentError: an unknown device, or what `estimate` refuses.
    """
    for name in devices:
        if name not in DEVICES:
            raise ArgumentError(f"devices: {name!r} is none of them; {nearest(name, DEVICES)}")
    cost_model = model_of(model)
    ratios = [row.ratio for row in plan.rows if row.ratio not in (None, 1.0)]

    def of(at_once: int, ratio: float | None) -> Estimate:
        return estimate(
            cost_model,
            size=(plan.size[1], plan.size[0]),
            text_tokens=plan.text_tokens,
            new_tokens=plan.new_tokens,
            batch_size=at_once,
            dtype=dtype,
            method="none" if ratio is None else method,
            retention_ratio=ratio,
        )

    rows: list[dict[str, Any]] = []
    words: list[str] = []
    for device in devices:
        said = []
        for at_once in sorted(set(plan.batch_sizes)):
            whole = of(at_once, None)
            mine = [_row(device, at_once, None, whole, whole)]
            mine += [_row(device, at_once, ratio, of(at_once, ratio), whole) for ratio in ratios]
            rows += mine
            if len(mine) > 1:
                said.append(in_words(mine[0], min(mine[1:], key=lambda row: row["retention_ratio"])))
        words += dict.fromkeys((*said[:1], *said[-1:]))  # the fewest and the most requests at once
    one = of(1, None)
    operations = one.prefill_flops["everything"] + one.decode_flops["everything"]
    return {
        "model": Path(cost_model.name).name if Path(cost_model.name).is_absolute() else cost_model.name,
        "method": method,
        "dtype": dtype,
        "encoder_share": (one.parts["encoder"] + one.parts["projector"]) / operations,
        "source": "cost: share of the operations of a request with all tokens",
        "rows": rows,
        "words": words,
    }


def in_words(whole: dict[str, Any], compressed: dict[str, Any]) -> str:
    """Say what a device's time goes to, and whether compression pays there.

    Args:
        whole: row with all tokens. compressed: row with the fewest, at as many requests at once.
    """
    where = f"{whole['device']}, {whole['at_once']} at once"
    if not whole["fits"]:
        return f"{where}: does not fit into its memory by the estimate, so no forecast holds"
    encode, decode, factor = 100 * whole["encode"], 100 * whole["decode"], compressed["factor"]
    first = whole["first_token_ms"] / compressed["first_token_ms"]
    shares = f"with all tokens encoding takes {encode:.0f} % of the time and decoding {decode:.0f} %"
    gains = (
        f"at {100 * compressed['retention_ratio']:g} % of the tokens {factor:.2f} x the requests per second, the first "
        f"token {first:.2f} x as soon"
    )
    if factor >= PAYS:
        return f"{where}: {shares}; {gains}, at most"
    dominates = "encoding dominates, which is not shortened"
    if decode > encode:
        dominates = "decoding dominates, which is hardly shortened"
    if max(encode, decode) < 50:
        dominates = "too little is prefill"
    return f"{where}: {shares}; {dominates}: compression will not pay in throughput ({gains}, at most)"


def _row(device: str, at_once: int, ratio: float | None, one: Estimate, whole: Estimate) -> dict[str, Any]:
    seconds = one.time_s[device]
    total = seconds["total"]
    return {
        "device": device,
        "at_once": at_once,
        "retention_ratio": ratio,
        "requests_per_s": at_once / total,
        "factor": whole.time_s[device]["total"] / total,
        "first_token_ms": 1e3 * seconds["first_token"],
        "encode": (seconds["encode"] + seconds["select"]) / total,
        "prefill": seconds["prefill"] / total,
        "decode": (total - seconds["first_token"]) / total,
        "fits": one.memory_bytes <= DEVICES[device].memory,
    }

"""Measurement of one batch: encode, compress, prefill and decode, each phase timed in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device
from vidcompress.session.compress import compress_with
from vidcompress.tools.benchmark.meters import PeakMeter, TimeStamp, TokenClock, wait_for

PHASES = ("encode", "compress", "prefill", "decode")
"""Phases of a request with given pixels; `decode` is every token after the first."""


def measure(
    adapter: Any,
    inputs: Mapping[str, Any],
    settings: CompressionConfig | None,
    new_tokens: int,
    meter: PeakMeter | None = None,
) -> dict[str, Any]:
    """Run a batch once.

    Args:
        adapter: of the model.
        inputs: output of its processor, on its device.
        settings: how to compress; None for the stock model.
        new_tokens: length of the answer.
        meter: switched on for the run; its phases are those of `PHASES`.

    Returns:
        `phases` (milliseconds of encode, compress, prefill, without the first two for the stock model),
        `first_token` (milliseconds from pixels to the scores of the first token, measured as one stretch), `busy`
        (milliseconds of processor time of the process until then, which other programs do not lengthen), `tokens`
        (milliseconds of each later token) and `visual` (`sent` and `per_layer`: visual tokens of the batch).
    """
    device = input_device(adapter.model)
    wait_for(device)
    begin = TimeStamp(device)
    if settings is None:
        clock, sent, phases, visual = _stock(adapter, inputs, new_tokens, meter, device), begin, {}, {}
    else:
        compressed = compress_with(adapter, inputs, settings)
        sent = TimeStamp(device)
        clock = _clock(meter, device)
        with compressed.pruning():
            _generate(adapter, compressed, new_tokens, clock)
        phases = dict(compressed.report.timing_ms)
        visual = _visual(compressed.report)
    wait_for(device)
    first = clock.stamps[0]
    phases["prefill"] = first.since(sent)
    later = [b.since(a) for a, b in zip(clock.stamps, clock.stamps[1:], strict=False)]
    busy = (first.cpu - begin.cpu) * 1e3
    return {
        "phases": phases,
        "first_token": first.since(begin),
        "busy": busy,
        "tokens": later,
        "visual": visual,
    }


def measure_peaks(
    adapter: Any, inputs: Mapping[str, Any], settings: CompressionConfig | None, new_tokens: int
) -> tuple[dict[str, int], PeakMeter]:
    """Run a batch once and return the peak bytes of each phase, and the meter that counted them."""
    meter = PeakMeter(input_device(adapter.model))
    with meter.on():
        measure(adapter, inputs, settings, new_tokens, meter)
    return meter.peaks, meter


def measure_threads(
    adapter: Any, requests: Sequence[Mapping[str, Any]], settings: CompressionConfig | None, new_tokens: int
) -> dict[str, Any]:
    """Run one request in each of several threads at once.

    Returns:
        As `measure`, with the slowest thread of each phase, and `wall`, milliseconds until all were answered.
    """
    wait_for(input_device(adapter.model))
    begin = time.perf_counter()
    with ThreadPoolExecutor(len(requests)) as pool:
        results = list(pool.map(lambda inputs: measure(adapter, inputs, settings, new_tokens), requests))
    wall = (time.perf_counter() - begin) * 1e3
    slowest = max(results, key=lambda result: float(result["first_token"]))
    return {**slowest, "wall": wall}


def _clock(meter: PeakMeter | None, device: torch.device) -> TokenClock:
    if meter is None:
        return TokenClock(device)
    meter.begin("prefill")
    return TokenClock(device, lambda: meter.begin("decode"))


def _stock(
    adapter: Any, inputs: Mapping[str, Any], new_tokens: int, meter: PeakMeter | None, device: torch.device
) -> TokenClock:
    clock = _clock(meter, device)
    _generate(adapter, inputs, new_tokens, clock)
    return clock


def _generate(adapter: Any, inputs: Mapping[str, Any], new_tokens: int, clock: TokenClock) -> None:
    """Generate `new_tokens` tokens greedily; placeholders are suppressed, as they would need features."""
    unwanted = [token for token in (adapter.image_token_id, adapter.video_token_id) if token is not None]
    ends = getattr(adapter.model.generation_config, "eos_token_id", None) is not None
    adapter.model.generate(
        **inputs,
        max_new_tokens=new_tokens,
        **({"min_new_tokens": new_tokens} if ends else {}),
        do_sample=False,
        suppress_tokens=unwanted,
        logits_processor=[clock],
    )


def _visual(report: Any) -> dict[str, Any]:
    inside = None if report.inside is None else report.inside.to_dict()["per_layer"]
    return {"total": report.total, "sent": report.kept, "per_layer": inside}

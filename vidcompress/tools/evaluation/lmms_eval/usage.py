"""Usage of a run: token counts and times per sample, throughput per process."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lmms_eval.api.instance import TokenCounts
from lmms_eval.models.model_utils.gen_metrics import log_metrics

from vidcompress.tools.evaluation.lmms_eval.record import Response


class TokenUsage(TokenCounts):  # type: ignore[misc]
    """Token usage of one request, visual tokens included; the harness writes `to_dict` into the samples file."""

    def __init__(self, response: Response) -> None:
        super().__init__(input_tokens=response.input_tokens, output_tokens=response.output_tokens)
        self._response = response

    def to_dict(self) -> dict[str, Any]:
        """`input_tokens`, `output_tokens`; `id`, `kept`, `budget`, `total`; `error`; times in milliseconds where known.

        Times are those of the batch that the request was answered in, whose size is `batch_size`.
        """
        response = self._response
        usage = {
            **super().to_dict(),
            "id": response.id,
            "kept": response.kept,
            "budget": response.budget,
            "total": response.total,
        }
        if response.error is not None:
            usage["error"] = response.error
        if response.timing_ms:
            first = response.time_to_first_token_ms
            usage |= {"batch_size": response.batch_size, "timing_ms": dict(response.timing_ms)}
            usage["time_to_first_token_ms"] = None if first is None else round(first, 3)
        return usage


def log_throughput(fresh: Sequence[Response]) -> None:
    """Log the throughput of this process to the harness, over newly generated responses only."""
    timed = [response for response in fresh if response.time_to_first_token_ms is not None]
    if not timed:
        return
    seconds = sum(response.timing_ms["total"] / response.batch_size for response in timed) / 1e3
    tokens = sum(response.output_tokens for response in timed)
    log_metrics(
        total_elapsed_time=seconds,
        total_gen_tokens=tokens,
        avg_speed=tokens / seconds if seconds else 0.0,
        additional_metrics={
            "num_requests": len(timed),
            "questions_per_second": len(timed) / seconds if seconds else 0.0,
            "time_to_first_token_ms": fmean(response.time_to_first_token_ms or 0.0 for response in timed),
            "visual_tokens_kept": fmean(response.kept for response in timed),
            "visual_tokens_total": fmean(response.total for response in timed),
        },
    )

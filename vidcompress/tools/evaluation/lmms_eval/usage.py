"""What a run says about itself: counts and times per sample, throughput per process."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from lmms_eval.api.instance import TokenCounts
from lmms_eval.models.model_utils.gen_metrics import log_metrics

from vidcompress.tools.evaluation.lmms_eval.record import Outcome


class Counts(TokenCounts):  # type: ignore[misc]
    """Token counts of one request with what compression did; the harness writes `to_dict` into the samples file."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(input_tokens=outcome.input_tokens, output_tokens=outcome.output_tokens)
        self._outcome = outcome

    def to_dict(self) -> dict[str, Any]:
        """`input_tokens`, `output_tokens`; `id`, `kept`, `budget`, `total`; `error`; times in milliseconds where known.

        Times are those of the batch that the request was answered in, whose size is `batch_size`.
        """
        outcome = self._outcome
        found = {
            **super().to_dict(),
            "id": outcome.id,
            "kept": outcome.kept,
            "budget": outcome.budget,
            "total": outcome.total,
        }
        if outcome.error is not None:
            found["error"] = outcome.error
        if outcome.timing_ms:
            first = outcome.time_to_first_token_ms
            found |= {"batch_size": outcome.batch_size, "timing_ms": dict(outcome.timing_ms)}
            found["time_to_first_token_ms"] = None if first is None else round(first, 3)
        return found


def log_throughput(fresh: Sequence[Outcome]) -> None:
    """Tell the harness what this process answered now: not what it found in the journal, nor what fills up a rank."""
    timed = [outcome for outcome in fresh if outcome.time_to_first_token_ms is not None]
    if not timed:
        return
    seconds = sum(outcome.timing_ms["total"] / outcome.batch_size for outcome in timed) / 1e3
    tokens = sum(outcome.output_tokens for outcome in timed)
    log_metrics(
        total_elapsed_time=seconds,
        total_gen_tokens=tokens,
        avg_speed=tokens / seconds if seconds else 0.0,
        additional_metrics={
            "num_requests": len(timed),
            "questions_per_second": len(timed) / seconds if seconds else 0.0,
            "time_to_first_token_ms": fmean(outcome.time_to_first_token_ms or 0.0 for outcome in timed),
            "visual_tokens_kept": fmean(outcome.kept for outcome in timed),
            "visual_tokens_total": fmean(outcome.total for outcome in timed),
        },
    )

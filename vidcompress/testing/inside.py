"""Contract of a method that prunes inside the language model, checked on a model and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vidcompress.core.method import Method
from vidcompress.core.wrappers import unwrap
from vidcompress.llm_pruning.cache_names import returned_cache
from vidcompress.session.compress import compress_inputs
from vidcompress.testing.expect import ContractError, positions_of, require


def check_inside(model: Any, inputs: Mapping[str, Any], method: Method) -> None:
    """Check the logits with all tokens kept, the planned tokens of each layer, and a batch against its single rows.

    Args:
        model: a loaded model. inputs: processor outputs, padded on the left. method: one with `inside`.

    Raises:
        ContractError: a rule is violated.
    """
    model = unwrap(model)
    with torch.no_grad():
        stock = model(**inputs).logits
        whole = compress_inputs(model, inputs, method, retention_ratio=1, positions=positions_of(model)[0])
        with whole.pruning():
            kept = model(**whole).logits
        require(torch.equal(stock, kept), f"{method.name} at 1.0 differs from the stock model")
        some = compress_inputs(model, inputs, method, retention_ratio="0.6")
        with some.pruning():
            cache = returned_cache(model(**{**some, "use_cache": True}))
    report = some.report.inside
    plan = None if some.inside is None else some.inside.plan
    if report is None or plan is None:
        raise ContractError(f"{method.name} leaves no report of its layers")
    for layer, tokens in enumerate(plan.tokens_in(layer) for layer in range(len(report.per_layer))):
        widest = max(text + count for text, count in zip(plan.texts, tokens, strict=True))
        held = cache.get_seq_length(layer)
        require(held == widest, f"{method.name}: layer {layer} holds {held} columns, {widest} were planned")
    for row, schedule in enumerate(plan.schedules):
        allowed = plan.budgets[row] * len(schedule.per_layer())
        require(
            schedule.summed <= allowed or schedule.total == 0,
            f"{method.name}: row {row} takes in {schedule.summed} over all layers, the budget is {allowed}",
        )

"""Contract of the plug-and-play block on a model: the caller's prompt is returned, and nothing is left on the model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from vidcompress.adapters.base import adapter_for
from vidcompress.core.method import Method
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import UnsupportedInputError
from vidcompress.session.block import compress
from vidcompress.session.compress import compress_inputs
from vidcompress.testing.expect import placeholder_mask, require


def check_block(model: Any, inputs: Mapping[str, Any], method: str | Method = "uniform") -> None:
    """Check generate inside `compress`: at retention 1.0 its answer is as outside; it begins with the caller's prompt.

    Args:
        model: a model that an adapter serves, in eval mode.
        inputs: output of its processor.
        method: a name or a `Method` that serves them.

    Raises:
        ContractError: other answers, another prompt, or an attribute or hook that is left afterwards.
    """
    model = unwrap(model)
    adapter = adapter_for(model)
    placeholders = [token for token in (adapter.image_token_id, adapter.video_token_id) if token is not None]
    options = {"max_new_tokens": 4, "do_sample": False, "suppress_tokens": placeholders}
    # What only compression reads of pictures and clips, the stock model's generate refuses.
    known = inspect.signature(model.forward).parameters
    ours = {*adapter.image_keys, *adapter.video_keys} - set(known)
    plain = model.generate(**{key: value for key, value in inputs.items() if key not in ours}, **options)
    before = _traces(model)
    with compress(model, method, retention_ratio=1.0):
        whole = model.generate(**inputs, **options)
    with compress(model, method, retention_ratio=0.5) as session:
        half = model.generate(**inputs, **options)
    require(
        torch.equal(whole, plain),
        "inside the block at retention 1.0 generate gives another answer than outside",
    )
    length = inputs["input_ids"].shape[1]
    require(
        torch.equal(half[:, :length], inputs["input_ids"]), "generate does not give back the caller's prompt"
    )
    require(
        session.report is not None and session.report.kept > 0,
        "the block's report says that nothing was kept",
    )
    try:
        with compress(model, method, retention_ratio=0.5):
            raise KeyError
    except KeyError:
        pass
    require(_traces(model) == before, "the block has left an attribute or a hook on the model")


def check_refusals(model: Any, inputs: Mapping[str, Any]) -> None:
    """Check that pixels without their placeholders, and placeholders without their pixels, are refused.

    Args:
        model, inputs: as in `check_block`.

    Raises:
        ContractError: they are accepted.
    """
    model = unwrap(model)
    adapter = adapter_for(model)
    ids = inputs["input_ids"]
    pixels = {*adapter.image_keys, *adapter.video_keys}
    word = ids[~placeholder_mask(model, ids)][:1]
    cases = {
        "placeholders without pixels": {key: value for key, value in inputs.items() if key not in pixels},
        "pixels without placeholders": dict(inputs) | {"input_ids": word.expand_as(ids).clone()},
    }
    for what, wrong in cases.items():
        try:
            compress_inputs(model, wrong, "none")
        except UnsupportedInputError:
            continue
        require(False, f"{what} must raise UnsupportedInputError and did not")


def _traces(model: Any) -> tuple[list[str], list[int]]:
    """Return the attributes of a model, and the number of hooks of each of its modules."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    counts = [sum(len(getattr(module, name)) for name in hooks) for module in model.modules()]
    return sorted(vars(model)), counts

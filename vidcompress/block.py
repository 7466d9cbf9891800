"""The plug-and-play block: inside it, a model's own `generate` and `forward` see compressed inputs.

Nothing is patched on a class. One attribute, `generate`, is put on the instance and one forward pre-hook is
registered; both are gone on exit, also after an exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from weakref import WeakSet

from .block_session import CompressSession
from .budget import Policy, Separators
from .errors import CompressionStateError
from .methods.base import Method, Positions
from .registry import adapter_for
from .saving import Saving
from .settings import make_settings

__all__ = ["CompressSession", "compress"]

_active: WeakSet[Any] = WeakSet()


@contextmanager
def compress(
    model: Any,
    method: str | Method = "globalcom2",
    *,
    retention_ratio: float | str | Fraction | None = None,
    max_tokens: int | None = None,
    separators: Separators | None = None,
    positions: Positions | None = None,
    policy: Policy = "exact",
    max_views: int = 16,
    encoder_saving: str | Saving = "off",
    **options: Any,
) -> Iterator[CompressSession]:
    """Compress every image and video that `model` is given inside the block.

    `model.generate(**inputs)` returns sequences that begin with the caller's own prompt ids, and `max_length`
    counts that prompt. A direct `model(**inputs)` returns logits of the shortened sequence; `labels` are
    shortened alike. Custom logits processors and stopping criteria see the shortened prompt.

    Args:
        model: a stock transformers model of a supported family.
        method, retention_ratio, max_tokens, separators, positions, policy, max_views, encoder_saving,
            options: as in `compress_inputs`.

    Yields:
        A session whose `.report` describes the latest call.

    Raises:
        CompressionStateError: the model is inside another `compress` block already.
        Otherwise as `compress_inputs`, at entry for the arguments and at each call for the inputs.
    """
    settings = make_settings(
        method,
        retention_ratio=retention_ratio,
        max_tokens=max_tokens,
        separators=separators,
        positions=positions,
        policy=policy,
        max_views=max_views,
        encoder_saving=encoder_saving,
        **options,
    )
    adapter_for(model)  # else anything might be asked whether it is active
    if model in _active:
        raise CompressionStateError(
            f"{type(model).__name__} is inside a compress block already; leave it before opening another"
        )
    session = CompressSession(model, settings)
    theirs = vars(model).get("generate")
    _active.add(model)
    handle = model.register_forward_pre_hook(session.before_forward, with_kwargs=True)
    model.generate = session.generate
    try:
        with session.hooks():
            yield session
    finally:
        _active.discard(model)
        handle.remove()
        if vars(model).get("generate") == session.generate:  # not one that the caller put there meanwhile
            del model.generate
            if theirs is not None:
                model.generate = theirs
        session.close()

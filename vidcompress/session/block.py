"""Plug-and-play block: inside it, a model's own `generate` and `forward` see compressed inputs.

Nothing is patched on a class. One attribute, `generate`, is put on the instance and one forward pre-hook is
registered; both are gone on exit, also after an exception. Methods inside the language model put hooks on its layers
too, and masses on their attentions, which stay until calls that other threads began inside the block have ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from vidcompress.adapters.base import adapter_for
from vidcompress.core.budget import Policy, Ratio, Separators
from vidcompress.core.config import (
    DEFAULT_METHOD,
    NO_SAVING,
    CompressionConfig,
    EncoderSaving,
    read_config,
)
from vidcompress.core.method import Mass, Method, Positions
from vidcompress.core.prompt import ViewText
from vidcompress.core.wrappers import Model
from vidcompress.errors import CompressionStateError
from vidcompress.session.generate_wrapper import CompressSession

__all__ = ["CompressSession", "compress"]

_active: WeakKeyDictionary[Any, CompressSession] = WeakKeyDictionary()
"""Sessions of models that are inside a block, or whose layers still have hooks of one."""


@contextmanager
def compress(
    model: Model,
    method: str | Method = DEFAULT_METHOD,
    *,
    config: CompressionConfig | None = None,
    retention_ratio: Ratio | None = None,
    max_tokens: int | None = None,
    separators: Separators | None = None,
    positions: Positions | None = None,
    policy: Policy = CompressionConfig.policy,
    max_views: int = CompressionConfig.max_views,
    max_patches: int = CompressionConfig.max_patches,
    encoder_saving: EncoderSaving = NO_SAVING,
    view_text: ViewText = CompressionConfig.view_text,
    hold: float | None = None,
    mass: Mass | None = None,
    mass_strength: float = CompressionConfig.mass_strength,
    mass_cap: float | None = None,
    **options: object,
) -> Iterator[CompressSession]:
    """Compress every image and video that `model` is given inside the block.

    `model.generate(**inputs)` returns sequences that begin with the caller's own prompt ids, and `max_length`
    counts that prompt. A direct `model(**inputs)` returns logits of the shortened sequence; `labels` are
    shortened too, and `logits_to_keep` names columns of the caller's prompt. Custom logits processors, stopping
    criteria and `prefix_allowed_tokens_fn` see the shortened prompt.

    With mass="on" the masses belong to the cache: a later turn over it inside the block has them, and one outside any
    block is answered without them, which nothing can notice.

    A call that another thread began inside the block finishes as it began, also when the block is left meanwhile; a
    `generate` that was taken from inside and is called later is refused.

    Args:
        model: a stock transformers model of a supported family, or a wrapper of `torch.compile`, PEFT, accelerate or
            DistributedDataParallel around one; calls of the wrapper and of the model in it are both compressed.
        method, config, retention_ratio, max_tokens, separators, positions, policy: as in `compress_inputs`.
        max_views, max_patches, encoder_saving, view_text, hold, mass, mass_strength, mass_cap, options: as there.

    Yields:
        A session whose `.report` describes the latest call.

    Raises:
        CompressionStateError: the model is inside another `compress` block already, or in a call that began in one.
        VidcompressError: as `compress_inputs`, at entry for the arguments and at each call for the inputs.
    """
    arguments = {
        "method": method,
        "retention_ratio": retention_ratio,
        "max_tokens": max_tokens,
        "separators": separators,
        "positions": positions,
        "policy": policy,
        "max_views": max_views,
        "max_patches": max_patches,
        "encoder_saving": encoder_saving,
        "view_text": view_text,
        "hold": hold,
        "mass": mass,
        "mass_strength": mass_strength,
        "mass_cap": mass_cap,
    }
    settings = read_config({**arguments, **options}, config=config)
    inner = adapter_for(model).model  # out of its wrappers
    _check_free(inner)
    session = CompressSession(inner, settings)
    theirs = vars(inner).get("generate")
    _active[inner] = session
    handle = inner.register_forward_pre_hook(session.before_forward, with_kwargs=True)
    inner.generate = session.generate
    try:
        session.attach()
        yield session
    finally:
        handle.remove()
        if vars(inner).get("generate") == session.generate:  # not one that the caller put there meanwhile
            del inner.generate
            if theirs is not None:
                inner.generate = theirs
        if session.leave():
            _active.pop(inner, None)


def _check_free(model: Any) -> None:
    """Refuse a second block on a model.

    Raises:
        CompressionStateError: the model is in a block, or hooks of one are still on its layers.
    """
    session = _active.get(model)
    if session is None or session.over():
        return
    if session.left:
        raise CompressionStateError(
            f"a call that began in an earlier compress block of this {type(model).__name__} still runs in another "
            "thread; wait for it (thread.join()) before opening another block"
        )
    raise CompressionStateError(
        f"{type(model).__name__} is inside a compress block already; leave it before opening another"
    )

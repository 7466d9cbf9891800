"""The plug-and-play block: inside it, a model's own `generate` and `forward` see compressed inputs.

Nothing is patched on a class. One attribute, `generate`, is put on the instance and one forward pre-hook is
registered; both are gone on exit, also after an exception.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from weakref import WeakSet

import torch
import transformers
from torch import Tensor

from .budget import Policy, Separators
from .errors import CompressionStateError, UnsupportedInputError
from .generation import (
    CHUNKED_PREFILL_SINCE,
    PromptStreamer,
    is_filled,
    option,
    shorten_limits,
    transformers_version,
    with_prompt,
)
from .inputs import CompressedInputs, EncodedVisuals
from .methods.base import Method, Positions
from .registry import adapter_for
from .report import Report
from .session import compress_with
from .settings import Settings, make_settings

_active: WeakSet[Any] = WeakSet()


class CompressSession:
    """Handle of an open `compress` block.

    Attributes:
        settings: what the block compresses with.
        report: of the latest call that had images or videos; None before the first.
    """

    def __init__(self, model: Any, settings: Settings) -> None:
        self.settings = settings
        self.report: Report | None = None
        self._adapter = adapter_for(model)
        self._model = model
        self._generate = model.generate
        self._forward_parameters = list(inspect.signature(model.forward).parameters)
        self._inside = threading.local()

    def __deepcopy__(self, memo: Any) -> CompressSession:
        raise CompressionStateError(
            f"{type(self._model).__name__} is inside a compress block and cannot be copied there; leave the block first"
        )

    def close(self) -> None:
        """Let go of the model; the report stays."""
        self._model = self._generate = self._adapter = None

    def _compress(self, inputs: Mapping[str, Any], *, for_generate: bool) -> CompressedInputs:
        compressed = compress_with(self._adapter, inputs, self.settings, for_generate=for_generate)
        self.report = compressed.report
        return compressed

    def _has_pixels(self, kwargs: Mapping[str, Any]) -> bool:
        keys = (*self._adapter.image_keys[:1], *self._adapter.video_keys[:1])
        return any(kwargs.get(key) is not None for key in keys)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own generate, noted so that the forward hook knows who is calling."""
        self._inside.depth = getattr(self._inside, "depth", 0) + 1
        try:
            return self._generate(*args, **kwargs)
        finally:
            self._inside.depth -= 1

    def generate(
        self, inputs: Tensor | None = None, generation_config: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Stand in for `model.generate`: compress, generate, and give back the caller's own prompt ids.

        Raises:
            UnsupportedInputError: a filled cache, no cache under original positions, a `max_length` within the
                prompt, chunked prefill on a version of transformers that gets it wrong.
        """
        if is_filled(kwargs.get("past_key_values")):
            raise UnsupportedInputError(
                "past_key_values cannot be continued inside a compress block: what a cache of this block holds does "
                "not line up with the uncompressed prompt; pass the whole prompt with an empty cache or none"
            )
        if inputs is not None:
            kwargs["input_ids"] = inputs
        if not self._has_pixels(kwargs):
            return self._call(None, generation_config, *args, **kwargs)
        self._check_options(generation_config, kwargs)
        own = ("streamer", "use_cache", "past_key_values")
        with torch.no_grad():
            compressed = self._compress({k: v for k, v in kwargs.items() if k not in own}, for_generate=True)
        prompt: Tensor = kwargs["input_ids"]
        call = {**compressed, **{k: kwargs[k] for k in own if kwargs.get(k) is not None}}
        generation_config = shorten_limits(
            call, generation_config, self._model, prompt.shape[1], compressed["input_ids"].shape[1]
        )
        if call.get("streamer") is not None:
            call["streamer"] = PromptStreamer(call["streamer"], prompt)
        output = self._call(None, generation_config, *args, **call)
        return with_prompt(output, prompt, compressed["input_ids"].shape[1])

    def _check_options(self, generation_config: Any, kwargs: Mapping[str, Any]) -> None:
        cache = option("use_cache", generation_config, kwargs, self._model)
        if self.settings.positions == "original" and cache is False:
            raise UnsupportedInputError(
                "use_cache=False cannot go with positions='original': without a cache transformers reads the gaps as "
                "packed sequences; use positions='contiguous' or keep the cache"
            )
        chunk = option("prefill_chunk_size", generation_config, kwargs, self._model)
        if chunk is not None and transformers_version() < CHUNKED_PREFILL_SINCE:
            raise UnsupportedInputError(
                f"prefill_chunk_size={chunk} goes wrong with encoded images before transformers "
                f"{'.'.join(map(str, CHUNKED_PREFILL_SINCE))} (this is {transformers.__version__}); leave it out"
            )

    def before_forward(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook: compress the inputs of a direct `model(**inputs)`.

        Raises:
            UnsupportedInputError: a filled cache together with pixels.
            CompressionStateError: encoder outputs that did not come through the block, as from a `generate` that
                was bound before it.
        """
        if getattr(self._inside, "depth", 0):
            return None
        if args:
            kwargs = {**dict(zip(self._forward_parameters, args, strict=False)), **kwargs}
        if not self._has_pixels(kwargs):
            encoded = (kwargs.get("mm_encoder_outputs") or {}).values()
            if any(value is not None and not isinstance(value, EncodedVisuals) for value in encoded):
                raise CompressionStateError(
                    "this call inside a compress block brings images or videos that were encoded past it; call "
                    "model.generate or model(...) on the model itself, not a generate that was bound before the block"
                )
            return None
        if is_filled(kwargs.get("past_key_values")):
            raise UnsupportedInputError(
                "past_key_values together with pixels cannot be compressed; encode the pixels in the first call only"
            )
        return (), dict(self._compress(kwargs, for_generate=False))


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
    **options: Any,
) -> Iterator[CompressSession]:
    """Compress every image and video that `model` is given inside the block.

    `model.generate(**inputs)` returns sequences that begin with the caller's own prompt ids, and `max_length`
    counts that prompt. A direct `model(**inputs)` returns logits of the shortened sequence; `labels` are
    shortened alike. Custom logits processors and stopping criteria see the shortened prompt.

    Args:
        model: a stock transformers model of a supported family.
        method, retention_ratio, max_tokens, separators, positions, policy, max_views, options: as in
            `compress_inputs`.

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
        yield session
    finally:
        _active.discard(model)
        handle.remove()
        if vars(model).get("generate") == session.generate:  # not one that the caller put there meanwhile
            del model.generate
            if theirs is not None:
                model.generate = theirs
        session.close()

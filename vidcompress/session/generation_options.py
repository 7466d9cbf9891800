"""Options of `generate` that count the prompt, for a prompt that is shorter than the caller's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor

from vidcompress.errors import UnsupportedInputError

CHUNKED_PREFILL_SINCE = (5, 23)  # earlier versions hand the encoder outputs to every chunk, silently


def transformers_version() -> tuple[int, ...]:
    """Return (major, minor) of the transformers in use."""
    return tuple(int(part) for part in transformers.__version__.split(".")[:2])


def option(name: str, config: Any, kwargs: Mapping[str, Any], model: Any) -> Any:
    """Return a generation option as generate would resolve it: keyword, given config, model's config."""
    if kwargs.get(name) is not None:
        return kwargs[name]
    value = getattr(config, name, None)
    return value if value is not None else getattr(getattr(model, "generation_config", None), name, None)


def is_filled(cache: Any) -> bool:
    """Whether a cache holds anything; an object that is not a cache counts as filled."""
    if cache is None:
        return False
    length = getattr(cache, "get_seq_length", None)
    return length is None or length() > 0


def cache_rows(cache: Any) -> int:
    """Number of rows of a filled cache: prompts, or beams of them; layers that keep a state have no keys."""
    return int(next(layer for layer in cache.layers if hasattr(layer, "keys")).keys.shape[0])


def shorten_limits(call: dict[str, Any], config: Any, model: Any, full: int, short: int) -> Any:
    """Adapt `max_length` and `min_length`, which count the prompt, from the caller's prompt to the compressed one.

    Args:
        call: keyword arguments for generate; changed.
        config: the generation config given, or None; not changed.
        model: for its own generation config.
        full: length of the caller's prompt, columns.
        short: length of the compressed prompt, columns.

    Returns:
        The generation config to use.

    Raises:
        UnsupportedInputError: `max_length` leaves no room after the caller's prompt.
    """
    for name, newer in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
        limit = call.get(name)
        if limit is None and option(newer, config, call, model) is None:
            limit = _explicit(name, config) or _explicit(name, getattr(model, "generation_config", None))
        if limit is None:
            continue
        if name == "max_length" and limit <= full:
            raise UnsupportedInputError(
                f"max_length={limit} leaves no room after the prompt of {full} tokens; raise it or use max_new_tokens"
            )
        value = max(limit - full + short, 0)
        if name not in call and config is not None:
            config = copy.deepcopy(config)
            setattr(config, name, value)
        else:
            call[name] = value
    return config


def _explicit(name: str, config: Any) -> int | None:
    """Limit that the caller or the model's config sets; transformers adds the prompt to a default one by itself."""
    value = getattr(config, name, None)
    if not isinstance(value, int) or value == getattr(transformers.GenerationConfig(), name):
        return None
    return value or None


def with_prompt(output: Any, prompt: Tensor, length: int) -> Any:
    """Replace the shortened prompt at the head of the generated sequences by the caller's own."""
    sequences: Tensor = output if isinstance(output, Tensor) else output.sequences
    copies = sequences.shape[0] // prompt.shape[0]
    head = prompt.to(sequences.device).repeat_interleave(copies, dim=0)
    whole = torch.cat((head, sequences[:, length:]), dim=1)
    if isinstance(output, Tensor):
        return whole
    output.sequences = whole
    return output


class PromptStreamer:
    """Streamer that passes on the caller's prompt instead of the shortened one, then every token."""

    def __init__(self, streamer: Any, prompt: Tensor) -> None:
        self._streamer, self._prompt = streamer, prompt
        self._started = False

    def put(self, value: Any) -> None:
        """Pass a value on; the first one is the prompt."""
        if not self._started:
            self._started, value = True, self._prompt.cpu()
        self._streamer.put(value)

    def end(self) -> None:
        """Pass the end on."""
        self._streamer.end()

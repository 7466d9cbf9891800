"""Names of the key-value cache: transformers calls it `cache` since 5.24, and `past_key_values` before.

Callers may use either name, on every version; what is passed on has the name of the installed version.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vidcompress.errors import UnsupportedInputError

CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""Every name that some version of transformers takes for a cache, the newest first."""


@lru_cache(maxsize=1)
def cache_name() -> str:
    """Name of the cache in the installed transformers, read from the signature that generate prepares inputs by."""
    from transformers.generation import GenerationMixin

    parameters = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    return next(name for name in CACHE_NAMES if name in parameters)


def given_cache(arguments: Mapping[str, Any]) -> Any:
    """Cache among keyword arguments, under whatever name; None without one.

    Raises:
        UnsupportedInputError: two names have a value.
    """
    given = [name for name in CACHE_NAMES if arguments.get(name) is not None]
    if len(given) > 1:
        raise UnsupportedInputError(
            f"{' and '.join(given)} are two names of the key-value cache; pass one of them, {cache_name()}"
        )
    return arguments[given[0]] if given else None


def with_cache_name(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments in which a cache has the name of the installed transformers, and no other.

    Raises:
        UnsupportedInputError: two names have a value.
    """
    cache = given_cache(arguments)
    renamed = {name: value for name, value in arguments.items() if name not in CACHE_NAMES}
    return renamed if cache is None else {**renamed, cache_name(): cache}


def returned_cache(output: Any) -> Any:
    """Cache in what forward or generate returned, or in an output that was built by hand; None without one."""
    if isinstance(output, Mapping):  # by its items: asking an output of transformers for the old name warns
        return given_cache(dict(output.items()))
    return given_cache({name: getattr(output, name, None) for name in CACHE_NAMES})

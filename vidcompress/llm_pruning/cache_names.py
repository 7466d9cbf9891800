"""Names of the key-value cache: transformers calls it `cache` since 5.24, and `past_key_values` before.

Callers may use either name, on every version; transformers is called with the name of the installed version.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vidcompress.errors import UnsupportedInputError

CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""Names of the cache argument in all versions of transformers, the newest first."""


@lru_cache(maxsize=1)
def cache_name() -> str:
    """Return the name of the cache in the installed transformers, from the signature that prepares inputs."""
    from transformers.generation import GenerationMixin

    parameters = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
    return next(name for name in CACHE_NAMES if name in parameters)


def given_cache(arguments: Mapping[str, Any]) -> Any:
    """Return the cache among keyword arguments, under any of its names; None without one.

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
    """Return keyword arguments in which the cache has the name of the installed transformers, and no other.

    Raises:
        UnsupportedInputError: two names have a value.
    """
    cache = given_cache(arguments)
    renamed = {name: value for name, value in arguments.items() if name not in CACHE_NAMES}
    return renamed if cache is None else {**renamed, cache_name(): cache}


def returned_cache(output: Any) -> Any:
    """Return the cache in an output of forward or generate, or in one that was built by hand; None without one."""
    if isinstance(output, Mapping):  # by its items: the old name as an attribute of an output warns
        return given_cache(dict(output.items()))
    return given_cache({name: getattr(output, name, None) for name in CACHE_NAMES})

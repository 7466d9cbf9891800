"""Keyword arguments to a configuration: the one place where those of the public functions are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidcompress.core.config.compression import DEFAULTS, FIELDS, CompressionConfig, read_method
from vidcompress.core.method_lookup import option_names
from vidcompress.core.method_spec import parse_method_spec
from vidcompress.errors import ArgumentError, shown

DEFAULT_RATIO = 0.25
"""Share of the visual tokens that a `VisualQA` keeps where no budget is given."""


def read_config(
    arguments: Mapping[str, Any],
    *,
    config: CompressionConfig | None = None,
    default_ratio: float | None = None,
) -> CompressionConfig:
    """Read a configuration from keyword arguments, or take the one that was passed instead of them.

    Args:
        arguments: fields of `CompressionConfig` by name; any other name is an option of the method. What is missing has
            its default.
        config: a configuration. Arguments beside it must have the defaults of `CompressionConfig`.
        default_ratio: share to keep where neither a ratio nor a number of tokens is given; None refuses that.

    Raises:
        ArgumentError: `config` is none, or stands beside another argument. Otherwise as `CompressionConfig`.
    """
    if config is not None:
        return _alone(config, arguments)
    fields = {name: value for name, value in arguments.items() if name in FIELDS}
    options = {name: value for name, value in arguments.items() if name not in FIELDS}
    method, stated = read_method(fields.get("method", DEFAULTS["method"]), options)
    no_budget = all(fields.get(name) is None for name in ("retention_ratio", "max_tokens"))
    if default_ratio is not None and no_budget and method.name != "none":
        fields["retention_ratio"] = default_ratio
    return CompressionConfig(**{**fields, **stated, "method": method})


def takes_seed(config: CompressionConfig, text: str) -> bool:
    """Whether `seed` is an option of the method that its text, as in "random:seed=3", leaves open."""
    return "seed" in option_names(type(config.method)) and "seed" not in parse_method_spec(text)[1]


def _alone(config: Any, arguments: Mapping[str, Any]) -> CompressionConfig:
    if not isinstance(config, CompressionConfig):
        raise ArgumentError(
            f"config={shown(config)}: must be a vidcompress.CompressionConfig, such as "
            "CompressionConfig('globalcom2', retention_ratio=0.25)"
        )
    for name, value in arguments.items():
        default = DEFAULTS.get(name)
        if name not in FIELDS or type(value) is not type(default) or value != default:
            raise ArgumentError(
                f"{name}={shown(value)} cannot go with config=, which states it already; pass "
                f"config=config.replace({name}=...)"
            )
    return config

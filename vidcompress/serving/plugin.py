"""Plugin of vLLM: registers the models that compress, under names of their own, so that it is off unless one is named.

A name is that of the stock architecture with `Vidcompress` before it; `hf_overrides` chooses it and has the settings.
"""

from __future__ import annotations

import logging
from typing import Any

from vidcompress.errors import UnsupportedModelError, shown
from vidcompress.loading.distribution import how_to_install
from vidcompress.serving.settings import KEY, SERVED, read_settings

logger = logging.getLogger(__name__)

TESTED = ("0.32.0",)
"""Versions of vLLM that the tests of `tests/serving` passed with."""
PREFIX = "Vidcompress"


def untested(version: str) -> str | None:
    """Return a line that refuses a version of vLLM; None for one that was tested.

    Args:
        version: of the installed vLLM.
    """
    release = version.partition("+")[0]
    if release in TESTED:
        return None
    return (
        f"vLLM {version} was not tested with this vidcompress, whose models lean on its internals; install "
        f"vllm=={TESTED[-1]}, or a vidcompress that knows this version"
    )


def register() -> None:
    """Register the models with vLLM, by name only; vLLM calls this in each of its processes.

    With a version that was not tested nothing is registered, and one warning says so; stock models run as before.
    """
    import vllm
    from vllm import ModelRegistry

    refused = untested(vllm.__version__)
    if refused is not None:
        logger.warning("vidcompress registers no models: %s", refused)
        return
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP

    present = set(ModelRegistry.get_supported_archs())
    for stock, served in SERVED.items():
        name = PREFIX + stock
        if name not in present:
            ModelRegistry.register_model(name, f"vidcompress.serving.engine.{served.model_type}:{name}")
        if (
            stock in MODELS_CONFIG_MAP
        ):  # what vLLM settles by the name of an architecture, such as caches of hybrids
            MODELS_CONFIG_MAP.setdefault(name, MODELS_CONFIG_MAP[stock])


def hf_overrides(architecture: str, **settings: Any) -> dict[str, Any]:
    """Return what turns compression on: `LLM(model, hf_overrides=hf_overrides(architecture, retention_ratio=0.25))`.

    Args:
        architecture: that the model's config.json names, such as "LlavaOnevisionForConditionalGeneration".
        **settings: method, retention_ratio or max_tokens, separators and options of the method, as for `compress`.

    Raises:
        UnsupportedModelError: no model here subclasses that architecture.
        ArgumentError, BudgetError: settings that no engine serves.
    """
    stock = architecture.removeprefix(PREFIX) if isinstance(architecture, str) else ""
    if stock not in SERVED:
        raise UnsupportedModelError(
            f"architecture={shown(architecture)}: vLLM is served with {', '.join(SERVED)}; use one of these, or answer "
            "with transformers"
        )
    read_settings(settings, SERVED[stock])
    return {"architectures": [PREFIX + stock], KEY: dict(settings)}


def check_engine() -> None:
    """Refuse a missing vLLM, or one that was not tested.

    Raises:
        UnsupportedModelError: with what to install.
    """
    try:
        import vllm
    except ImportError:
        raise UnsupportedModelError(f"serving needs vLLM {TESTED[-1]}: {how_to_install('vllm')}") from None
    refused = untested(vllm.__version__)
    if refused is not None:
        raise UnsupportedModelError(refused)

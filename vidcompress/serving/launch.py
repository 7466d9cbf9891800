"""Command line of vLLM's own server with the plugin on, bounded and on this machine unless asked otherwise."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from vidcompress.checks import one_of, whole_number, word
from vidcompress.core.config import CompressionConfig
from vidcompress.errors import ArgumentError, UnsupportedModelError, shown
from vidcompress.loading.checkpoint import read_json
from vidcompress.loading.distribution import how_to_install
from vidcompress.loading.load import resolve
from vidcompress.serving.plugin import hf_overrides
from vidcompress.serving.settings import ONLY_BUDGETS, SERVED

MODULE = "vllm.entrypoints.openai.api_server"
NOWHERE = "nowhere.invalid"
"""Domain that media may be fetched from where none is allowed: vLLM takes an empty list for all."""
MAX_MODEL_LEN = 8192
MAX_PIXELS = 50_000_000
MAX_DOWNLOAD_MB = 64
DTYPES = ("auto", "float32", "float16", "bfloat16")
_OURS = ("--model", "--hf-overrides", "--host", "--port")


@dataclass(frozen=True)
class ServerOptions:
    """Options of a server; the rest are vLLM's own, behind `--`.

    Attributes:
        host: address to bind to.
        port: to bind to.
        max_model_len: longest prompt and answer together, in tokens; None for 8192, or what the model was made
            for, or half of that where positions have axes.
        max_images, max_clips: most pictures and clips of one request.
        request_budgets: whether a request may state a budget of its own.
        media_domains: hosts that media may be fetched from; none by default, so that requests carry their media.
        tensor_parallel: ranks that the model is split over.
        data_parallel: copies of the model.
        pipeline_parallel: stages that the layers are split over.
        dtype: of the weights; None for vLLM's choice.

    Raises:
        ArgumentError: a value out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_model_len: int | None = None
    max_images: int = 8
    max_clips: int = 1
    request_budgets: bool = True
    media_domains: tuple[str, ...] = ()
    tensor_parallel: int = 1
    data_parallel: int = 1
    pipeline_parallel: int = 1
    dtype: str | None = None

    def __post_init__(self) -> None:
        word("host", self.host, "127.0.0.1")
        whole_number("port", self.port, least=1, most=65_535)
        if self.max_model_len is not None:
            whole_number("max_model_len", self.max_model_len)
        for name in ("tensor_parallel", "data_parallel", "pipeline_parallel"):
            whole_number(name, getattr(self, name))
        for name in ("max_images", "max_clips"):
            whole_number(name, getattr(self, name), least=0)
        for domain in self.media_domains:
            if not isinstance(domain, str) or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", domain):
                raise ArgumentError(
                    f"media_domains has {shown(domain)}: must be the name of a host alone, such as images.example.org"
                )
        if self.dtype is not None:
            one_of("dtype", self.dtype, DTYPES)


def read_config_file(model: str) -> tuple[str, int]:
    """Return the architecture that a checkpoint's config.json names, and the longest prompt that it was made for.

    Args:
        model: a folder or a hub id.

    Raises:
        UnsupportedModelError: it names none.
    """
    config = read_json(model, "config.json", {}) or {}
    text = config.get("text_config")
    longest = (
        text.get("max_position_embeddings")
        if isinstance(text, dict)
        else config.get("max_position_embeddings")
    )
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise UnsupportedModelError(
            f"model={shown(model)}: config.json has architectures={shown(names)}; expected a list with a name, as of "
            "checkpoints that transformers saved"
        )
    return names[0], longest if isinstance(longest, int) else MAX_MODEL_LEN


def server_command(
    model: str | None, config: CompressionConfig, options: ServerOptions, further: Sequence[str] = ()
) -> list[str]:
    """Return the command that starts the server.

    Args:
        model: an embedded model, a folder or a hub id; None for the default one.
        config: how to compress.
        options: of the server.
        further: arguments of vLLM, passed on as they are.

    Raises:
        ArgumentError: a further argument that this command sets, or settings that no engine serves.
        UnsupportedModelError: a model that is not served.
    """
    if further and not further[0].startswith("-"):
        raise ArgumentError(
            f"{shown(further[0])} is no argument; the model comes first, and vLLM's arguments behind --"
        )
    for argument in further:
        name = argument.partition("=")[0]
        if name in _OURS:
            raise ArgumentError(
                f"{name} behind -- is set by this command; use its own options (--host, --port, the model, the method)"
            )
    source = resolve(model)
    architecture, longest = read_config_file(source)
    strict = {ONLY_BUDGETS: True} if options.request_budgets else {}
    overrides = hf_overrides(architecture, **plain_settings(config), **strict)
    if options.pipeline_parallel > 1 and SERVED[architecture].axes > 1:
        raise ArgumentError(
            f"pipeline_parallel={options.pipeline_parallel} cannot go with {architecture}, whose positions have "
            "axes that later stages do not get; use tensor_parallel"
        )
    if SERVED[architecture].axes > 1:
        longest //= 2  # positions may run ahead of the tokens sent
    length = min(MAX_MODEL_LEN, longest) if options.max_model_len is None else options.max_model_len
    limits = {"image": options.max_images, "video": options.max_clips}
    command = [
        sys.executable,
        "-m",
        MODULE,
        "--model",
        source,
        "--host",
        options.host,
        "--port",
        str(options.port),
    ]
    command += ["--hf-overrides", json.dumps(overrides), "--max-model-len", str(length)]
    command += ["--limit-mm-per-prompt", json.dumps(limits)]
    command += ["--allowed-media-domains", *(options.media_domains or (NOWHERE,))]
    # vLLM drops every argument of a request's processor without this; the plugin takes budgets alone.
    command += ["--trust-request-mm-kwargs"] if options.request_budgets else []
    for name, value in (
        ("--tensor-parallel-size", options.tensor_parallel),
        ("--data-parallel-size", options.data_parallel),
        ("--pipeline-parallel-size", options.pipeline_parallel),
    ):
        command += [name, str(value)] if value != 1 else []
    command += [] if options.dtype is None else ["--dtype", options.dtype]
    return [*command, *further]


def plain_settings(config: CompressionConfig) -> dict[str, Any]:
    """Return a configuration as keyword arguments of `hf_overrides`, in types of JSON, defaults left out."""
    values, plain = config.to_dict(), CompressionConfig("none").to_dict()
    if config.retention_ratio is not None:
        values["retention_ratio"] = float(config.retention_ratio)
    kept = {
        name: value
        for name, value in values.items()
        if name not in ("version", "method", "options")
        and value is not None
        and (value != plain[name] or name == "retention_ratio")
    }
    return {"method": values["method"], **values["options"], **kept}


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server: uploads bounded, no redirects, nothing reported home, where not stated.

    Args:
        environment: of this process.

    Raises:
        UnsupportedModelError: vLLM would not load the plugin.
    """
    names = [point.name for point in entry_points(group="vllm.general_plugins")]
    if "vidcompress" not in names:
        raise UnsupportedModelError(
            f"vLLM finds no plugin of vidcompress; install the package: {how_to_install('vllm')}"
        )
    allowed = environment.get("VLLM_PLUGINS")
    if allowed is not None and "vidcompress" not in allowed.split(","):
        raise UnsupportedModelError(
            f"VLLM_PLUGINS={allowed!r} leaves vidcompress out; add it, or unset the variable"
        )
    bounds = {
        "VLLM_MAX_IMAGE_PIXELS": str(MAX_PIXELS),
        "VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB": str(MAX_DOWNLOAD_MB),
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return {**bounds, **environment}


def run_server(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Become the server; this call does not return."""
    os.execve(command[0], list(command), dict(environment))

"""Loading of a model: embedded ones by name, any other as in transformers; never with code from a checkpoint."""

from __future__ import annotations

import logging
import os
import re
import time
from typing import Any, Literal, TypeAlias

import torch

from vidcompress import checks
from vidcompress.adapters.base import ADAPTERS
from vidcompress.adapters.generic.interface import serves
from vidcompress.checks import check_source
from vidcompress.core.devices import check_device_map
from vidcompress.errors import ArgumentError, UnsupportedModelError, nearest, one_line, shown
from vidcompress.loading.arguments import check_special_ids
from vidcompress.loading.attention import check_attention
from vidcompress.loading.checkpoint import check_loaded, has_pooling_head, read_json, tensor_names
from vidcompress.loading.quantization import check_quantization, make_quantization_config
from vidcompress.loading.resources import embedded_models
from vidcompress.loading.size_check import check_size

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "tiny-onevision"
DType: TypeAlias = torch.dtype | Literal["float32", "float16", "bfloat16", "auto"] | str
DTYPES = ("float32", "float16", "bfloat16", "auto")


def resolve(name_or_path: str | os.PathLike[str] | None) -> str:
    """Return the argument of `from_pretrained` for the caller's name or folder.

    Args:
        name_or_path: None for the embedded `tiny-onevision`, the name of an embedded model, a folder, or a hub id.
            A folder of that name in the current directory comes before an embedded model.

    Raises:
        ArgumentError: not a folder, an embedded model or a hub id.
    """
    if name_or_path is not None and not isinstance(name_or_path, (str, os.PathLike)):
        raise ArgumentError(
            f"name_or_path={shown(name_or_path)}: must be the name of an embedded model, a folder or a hub id"
        )
    name = DEFAULT_MODEL if name_or_path is None else os.fsdecode(name_or_path)
    if name_or_path is not None and os.path.isdir(name):
        return name
    embedded = embedded_models()
    if name in embedded:
        return str(embedded[name])
    looks_like_hub_id = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name, re.ASCII) is not None
    if not looks_like_hub_id:
        raise ArgumentError(
            f"model={name!r} is neither a folder nor an embedded model ({nearest(name, embedded)}); "
            f"pass one of these, the folder of a saved model, or a hub id such as 'owner/name'"
        )
    return name


def load_model(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    attn_implementation: Any = None,
    device_map: Any = None,
    quantization: str | None = None,
    quantization_config: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Any:
    """Load a vision-language model from safetensors with all of its tensors.

    Args:
        name_or_path: see `resolve`.
        device: of the model; None is "cuda" where available, else "cpu". Not together with `device_map`.
        dtype: torch dtype or its name, or "auto" for the checkpoint's own. None is float32 on the CPU and "auto"
            elsewhere, also with `device_map`.
        attn_implementation: "sdpa", "eager", "flash_attention_2", ... as in transformers; None lets it choose.
        device_map: as in transformers, to spread a model over devices.
        quantization: "4bit" or "8bit" quantises the decoder while loading, with bitsandbytes.
        quantization_config: a quantization config of transformers, instead of `quantization`.
        revision: of the hub repository.
        local_files_only: do not access the hub.

    Returns:
        The stock transformers model, in eval mode.

    Raises:
        ArgumentError: an argument is not allowed, the checkpoint cannot be found or read, or its tensors are not
            exactly those of the model.
        UnsupportedModelError: no adapter serves this family.
    """
    source, target, chosen = check_loading(
        name_or_path,
        device=device,
        dtype=dtype,
        attn_implementation=attn_implementation,
        device_map=device_map,
        quantization=quantization,
        quantization_config=quantization_config,
        revision=revision,
        local_files_only=local_files_only,
    )
    began = time.perf_counter()
    where: dict[str, Any] = {"revision": revision or "main", "local_files_only": local_files_only}
    config, key_mapping = _config(source, where)
    quantized = make_quantization_config(
        quantization,
        quantization_config,
        full_precision=ADAPTERS.get(config.model_type, otherwise=True).full_precision,
        dtype=chosen,
    )
    if not _is_quantized(config):
        check_size(source, config, where)
    if target is not None and (quantized is not None or _is_quantized(config)):
        device_map, target = (
            {"": target},
            None,
        )  # quantised weights are placed while loading, and cannot be moved
    model, info = _load(
        source,
        "AutoModelForImageTextToText",
        config=config,
        dtype=chosen,
        attn_implementation=attn_implementation,
        device_map=device_map,
        quantization_config=quantized,
        use_safetensors=True,
        trust_remote_code=False,
        key_mapping=key_mapping,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # so that they are listed with the rest, and refused
        **where,
    )
    check_loaded(source, info)
    check_special_ids(source, model)
    if key_mapping is not None:
        # Otherwise save_pretrained would write the original names with a translated config.
        vars(model).pop("_weight_conversions", None)
    model = (model if target is None else model.to(target)).eval()
    if logger.isEnabledFor(logging.INFO):
        logger.info(
            "loaded %s: %s, %s on %s in %.1f s, adapter %s",
            source,
            type(model).__name__,
            str(model.dtype).removeprefix("torch."),
            device_map if target is None else target,
            time.perf_counter() - began,
            ADAPTERS.get(config.model_type, otherwise=True).__name__,
        )
    return model


def check_loading(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    attn_implementation: Any = None,
    device_map: Any = None,
    quantization: str | None = None,
    quantization_config: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> tuple[str, torch.device | None, str | torch.dtype]:
    """Check the arguments of `load_model` without reading a file of the checkpoint.

    Returns:
        The name for `from_pretrained`; the device, or None with `device_map`; the dtype.

    Raises:
        ArgumentError: an argument is not allowed.
    """
    check_source(revision, local_files_only)
    source = resolve(name_or_path)
    if device is not None and device_map is not None:
        raise ArgumentError(
            f"device={device!r} and device_map={device_map!r} exclude each other; pass one of them"
        )
    check_device_map(device_map)
    check_attention(attn_implementation)
    check_quantization(quantization, quantization_config)
    target = None if device_map is not None else _device(device)
    return source, target, _dtype(dtype, target)


def _config(source: str, where: dict[str, Any]) -> tuple[Any, dict[str, str] | None]:
    """Read the config of a checkpoint of any layout, and the pattern of its tensor names where these are original."""
    from vidcompress.adapters.llava_video.original_checkpoints import KEY_MAPPING, translated_config

    raw = read_json(source, "config.json", where)
    if raw is None:
        lack = (
            "it holds no config.json"
            if os.path.isdir(source)
            else "its config.json is not in the cache of the hub, and the hub has none or cannot be reached"
        )
        raise ArgumentError(
            f"model={source!r} does not load: {lack}; pass the folder or hub id of a transformers model with "
            "safetensors weights"
        )
    families = ADAPTERS.names()  # importing the adapters makes LLaVA-Video known to transformers
    config = original = translated_config(source, raw, **where)
    if original is None:
        kind = raw.get("model_type")
        if kind not in families and not serves(kind):
            code = "; code in a checkpoint is never run" if "auto_map" in raw else ""
            raise UnsupportedModelError(
                f"model={source!r} is of type {kind!r}, which no adapter serves; {ADAPTERS.unknown(str(kind))}{code}"
            )
        config = _load(source, "AutoConfig", trust_remote_code=False, **where)
    names = tensor_names(source, where)
    if getattr(config, "transformers_weights", None) is not None:
        config.transformers_weights = None  # it may name other weights than those just read
    vision: Any = getattr(config, "vision_config", None)
    if str(getattr(vision, "model_type", "")).startswith("siglip") and not has_pooling_head(names):
        vision.vision_use_head = False  # it is unused, and built with random weights by default
    return config, None if original is None else KEY_MAPPING


def _is_quantized(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


def _load(source: str, auto_class: str, **kwargs: Any) -> Any:
    import transformers

    try:
        return getattr(transformers, auto_class).from_pretrained(source, **kwargs)
    except Exception as error:
        raise ArgumentError(
            f"model={source!r} does not load: {one_line(error)}; pass the folder or hub id of a transformers model "
            f"with safetensors weights"
        ) from error


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return checks.device("device", device)


def one_dtype(dtype: Any, torch_dtype: Any) -> Any:
    """Return the dtype under either of its names, without further checks.

    Raises:
        ArgumentError: both names are given, with different values.
    """
    if torch_dtype is None:
        return dtype
    if dtype is not None and str(dtype).removeprefix("torch.") != str(torch_dtype).removeprefix("torch."):
        raise ArgumentError(
            f"torch_dtype={shown(torch_dtype)} and dtype={shown(dtype)} are two names of one argument; pass one of them"
        )
    return torch_dtype


def _dtype(dtype: str | torch.dtype | None, target: torch.device | None) -> str | torch.dtype:
    if dtype is None:
        return torch.float32 if target is not None and target.type == "cpu" else "auto"
    if isinstance(dtype, torch.dtype):
        if not dtype.is_floating_point:
            raise ArgumentError(
                f"dtype={dtype}: must be a floating-point torch dtype or one of {', '.join(DTYPES)}"
            )
        return dtype
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ArgumentError(f"dtype={shown(dtype)}: must be a torch dtype or one of {', '.join(DTYPES)}")
    return dtype if dtype == "auto" else getattr(torch, dtype)

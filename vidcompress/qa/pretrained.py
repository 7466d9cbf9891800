"""Loading a model: the embedded ones by name, any other as transformers does; never with code from a checkpoint."""

from __future__ import annotations

import os
import re
from typing import Any

import torch

from .. import checks
from ..checks import check_source
from ..errors import ArgumentError, UnsupportedModelError, nearest, one_line, shown
from ..registry import ADAPTERS
from ..resources import embedded_models
from .arguments import check_placement, check_special_ids

DEFAULT_MODEL = "tiny-onevision"
DTYPES = ("float32", "float16", "bfloat16", "auto")


def resolve(name_or_path: str | os.PathLike[str] | None) -> str:
    """Turn what the caller named into what `from_pretrained` takes.

    Args:
        name_or_path: None for the embedded `tiny-onevision`, the name of an embedded model, a folder, or a hub id.
            A folder of that name in the current directory comes before an embedded model.

    Raises:
        ArgumentError: neither a folder nor an embedded model, and no hub id either.
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
    attn_implementation: str | None = None,
    device_map: Any = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Any:
    """Load a vision-language model from safetensors, ready to answer.

    Args:
        name_or_path: see `resolve`.
        device: where the model goes; None is "cuda" where there is one, else "cpu". Not together with `device_map`.
        dtype: torch dtype or its name, or "auto" for the checkpoint's own. None is float32 on the CPU and "auto"
            elsewhere.
        attn_implementation: "sdpa", "eager", "flash_attention_2", ... as in transformers; None lets it choose.
        device_map: as in transformers, to spread a model over devices.
        revision: of the hub repository.
        local_files_only: do not ask the hub.

    Returns:
        The stock transformers model, in eval mode.

    Raises:
        ArgumentError: an argument is not allowed, or the checkpoint cannot be found or read.
        UnsupportedModelError: no adapter serves this family.
    """
    from ..adapters.original import KEY_MAPPING

    check_source(revision, local_files_only)
    check_placement(attn_implementation, device_map)
    source = resolve(name_or_path)
    if device is not None and device_map is not None:
        raise ArgumentError(
            f"device={device!r} and device_map={device_map!r} exclude each other; pass one of them"
        )
    target = None if device_map is not None else _device(device)
    where: dict[str, Any] = {"revision": revision or "main", "local_files_only": local_files_only}
    families = ADAPTERS.names()  # importing the adapters makes LLaVA-Video known to transformers
    original = _original_config(source, where)
    config = original or _load(source, "AutoConfig", trust_remote_code=False, **where)
    if config.model_type not in families:
        raise UnsupportedModelError(
            f"model={source!r} is of type {config.model_type!r}, which no adapter serves; "
            f"{nearest(config.model_type, families)}"
        )
    model = _load(
        source,
        "AutoModelForImageTextToText",
        config=config,
        dtype=_dtype(dtype, target),
        attn_implementation=attn_implementation,
        device_map=device_map,
        use_safetensors=True,
        trust_remote_code=False,
        **({} if original is None else {"key_mapping": KEY_MAPPING, **_REPORTED}),
        **where,
    )
    if original is not None:
        model = _checked(source, *model)
    check_special_ids(source, model)
    return (model if target is None else model.to(target)).eval()


_REPORTED = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"""Every tensor that does not fit is listed by transformers, and then refused by `_checked`."""


def _original_config(source: str, where: dict[str, Any]) -> Any:
    from ..adapters.original import read_config

    try:
        return read_config(source, **where)
    except ArgumentError:
        raise
    except Exception:  # noqa: BLE001  (a broken config or tokenizer makes transformers raise anything)
        return None  # what is wrong is said where the config is loaded


def _checked(source: str, model: Any, info: Any) -> Any:
    """Refuse an original checkpoint whose tensors are not just those of the model (SigLIP's head apart: unused)."""
    missing = sorted(info["missing_keys"])
    unexpected = sorted(key for key in info["unexpected_keys"] if "vision_tower.head." not in key)
    misshaped = sorted(info["mismatched_keys"])
    if missing or unexpected or misshaped:
        raise ArgumentError(
            f"model={source!r} does not load: missing tensors {missing}, unexpected {unexpected}, of another shape "
            f"{misshaped}; fetch the checkpoint again"
        )
    # Else save_pretrained would go back to the original names, beside a translated config.
    vars(model).pop("_weight_conversions", None)
    return model


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

"""Wrappers around a model (of torch, PEFT and accelerate), the transformers model in them, and compiled code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, TypeVar

from torch import nn

from vidcompress.errors import UnsupportedModelError

Model: TypeAlias = nn.Module
"""A transformers model of a supported family, or a wrapper that `unwrap` knows around one."""

P = ParamSpec("P")
T = TypeVar("T")


def unwrap(model: Any) -> Any:
    """Return the transformers model in a wrapper of `torch.compile`, PEFT, `DistributedDataParallel` or `DataParallel`.

    A model that is wrapped in place (accelerate's mixed precision, `Module.compile`, adapters that transformers itself
    loaded) is returned as it is.

    Args:
        model: a model, wrapped any number of times; anything else is returned as it is.

    Raises:
        UnsupportedModelError: a wrapper that changes what the model is given (prompt learning, activated LoRA), or
            weights that are spread over processes (FSDP) or copied to several devices.
    """
    while (inner := _inner(model)) is not None:
        model = inner
    _check_whole(model)
    return model


def _inner(model: Any) -> Any:
    """Return the model in a known wrapper; None for anything else. A wrapper's own module is imported already."""
    eval_frame = sys.modules.get("torch._dynamo.eval_frame")
    if eval_frame is not None and isinstance(model, eval_frame.OptimizedModule):
        return model._orig_mod
    parallel = sys.modules.get("torch.nn.parallel")
    if parallel is not None and isinstance(model, parallel.DistributedDataParallel):
        return model.module
    if parallel is not None and isinstance(model, parallel.DataParallel):
        if len(model.device_ids) > 1:
            raise UnsupportedModelError(
                f"model is a DataParallel over {len(model.device_ids)} devices, which copies the model at every call; "
                "pass its .module, or start one process per device"
            )
        return model.module
    if sys.modules.get("peft") is not None:
        return _adapted(model)
    return None


def _adapted(model: Any) -> Any:
    """Return the model that PEFT put its layers into; None for anything that PEFT did not make."""
    from peft import PeftMixedModel, PeftModel
    from peft.tuners.tuners_utils import BaseTuner

    if isinstance(model, BaseTuner):
        return model.model
    if not isinstance(model, (PeftModel, PeftMixedModel)):
        return None
    for name in model.active_adapters:
        config = model.peft_config[name]
        how = getattr(config.peft_type, "value", config.peft_type)
        if config.is_prompt_learning:
            raise UnsupportedModelError(
                f"model is a {type(model).__name__} with {how}, which puts virtual tokens before the prompt, and these "
                "cannot be compressed; use adapters inside the layers, such as LoRA"
            )
        if getattr(config, "alora_invocation_tokens", None) is not None:
            raise UnsupportedModelError(
                f"model is a {type(model).__name__} with activated {how} (alora_invocation_tokens), which counts "
                "tokens of the uncompressed prompt; use LoRA without invocation tokens"
            )
    return model.base_model  # a tuner


def _check_whole(model: Any) -> None:
    """Refuse weights of which every process holds a part.

    Raises:
        UnsupportedModelError: with the name of the wrapper.
    """
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None or not callable(getattr(model, "modules", None)):
        return
    for kind, call in (
        ("FullyShardedDataParallel", "FullyShardedDataParallel"),
        ("FSDPModule", "fully_shard"),
    ):
        sharded = getattr(fsdp, kind, None)
        if sharded is not None and any(isinstance(module, sharded) for module in model.modules()):
            raise UnsupportedModelError(
                f"model is sharded by {call} (FSDP): every process holds a part of each weight, and the encoder is "
                "called by itself; load the whole model in each process (from_pretrained, or the full state dict)"
            )


def outside_compiler(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function with compilation switched off inside it, so that hooks that it puts on modules are called.

    The hooks of a model that `torch.compile` wrapped run under the compiler, which would reuse code that it compiled
    before, without the hooks.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled in this process
        return function
    import torch

    disabled: Callable[P, T] = torch.compiler.disable(function)
    return disabled


def is_compiled(model: Any, decoder: Any) -> bool:
    """Whether the model is compiled, so that hooks on the decoder's layers would be compiled in or left out.

    Args:
        model: the whole model.
        decoder: its language model.
    """
    around = (model, getattr(model, "model", None))
    return any(map(_is_compiled, (*(one for one in around if one is not None), *decoder.modules())))


def _is_compiled(module: Any) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(
        getattr(module, "forward", None), "_torchdynamo_orig_callable"
    )

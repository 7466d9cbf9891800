"""Masses in attention: hooks on a decoder's attentions that weigh a token sent by the tokens it stands for.

Softmax attention averages over the tokens it sees. Where pruning leaves one token for m alike, adding log m to the
logits of its column gives their average again. The stock model has made the mask of each layer by the time its
attention is called, with padding, windows and static caches settled; a hook before the attention adds the logarithms
to that mask, and nothing else of the model is touched. A hook asks nothing of the device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from vidcompress.core.wrappers import is_compiled, outside_compiler
from vidcompress.errors import CompressionStateError, UnsupportedInputError, UnsupportedModelError
from vidcompress.llm_pruning.cache_names import cache_name, given_cache
from vidcompress.llm_pruning.prefill import LayerSequence

_IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention")
_WAY_OUT = "use mass='off'"
_MASKS = 4
"""Masks of a forward that are kept: models have one per kind of layer, and accelerate copies them for each layer."""


@dataclass(eq=False)
class MassPlan:
    """Masses of one call.

    Attributes:
        mass: (row, C) float32, number of tokens that each column of the shortened, padded prompt stands for; 1 at text,
            separators and padding.
        strength: factor of the logarithm of the mass.
        cap: largest mass that counts; None for no limit.
        applied: whether an attention was given the masses since they were armed last.
    """

    mass: Tensor
    strength: float = 1.0
    cap: float | None = None
    applied: bool = False
    _bias: dict[torch.device, Tensor] = field(default_factory=dict, repr=False)

    def bias_of(self, mass: Tensor) -> Tensor:
        """Return what is added to the logits of the columns of these masses: float32, in their shape."""
        return self.strength * mass.clamp(max=self.cap).log() if self.cap else self.strength * mass.log()

    def bias(self, device: torch.device) -> Tensor:
        """Return (row, C) float32 on a device, computed once."""
        if device not in self._bias:
            self._bias[device] = self.bias_of(self.mass.to(device))
        return self._bias[device]


class MassHooks:
    """Hooks that add the masses of a call to the masks of one model's decoder, while they are attached.

    Args:
        adapter: of the model; names its decoder.
        sequence_at: the sequence of a layer behind a stage of a method inside the language model, from the cache and
            the layer's number; None before the first stage.

    Raises:
        UnsupportedModelError: the decoder's attention takes no bias, or is not known to.
    """

    def __init__(
        self,
        adapter: Any,
        sequence_at: Callable[[Any, int], LayerSequence | None] = lambda cache, layer: None,
    ) -> None:
        self._decoder = adapter.decoder
        self._attentions = attentions_of(adapter)
        self._sequence_at = sequence_at
        self._handles: list[Any] = []
        self._local = threading.local()
        self._plans: WeakKeyDictionary[Any, MassPlan] = WeakKeyDictionary()
        self._replays = WeakTensorKeyDictionary()

    @contextmanager
    def attached(self) -> Iterator[MassHooks]:
        """Context with the hooks on the attentions."""
        before = outside_compiler(self._before)
        for number, attention in self._attentions.items():

            def hook(
                module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, number: int = number
            ) -> Any:
                return before(number, module, args, kwargs)

            self._handles.append(attention.register_forward_pre_hook(hook, with_kwargs=True))
        self._handles.append(self._decoder.register_forward_hook(outside_compiler(self._after_decoder)))
        try:
            yield self
        finally:
            for handle in self._handles:
                handle.remove()
            self._handles.clear()

    @contextmanager
    def armed(self, plan: MassPlan | None) -> Iterator[None]:
        """Context in which the attentions of this thread weigh by `plan`.

        Raises:
            UnsupportedModelError: the attention was exchanged for one that takes no bias.
            CompressionStateError: at the end, a static cache was filled by code that was compiled without the hooks.
        """
        if plan is not None:
            _check_kind(self._decoder.config)
            plan.applied = False
        before = getattr(self._local, "plan", None)
        self._local.plan, self._local.masks, self._local.fed = plan, {}, None
        try:
            yield
            _check_fed(self._local.fed)
        finally:
            self._local.plan, self._local.masks, self._local.fed = before, {}, None

    def plan_of(self, cache: Any) -> MassPlan | None:
        """Return the masses of the columns that a cache holds; None for one that was filled without."""
        return self._plans.get(cache) if cache is not None else None

    def forget(self, cache: Any) -> None:
        """Forget what a cache held, which was emptied."""
        self._plans.pop(cache, None)

    def _plan(self, module: Any, kwargs: dict[str, Any]) -> MassPlan | None:
        """Return the plan of this thread's call; where backward runs checkpointed layers again, that of their forward.

        Backward may come after the call, and in a thread of autograd; the layers get the same rotary embeddings.
        """
        plan: MassPlan | None = getattr(self._local, "plan", None)
        rotary = kwargs.get("position_embeddings")
        if not module.training or not isinstance(rotary, tuple):
            return plan
        plan = self._replays.get(rotary[0], plan)
        if plan is not None:
            self._replays[rotary[0]] = plan
        return plan

    def _after_decoder(self, module: Any, args: Any, output: Any) -> None:
        """Have backward refuse to run checkpointed layers again once the hooks are off."""
        last = output if isinstance(output, Tensor) else output[0]
        replays = any(getattr(part, "gradient_checkpointing", False) for part in (module, *module.layers))
        if (
            module.training
            and replays
            and last.requires_grad
            and getattr(self._local, "plan", None) is not None
        ):
            last.register_hook(self._check_attached)

    def _check_attached(self, gradient: Tensor) -> None:
        if not self._handles:
            raise CompressionStateError(
                "backward was called outside the block with mass='on', where gradient checkpointing would run the "
                "layers again without the masses; call it inside the block, or use "
                "model.gradient_checkpointing_disable()"
            )

    def _before(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Any:
        if kwargs is None:  # another thread's forward while the hooks are taken off
            return None
        plan = self._plan(module, kwargs)
        if plan is None:
            return None
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        count, mask, cache = hidden.shape[1], kwargs.get("attention_mask"), given_cache(kwargs)
        called = getattr(self._local, "plan", None) is not None
        masks: dict[Any, Any] = self._local.masks if called else {}
        first = called and number == next(iter(self._attentions))  # of a new forward
        if first:
            self._local.shared = {}
        width, start = self._held(module, cache, count)
        if first:
            masks.clear()
            self._note(cache, count, module.layer_idx, plan)
        sequence = self._sequence_at(cache, number)
        key = (id(plan), id(mask), id(sequence), width, start, count, hidden.device)
        if key not in masks:
            bias = (
                plan.bias(hidden.device) if sequence is None else _bias_behind(plan, sequence, hidden.device)
            )
            column = _columns(bias, hidden.shape[0], start, width).to(hidden.dtype)[:, None, None]
            if len(masks) == _MASKS:
                masks.pop(next(iter(masks)))
            # The old mask is held too, so that no other gets its id.
            masks[key] = mask, _added(mask, column, count, hidden.dtype, self._decoder.config)
        plan.applied = True
        return args, {**kwargs, **masks[key][1]}

    def _held(self, attention: Any, cache: Any, count: int) -> tuple[int, int]:
        """Return the number of columns that an attention will see, and the first of them.

        An attention that takes keys and values of an earlier layer sees the columns of that layer, which a cache does
        not state for it, also where its own queries are the last of them only.
        """
        shared: dict[Any, tuple[int, int]] = getattr(self._local, "shared", None) or {}
        if getattr(attention, "is_kv_shared_layer", False) and attention.layer_type in shared:
            return shared[attention.layer_type]
        held = (count, 0) if cache is None else _sizes(cache, count, attention.layer_idx)
        if getattr(attention, "store_full_length_kv", False):
            self._local.shared = {**shared, attention.layer_type: held}
        return held

    def _note(self, cache: Any, count: int, layer: int, plan: MassPlan) -> None:
        """Note what a cache holds, and how long it will be if transformers may run compiled code over it."""
        if cache is None:
            return
        self._plans[cache] = plan
        if getattr(cache, "is_compileable", False):
            if self._local.fed is not None and self._local.fed[0] is not cache:
                _check_fed(self._local.fed)
            # A tensor, of which nothing is asked here.
            self._local.fed = cache, layer, cache.get_seq_length(layer) + count


def _check_fed(fed: tuple[Any, int, Any] | None) -> None:
    """Refuse a static cache that is longer than what came past the hooks: (cache, layer, length there)."""
    if fed is not None and int(fed[0].get_seq_length(fed[1])) > int(fed[2]):
        raise CompressionStateError(
            "the language model ran over a static cache without the masses of its tokens (mass='on'), in code that "
            "transformers compiled without their hooks; pass disable_compile=True to generate, or leave out "
            "cache_implementation"
        )


def _check_kind(config: Any) -> None:
    """Refuse an attention that takes no bias, or is not known to.

    Raises:
        UnsupportedModelError: with its name.
    """
    kind = getattr(config, "_attn_implementation", None)
    if kind not in _IMPLEMENTATIONS:
        raise UnsupportedModelError(
            f"mass='on' adds to the attention mask, which attn_implementation={kind!r} does not take or was not run "
            f"with; call model.set_attn_implementation('sdpa'), or {_WAY_OUT}"
        )


def attentions_of(adapter: Any) -> dict[int, Any]:
    """Return the attentions of a decoder that take masses, by the number of their layer; other layers have none.

    Raises:
        UnsupportedModelError: no attention named `self_attn` with a `layer_idx`, one that mixes in other columns, or
            one that takes no bias.
    """
    decoder, name = adapter.decoder, type(adapter.decoder).__name__
    if is_compiled(adapter.model, decoder):
        raise UnsupportedModelError(
            "mass='on' is hooks on the attentions of the language model, which compiled code does not see, and this "
            f"one is compiled (torch.compile); {_WAY_OUT}, or a model that is not compiled"
        )
    _check_kind(decoder.config)
    if getattr(decoder.config, "attn_logit_softcapping", None) is not None:
        raise UnsupportedModelError(
            f"{name} caps its attention logits (attn_logit_softcapping), and mass='on' was not tried with that; "
            f"{_WAY_OUT}"
        )
    attentions = {}
    for number, layer in enumerate(decoder.layers):
        attention = getattr(layer, "self_attn", None)
        if attention is None and adapter.traits.hybrid and not hasattr(layer, "cross_attn"):
            continue  # a recurrent state has no average that a mass could mend
        if not hasattr(attention, "layer_idx") or hasattr(layer, "cross_attn"):
            raise UnsupportedModelError(
                f"mass='on' cannot go with {name}: each of its layers must have a self_attn with layer_idx and no "
                f"other attention, as in Llama, Qwen and Gemma; {_WAY_OUT}"
            )
        attentions[number] = attention
    if not attentions:
        raise UnsupportedModelError(
            f"{name} has no layer with a self_attn, and mass='on' needs one; {_WAY_OUT}"
        )
    return attentions


def _sizes(cache: Any, count: int, layer: int) -> tuple[int, int]:
    """Return the number of columns that an attention will see, and the first of them."""
    if not hasattr(cache, "get_mask_sizes"):
        raise UnsupportedInputError(
            f"{cache_name()}: a {type(cache).__name__} does not say which columns its layers hold (get_mask_sizes), "
            f"which mass='on' needs; leave it out for the default cache, or {_WAY_OUT}"
        )
    width, start = cache.get_mask_sizes(count, layer)
    return width, start


def _bias_behind(plan: MassPlan, sequence: LayerSequence, device: torch.device) -> Tensor:
    """Return (b, n) float32, the bias of the entries of a sequence behind a stage, computed once for each device."""
    assert sequence.mass is not None  # noqa: S101  (for the type checker)
    key = ("mass", device)
    if key not in sequence.masks:
        sequence.masks[key] = plan.bias_of(sequence.mass.to(device))
    bias: Tensor = sequence.masks[key]
    return bias


def _columns(bias: Tensor, rows: int, start: int, width: int) -> Tensor:
    """Return (rows, width), the bias of columns `start` to `start + width` for every row of the model's batch.

    Args:
        bias: (row, C); columns behind it are later text and have none.
        rows: a multiple of the number of prompts: beams and several sequences stand together.
    """
    prompts = bias.shape[0]
    if rows % prompts:
        raise CompressionStateError(
            f"the language model got {rows} rows where the inputs have {prompts} prompts: a block with mass='on' is "
            "for the inputs that were compressed, and for later turns of them; call the model with others outside it"
        )
    if start == 0 and width == 1 < bias.shape[1]:
        raise CompressionStateError(
            f"the language model got a prompt of one column where the inputs have {bias.shape[1]}: with mass='on' no "
            "other prompt can be run beside them; leave out guidance_scale"
        )
    part = bias[:, start : start + width]
    if part.shape[1] < width:
        part = torch.nn.functional.pad(part, (0, width - part.shape[1]))
    return part if rows == prompts else part.repeat_interleave(rows // prompts, dim=0)


def _added(mask: Any, column: Tensor, count: int, dtype: torch.dtype, config: Any) -> dict[str, Any]:
    """Return the arguments of an attention that add a bias to its mask.

    Args:
        mask: of the stock model: None (causal, or one query), bool, additive, or a block mask of flex attention.
        column: (b, 1, 1, width), bias of the columns.
        count: queries.
        dtype: of the hidden states.
        config: of the decoder.
    """
    if mask is not None and not isinstance(mask, Tensor):
        # Flex attention reads (b, head, query, column), out of bounds where it is smaller.
        return {"position_bias": column.expand(-1, config.num_attention_heads, count, -1)}
    if mask is None and count == 1:
        return {"attention_mask": column}
    if mask is None:
        # A missing mask is the causal one, numbered from the upper left.
        at = torch.arange(column.shape[-1], device=column.device)
        mask = (at <= at[:count, None])[None, None]
    if mask.dtype == torch.bool:
        return {"attention_mask": torch.where(mask, column, torch.finfo(dtype).min)}
    return {"attention_mask": mask + column}

"""Hooks on decoder layers that leave out visual tokens at the stages of a plan.

At prefill the sequence is gathered once per stage, and every layer behind a stage gets a mask, positions and rotary
embeddings of its own; each layer's key-value cache then has its own length. Companions of visual tokens, which the
language model would add to the columns of the whole prompt, are kept from it and added to the tokens left. While
decoding, nothing is dropped, but masks and positions still differ by layer. Each cache keeps a record of its contents.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vidcompress.core.pruning.plan import PruningPlan
from vidcompress.core.wrappers import is_compiled, outside_compiler
from vidcompress.errors import CompressionStateError, UnsupportedInputError, UnsupportedModelError
from vidcompress.llm_pruning.attention import check_layer, check_rotary
from vidcompress.llm_pruning.cache_names import CACHE_NAMES, cache_name, given_cache
from vidcompress.llm_pruning.companions import Companions
from vidcompress.llm_pruning.masks import check_implementation, layer_mask
from vidcompress.llm_pruning.prefill import Capture, LayerSequence, Prefill, next_sequence, start


def check_kinds(adapter: Any) -> None:
    """Check that a decoder has layers of kinds that can be pruned inside.

    Raises:
        UnsupportedModelError: some layers are not attention, or their pictures attend to themselves both ways.
    """
    traits = adapter.traits
    if traits.hybrid:
        raise UnsupportedModelError(
            f"{type(adapter.model).__name__} has a decoder whose layers are not all attention, and cannot be "
            "pruned inside; use a method before the language model"
        )
    if traits.both_ways:
        raise UnsupportedModelError(
            f"{type(adapter.model).__name__} cannot be pruned inside: tokens of one picture attend to each other "
            "both ways there, which the masks behind a stage do not follow; use a method before the language model"
        )


class Pruner:
    """Pruner of one model's decoder, active while it is attached.

    Args:
        adapter: of the model; names its decoder.

    Raises:
        UnsupportedModelError: the decoder's layers or its attention implementation cannot be pruned inside, or it is
            compiled.
    """

    def __init__(self, adapter: Any) -> None:
        self._decoder = adapter.decoder
        if is_compiled(adapter.model, self._decoder):
            raise UnsupportedModelError(
                "the language model is compiled (torch.compile), and methods that prune inside it are hooks on its "
                "layers, which compiled code does not see; use a method before the language model, or one that is not "
                "compiled"
            )
        check_kinds(adapter)
        traits = adapter.traits
        for layer in self._decoder.layers:
            check_layer(layer, qk_norm=traits.qk_norm)
        check_rotary(self._decoder, axes=traits.axes)
        self._deep = _deep_arguments(traits, self._decoder) if traits.deep_levels else None
        check_implementation(self._decoder.config._attn_implementation)
        self._window = traits.window
        self._handles: list[Any] = []
        self._local = threading.local()
        self._sequences: WeakKeyDictionary[Any, dict[int, LayerSequence]] = WeakKeyDictionary()

    @contextmanager
    def attached(self) -> Iterator[Pruner]:
        """Context with the hooks on the layers."""
        before_layer = outside_compiler(self._before_layer)  # a compiled wrapper would trace the selection
        for number, layer in enumerate(self._decoder.layers):
            hook = partial(layer.register_forward_pre_hook, with_kwargs=True)
            self._handles.append(hook(partial(before_layer, number)))
        if self._deep is not None:
            before, after = outside_compiler(self._before_decoder), outside_compiler(self._after_layer)
            self._handles.append(self._decoder.register_forward_pre_hook(before, with_kwargs=True))
            for number, layer in enumerate(self._decoder.layers):
                self._handles.append(layer.register_forward_hook(partial(after, number)))
        try:
            yield self
        finally:
            for handle in self._handles:
                handle.remove()
            self._handles.clear()
            self._forget()

    @contextmanager
    def armed(self, plan: PruningPlan | None, mass: Tensor | None = None) -> Iterator[None]:
        """Context in which the prefills of this thread are pruned by `plan`.

        Args:
            plan: of a call, or None.
            mass: (row, C) float32, number of tokens that each column stands for; tokens that a stage leaves out hand
                theirs on. None where masses do not count.
        """
        before = getattr(self._local, "plan", None), getattr(self._local, "mass", None)
        self._local.plan, self._local.mass = plan, mass
        try:
            yield
        finally:
            self._local.plan, self._local.mass = before
            self._forget()

    def sequence_at(self, cache: Any, layer: int) -> LayerSequence | None:
        """Return the sequence that a layer has in this thread's forward; None before the first stage."""
        prefill: Prefill | None = getattr(self._local, "prefill", None)
        if prefill is not None:
            return prefill.at(layer)
        sequences = self._sequences.get(cache) if cache is not None else None
        return sequences.get(layer) if sequences else None

    def _forget(self) -> None:
        prefill = getattr(self._local, "prefill", None)
        if prefill is not None:
            prefill.capture.remove()
        self._local.prefill = None

    def _plan(self, cache: Any) -> PruningPlan | None:
        """Return the armed plan while the cache is empty."""
        plan: PruningPlan | None = getattr(self._local, "plan", None)
        return None if cache is not None and cache.get_seq_length() > 0 else plan

    def _before_decoder(
        self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Keep companions from a decoder that will be pruned, for it would add them to columns that are dropped."""
        self._local.companions = None
        if kwargs is None or self._deep is None:
            return None
        plan = self._plan(given_cache(kwargs))
        visual, levels = (kwargs.get(name) for name in self._deep)
        if plan is None or not plan.layers:
            return None
        if visual is None or not levels:
            raise UnsupportedModelError(
                f"{type(module).__name__} was called without {' and '.join(self._deep)} for a prompt with visual "
                "tokens, which it adds features to; let Adapter.hand_over give them, or use a method before the "
                "language model"
            )
        self._local.companions = Companions(visual, levels)
        return args, {**kwargs, self._deep[1]: []}

    def _after_layer(self, number: int, module: Any, args: tuple[Any, ...], output: Any) -> Any:
        prefill: Prefill | None = getattr(self._local, "prefill", None)
        return None if prefill is None else prefill.accompany(number, output)

    def _before_layer(
        self, number: int, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> Any:
        if kwargs is None:  # another thread's forward while the hooks are taken off
            return None
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        cache = given_cache(kwargs)
        if number == 0:
            self._begin(hidden, kwargs, cache)
        prefill: Prefill | None = getattr(self._local, "prefill", None)
        if prefill is not None:
            hidden, changed = self._prefill(number, prefill, hidden, kwargs, cache)
        else:
            changed = self._decode(number, hidden, kwargs, cache)
        if changed is None:
            return None
        rest = {**kwargs, **changed}
        rest.pop("hidden_states", None)
        return (hidden, *args[1:]), rest

    def _begin(self, hidden: Tensor, kwargs: dict[str, Any], cache: Any) -> None:
        """Decide at the first layer whether this is a prefill of an armed plan."""
        self._forget()
        plan = self._plan(cache)
        if plan is None:
            return
        if not any(name in kwargs for name in CACHE_NAMES):
            raise UnsupportedModelError(
                f"the decoder's layers are called without any of {', '.join(CACHE_NAMES)}, so a method inside "
                "the language model cannot tell a prefill from a later token; use a method before the language model"
            )
        if getattr(cache, "is_compileable", False):
            raise UnsupportedInputError(
                f"cache_implementation: a {type(cache).__name__} cannot go with method {plan.method.name!r}, whose "
                "layers hold different numbers of tokens; use the default dynamic cache"
            )
        if hidden.shape[1] != plan.width:
            raise UnsupportedInputError(
                f"the decoder got {hidden.shape[1]} columns where the prompt has {plan.width}: method "
                f"{plan.method.name!r} needs the whole prompt in one prefill and a key-value cache after it; leave out "
                "prefill_chunk_size and use_cache=False"
            )
        self._check_window(hidden.shape[1])
        if plan.layers:
            prefill = start(plan, hidden, kwargs, getattr(self._local, "mass", None))
            prefill.companions, self._local.companions = getattr(self._local, "companions", None), None
            self._local.prefill = prefill
            if cache is not None:
                self._sequences[cache] = prefill.sequences

    def _check_window(self, columns: int) -> None:
        if self._window is not None and columns > self._window:
            raise UnsupportedInputError(
                f"the sequence has {columns} tokens and the decoder a sliding window of {self._window}, which pruning "
                "inside it does not follow; use a method before the language model"
            )

    def _prefill(
        self, number: int, prefill: Prefill, hidden: Tensor, kwargs: dict[str, Any], cache: Any
    ) -> tuple[Tensor, dict[str, Any] | None]:
        if number in prefill.plan.layers:
            hidden = next_sequence(prefill, number, hidden, self._decoder)
        if number + 1 in prefill.plan.layers and prefill.plan.method.source == "previous":
            prefill.capture = Capture(self._decoder.layers[number], prefill.queries)
        sequence = prefill.at(number)
        if sequence is None:
            return hidden, None
        width = hidden.shape[1]
        kind = check_implementation(self._decoder.config._attn_implementation)
        key = ("mask", hidden.device)
        if key not in sequence.masks:
            real = None if sequence.real is None else sequence.real.to(hidden.device)
            sequence.masks[key] = layer_mask(kind, real, width, width, hidden)
        return hidden, {
            "attention_mask": sequence.masks[key],
            "position_ids": sequence.position_ids,
            "position_embeddings": tuple(part.to(hidden.device) for part in sequence.embeddings),
        }

    def _decode(
        self, number: int, hidden: Tensor, kwargs: dict[str, Any], cache: Any
    ) -> dict[str, Any] | None:
        sequence = self.sequence_at(cache, number)
        count = hidden.shape[1]
        if sequence is None:
            if number and cache is not None and cache not in self._sequences:
                _check_whole(cache, number, count)
            return None
        width = cache.get_seq_length(number) + count
        self._check_window(width)
        kind = check_implementation(self._decoder.config._attn_implementation)
        real = None
        if sequence.real is not None:
            held = sequence.real.to(hidden.device)[:, : width - count]
            later = held.new_ones((held.shape[0], width - held.shape[1]))
            real = torch.cat((held, later), dim=1)
        changed: dict[str, Any] = {"attention_mask": layer_mask(kind, real, width, count, hidden)}
        if sequence.dropped is not None:
            ids = kwargs["position_ids"] - sequence.dropped.to(hidden.device)
            embeddings = self._decoder.rotary_emb(hidden, ids)
            changed |= {"position_ids": ids, "position_embeddings": embeddings}
        return changed


def _deep_arguments(traits: Any, decoder: Any) -> tuple[str, str]:
    """Return the names of the decoder's arguments for visual columns and their companions.

    Raises:
        UnsupportedModelError: its forward has no such arguments.
    """
    visual, levels = traits.deep_arguments
    if not {visual, levels} <= set(inspect.signature(type(decoder).forward).parameters):
        raise UnsupportedModelError(
            f"{type(decoder).__name__} adds features behind its first {traits.deep_levels} layers and takes no "
            f"{visual} and {levels}, by which they could be left to hooks; name its arguments in the adapter's "
            "traits.deep_arguments, or use a method before the language model"
        )
    return visual, levels


def _check_whole(cache: Any, number: int, count: int) -> None:
    """Refuse a cache whose layers differ without having been pruned here, such as a copy."""
    if cache.get_seq_length(0) - count != cache.get_seq_length(number):
        raise CompressionStateError(
            f"{cache_name()} was pruned inside the language model elsewhere, so its layers hold different tokens and "
            "which they are is unknown here; go on with the cache itself, in the block that filled it"
        )

"""Replacement of `generate` and hooks of `forward` inside a `compress` block."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import Tensor
from transformers.cache_utils import Cache

from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.stock import EncodedVisuals
from vidcompress.core.config import CompressionConfig
from vidcompress.core.report import Report
from vidcompress.core.wrappers import outside_compiler
from vidcompress.errors import CompressionStateError, UnsupportedInputError, VidcompressError, shown
from vidcompress.llm_pruning.cache_names import (
    CACHE_NAMES,
    cache_name,
    given_cache,
    returned_cache,
    with_cache_name,
)
from vidcompress.llm_pruning.call import DecoderCall, DecoderHooks
from vidcompress.session.compress import compress_with
from vidcompress.session.generation_options import (
    CHUNKED_PREFILL_SINCE,
    PromptStreamer,
    cache_rows,
    is_filled,
    option,
    shorten_limits,
    transformers_version,
    with_prompt,
)
from vidcompress.session.inputs import CompressedInputs
from vidcompress.session.kv_cache import Transcript, check_pixels, open_transcript, resume, sample_pixels
from vidcompress.session.prompt import PER_TOKEN_KEYS, inferred_mask, served_positions
from vidcompress.session.running_calls import Calls

_OWN = ("streamer", "use_cache", *CACHE_NAMES)
"""Arguments of generate that are not inputs of the model."""

_SPECULATIVE = ("prompt_lookup_num_tokens", "assistant_model")


class CompressSession:
    """Handle of an open `compress` block.

    Attributes:
        settings: configuration of the block.
        report: of the latest call that had images or videos; None before the first.
        left: whether the block is over. Calls that began in it may still run.
    """

    def __init__(self, model: Any, settings: CompressionConfig) -> None:
        self._adapter: Any = adapter_for(model)
        self.settings = served_positions(self._adapter, settings)
        self.report: Report | None = None
        self.left = False
        self._model = model
        self._name = type(model).__name__
        self._calls = Calls()
        self._hooks = ExitStack()
        self._generate = model.generate
        self._forward_parameters = list(inspect.signature(model.forward).parameters)
        self._inside = threading.local()
        self._transcripts: WeakKeyDictionary[Any, Transcript] = WeakKeyDictionary()
        self.hooks: DecoderHooks | None = None
        prunes, weighs = settings.method.inside is not None, settings.weighs
        if prunes or weighs:
            self.hooks = DecoderHooks(self._adapter, prunes=prunes, weighs=weighs)

    def __repr__(self) -> str:
        state = "left" if self.left else "open"
        return f"CompressSession({self._name}, {state}, {self.settings!r}, {self.report!r})"

    def __deepcopy__(self, memo: Any) -> CompressSession:
        raise CompressionStateError(
            f"{self._name} is inside a compress block and cannot be copied there; leave the block first"
        )

    def attach(self) -> None:
        """Put on the hooks that a method inside the language model, or masses, need beside the pre-hook."""
        if self.hooks is not None:
            handle = self._model.register_forward_hook(self.after_forward, always_call=True)
            self._hooks.callback(handle.remove)
            self._hooks.enter_context(self.hooks.attached())

    def leave(self) -> bool:
        """End the block: no further call begins, and calls that run finish as they began.

        Returns:
            Whether nothing of this session is left on the model.
        """
        self.left = True
        self._end_forward()  # where an interrupt let torch call no hook
        self._calls.close(self.close)
        return self._calls.settle() or self.hooks is None

    def over(self) -> bool:
        """Whether the block is over and no call that began in it still runs."""
        return self._calls.settle()

    def close(self) -> None:
        """Take the hooks off and let go of the model; the report stays."""
        self._hooks.close()
        self._model = self._generate = self._adapter = None
        self._transcripts.clear()

    @contextmanager
    def _call_of(self, streamer: Any) -> Iterator[None]:
        """Count one call of generate; an error ends its streamer, or the streamer's reader would wait for ever.

        Raises:
            CompressionStateError: the block is over.
        """
        begun = self._calls.begin()
        try:
            if not begun:
                raise CompressionStateError(
                    f"this generate was taken from inside a compress block of {self._name}, which is over; call "
                    "model.generate inside the block, or take it from the model again"
                )
            yield
        except VidcompressError:
            if streamer is not None:
                streamer.end()
            raise
        finally:
            if begun:
                self._calls.end()
                self._calls.settle()

    def _compress(self, inputs: Mapping[str, Any], *, for_generate: bool) -> CompressedInputs:
        compressed = compress_with(self._adapter, inputs, self.settings, for_generate=for_generate)
        self.report = compressed.report
        return compressed

    def _has_pixels(self, kwargs: Mapping[str, Any]) -> bool:
        return any(kwargs.get(key) is not None for key in self._pixel_keys)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model's own generate, noted so that the forward hook recognises the call."""
        self._inside.depth = getattr(self._inside, "depth", 0) + 1
        try:
            return self._generate(*args, **kwargs)
        finally:
            self._inside.depth -= 1

    def generate(
        self, inputs: Tensor | None = None, generation_config: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Replace `model.generate`: compress, generate, and return sequences with the caller's own prompt ids.

        A cache that an earlier call filled (`cache` or `past_key_values`, its own or returned with
        `return_dict_in_generate`) may come back with the whole conversation as uncompressed ids; nothing is
        encoded again then.

        Raises:
            CompressionStateError: the block is over, or the layers of a method inside the language model ran past it.
            UnsupportedInputError: a filled cache that is not of this block or does not hold the beginning of the
                prompt, no cache under original or scaled positions, a `max_length` within the prompt, chunked prefill
                on a version of transformers that gets it wrong.
        """
        if getattr(self._inside, "depth", 0) and not self._has_pixels(kwargs):
            # Called by the model itself, as the assistant of its own generate.
            return self._generate(inputs, generation_config, *args, **kwargs)
        with self._call_of(kwargs.get("streamer")):
            return self._answer(inputs, generation_config, *args, **kwargs)

    def _answer(self, inputs: Tensor | None, generation_config: Any, *args: Any, **kwargs: Any) -> Any:
        if inputs is not None:
            kwargs["input_ids"] = inputs
        kwargs = with_cache_name(kwargs)
        cache = given_cache(kwargs)
        short: Mapping[str, Any]
        if is_filled(cache):
            self._check_options(generation_config, kwargs)
            transcript, short = self._resume(cache, kwargs)
        elif self._has_pixels(kwargs):
            self._check_options(generation_config, kwargs)
            transcript, short = self._begin(kwargs)
        else:
            visual = (*self._adapter.image_keys, *self._adapter.video_keys)
            given = {  # transformers would encode a None
                key: value for key, value in kwargs.items() if value is not None or key not in visual
            }
            output = self._call(None, generation_config, *args, **given)
            self._note_text(kwargs, output)
            return output
        inside: DecoderCall | None = getattr(short, "inside", None)
        if inside is None and transcript.mass is not None:  # of a later turn: the cache holds what it weighs
            inside = DecoderCall(self._adapter, None, transcript.mass)
        with self._acting(inside):
            call = {**short, **{k: kwargs[k] for k in _OWN if kwargs.get(k) is not None}}
            prompt, length = kwargs["input_ids"], call["input_ids"].shape[1]
            generation_config = shorten_limits(call, generation_config, self._model, prompt.shape[1], length)
            if inside is not None and inside.mass is not None:
                call.setdefault(
                    "disable_compile", True
                )  # compiled steps might have been compiled without the hooks
            if call.get("streamer") is not None:
                call["streamer"] = PromptStreamer(call["streamer"], prompt)
            output = with_prompt(self._call(None, generation_config, *args, **call), prompt, length)
            if inside is not None:
                inside.check_ran()
        self._note(transcript, cache, output)
        return output

    @contextmanager
    def _acting(self, inside: DecoderCall | None) -> Iterator[None]:
        """Context in which the hooks act on a call of the language model."""
        if self.hooks is None or inside is None:
            yield
            return
        with inside.switched_on(), self.hooks.armed(inside):
            yield

    def _begin(self, kwargs: Mapping[str, Any]) -> tuple[Transcript, Mapping[str, Any]]:
        """Compress a first prompt."""
        with torch.no_grad():
            short = self._compress({k: v for k, v in kwargs.items() if k not in _OWN}, for_generate=True)
        transcript = open_transcript(kwargs, self._mask(kwargs), short, self._placeholders)
        transcript.samples = sample_pixels(kwargs, self._pixel_keys)
        return transcript, short

    def _resume(self, cache: Any, kwargs: Mapping[str, Any]) -> tuple[Transcript, dict[str, Any]]:
        """Translate a later prompt into the columns that the cache holds and the new ones."""
        transcript = self._transcripts.get(cache) if isinstance(cache, Cache) else None
        if transcript is None:
            raise UnsupportedInputError(
                f"{cache_name()} ({type(cache).__name__}) was not filled by model.generate inside this compress "
                "block, so what it holds is unknown; pass the whole prompt with an empty cache or none"
            )
        if not isinstance(kwargs.get("input_ids"), Tensor):
            raise UnsupportedInputError(
                f"input_ids must be a tensor with the whole conversation, to go with {cache_name()}; got "
                f"{type(kwargs.get('input_ids')).__name__}"
            )
        check_pixels(transcript, kwargs, self._pixel_keys)
        short = resume(
            transcript,
            kwargs,
            self._mask(kwargs),
            cache.get_seq_length(),
            caller_positions=self.settings.resolved_positions != "contiguous",
        )
        visual = {*self._adapter.image_keys, *self._adapter.video_keys}
        rest = {
            k: v for k, v in kwargs.items() if k not in visual and k not in _OWN and k not in PER_TOKEN_KEYS
        }
        return transcript, {**rest, **short}

    def _note(self, transcript: Transcript, cache: Any, output: Any) -> None:
        """Record the contents of the cache of a finished call."""
        if cache is None:
            cache = returned_cache(output)
            if getattr(cache, "is_compileable", False):
                return  # generate's own static cache belongs to the model, and its next call fills it anew
        sequences: Tensor = output if isinstance(output, Tensor) else output.sequences
        rows = transcript.mask.shape[0]
        if isinstance(cache, Cache) and sequences.shape[0] == rows == cache_rows(
            cache
        ):  # beams have more rows
            transcript.sequences = sequences
            self._transcripts[cache] = transcript

    def _note_text(self, kwargs: Mapping[str, Any], output: Any) -> None:
        ids = kwargs.get("input_ids")
        if isinstance(ids, Tensor) and ids.ndim == 2:
            self._note(open_transcript(kwargs, self._mask(kwargs), kwargs, ()), given_cache(kwargs), output)

    def _mask(self, kwargs: Mapping[str, Any]) -> Tensor | None:
        mask = kwargs.get("attention_mask")
        return mask if mask is not None else inferred_mask(self._model, kwargs["input_ids"])

    @property
    def _placeholders(self) -> tuple[int | None, int | None]:
        return self._adapter.image_token_id, self._adapter.video_token_id

    @property
    def _pixel_keys(self) -> tuple[str, ...]:
        return (*self._adapter.image_keys[:1], *self._adapter.video_keys[:1])

    def _check_options(self, generation_config: Any, kwargs: Mapping[str, Any]) -> None:
        if isinstance(kwargs.get("logits_to_keep"), Tensor):
            raise UnsupportedInputError(
                f"logits_to_keep={shown(kwargs['logits_to_keep'])} names columns of the prompt, which generate applies "
                "to every later token too; leave it out, or call model(...)"
            )
        if option("token_healing", generation_config, kwargs, self._model):
            raise UnsupportedInputError(
                "token_healing=True rewrites the end of the prompt, which a compress block gives back as it was; leave "
                "it out"
            )
        cache = option("use_cache", generation_config, kwargs, self._model)
        policy = self.settings.resolved_positions
        if policy != "contiguous" and cache is False and self._adapter.traits.axes == 1:
            raise UnsupportedInputError(
                f"use_cache=False cannot go with positions={policy!r}: without a cache transformers reads the gaps as "
                "packed sequences; use positions='contiguous' or keep the cache"
            )
        if cache is False and is_filled(given_cache(kwargs)):
            raise UnsupportedInputError(
                f"use_cache=False cannot go with {cache_name()}; leave one of them out"
            )
        if is_filled(given_cache(kwargs)):
            self._check_later_turn(generation_config, kwargs)
        for name in ("num_beams", "num_return_sequences"):
            value = option(name, generation_config, kwargs, self._model)
            if self._adapter.traits.container == "hidden" and value not in (None, 1):
                raise UnsupportedInputError(
                    f"{name}={value!r} cannot go with {self._name}, whose encoder outputs transformers does not copy "
                    "for several sequences of a prompt; use 1"
                )
        if self.settings.method.inside is not None:
            self._check_inside(generation_config, kwargs)
        chunk = option("prefill_chunk_size", generation_config, kwargs, self._model)
        if chunk is not None and transformers_version() < CHUNKED_PREFILL_SINCE:
            raise UnsupportedInputError(
                f"prefill_chunk_size={chunk} goes wrong with encoded images before transformers "
                f"{'.'.join(map(str, CHUNKED_PREFILL_SINCE))} (this is {transformers.__version__}); leave it out"
            )
        if chunk is not None and self._adapter.traits.both_ways:
            raise UnsupportedInputError(
                f"prefill_chunk_size={chunk} cuts pictures apart, whose tokens attend to later ones too in "
                f"{self._name}; leave it out"
            )

    def _check_later_turn(self, generation_config: Any, kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that a filled cache rules out; stock transformers gets the first two wrong, silently."""
        for name in _SPECULATIVE:
            if option(name, generation_config, kwargs, self._model) is not None:
                raise UnsupportedInputError(
                    f"{name} cannot go with a filled {cache_name()}: leave one of them out"
                )
        for name in ("num_beams", "num_return_sequences"):
            value = option(name, generation_config, kwargs, self._model)
            if value not in (None, 1):
                raise UnsupportedInputError(
                    f"{name}={value!r} cannot go with {cache_name()}, which has one row per prompt: use 1, or no cache"
                )

    def _check_inside(self, generation_config: Any, kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that cannot go with a method inside the language model."""
        growing = (None, "dynamic", "offloaded")
        allowed: dict[str, tuple[Any, ...]] = {"use_cache": (None, True), "cache_implementation": growing}
        for name in ("use_cache", "cache_implementation", "prefill_chunk_size", *_SPECULATIVE):
            value = option(name, generation_config, kwargs, self._model)
            if not any(value is fine or value == fine for fine in allowed.get(name, (None,))):
                raise UnsupportedInputError(
                    f"{name}={value!r} cannot go with method {self.settings.method.name!r}, whose layers hold "
                    "different numbers of tokens in one growing cache; leave it out"
                )

    def before_forward(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Forward pre-hook: compress the inputs of a direct `model(**inputs)`.

        Raises:
            UnsupportedInputError: a filled cache together with pixels.
            CompressionStateError: encoder outputs that did not come through the block, as from a `generate` that
                was bound before it.
        """
        if getattr(self._inside, "depth", 0):
            return None
        if not self._calls.begin():  # the block was left after this call began
            return None
        with ExitStack() as call:
            call.callback(self._calls.end)
            inside, changed = outside_compiler(self._shorten)(args, kwargs)
            if inside is not None:
                call.enter_context(self._acting(inside))
                self._inside.forward = call.pop_all(), inside  # until `after_forward`
        self._calls.settle()
        return changed

    def _shorten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[DecoderCall | None, Any]:
        """Compress the arguments of a direct call. Returns what it needs of the hooks, and the pre-hook's result."""
        if args:
            kwargs = {**dict(zip(self._forward_parameters, args, strict=False)), **kwargs}
        given, kwargs = kwargs, with_cache_name(kwargs)
        if not self._has_pixels(kwargs):
            encoded = (kwargs.get("mm_encoder_outputs") or {}).values()
            if any(value is not None and not isinstance(value, EncodedVisuals) for value in encoded):
                raise CompressionStateError(
                    "this call inside a compress block brings images or videos that were encoded past it; call "
                    "model.generate or model(...) on the model itself, not a generate that was bound before the block"
                )
            renamed = given.get(cache_name()) is not kwargs.get(cache_name())
            return self._later(given_cache(kwargs)), ((), kwargs) if renamed else None
        compressed = self._compress(kwargs, for_generate=False)
        with self._acting(compressed.inside):
            return compressed.inside, ((), dict(compressed))

    def _later(self, cache: Any) -> DecoderCall | None:
        """Return what a direct call over a cache needs of the hooks: the masses of what the cache holds."""
        weigher = None if self.hooks is None else self.hooks.mass
        mass = None if weigher is None else weigher.plan_of(cache)
        if weigher is None or mass is None:
            return None
        if not is_filled(cache):
            weigher.forget(cache)
            return None
        return DecoderCall(self._adapter, None, mass)

    def after_forward(self, module: Any, args: Any, output: Any) -> None:
        """Forward hook after the prefill of a direct call; also called after errors, with `output` None.

        Raises:
            CompressionStateError: the language model ran without its hooks.
        """
        inside = self._end_forward()
        if output is None:
            return  # torch iterates over the hooks now, so none may be taken off
        self._calls.settle()
        if inside is not None:
            inside.check_ran()

    def _end_forward(self) -> DecoderCall | None:
        """Count this thread's direct call as ended, if there is one. Returns what it needed of the hooks."""
        call, inside = getattr(self._inside, "forward", None) or (None, None)
        self._inside.forward = None
        if call is not None:
            call.close()
        return inside

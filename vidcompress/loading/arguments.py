"""Arguments passed on to transformers, checked first, since its own errors do not name the caller's arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from vidcompress.adapters.base import adapter_for
from vidcompress.checks import is_whole
from vidcompress.core.foreign_arguments import ASKING, refuse
from vidcompress.core.method import METHODS
from vidcompress.core.method_lookup import options_of
from vidcompress.errors import ArgumentError, MediaError, nearest, shown
from vidcompress.llm_pruning.cache_names import CACHE_NAMES
from vidcompress.media.preprocessing.protocol import adopted

OWN = (
    "inputs",
    "input_ids",
    "attention_mask",
    "position_ids",
    "inputs_embeds",
    "mm_encoder_outputs",
    *CACHE_NAMES,
)
"""Arguments of `generate` that `VisualQA` makes itself."""


class GenerateOptions(TypedDict, total=False):
    """Arguments of a model's `generate` that a question may have, as in transformers' GenerationConfig."""

    # length
    max_length: int
    min_length: int
    min_new_tokens: int
    max_time: float
    stop_strings: str | list[str]
    early_stopping: bool | str
    # choice of the next token
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    top_h: float
    typical_p: float
    epsilon_cutoff: float
    eta_cutoff: float
    num_beams: int
    num_beam_groups: int
    diversity_penalty: float
    length_penalty: float
    penalty_alpha: float
    dola_layers: str | list[int]
    guidance_scale: float
    low_memory: bool
    # favoured and barred tokens
    repetition_penalty: float
    no_repeat_ngram_size: int
    encoder_repetition_penalty: float
    encoder_no_repeat_ngram_size: int
    bad_words_ids: list[list[int]]
    force_words_ids: list[list[int]]
    constraints: Sequence[object]
    sequence_bias: Mapping[tuple[int, ...], float] | list[object]
    suppress_tokens: list[int]
    begin_suppress_tokens: list[int]
    forced_bos_token_id: int
    forced_eos_token_id: int | list[int]
    exponential_decay_length_penalty: tuple[int, float]
    renormalize_logits: bool
    remove_invalid_values: bool
    token_healing: bool
    watermarking_config: object
    prefix_allowed_tokens_fn: object
    logits_processor: Sequence[object]
    stopping_criteria: Sequence[object]
    streamer: object
    negative_prompt_ids: object
    negative_prompt_attention_mask: object
    # results
    num_return_sequences: int
    output_attentions: bool
    output_hidden_states: bool
    output_scores: bool
    output_logits: bool
    return_dict_in_generate: bool
    pad_token_id: int
    bos_token_id: int
    eos_token_id: int | list[int]
    decoder_start_token_id: int | list[int]
    # cache and its computation
    use_cache: bool
    cache_implementation: str
    cache_config: Mapping[str, object]
    max_cache_len: int
    prefill_chunk_size: int
    compile_config: object
    disable_compile: bool
    continuous_batching_config: object
    synced_gpus: bool
    # speculative decoding
    assistant_model: object
    is_assistant: bool
    num_assistant_tokens: int
    num_assistant_tokens_schedule: str
    assistant_confidence_threshold: float
    assistant_early_exit: int
    assistant_lookbehind: int
    assistant_ensemble_weight: float
    target_lookbehind: int
    speculation_type: str
    use_mtp: bool
    prompt_lookup_num_tokens: int
    max_matching_ngram_size: int
    # whole configuration
    generation_config: object
    custom_generate: object


def check_model(model: Any, processor: Any) -> tuple[Any, Any]:
    """Check the model and the processor of a `VisualQA`; None stands for one that is filled in later.

    Returns:
        The model without its wrappers, and the processor; a stock one is returned as a `MediaProcessor`.

    Raises:
        ArgumentError: `processor` is not a processor.
        UnsupportedModelError: no adapter serves `model`.
    """
    if model is not None:
        model = adapter_for(model).model
    if processor is None:
        return model, None
    try:
        return model, adopted(processor, str(getattr(getattr(model, "config", None), "model_type", "")))
    except MediaError as error:
        raise ArgumentError(str(error)) from None


def check_special_ids(source: str, model: Any) -> None:
    """Check the ids in a checkpoint's generation_config.json, which `generate` does not check itself.

    Raises:
        ArgumentError: an id is not a whole number of at least 0.
    """
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(model.generation_config, name, None)
        ids: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
        if not all(is_whole(entry) and 0 <= entry < 2**31 for entry in ids):
            raise ArgumentError(
                f"model={source!r}: {name}={shown(value)} in its generation_config.json must be a token id or a list "
                "of them; fetch the checkpoint again"
            )


def check_generation(model: Any, options: Mapping[str, Any]) -> None:
    """Refuse options that the model's `generate` does not know, before anything is opened or encoded.

    Args:
        model: known are the arguments of its `generate` and `forward`, and transformers' GenerationConfig.
        options: of the caller, beyond the arguments of `ask`.

    Raises:
        ArgumentError: an unknown name, or one that `VisualQA` fills in itself.
    """
    if not options:
        return
    for name in options:
        if name in OWN:
            raise ArgumentError(
                f"{name} cannot be passed on to generate; leave it out, it is made from the question and its media"
            )
    refuse(options, ASKING)
    names = _known(model)
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ArgumentError(f"{name}={value}: must be a finite number to be passed on to generate")
        if name not in names:
            owners = [key for key in METHODS.names() if name in options_of(key)]
            if owners:
                raise ArgumentError(
                    f"{name}={shown(value)}: is an option of {', '.join(owners)}, set once for all "
                    f"questions; use qa.using({name}={shown(value)}).ask(...)"
                )
            raise ArgumentError(
                f"{name}={shown(value)}: neither an argument of ask nor of the model's generate; {_near(name, names)}"
            )


def _known(model: Any) -> set[str]:
    from transformers import GenerationConfig

    named = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    for function in (model.generate, model.forward):
        named |= set(inspect.signature(function).parameters)
    return named - {"self", "kwargs"}


def _near(name: str, known: set[str]) -> str:
    """Return a clause with the nearest known name, without the list of a hundred names."""
    _, _, hint = nearest(name, known).partition("; ")
    return hint or "see transformers' GenerationConfig for what there is"

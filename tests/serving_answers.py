"""Prompts with pictures and clips, answered by an engine of vLLM and by transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import processor_cases as cases
from vidcompress import compress_inputs

STEPS = 6
LIKELY = 5


@dataclass
class Answer:
    """Greedy tokens, log-probabilities of the likely tokens at each step, and the prompt's length."""

    tokens: list[int]
    likely: list[dict[int, float]]
    length: int
    cached: int = 0

    def differs(self, other: Answer) -> float:
        """Largest difference of a probability's logarithm, over tokens likely by both; infinite where tokens differ."""
        if self.tokens != other.tokens or self.length != other.length:
            return float("inf")
        pairs = [
            (own[token], theirs[token])
            for own, theirs in zip(self.likely, other.likely, strict=True)
            for token in own.keys() & theirs.keys()
        ]
        assert len(pairs) >= STEPS
        return max(abs(own - theirs) for own, theirs in pairs)


def picture(height: int, width: int, seed: int = 0) -> Any:
    from PIL import Image

    return Image.fromarray(cases.picture(seed, height, width))


def clip(frames: int, height: int = 112, width: int = 112, seed: int = 0) -> Any:
    return np.stack([cases.picture(seed + 10 * number, height, width) for number in range(frames)])


def from_engine(llm: Any, prompts: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> list[Answer]:
    """Answers of an engine to prompts of (text, media, mm_processor_kwargs), all at once."""
    from vllm import SamplingParams

    sampling = SamplingParams(max_tokens=STEPS, temperature=0, ignore_eos=True, logprobs=LIKELY)
    requests = [
        {"prompt": text, "multi_modal_data": media, "mm_processor_kwargs": values}
        for text, media, values in prompts
    ]
    return [
        Answer(
            list(one.outputs[0].token_ids),
            [{token: value.logprob for token, value in step.items()} for step in one.outputs[0].logprobs],
            len(one.prompt_token_ids),
            one.num_cached_tokens or 0,
        )
        for one in llm.generate(requests, sampling, use_tqdm=False)
    ]


def from_transformers(
    model: Any, inputs: dict[str, Any], method: str, *, positions_rule: Any = None, **arguments: Any
) -> Answer:
    """Answer of transformers to processor outputs, compressed by the package in the usual way.

    `positions_rule` may change the compressed inputs, which it gets with the model and the whole inputs.
    """
    compressed = dict(compress_inputs(model, inputs, method, **arguments))
    if positions_rule is not None:
        compressed = positions_rule(model, inputs, compressed)
    with torch.no_grad():
        made = model.generate(
            **compressed,
            max_new_tokens=STEPS,
            min_new_tokens=STEPS,
            do_sample=False,
            eos_token_id=-1,
            output_logits=True,
            return_dict_in_generate=True,
        )
    likely = []
    for step in made.logits:
        values, tokens = step[0].float().log_softmax(-1).topk(LIKELY)
        likely.append(dict(zip(tokens.tolist(), values.tolist(), strict=True)))
    length = compressed["input_ids"].shape[1]
    return Answer(made.sequences[0, length:].tolist(), likely, length)

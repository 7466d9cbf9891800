"""LLaVA-NeXT in vLLM with tokens left out, ranked by the CLS token of CLIP's last layer as the authors take it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("vllm", reason="needs vLLM, which has an environment of its own: make serve-test")

from serving_answers import Answer, from_engine, from_transformers, picture
from vidcompress.serving.plugin import hf_overrides

pytestmark = [pytest.mark.serving, pytest.mark.slow]
FOLDER = "models/tiny-next"
STOCK = "LlavaNextForConditionalGeneration"
PROMPT = "<|im_start|>user {} what is shown?<|im_end|><|im_start|>assistant"
IMAGES = {"wide": picture(100, 160), "tall": picture(300, 110, 3), "square": picture(150, 150, 4)}
RATIOS = (1, 0.5, 0.1)
CLOSE = 1e-4


@pytest.fixture(scope="module")
def reference() -> Any:
    from transformers import AutoProcessor, LlavaNextForConditionalGeneration

    model = LlavaNextForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(FOLDER)

    def answer(image: Any, method: str = "globalcom2", **arguments: Any) -> Answer:
        inputs = processor(text=[PROMPT.format("<image>")], images=[image], return_tensors="pt")
        return from_transformers(model, dict(inputs), method, **arguments)

    return answer


@pytest.fixture(scope="module")
def llm(engine: Any) -> Any:
    return engine(FOLDER, hf_overrides=hf_overrides(STOCK, retention_ratio=0.25))


def ask(llm: Any, name: str, **values: Any) -> Answer:
    (answer,) = from_engine(llm, [(PROMPT.format("<image>"), {"image": IMAGES[name]}, values)])
    return answer


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", IMAGES)
def test_tokens_equal_those_of_transformers(llm: Any, reference: Any, name: str, ratio: float) -> None:
    answer = ask(llm, name, retention_ratio=ratio)
    assert answer.differs(reference(IMAGES[name], retention_ratio=ratio)) < CLOSE
    if ratio < 1:  # distances to the mean choose other tokens, so that the evidence shows
        assert (
            answer.differs(reference(IMAGES[name], "globalcom2:evidence=distance", retention_ratio=ratio))
            > CLOSE
        )


def test_all_in_one_batch(llm: Any, reference: Any) -> None:
    prompts = [
        (PROMPT.format("<image>"), {"image": image}, {"retention_ratio": 0.3}) for image in IMAGES.values()
    ]
    for answer, image in zip(from_engine(llm, prompts), IMAGES.values(), strict=True):
        assert answer.differs(reference(image, retention_ratio=0.3)) < CLOSE


def test_counts_equal_placeholders_over_sizes(llm: Any) -> None:
    """The model raises where it chose another number than the prompt has placeholders, and the engine dies."""
    sides = (1, 2, 14, 37, 112, 113, 300, 700)
    sizes = [(h, w) for h in sides for w in sides] + [(20, 2000), (2000, 20), (3, 900), (944, 1153)]
    prompts = [
        (PROMPT.format("<image>"), {"image": picture(*size)}, {"retention_ratio": 0.05 + 0.9 * (i % 7) / 7})
        for i, size in enumerate(sizes)
    ]
    assert len(from_engine(llm, prompts)) == 68


@pytest.mark.parametrize("method", ["fastervlm", "divprune", "pool", "globalcom2:evidence=distance"])
def test_other_methods(engine: Any, reference: Any, method: str) -> None:
    llm = engine(FOLDER, hf_overrides=hf_overrides(STOCK, method=method, retention_ratio=0.25))
    for name, image in IMAGES.items():
        assert ask(llm, name).differs(reference(image, method, retention_ratio=0.25)) < CLOSE


def test_methods_of_other_evidence_are_refused(engine: Any) -> None:
    for method in ("visionzip", "prumerge", "vidcom2"):
        with pytest.raises(ValueError, match=method):
            engine(FOLDER, hf_overrides=hf_overrides(STOCK, method=method, retention_ratio=0.25))

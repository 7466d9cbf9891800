"""Compressed inputs as a mapping that is moved, unpacked and read like those of transformers' processors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import vidcompress
from vidcompress.errors import ArgumentError

pytestmark = pytest.mark.transformers

SCENE = Path(__file__).parents[3] / "examples" / "scene.png"


@pytest.fixture(scope="module")
def qa() -> Any:
    return vidcompress.VisualQA.from_pretrained()


def qa_inputs(qa: Any) -> Any:
    chat = [
        {"role": "user", "content": [{"type": "image", "path": SCENE}, {"type": "text", "text": "what ?"}]}
    ]
    return qa.processor.apply_chat_template(chat, tokenize=True, return_dict=True)


@pytest.fixture
def made(qa: Any) -> Any:
    return vidcompress.compress_inputs(qa.model, qa_inputs(qa), retention_ratio=0.5)


def features(inputs: Any) -> list[torch.Tensor]:
    return list(inputs["mm_encoder_outputs"]["image"].pooler_output)


def test_ids_keep_their_dtype_and_features_do_not(made: Any) -> None:
    report, before = made.report, features(made)
    assert made.to(torch.float64) is made
    assert made.report is report
    assert made["input_ids"].dtype == torch.int64
    for one, two in zip(features(made), before, strict=True):
        assert one.dtype == torch.float64
        assert torch.equal(one, two.double())
    made.to(dtype=torch.bfloat16)
    assert {feature.dtype for feature in features(made)} == {torch.bfloat16}


@pytest.mark.parametrize("call", [("meta",), (torch.device("meta"),), ("meta", torch.float16)])
def test_everything_moves(call: tuple[Any, ...], made: Any) -> None:
    """To a device that every machine has; the features that are handed out afresh move too."""
    made.to(*call)
    tensors = [value for value in made.values() if isinstance(value, torch.Tensor)]
    assert len(tensors) >= 2
    assert {tensor.device.type for tensor in (*tensors, *features(made))} == {"meta"}
    half = torch.float16 in call
    assert {feature.dtype for feature in features(made)} == {torch.float16 if half else torch.float32}
    assert made["input_ids"].dtype == torch.int64


def test_moved_inputs_answer_alike(qa: Any, made: Any) -> None:
    expected = qa.model.generate(**made, max_new_tokens=3, do_sample=False)
    again = qa.model.generate(**made.to("cpu", non_blocking=True), max_new_tokens=3, do_sample=False)
    assert torch.equal(expected, again)
    model = copy.deepcopy(qa.model).double()
    assert torch.equal(model.generate(**made.to(torch.float64), max_new_tokens=3, do_sample=False), expected)


def test_it_is_read_like_the_inputs_of_transformers(made: Any) -> None:
    assert made.input_ids is made["input_ids"]
    assert set(made.data) == set(made.keys()) == set(made)
    assert isinstance(made.data, dict)
    assert not hasattr(made, "pixel_values")
    with pytest.raises(AttributeError, match="no attribute 'pixel_values'; it has the keys input_ids"):
        _ = made.pixel_values
    assert torch.equal(copy.copy(made)["input_ids"], made["input_ids"])


@pytest.mark.parametrize("args, kwargs, message", [
    (("toaster",), {}, "device='toaster' is not a device; pass 'cpu'"),
    ((99,), {}, "device='cuda:99': this machine has"),
    ((torch.int8,), {}, "dtype=torch.int8: must be a floating-point torch.dtype"),
    ((), {"dtype": "half"}, "dtype='half': must be a floating-point torch.dtype"),
    ((torch.float16, torch.float16), {}, "device=torch.float16 is not a device; pass 'cpu'"),
    ((), {"non_blocking": 1}, "non_blocking=1: must be True or False"),
])  # fmt: skip
def test_what_is_no_place(args: tuple[Any, ...], kwargs: dict[str, Any], message: str, made: Any) -> None:
    before = features(made)
    with pytest.raises(ArgumentError, match=message):
        made.to(*args, **kwargs)
    assert features(made)[0] is before[0], "nothing was moved"


def test_saved_inputs_hold_no_model(qa: Any, made: Any) -> None:
    saved = pickle.dumps(made)
    assert len(saved) < 2**20 < len(pickle.dumps(qa.model))
    read = pickle.loads(saved)
    assert torch.equal(read["input_ids"], made["input_ids"])
    assert all(map(torch.equal, features(read), features(made)))
    fewer = features(vidcompress.compress_inputs(qa.model, qa_inputs(qa), retention_ratio=0.25))
    assert features(read)[0].shape != fewer[0].shape

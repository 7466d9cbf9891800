"""Judge of the generic adapter: over a class at toy size, is what it hands over right, and would a mistake be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vidcompress.adapters.generic.adapter import GenericAdapter
from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Modality
from vidcompress.errors import VidcompressError
from vidcompress.session.compress import compress_with
from vidcompress.session.entrance import difference_at_entrance
from vidcompress.session.inputs import CompressedInputs, SentFeatures

from .inputs import NoInputs, inputs_of
from .shrink import CHANGES, shrink

TYPES = ("mm_token_type_ids", "token_type_ids", "moe_mm_token_type_ids")
STEPS = 4
"""Tokens that are generated."""


@dataclass
class Verdict:
    """What was found about one class.

    Attributes:
        name: of the class.
        model_type: of its config; "" where none can be made.
        verdict: `served`; `refused` by the generic adapter; `not run` where no toy model or no toy inputs are made.
        served: media that are served with everything right.
        reason: why it serves no medium; "" where it serves one.
        wrong: what went wrong without a refusal: the list must be empty.
        axes: number of axes of its positions.
        notes: what was not run.
    """

    name: str
    model_type: str = ""
    verdict: str = "not run"
    served: list[str] = field(default_factory=list)
    reason: str = ""
    wrong: list[str] = field(default_factory=list)
    axes: int = 1
    notes: list[str] = field(default_factory=list)


def toy_model(cls: Any) -> Any:
    """A model of a class at toy size, with seeded weights, in eval mode."""
    config = cls.config_class()
    shrink(config, CHANGES.get(config.model_type, {}))
    torch.manual_seed(0)
    model = cls(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # it would make all tokens alike
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def judge_class(name: str, cls: Any) -> Verdict:
    """Judge one class over pictures and clips."""
    verdict = Verdict(name)
    try:
        model = toy_model(cls)
    except Exception as error:  # noqa: BLE001  (classes fail in ways of their own)
        verdict.reason = f"no toy model can be made: {_line(error)}"
        return verdict
    verdict.model_type = str(model.config.model_type)
    reasons, refused = {}, False
    for modality in ("image", "video"):
        try:
            found = _judge_modality(model, modality, verdict)
        except (NoInputs, VidcompressError) as error:
            found, refused = _line(error), refused or not isinstance(error, NoInputs)
        if found is None:
            verdict.served.append(modality)
        else:
            reasons[modality] = found
    verdict.verdict = "served" if verdict.served else "refused" if refused else "not run"
    if not verdict.served:
        verdict.reason = reasons["image"] if reasons["image"] != "it takes no image" else reasons["video"]
    return verdict


def _judge_modality(model: Any, modality: Modality, verdict: Verdict) -> str | None:
    """Return why a medium is not served, None where it is; what is wrong goes to the verdict."""
    torch.manual_seed(1)
    frames = (1,) if modality == "image" else (1, 4)
    errors = []
    for count in frames:  # a clip is one run of placeholders in some classes, one per frame in others
        try:
            inputs = inputs_of(model, modality, frames=count)
            with torch.no_grad():
                stock = model(**inputs).logits
        except (NoInputs, VidcompressError):
            raise
        except Exception as error:  # noqa: BLE001
            errors.append(f"the toy model does not take such inputs itself: {_line(error)}")
            continue
        return _compare(model, inputs, stock, modality, verdict)
    return errors[-1]


def _compare(
    model: Any, inputs: Mapping[str, Any], stock: Tensor, modality: str, verdict: Verdict
) -> str | None:
    adapter = GenericAdapter(model)
    whole = compress_with(adapter, inputs, CompressionConfig("none"), for_generate=False)
    verdict.axes = adapter.traits.axes
    with torch.no_grad():
        everything = model(**whole).logits
    if not torch.equal(stock, everything):
        verdict.wrong.append(f"{modality}: logits differ with everything kept")
    policy: Any = "original" if adapter.traits.honours_positions else "contiguous"
    settings = CompressionConfig("divprune", retention_ratio=0.25, positions=policy)
    got = compress_with(adapter, inputs, settings, for_generate=False)
    found = difference_at_entrance(adapter, inputs, got, 1e-5)
    if found is not None:
        verdict.wrong.append(f"{modality}: {found}")
    for what, tampered in _tampered(adapter, got):
        if difference_at_entrance(adapter, inputs, tampered, 1e-5) is None:
            verdict.wrong.append(f"{modality}: {what} was not noticed")
    answers = _answers(model, adapter, inputs)
    if answers is None:
        verdict.notes.append(f"{modality}: the toy model does not generate")
    elif not torch.equal(*answers):
        verdict.wrong.append(f"{modality}: other tokens are generated with everything kept")
    return None


def _tampered(adapter: GenericAdapter, got: CompressedInputs) -> list[tuple[str, CompressedInputs]]:
    """Compressed inputs with one mistake each, which the judge must notice."""
    rolled = got.continued({}, encoded=True)
    rows = {key: [row.roll(1, 0) for row in rows] for key, rows in got.features.rows.items()}
    rolled.features = replace(got.features, rows=rows)
    wrong = [("a wrong order of tokens", rolled)]
    if any(got.features.deep.values()):
        empty = got.continued({}, encoded=True)
        deep = {
            key: [[torch.zeros_like(x) for x in level] for level in levels]
            for key, levels in got.features.deep.items()
        }
        empty.features = SentFeatures(got.features.rows, deep)
        wrong.append(("empty companions", empty))
    for name in TYPES:
        types = got.get(name)
        if isinstance(types, Tensor) and bool(types.any()):
            plain = got.continued({name: torch.zeros_like(types)}, encoded=True)
            wrong.append((f"{name} of zeros", plain))
    positions = got.get("position_ids")
    if adapter.traits.honours_positions and isinstance(positions, Tensor):
        moved = positions.clone()
        moved[..., -1] += 1
        wrong.append(("a wrong position", got.continued({"position_ids": moved}, encoded=True)))
    return wrong


def _answers(model: Any, adapter: GenericAdapter, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Tokens generated by the stock model, and by the spliced one with everything kept; None where stock fails."""
    options = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0}
    whole = compress_with(adapter, inputs, CompressionConfig("none"))
    width = inputs["input_ids"].shape[1]
    try:
        with torch.no_grad():
            stock = model.generate(**inputs, **options)[:, width:]
    except Exception:  # noqa: BLE001
        return None
    with torch.no_grad():
        return stock, model.generate(**whole, **options)[:, whole["input_ids"].shape[1] :]


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    named = isinstance(error, (NoInputs, VidcompressError))
    for advice in ("; supported: ", "; write an adapter"):
        text = text.partition(advice)[0]
    for opening in ("the generic one does not serve it: ", "what it needs: "):
        text = text.rpartition(opening)[2]
    return (text if named else f"{type(error).__name__}: {text}")[:240]

"""Where selection needs no features, the projector runs on the tokens that are sent, and on no others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from cases import CASES, SCENES
from tiny_models import FAMILIES, Scene, batch, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, visual_budget
from vidcompress.core.layout import Modality
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import LazyTokens
from vidcompress.methods.controls import Uniform
from vidcompress.methods.fastervlm import FasterVLM
from vidcompress.session.compress import compress_inputs
from vidcompress.testing import select_alone


def defers(method: str, family: str, modality: Any) -> bool:
    """Whether a method may leave the projector for later on a scene, and the family's projector comes last there."""
    adapter = adapter_for(tiny_model(family))
    images, videos = adapter.visuals(batch(adapter.model, [SCENES[family, modality]]))
    reads = get_method(method).reads_features(modality, adapter.has_cls)
    return not reads and adapter.projects_positions((images or videos)[0])  # type: ignore[attr-defined]


DEFERRED = [case for case in CASES if defers(*case)]


def test_who_defers() -> None:
    """Attention methods and the controls on pictures; clips only where frames are pooled before the projector."""
    by_modality = {
        kind: {name for name, _, modality in DEFERRED if modality == kind} for kind in ("image", "video")
    }
    plain = {"fastervlm", "hired", "prumerge", "prumerge_plus", "visionzip", "random", "uniform"}
    assert by_modality["image"] == plain | {"globalcom2", "vispruner"}
    assert by_modality["video"] == (plain | {"vispruner"}) - {"hired"}
    assert {family for _, family, modality in DEFERRED if modality == "video"} == {
        "llava_next_video",
        "internvl",
    }
    assert {family for name, family, _ in DEFERRED if name == "globalcom2"} == {
        "llava",
        "llava_next",
        "llava_next_video",
        "internvl",
    }


@contextmanager
def projected_rows(model: Any) -> Iterator[list[int]]:
    """How many rows each call of the projector gets."""
    rows: list[int] = []
    projector = model.model.multi_modal_projector
    handle = projector.register_forward_hook(lambda m, args, out: rows.append(out.shape[:-1].numel()))
    try:
        yield rows
    finally:
        handle.remove()


@pytest.mark.parametrize("ratio", [0.1, 0.4])
@pytest.mark.parametrize(("method", "family", "modality"), DEFERRED)
def test_same_tokens_and_features(method: str, family: str, modality: Any, ratio: float) -> None:
    model = tiny_model(family)
    adapter, chosen = adapter_for(model), get_method(method)
    (visual,) = [v for kind in adapter.visuals(batch(model, [SCENES[family, modality]])) for v in kind]
    budget = visual_budget(visual.layout, max(1, int(ratio * len(visual.layout))))
    wanted = chosen.needs(modality, adapter.has_cls)
    with torch.no_grad(), projected_rows(model) as rows:
        (eager,) = adapter.encode([visual], wanted, max_views=2)
        everything, expected = sum(rows), select_alone(chosen, eager, budget)
        rows.clear()
        (late,) = adapter.encode([replace(visual, may_defer=True)], wanted, max_views=2)
        assert isinstance(late, LazyTokens) and not rows
        found = select_alone(chosen, late, budget)
        sent = found.gather(late)
    assert torch.equal(found.index, expected.index)
    reference = expected.gather(eager)
    assert (sent - reference).abs().max() <= 1e-6 * reference.abs().max()
    # Merging methods project what is sent as it is and what is merged: at most twice what is sent.
    assert sum(rows) <= budget.positions * (2 if chosen.merges else 1) < everything
    assert [item.quantity for item in wanted if item not in eager.evidence] in ([], ["cls_hidden"])
    for item in eager.evidence:
        # Evidence of positions means nothing at separators.
        where = eager.layout.token_index if len(eager.evidence[item]) == len(eager) else slice(None)
        assert torch.equal(late.evidence[item][where], eager.evidence[item][where])
    newlines = late.layout.separator_index
    assert torch.equal(late.rows(newlines), eager.features[newlines])


@pytest.mark.parametrize(("family", "modality"), [("llava_next", "image"), ("llava_next_video", "video")])
def test_full_retention_projects_all_as_the_stock_model(family: str, modality: str) -> None:
    model = tiny_model(family)
    inputs = batch(model, [SCENES[family, modality]])
    for ratio, deferred in ((1.0, False), (0.5, True)):
        with projected_rows(model) as rows:
            report = compress_inputs(model, inputs, "fastervlm", retention_ratio=ratio, max_views=2).report
        views = len(report.visuals[0].layout.views)
        assert len(rows) == (1 if deferred else -(-views // 2)), "chunk by chunk, or what is sent all at once"
        assert not deferred or sum(rows) == report.kept


@pytest.mark.parametrize("family", FAMILIES)
def test_resized_canvases_and_plain_ones_in_one_batch(family: str) -> None:
    """Each visual takes its own way; the order of the results is that of the inputs."""
    model = tiny_model(family)
    adapter = adapter_for(model)
    sizes = [
        (112, 80),
        (336, 336) if family in ("llava_onevision", "llava_video") else (112, 112),
        (112, 112),
    ]
    scenes = [Scene((("image", size),), seed=seed) for seed, size in enumerate(sizes)]
    images, _ = adapter.visuals(batch(model, scenes))
    with torch.no_grad():
        eager = adapter.encode(images, max_views=3)
        late = adapter.encode([replace(image, may_defer=True) for image in images], max_views=3)
    resized = [family in ("llava_onevision", "llava_video") and size == (336, 336) for size in sizes]
    assert [isinstance(tokens, LazyTokens) for tokens in late] == [not one for one in resized]
    for one, other in zip(eager, late, strict=True):
        assert one.dtype == other.dtype and len(one) == len(other)
        assert (one.features - other.features).abs().max() <= 1e-6 * one.features.abs().max()


@dataclass(frozen=True)
class Forgetful(Uniform):
    """Says that it reads no features, and does."""

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        return False

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        norms = [torch.linalg.vector_norm(one.features, dim=-1) for one in batch.visuals]
        best = [norm.argsort(descending=True) for norm in norms]
        return [
            Selection(order[: budget.positions].sort().values)
            for order, budget in zip(best, budgets, strict=True)
        ]


def test_a_method_that_reads_them_all_the_same_gets_features() -> None:
    model = tiny_model("llava_next")
    inputs = batch(model, [SCENES["llava_next", "image"]])
    with projected_rows(model) as rows:
        found = compress_inputs(model, inputs, Forgetful(), retention_ratio=0.3)
        assert len(rows) == 1, "all at once, and not again for those that are sent"
    full = compress_inputs(model, inputs, "none")["mm_encoder_outputs"]["image"].pooler_output[0]
    (visual,) = found.report.visuals
    expected = torch.linalg.vector_norm(full, dim=-1).argsort(descending=True)[: visual.budget].sort().values
    assert torch.equal(visual.kept_positions, expected)
    assert torch.allclose(found["mm_encoder_outputs"]["image"].pooler_output[0], full[expected], rtol=1e-6)


@dataclass(frozen=True)
class Rewriting(FasterVLM):
    """Changes the evidence before the method sees it, and says nothing of features."""

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        turned = [
            one.replace(evidence={item: -value for item, value in one.evidence.items()})
            for one in batch.visuals
        ]
        return super().select(VisualBatch(turned), budgets)


def test_tokens_may_be_replaced_by_others() -> None:
    model = tiny_model("llava_next")
    inputs = batch(model, [SCENES["llava_next", "image"]])
    plain, other = (
        compress_inputs(model, inputs, m, retention_ratio=0.3) for m in (FasterVLM(), Rewriting())
    )
    (visual,), (least,) = plain.report.visuals, other.report.visuals
    assert least.kept == visual.kept and not torch.equal(least.kept_positions, visual.kept_positions)
    full = compress_inputs(model, inputs, "none")["mm_encoder_outputs"]["image"].pooler_output[0]
    sent = other["mm_encoder_outputs"]["image"].pooler_output[0]
    assert torch.allclose(sent, full[least.kept_positions], rtol=1e-6, atol=1e-6)


def test_every_method_that_says_so_keeps_its_word() -> None:
    """A method without a word about it reads features, and so does one that ranks by distances."""
    assert Method.reads_features(get_method("fastervlm"), "image", True), "who says nothing reads them"
    assert get_method("globalcom2", evidence="distance").reads_features("image", True)

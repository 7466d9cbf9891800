"""The checks that other packages run: everything here passes them, and each finds what it is for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from cases import SCENES
from tiny_models import Scene, batch, tiny_model
from vidcompress import testing
from vidcompress.adapters.llava_next import LlavaNextAdapter
from vidcompress.adapters.llava_onevision import LlavaOnevisionAdapter
from vidcompress.adapters.qwen_vl import Qwen2VLAdapter
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget
from vidcompress.core.method import ScoredMethod
from vidcompress.core.method_lookup import available_methods
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedModelError
from vidcompress.methods.controls import Uniform
from vidcompress.session.block import CompressSession
from vidcompress.testing.block import check_refusals
from vidcompress.testing.expect import positions_of
from vidcompress.testing.methods import EMBEDDED, check_card, embedded_case, layouts


@pytest.mark.parametrize("method", available_methods())
def test_every_method_keeps_the_contract(method: str) -> None:
    testing.check_method(method)


@pytest.mark.parametrize(("family", "modality"), list(SCENES))
def test_every_adapter_keeps_the_contract(family: str, modality: str) -> None:
    model = tiny_model(family)
    testing.check_adapter(model, batch(model, [SCENES[family, modality], Scene((), seed=7)]))


@pytest.mark.parametrize(("modality", "grid"), [("image", [1, 10, 8]), ("video", [2, 4, 4])])
def test_methods_are_checked_on_patches_and_positions_with_axes(
    modality: str, grid: list[int], broken: Any
) -> None:
    """One view of a shape of its own, frames in pairs; an adapter whose positions are wrong is found by any method."""
    assert ("tiny-qwen", modality) in EMBEDDED
    model, inputs = embedded_case("tiny-qwen", modality)
    assert inputs["image_grid_thw" if modality == "image" else "video_grid_thw"].tolist() == [grid]
    assert positions_of(model) == ("original",)
    broken(Qwen2VLAdapter, "positions", torch.zeros_like)
    with pytest.raises(testing.ContractError, match=r"uniform at .*logits"):
        testing.check_method("uniform")


@dataclass(frozen=True)
class WantsCls(Uniform):
    """Uniform that asks for the attention of a CLS token of every encoder."""

    name = "wants_cls"

    def needs(self, modality: str, has_cls: bool) -> tuple[Evidence, ...]:
        return (Evidence("cls_attention", -2),)


def test_what_a_packed_encoder_does_not_have_is_refused_by_name() -> None:
    model, inputs = embedded_case("tiny-qwen", "image")
    with pytest.raises(UnsupportedModelError, match="cls_attention"):
        testing.check_counts(model, inputs, WantsCls())
    testing.check_counts(*embedded_case("tiny-next", "image"), WantsCls())


def with_masses(separator: torch.Tensor, index: torch.Tensor, how: str) -> Selection:
    """Every token sent stands for itself, and all others are heirless; or one of this is wrong."""
    mass = torch.ones(len(index))
    heirless = (~separator).scatter(0, index, how == "heirless and sent")
    if how == "a mass of zero":
        mass[0] = 0
    if how == "a mass of separators":
        mass[separator[index]] = 2
    if how == "heirs of separators":
        heirless |= separator
    return Selection(index, mass=mass, heirless=None if how == "masses of one" else heirless)


@dataclass(frozen=True)
class Wrong(Uniform):
    """Uniform with one thing wrong."""

    how: str = ""

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> Any:
        made = [self.select_visual(one, budget) for one, budget in zip(batch.visuals, budgets, strict=True)]
        return made[:1] if self.how == "one of two" else made

    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Any:
        index = super().select(VisualBatch([tokens]), [budget])[0].index
        if self.how == "one more" and len(index) < len(tokens):
            return Selection(torch.arange(len(index) + 1))
        if self.how == "twice":
            return Selection(index[:1].expand(len(index)))
        if self.how == "reversed":
            return Selection(index.flip(0))
        if self.how == "outside":
            return Selection(index + len(tokens) - 1)
        if self.how == "floats":
            return Selection(index.float())
        if self.how == "no separators":
            return Selection(tokens.layout.token_index[: len(index)])
        if self.how == "drawn":
            return Selection(torch.randperm(len(tokens))[: len(index)].sort().values)
        if self.how == "seeded once":
            offset = torch.initial_seed() % 2  # the same as long as nobody seeds
            return Selection(index if len(index) == len(tokens) else (index - offset).clamp(min=0))
        if self.how == "written":
            tokens.features[0] = 0
        if self.how == "by features":
            best = torch.linalg.vector_norm(tokens.features, dim=-1).argsort()
            return Selection(best[: budget.positions].sort().values)
        if self.how == "float64":
            return Selection(index, tokens.features[index].double())
        if self.how == "narrow":
            return Selection(index, tokens.features[index][:, 1:])
        if "mass" in self.how or "heir" in self.how:
            return with_masses(tokens.layout.separator, index, self.how)
        return index if self.how == "bare" else Selection(index)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("one more", "selects 3, the budget is 2"),
        ("twice", "a position is selected twice"),
        ("masses of one", "the masses of tokens sum to .* tokens are not heirless"),
        ("a mass of zero", "masses must be above 0, the smallest is 0"),
        ("a mass of separators", "a separator stands for itself, and its mass must be 1"),
        ("heirless and sent", "a token that is sent cannot be heirless"),
        ("heirs of separators", "heirless marks tokens that are no separators"),
        ("reversed", "the whole input is not in its own order"),
        ("outside", "index leaves 0 to"),
        ("floats", r"torch.float32: must be a tensor \(K,\) of torch.int64"),  # the Selection itself says so
        ("no separators", "0 separators, the plan has 1"),
        ("drawn", "two calls select differently"),
        ("seeded once", "the global random state decides; take a seed as option"),
        ("written", "features or evidence were written into"),
        ("float64", "features are torch.float64, they came as torch.float32"),
        ("narrow", r"features of shape .*15\), expected .*16\)"),
        ("bare", "returns Tensor, not a Selection"),
        ("by features", r"reads features, which reads_features\(\) denies"),
        ("one of two", "selects other tokens from two visuals than from each alone"),
    ],
)
def test_a_method_with_one_thing_wrong_is_found(how: str, message: str) -> None:
    where = "a clip with a newline per row" if "separators" in how else "a clip without newlines"
    testing.check_selections(Wrong(how="masses and heirs"), layouts()[where], where)  # which are right
    testing.check_selections(Wrong(), layouts()[where], where)
    with pytest.raises((testing.ContractError, ArgumentError), match=message):
        testing.check_selections(Wrong(how=how), layouts()[where], where)


@dataclass(frozen=True)
class Slipped(ScoredMethod):
    """Scores by the norm, and one slip that every count survives."""

    name = "slipped"
    modalities = frozenset({"image", "video"})

    how: str = ""

    def scores(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        norms, weights = batch.features.norm(dim=-1), batch.layout.sizes_tensor[:-1].double()
        if self.how == "mean of the batch":
            return (norms - norms.mean()).abs(), weights
        if self.how == "no number":
            return norms * torch.nan, weights
        if self.how == "no weight":
            return norms, weights * torch.nan
        return norms, -weights if self.how == "below 0" else weights


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "mean of the batch",
            "other tokens from two visuals than from each alone; .* not run over the batch",
        ),
        ("no number", r"slipped on .*: scores must be finite, got \[nan\]"),
        ("no weight", r"slipped on .*: weights must be finite and not negative, got \[nan\]"),
        ("below 0", r"weights must be finite and not negative, got \[-9.0\]"),
    ],
)
def test_a_slip_that_every_count_survives_is_found(how: str, message: str) -> None:
    where = "a clip without newlines"
    testing.check_selections(Slipped(), layouts()[where], where)
    with pytest.raises(testing.ContractError, match=message):
        testing.check_selections(Slipped(how), layouts()[where], where)


@dataclass(frozen=True)
class Moved(ScoredMethod):
    """Keeps tokens by a score that depends on what else is in the batch: the address of the features."""

    name = "moved"
    modalities = frozenset({"image", "video"})

    def scores(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(batch))
        scores = batch.features.float().norm(dim=-1) * (-1) ** len(seen)
        return scores, batch.layout.sizes_tensor[:-1].double()


seen: list[int] = []


def scene(family: str = "llava_next", modality: str = "image") -> tuple[Any, Any]:
    model = tiny_model(family)
    return model, batch(model, [SCENES[family, modality]])


def test_a_row_that_depends_on_its_neighbours_is_found() -> None:
    with pytest.raises(
        testing.ContractError, match="moved: row 0 keeps other tokens beside other rows than alone"
    ):
        testing.check_rows(*scene(), Moved())


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """broken(cls, name, change): a member of a class, changed for this test."""

    def change(cls: Any, name: str, wrap: Any) -> None:
        true = getattr(cls, name)
        monkeypatch.setattr(cls, name, lambda self, *args, **kwargs: wrap(true(self, *args, **kwargs)))

    return change  # type: ignore[return-value]


def shifted(tokens: list[VisualTokens]) -> list[VisualTokens]:
    return [VisualTokens(t.features + 1e-3, t.layout, t.evidence) for t in tokens]


def test_wrong_features_are_found(broken: Any) -> None:
    broken(LlavaNextAdapter, "encode", shifted)
    with pytest.raises(
        testing.ContractError, match="none at retention 1.0, max_views=1: logits: differs by up to"
    ):
        testing.check_identity(*scene())


def test_features_in_the_wrong_order_are_found(broken: Any) -> None:
    broken(LlavaNextAdapter, "encode", lambda ts: [VisualTokens(t.features.flip(0), t.layout) for t in ts])
    with pytest.raises(testing.ContractError, match="entrance.* inputs_embeds is neither"):
        testing.check_adapter(*scene(), methods=["uniform"])


def test_videos_taken_for_images_are_found(broken: Any) -> None:
    broken(LlavaOnevisionAdapter, "visuals", lambda found: (found[1], found[0]))
    with pytest.raises(testing.ContractError, match="the layout of an image is that of a video"):
        testing.check_adapter(*scene("llava_onevision", "video"))


def test_a_model_that_takes_no_encoder_outputs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = scene()
    monkeypatch.setattr(model, "forward", lambda input_ids, pixel_values: None)
    with pytest.raises(testing.ContractError, match="LlavaNextFor.*forward takes no mm_encoder_outputs"):
        testing.check_adapter(model, inputs)


def test_missing_visuals_are_found(broken: Any) -> None:
    broken(LlavaNextAdapter, "visuals", lambda found: ([], []))
    with pytest.raises(testing.ContractError, match="visuals finds neither images nor videos"):
        testing.check_adapter(*scene())


def test_evidence_that_is_not_finite_or_left_out_is_found(broken: Any) -> None:
    def spoilt(tokens: list[VisualTokens]) -> list[VisualTokens]:
        return [
            VisualTokens(t.features, t.layout, {k: v * float("nan") for k, v in t.evidence.items()})
            for t in tokens
        ]

    broken(LlavaNextAdapter, "encode", spoilt)
    with pytest.raises(testing.ContractError, match="must be float32 and finite at every token"):
        testing.check_adapter(*scene(), methods=["globalcom2"])


def test_evidence_that_is_left_out_is_found(broken: Any) -> None:
    broken(LlavaNextAdapter, "encode", lambda ts: [VisualTokens(t.features, t.layout) for t in ts])
    with pytest.raises(testing.ContractError, match="was asked for .*cls_logits.*, gave"):
        testing.check_adapter(*scene(), methods=["globalcom2"])


def test_lost_positions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidcompress.session import compress as session

    true = session.splice

    def flat(*args: Any, **kwargs: Any) -> Any:
        return true(*args, **{**kwargs, "original_positions": False})

    monkeypatch.setattr(session, "splice", flat)
    with pytest.raises(
        testing.ContractError, match="uniform at 0.5, original positions, against .*masked: logits"
    ):
        testing.check_masked(*scene(), "uniform", positions="original")


def test_what_a_block_leaves_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = scene()
    true = CompressSession.close

    def forgetful(self: CompressSession) -> None:
        self._model.left_behind = 1
        true(self)

    monkeypatch.setattr(CompressSession, "close", forgetful)
    with pytest.raises(testing.ContractError, match="left an attribute or a hook"):
        testing.check_block(model, inputs)
    del model.left_behind


def test_mismatches_that_get_through_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidcompress.testing import block

    monkeypatch.setattr(block, "compress_inputs", lambda *args, **kwargs: None)
    with pytest.raises(
        testing.ContractError, match="placeholders without pixels must raise UnsupportedInputError"
    ):
        check_refusals(*scene())


CARD = """+++
name = "carded"
effect = "Every so many tokens."
paper = ""
code = ""
modalities = ["image", "video"]
needs = "features"

[defaults]
+++

"""


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (CARD + "# Carded\n", "card 'carded' has 8 characters of prose below its head; write at least 200"),
        (CARD.replace("Every so many tokens.", "") + "long " * 60, "card 'carded': effect is empty"),
        ("# Carded", "card 'carded' must begin with a TOML head"),
        (CARD + "long " * 60, None),
        (None, None),
    ],
)
def test_a_card_that_says_nothing_is_found(
    card: str | None, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = f"carded_{len(card or '')}"
    (tmp_path / package / "cards").mkdir(parents=True)
    (tmp_path / package / "__init__.py").write_text(
        "from dataclasses import dataclass\nfrom vidcompress.methods.controls import Uniform\n\n\n"
        "@dataclass(frozen=True)\nclass Carded(Uniform):\n    name = 'carded'\n"
    )
    if card is not None:
        (tmp_path / package / "cards" / "carded.md").write_text(card)
    monkeypatch.syspath_prepend(tmp_path)
    carded = importlib.import_module(package).Carded()
    if message is None:
        check_card(carded)
        return
    for check in (check_card, testing.check_method):
        with pytest.raises(testing.ContractError, match=message):
            check(carded)

"""Masses: every token counts once, with what it was merged into or with the kept token most like it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cases import BEFORE
from device_questions import CountSyncs
from layouts import IMAGES, LAYOUTS, VIDEOS, make_tokens
from vidcompress.adapters.layouts import image_layout, video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import Policy, Separators, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.reductions import CPU_BLOCK, EPSILON, NOISE
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import Evidence, LazyTokens, VisualTokens
from vidcompress.errors import BudgetError
from vidcompress.methods.fastvid import FastVID
from vidcompress.methods.visionzip import CLS_HIDDEN
from vidcompress.ops.mass import masses_of, nearest_masses
from vidcompress.testing import select_alone

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "visionzip": [{}, {"contextual_share": 1.0}, {"contextual_share": 0}],
    "prumerge": [{}, {"count": "iqr"}, {"merge": False}, {"extra_token": False}, {"neighbours": 0}],
    "prumerge_plus": [{}, {"count": "iqr"}, {"extra_token": False, "neighbours": 2}],
    "prunevid": [{}, {"windows": 1.0, "tau": -1.0}],
    "holitom": [{}, {"tau": -1.0, "beta": 0.0}],
    "flashvid": [{}, {"events": False, "segments": 1, "cut": -1.0, "link": -1.0, "chosen_share": 0.1}],
    "fastvid": [{}, {"context_share": 1.0, "stride": 1, "segments": 1, "tau": -1.0}, {"context_share": 0.1}],
}
METHODS: list[Method] = [
    get_method(name, **options) for name in BEFORE for options in VARIANTS.get(name, [{}])
]
MERGING = [method for method in METHODS if method.merges]
RATIOS = ("0.02", "0.05", "0.1", "0.25", "0.5", "0.9", "1")
SMALL = {name: layout for name, layout in LAYOUTS.items() if len(layout) <= 400}


def select(
    method: Method,
    tokens: VisualTokens,
    ratio: str,
    separators: Separators = "thin",
    policy: Policy = "exact",
) -> Selection | None:
    """None where the budget is too small for the method."""
    layout = tokens.layout
    if policy == "reference":
        separators = "keep"
    positions = max(1, int(len(layout) * Fraction(ratio)))
    try:
        budget = visual_budget(layout, positions, ratio=Fraction(ratio), separators=separators, policy=policy)
        return select_alone(method, tokens, budget)
    except BudgetError:
        return None


def damaged(tokens: VisualTokens, data: st.DataObject) -> VisualTokens:
    """Some tokens are copies of others, some have no direction."""
    features = tokens.features.clone()
    number = st.integers(0, len(tokens) - 1)
    for _ in range(data.draw(st.integers(0, 6))):
        features[data.draw(number)] = features[data.draw(number)]
    for value in data.draw(st.lists(st.sampled_from([0.0, math.nan, math.inf]), max_size=3)):
        features[data.draw(number)] = value
    return tokens.replace(features=features)


def directions(features: torch.Tensor) -> list[list[float] | None]:
    out: list[list[float] | None] = []
    for row in features.double().tolist():
        norm = math.sqrt(math.fsum(x * x for x in row))
        out.append([x / norm for x in row] if math.isfinite(norm) and norm > EPSILON else None)
    return out


def one_by_one(
    features: torch.Tensor,
    layout: Layout,
    index: list[int],
    mass: list[float],
    gone: list[int],
    nearest: bool = True,
) -> list[float]:
    """Token by token: the dropped one goes to the kept one of largest cosine, or with False of the smallest."""
    unit, separator, mass = directions(features), layout.separator.tolist(), list(mass)
    kept = sorted((i, k) for k, i in enumerate(index) if not separator[i])
    orphans = 0
    for j in gone:
        best, heir = -math.inf, None
        mine = unit[j]
        for i, k in kept:
            other = unit[i]
            if mine is None or other is None:
                continue
            cosine = math.fsum(a * b for a, b in zip(mine, other, strict=True)) * (1 if nearest else -1)
            if cosine > best + NOISE:
                best, heir = cosine, k
        if heir is None:
            orphans += 1
        else:
            mass[heir] += 1
    counted = sum(mass[k] for _, k in kept)
    for _, k in kept:
        mass[k] *= 1 + orphans / counted
    return mass


def dropped(layout: Layout, index: list[int]) -> list[int]:
    return [i for i in range(len(layout)) if i not in set(index) and not layout.separator[i]]


@pytest.mark.parametrize("method", METHODS, ids=map(repr, METHODS))
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_masses_sum_to_the_tokens_of_the_visual(method: Method, data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from([one for one in SMALL.values() if one.modality in method.modalities]))
    tokens = damaged(make_tokens(layout, seed=data.draw(st.integers(0, 9))), data)
    policy: Policy = data.draw(st.sampled_from(["exact", "reference"]))
    separators: Separators = data.draw(st.sampled_from(["thin", "keep", "drop"]))
    selection = select(method, tokens, data.draw(st.sampled_from(RATIOS)), separators, policy)
    if selection is None:
        return
    stated = selection.mass is not None
    assert not stated or method.merges or method.mass == "on", "a method that only drops states no mass"
    more = data.draw(st.sampled_from([0, 1, layout.num_tokens]))  # tokens that were never encoded
    mass = masses_of(tokens, selection, layout.num_tokens + more)
    assert mass.shape == selection.index.shape and mass.dtype == torch.float32
    separator = layout.separator[selection.index]
    assert (mass[separator] == 1).all()
    assert (mass[~separator] >= 1 - 1e-5).all()
    if not separator.all():
        assert mass[~separator].double().sum().item() == pytest.approx(layout.num_tokens + more, rel=1e-3)
    if selection.mass is not None:
        heirless = selection.heirless
        rest = 0 if heirless is None else int(heirless.sum())
        stated = selection.mass[~separator].double().sum().item()
        assert stated == pytest.approx(layout.num_tokens - rest, rel=1e-3), "what is stated is a part"
        assert heirless is None or not heirless[selection.index].any()


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_nearest_is_what_a_loop_over_the_tokens_finds(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(list(SMALL.values())))
    tokens = damaged(make_tokens(layout, seed=data.draw(st.integers(0, 9)), dtype=torch.float64), data)
    index = data.draw(
        st.lists(st.integers(0, len(layout) - 1), unique=True, max_size=max(1, len(layout) // 2))
    )
    if all(layout.separator[i] for i in index):
        mass = nearest_masses(tokens.features, layout, torch.tensor(index, dtype=torch.int64))
        assert mass.tolist() == [1.0] * len(index), "no token is kept that could inherit"
        return
    mass = nearest_masses(tokens.features, layout, torch.tensor(index))
    gone = dropped(layout, index)
    assert mass.tolist() == pytest.approx(
        one_by_one(tokens.features, layout, index, [1.0] * len(index), gone), rel=1e-5
    )
    order = data.draw(st.permutations(range(len(index))))
    turned = nearest_masses(tokens.features, layout, torch.tensor(index)[list(order)])
    assert torch.equal(turned, mass[list(order)]), "a mass follows its token"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_heir_is_the_nearest_in_any_data_type_and_under_autocast(dtype: torch.dtype) -> None:
    layout = video_layout(6, (4, 4), "row")
    tokens = make_tokens(layout, dtype=dtype)
    index = torch.arange(0, len(layout), 5)
    mass = nearest_masses(tokens.features, layout, index)
    gone = dropped(layout, index.tolist())
    wanted, farthest = (
        one_by_one(tokens.features, layout, index.tolist(), [1.0] * len(index), gone, nearest)
        for nearest in (True, False)
    )
    assert mass.tolist() == wanted
    assert mass.tolist() != farthest
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_masses(tokens.features, layout, index), mass)
    assert torch.equal(nearest_masses(tokens.features.float(), layout, index), mass)


def test_masses_by_hand() -> None:
    layout = video_layout(2, (1, 3), "end")
    east, north, west = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]
    features = torch.tensor([east, north, east, [2.0, 0.1], [0.3, 3.0], west, [9.0, 9.0]])

    def masses(*index: int) -> list[float]:
        return nearest_masses(features, layout, torch.tensor(index)).tolist()

    assert masses(0, 1) == [3, 3]  # 2 and 3 go east, 4 and 5 go north
    assert masses(1, 0) == [3, 3]
    assert masses(2, 0, 1, 6) == [1, 2, 3, 1], "of copies the earlier inherits, whatever the order sent"
    assert masses(0, 1, 5, 6) == [3, 2, 1, 1], "the separator is nearest to all, and inherits nothing"
    assert masses(6) == [1]
    assert masses(*range(7)) == [1] * 7
    features[3] = 0.0
    features[5] = math.nan
    assert masses(0, 1, 6) == [3, 3, 1], "two without a direction are spread: 2 and 2 become 3 and 3"
    assert masses(0, 1, 5) == pytest.approx([2 * 1.2, 2 * 1.2, 1.2]), "a broken one inherits from none"
    assert masses(3) == [6.0]


def test_a_clip_thinned_before_the_encoder_weighs_as_much_as_the_whole() -> None:
    whole = video_layout(8, (3, 4), "end")
    layout = whole.restrict_to_frames(torch.tensor([0, 3, 7]), (0, 3, 7))
    tokens = make_tokens(layout)
    selection = Selection(torch.tensor([*range(0, 36, 5), 36]))
    part = masses_of(tokens, selection, layout.num_tokens)
    full = masses_of(tokens, selection, whole.num_tokens)
    assert part.sum().item() == 36 + 1
    assert full[:-1].tolist() == pytest.approx((part[:-1] * 8 / 3).tolist())
    assert full[-1].item() == part[-1].item() == 1


# -- methods that merge ------------------------------------------------------------------------------------------


def with_parts_marked(layout: Layout, seed: int, cls: bool) -> tuple[VisualTokens, torch.Tensor]:
    """Tokens whose merged features say what they were merged from: row i of the projector's input is the unit row i."""
    tokens = make_tokens(layout, dtype=torch.float64, seed=seed)
    marks = torch.eye(len(layout), dtype=torch.float64)
    noise = torch.randn(len(layout), len(layout), generator=torch.Generator().manual_seed(seed)).double()
    evidence = {**tokens.evidence, Evidence("hidden", "features"): marks}
    evidence[CLS_HIDDEN] = torch.zeros(len(layout.views), len(layout), dtype=torch.float64)
    if not cls:
        del evidence[CLS_HIDDEN]
    return tokens.replace(features=noise, evidence=evidence, project=lambda x: x), noise


def parts_of(selection: Selection, features: torch.Tensor) -> torch.Tensor:
    """(K, N) weights of the tokens in what is sent."""
    assert selection.features is not None
    unchanged = (selection.features == features[selection.index]).all(1)
    eye = torch.eye(features.shape[0], dtype=features.dtype)
    return torch.where(unchanged[:, None], eye[selection.index], selection.features)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_merged_tokens_have_the_number_merged_into_them(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(list(SMALL.values())))
    names = ("visionzip", "prumerge", "prumerge_plus")
    chosen = [method for method in METHODS if method.name in names and layout.modality in method.modalities]
    method = data.draw(st.sampled_from(chosen))
    tokens, features = with_parts_marked(layout, data.draw(st.integers(0, 9)), data.draw(st.booleans()))
    policy: Policy = data.draw(st.sampled_from(["exact", "reference"]))
    selection = select(method, tokens, data.draw(st.sampled_from(RATIOS)), policy=policy)
    if selection is None or selection.mass is None or selection.features is None:
        return
    parts, index = parts_of(selection, features).tolist(), selection.index.tolist()
    mass = [1.0] * len(index)
    gone = []
    for j in dropped(layout, index):
        shares = [row[j] for row in parts]
        if any(shares):
            mass = [m + share / sum(shares) for m, share in zip(mass, shares, strict=True)]
        else:
            gone.append(j)
    assert selection.mass.tolist() == pytest.approx(mass, rel=1e-5)
    heirless = [] if selection.heirless is None else selection.heirless.nonzero().flatten().tolist()
    assert heirless == gone
    assert masses_of(tokens, selection, layout.num_tokens).tolist() == pytest.approx(
        one_by_one(features, layout, index, mass, gone), rel=1e-5
    )


def test_a_token_that_is_sent_twice_counts_for_the_one_that_is_lost() -> None:
    """The authors' count in training keeps a token in two lists, and loses a pruned one for it."""
    tokens = make_tokens(VIDEOS["one newline"])
    selection = select(get_method("prumerge_plus", count="training"), tokens, "0.5", policy="reference")
    assert selection is not None and selection.mass is not None and len(selection) > 1
    real = ~tokens.layout.separator[selection.index]
    assert selection.mass[real].sum().item() == pytest.approx(tokens.layout.num_tokens)
    assert selection.mass.amin().item() >= 1
    assert torch.equal(masses_of(tokens, selection, tokens.layout.num_tokens), selection.mass)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_pooled_cells_split_a_token_by_its_weights(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(list(SMALL.values())))
    features = torch.eye(len(layout), dtype=torch.float64)
    tokens = VisualTokens(features, layout)
    selection = select(get_method("pool"), tokens, data.draw(st.sampled_from(RATIOS)))
    if selection is None or selection.features is None:
        return
    assert selection.mass is not None
    real = ~layout.separator[selection.index]
    parts = selection.features[real][:, ~layout.separator]
    sent = parts.sum(0, keepdim=True)
    wanted = (parts / torch.where(sent > 0, sent, 1.0)).sum(1)
    assert selection.mass[real].tolist() == pytest.approx(wanted.tolist(), rel=1e-5)
    lost = int((sent == 0).sum())
    assert lost == (0 if selection.heirless is None else int(selection.heirless.sum()))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_peaks_share_the_tokens_that_joined_several(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from([one for one in VIDEOS.values() if len(one) <= 200]))
    tokens = make_tokens(layout, dtype=torch.float64, seed=data.draw(st.integers(0, 9)))
    method = FastVID(
        segments=data.draw(st.integers(1, 4)),
        tau=-1.0,
        stride=data.draw(st.integers(1, 4)),
        context_share=data.draw(st.sampled_from([0.1, 0.4, 1.0])),
    )
    ratio = data.draw(st.sampled_from(RATIOS))
    selection = select(method, tokens, ratio, "drop")
    assert selection is not None and selection.mass is not None and selection.heirless is not None
    budget = visual_budget(layout, max(1, int(len(layout) * Fraction(ratio))), separators="drop")
    taken, peaks, of_frame, _ = (
        part.tolist() if isinstance(part, torch.Tensor) else part for part in method._exact(tokens, budget)
    )
    unit, view = directions(tokens.features), layout.view.tolist()
    mass, gone = dict.fromkeys(selection.index.tolist(), 1.0), []
    for j in dropped(layout, [*taken, *peaks]):
        joined = []
        for frame in sorted({view[p] for p in peaks if of_frame[view[p]] == of_frame[view[j]]}):
            rivals = [p for p in peaks if view[p] == frame]
            cosine = {
                p: math.fsum(a * b for a, b in zip(unit[p] or [], unit[j] or [], strict=True)) for p in rivals
            }
            joined.append(max(rivals, key=lambda p: cosine[p]))
        for p in joined:
            mass[p] += 1 / len(joined)
        if not joined:
            gone.append(j)
    assert selection.heirless.nonzero().flatten().tolist() == gone
    assert selection.mass.tolist() == pytest.approx(list(mass.values()), rel=1e-5)


@pytest.mark.parametrize("method", MERGING, ids=map(repr, MERGING))
def test_mass_follows_its_token_into_the_order_of_positions(method: Method) -> None:
    layout = (IMAGES if "image" in method.modalities else VIDEOS)[
        "two by two" if "image" in method.modalities else "newline per row"
    ]
    tokens = make_tokens(layout)
    selection = select(method, tokens, "0.25", policy="reference")
    assert selection is not None
    mass, ascending = masses_of(tokens, selection, layout.num_tokens), selection.ascending()
    again = masses_of(tokens, ascending, layout.num_tokens)
    by_position = dict(zip(selection.index.tolist(), mass.tolist(), strict=True))
    assert dict(zip(ascending.index.tolist(), again.tolist(), strict=True)) == pytest.approx(by_position)
    assert len(set(by_position.values())) > 1, "another order would show"


def test_reference_orders_differ_from_positions() -> None:
    """Or the test above would compare equal orders."""
    tokens = make_tokens(IMAGES["two by two"])
    selection = select(get_method("prumerge"), tokens, "0.25", policy="reference")
    assert selection is not None and selection.mass is not None
    assert selection.index.tolist() != sorted(selection.index.tolist())
    assert selection.mass.tolist() != selection.ascending().mass.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("method", METHODS, ids=map(repr, METHODS))
def test_masses_are_the_same_alone_and_in_a_batch(method: Method) -> None:
    layouts = IMAGES if "image" in method.modalities else VIDEOS
    tokens = [make_tokens(layouts[name], seed=seed) for seed, name in enumerate(list(layouts)[:3])]
    budgets = [visual_budget(one.layout, len(one) // 3, separators="drop") for one in tokens]
    together = method.select(VisualBatch(tokens), budgets)
    for one, budget, beside in zip(tokens, budgets, together, strict=True):
        alone, total = select_alone(method, one, budget), one.layout.num_tokens
        assert torch.equal(masses_of(one, alone, total), masses_of(one, beside, total))


# -- cost --------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the most elements of one new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.elements = max(self.elements, out.numel())
        return out


def test_memory_is_linear() -> None:
    layout = video_layout(24, (14, 14), "row")
    features = make_tokens(layout, dim=16).features
    index = torch.arange(0, len(layout), 2)
    with Largest() as largest:
        nearest_masses(features, layout, index)
    most = max(CPU_BLOCK // 4, len(layout) * 16)
    assert largest.elements <= most
    with Largest() as largest:
        features @ features[index].T
    assert largest.elements > 4 * most, "all cosines at once would show"


@pytest.mark.parametrize("name", ["uniform", "pool", "prumerge", "prumerge_plus", "visionzip", "fastvid"])
def test_no_question_to_the_device_and_no_loop_over_tokens(name: str) -> None:
    method = get_method(name)
    if "image" in method.modalities:
        layouts = [image_layout((6, 6), crops) for crops in ((2, 2), (5, 5))]
    else:
        layouts = [video_layout(frames, (4, 4), "row") for frames in (4, 24)]
    for layout in layouts:
        selection = select(method, tokens := make_tokens(layout), "0.25")
        assert selection is not None
        with CountSyncs() as count:
            masses_of(tokens, selection, layout.num_tokens)
            nearest_masses(tokens.features, layout, selection.index)
            heirless = (~layout.separator).scatter(0, selection.index, False)
            one = torch.ones(len(selection))
            masses_of(tokens, Selection(selection.index, mass=one, heirless=heirless), 2 * layout.num_tokens)
        assert not count.seen
    with CountSyncs() as count:
        bool(heirless.any())
    assert count.seen, "a question would show"


def test_what_is_stated_in_full_reads_no_features() -> None:
    layout = IMAGES["two by two"]
    asked = []

    def project(hidden: torch.Tensor) -> torch.Tensor:
        asked.append(len(hidden))
        return hidden

    tokens = LazyTokens(torch.randn(len(layout), 8), layout, {}, project, torch.ones(8))
    masses_of(tokens, Selection(torch.arange(len(layout))), layout.num_tokens)
    masses_of(tokens, Selection(torch.tensor([3]), mass=torch.tensor([5.0])), layout.num_tokens)
    assert not asked
    masses_of(tokens, Selection(torch.tensor([3])), layout.num_tokens)
    assert asked == [len(layout)]


def test_masses_need_no_gradient() -> None:
    layout = VIDEOS["one newline"]
    features = make_tokens(layout).features.requires_grad_()
    assert not nearest_masses(features, layout, torch.arange(9)).requires_grad

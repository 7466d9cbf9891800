"""What holds for every method: counts to the token, order, determinism, ties, broken numbers, small budgets."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import BEFORE
from layouts import IMAGES, LAYOUTS, VIDEOS, make_tokens
from vidcompress.adapters.layouts import image_layout, video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import Budget, Separators, VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import get_method
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import AXES, VisualTokens
from vidcompress.errors import BudgetError, UnsupportedInputError
from vidcompress.methods.globalcom2 import GlobalCom2
from vidcompress.testing import select_alone

RATIOS = (0.01, 0.03, 0.1, 0.25, 0.5, 0.77, 0.99, 1.0)
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "globalcom2": [
        {},
        {"allocation": "uniform"},
        {"allocation": "topk"},
        {"allocation": "softmax_max", "score": "global"},
        {"score": "local", "tau": 0.5},
        {"evidence": "distance", "alpha": 0.25},
    ],
    "vidcom2": [{}, {"reconcile": "global"}, {"channel_share": 1.0, "widths": (1.0,), "tau": 1.0}],
    "random": [{}, {"seed": 7}],
    "hired": [{}, {"alpha": 0.0}, {"alpha": 1}, {"alpha": 0.2}],
    "visionzip": [
        {},
        {"contextual_share": 1.0},
        {"contextual_share": 0},
    ],
    "flashvid": [
        {},
        {"events": False, "segments": 1, "cut": -1.0, "link": -1.0},
        {"chosen_share": 0},
        {"chosen_share": 1},
    ],
    "prunevid": [{}, {"windows": 1.0, "tau": -1.0}, {"tau": 1.0, "neighbours": 1}],
    "holitom": [{}, {"tau": -1.0, "beta": 0.0}, {"longest": 2, "tau": 0.0, "neighbours": 1, "beta": 1.0}],
    "vispruner": [{}, {"important_share": 0.0}, {"important_share": 1}],
    "prumerge": [{}, {"count": "iqr"}, {"merge": False}, {"extra_token": False}],
    "prumerge_plus": [{}, {"count": "iqr"}],
    "divprune": [{}, {"start": "farthest_pair"}],
    "census": [
        {},
        {"width": 4, "selection": "proportional"},
        {"weight": "cls", "place": 0.0},
        {"weight": "question", "floor": 1.0, "time": 0.0},
    ],
    "cdpruner": [{}, {"relevance": "negative"}, {"kernel": "exponential"}],
    "dycoke": [{}, {"window": 3}],
    "fastvid": [
        {},
        {"context_share": 1.0, "stride": 1, "segments": 1, "tau": -1.0},
        {"context_share": 0.0},
        {"neighbours": 1, "beta": 0.0},
    ],
}
METHODS: list[Method] = [
    get_method(name, **options) for name in BEFORE for options in VARIANTS.get(name, [{}])
]
EXACT = [method for method in METHODS if method.exact]
IDS = [repr(method) for method in METHODS]
EXACT_IDS = [repr(method) for method in EXACT]
FREE_SEPARATORS = ("pool", "divprune", "fastvid", "holitom")
"""Methods whose authors do not send every separator: pooled, competing with tokens, of lines with kept tokens."""
BEYOND_THEIR_SHARE = ("none", "dycoke", "evs", "divprune", "vcast", "prunevid", "holitom", "flashvid")
"""In `reference`: whole frames on top of it (DyCoke), at least one frame (EVS), newlines are part of it (DivPrune),
a clip of one frame whole (V-CAST), small groups whole (PruneVid), counts rounded up for each group (HoliTom),
a quarter more, which is dropped inside (FlashVID)."""
MODES: tuple[Separators, ...] = ("thin", "keep", "drop")


def serves(method: Method, layout: Layout) -> bool:
    return layout.modality in method.modalities


def run(
    method: Method, tokens: VisualTokens, ratio: float, mode: Separators = "thin"
) -> tuple[Selection, VisualBudget]:
    positions = Budget(ratio).split([len(tokens)])[0]
    budget = visual_budget(tokens.layout, positions, ratio=Fraction(str(ratio)), separators=mode)
    return select_alone(method, tokens, budget), budget


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("method", EXACT, ids=EXACT_IDS)
def test_count_equals_the_budget(method: Method, layout: Layout) -> None:
    if not serves(method, layout):
        with pytest.raises(UnsupportedInputError, match=f"method '{method.name}' serves"):
            method.check(layout)
        return
    method.check(layout)
    tokens = make_tokens(layout)
    for ratio in RATIOS:
        for mode in MODES:
            try:
                selection, budget = run(method, tokens, ratio, mode)
            except BudgetError:
                assert mode == "keep"
                continue
            index = selection.index
            assert len(selection) == budget.positions
            assert int(layout.separator[index].sum()) == budget.separators
            assert bool((index[1:] > index[:-1]).all()), "in sequence order, each once"
            assert selection.gather(tokens).shape == (budget.positions, tokens.features.shape[1])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_count_equals_the_budget_on_drawn_shapes(data: st.DataObject) -> None:
    small = st.integers(1, 6)
    grid = (data.draw(small), data.draw(small))
    if data.draw(st.booleans()):
        crops = data.draw(st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)))
        unpadded = None
        if crops:
            full = (crops[0] * grid[0], crops[1] * grid[1])
            pad = [data.draw(st.integers(0, (side - 1) // 2)) for side in full]
            unpadded = (pad[0], pad[1], full[0] - 2 * pad[0], full[1] - 2 * pad[1])
        layout = image_layout(grid, crops, unpadded=unpadded)
    else:
        newlines = data.draw(st.sampled_from(["none", "end", "row"]))
        layout = video_layout(data.draw(st.integers(1, 12)), grid, newlines)
    tokens = make_tokens(layout, seed=data.draw(st.integers(0, 99)))
    method = data.draw(st.sampled_from([method for method in METHODS if serves(method, layout)]))
    budget = visual_budget(layout, data.draw(st.integers(0, len(layout))))
    try:
        count = len(select_alone(method, tokens, budget))
    except BudgetError:
        assert method.name == "frames"
        assert budget.positions < layout.sizes[0]
        return
    if method.exact:
        assert count == budget.positions
    elif method.name != "none":
        assert count <= budget.positions


@pytest.mark.parametrize("method", EXACT, ids=EXACT_IDS)
def test_fewer_tokens_than_views(method: Method) -> None:
    for layout in (IMAGES["37 views"], VIDEOS["300 frames"]):
        if serves(method, layout):
            tokens = make_tokens(layout)
            for budget in (0, 1, 2, 5):
                assert len(select_alone(method, tokens, visual_budget(layout, budget))) == budget


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_a_second_call_selects_the_same(method: Method) -> None:
    for name in ("image, landscape", "video, newline per row"):
        layout = LAYOUTS[name]
        if serves(method, layout):
            tokens = make_tokens(layout)
            first, _ = run(method, tokens, 0.3)
            before = tokens.features.clone()
            second, _ = run(method, tokens, 0.3)
            assert torch.equal(first.index, second.index)
            assert torch.equal(tokens.features, before), "select is pure"


@pytest.mark.parametrize("method", METHODS, ids=IDS)
@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), float("inf")])
def test_equal_and_broken_features_still_meet_the_budget(method: Method, value: float) -> None:
    for layout in (IMAGES["landscape"], VIDEOS["one newline"], VIDEOS["one frame"]):
        if not serves(method, layout):
            continue
        features = torch.full((len(layout), 8), value)
        tokens = replace(make_tokens(layout, dim=8), features=features)
        tokens.evidence = {key: torch.full_like(held, value) for key, held in tokens.evidence.items()}
        selection, budget = run(method, tokens, 0.4 if method.name != "frames" else 1.0)
        if method.exact:
            assert len(selection) == budget.positions
        again, _ = run(method, tokens, 0.4 if method.name != "frames" else 1.0)
        assert torch.equal(selection.index, again.index)


@pytest.mark.parametrize("method", EXACT, ids=EXACT_IDS)
def test_one_broken_token_is_not_preferred(method: Method) -> None:
    layout = IMAGES["landscape"]
    ranked = [key for key in method.needs("image", True) if AXES.get(key.quantity, "N") in ("N", "NC")]
    if not serves(method, layout) or not ranked:
        return
    tokens = make_tokens(layout)
    position = int(layout.token_index[40])
    for key in ranked:
        tokens.evidence[key][position] = torch.nan
    assert position not in run(method, tokens, 0.25)[0].index.tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_any_float_dtype(method: Method, dtype: torch.dtype) -> None:
    for layout in (IMAGES["portrait"], VIDEOS["newline per row"]):
        if serves(method, layout):
            tokens = make_tokens(layout, dtype=dtype)
            selection, _ = run(method, tokens, 0.5)
            assert selection.gather(tokens).dtype == dtype
            wide = replace(tokens, features=tokens.features.float())
            if method.exact and dtype != torch.float64:
                assert torch.equal(selection.index, run(method, wide, 0.5)[0].index), "scores are float32"


@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_autocast_changes_nothing(method: Method) -> None:
    for layout in (IMAGES["portrait"], VIDEOS["newline per row"]):
        if serves(method, layout):
            tokens = make_tokens(layout)
            plain, _ = run(method, tokens, 0.5)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                inside, _ = run(method, tokens, 0.5)
            assert torch.equal(plain.index, inside.index)


@pytest.mark.parametrize(
    "name", ["image, landscape", "image, one view", "video, newline per row", "video, one frame"]
)
@pytest.mark.parametrize("method", METHODS, ids=IDS)
def test_reference_sends_every_separator(method: Method, name: str) -> None:
    layout = LAYOUTS[name]
    if not serves(method, layout):
        return
    tokens = make_tokens(layout)
    ratio = Fraction(1, 2) if method.name != "frames" else Fraction(1)
    positions = Budget(ratio).split([len(layout)])[0]
    budget = visual_budget(layout, positions, ratio=ratio, separators="keep", policy="reference")
    selection = select_alone(method, tokens, budget)
    if method.name not in FREE_SEPARATORS:
        assert int(layout.separator[selection.index].sum()) == layout.num_separators
    assert selection.index.unique().numel() == len(selection)
    kept = len(selection) - int(layout.separator[selection.index].sum())
    assert (
        kept <= layout.num_tokens
        if method.name in BEYOND_THEIR_SHARE
        else kept <= ratio * layout.num_tokens + len(layout.views)
    )


def test_globalcom2_reference_counts_per_view() -> None:
    layout = VIDEOS["newline per row"]
    tokens = make_tokens(layout)
    budget = visual_budget(layout, 1, ratio=Fraction(1, 4), separators="keep", policy="reference")
    method = GlobalCom2()
    _, allotment = method.scores(VisualBatch([tokens]), [budget])
    index = select_alone(method, tokens, budget).index
    counts = [int((layout.view[index] == t).sum()) for t in range(8)]
    assert counts == [int(w) for w in allotment.weights.tolist()]


def test_scores_do_not_depend_on_what_else_is_there() -> None:
    """A caller may hand extra evidence; methods read only what they asked for."""
    tokens = make_tokens(IMAGES["landscape"])
    method = get_method("globalcom2", evidence="distance")
    bare = replace(tokens, evidence={})
    assert torch.equal(run(method, tokens, 0.3)[0].index, run(method, bare, 0.3)[0].index)

"""The invariants of the design, over every method and every family (numbers as in the design)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cases import CASES, SCENES, VIDEO_SCENE
from reference.slow import scaled_positions
from tiny_models import FAMILIES, IMAGE, SIZES, VIDEO, VIDEO_FAMILIES, Scene, batch, sent_rows, tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import half_up
from vidcompress.core.method import METHODS
from vidcompress.errors import BudgetError
from vidcompress.session import compress
from vidcompress.testing import select_alone

compress_inputs = partial(compress.compress_inputs, mass="off")
"""What is sent, without masses in attention, which have tests of their own."""

RATIOS = (0.01, 0.1, 0.25, 0.5, 0.77, 1.0)
HOMES = {"llava_next_video": 15, "llava_onevision": 15, "llava_video": 15, "internvl": 60}
"""Visual tokens of a clip of the training, as these models state it: three quarters of the clip's."""
PLACED = [
    (*case, positions)
    for case in CASES
    for positions in ("contiguous", "original", "scaled")
    if positions != "scaled" or case[2] == "video"
]
EXACT = [case for case in CASES if METHODS.get(case[0]).exact]


def logits(model, inputs):  # type: ignore[no-untyped-def]
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("max_views", [1, pytest.param(2, marks=pytest.mark.transformers), 16])
@pytest.mark.parametrize(("method", "family", "modality"), CASES)
def test_1_full_retention_is_the_stock_model_to_the_bit(
    method: str, family: str, modality: str, max_views: int
) -> None:
    model = tiny_model(family, home_tokens=HOMES.get(family))
    inputs = batch(model, [SCENES[family, modality], Scene((), seed=7)])
    settings = {"retention_ratio": 1.0, "positions": "contiguous", "max_views": max_views}
    compressed = compress_inputs(model, inputs, method, **settings)
    assert compressed["input_ids"].shape == inputs["input_ids"].shape
    assert torch.equal(logits(model, compressed), logits(model, inputs))
    for positions in ("original", "scaled"):
        gaps = compress_inputs(model, inputs, method, retention_ratio=1.0, positions=positions)
        assert torch.allclose(logits(model, gaps)[0], logits(model, inputs)[0], atol=1e-6)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("method", "family", "modality"), EXACT)
def test_2_realised_count_is_the_budget(method: str, family: str, modality: str, ratio: float) -> None:
    model = tiny_model(family)
    whats = SIZES if modality == "image" else (1, 2, 7)
    for what in whats:
        inputs = batch(model, [Scene(((modality, what),))])
        compressed = compress_inputs(model, inputs, method, retention_ratio=ratio)
        total = int(((inputs["input_ids"] == IMAGE) | (inputs["input_ids"] == VIDEO)).sum())
        budget = max(1, half_up(Fraction(str(ratio)) * total))
        (visual,) = compressed.report.visuals
        assert (visual.total, visual.budget, visual.kept) == (total, budget, budget)
        assert int((compressed["input_ids"] == IMAGE).sum()) == budget
        assert sent_rows(compressed)[0].shape[0] == budget
        assert sum(v.kept for v in visual.views) + visual.separators_kept == budget
        assert len(set(visual.kept_positions.tolist())) == budget


def pooled_counts(rows: int, cols: int) -> set[tuple[int, int]]:
    """(rows, cols) a grid can shrink to with factors within 2 of one another, by brute force."""
    shapes = itertools.product(range(1, rows + 1), range(1, cols + 1))
    return {(r, c) for r, c in shapes if max(r / rows, c / cols) <= 2 * min(r / rows, c / cols)}


@pytest.mark.parametrize("ratio", (0.1, 0.25, 0.5, 0.77, 1.0))
@pytest.mark.parametrize(("family", "modality"), list(SCENES))
def test_2_pool_reaches_the_largest_count(family: str, modality: str, ratio: float) -> None:
    model = tiny_model(family)
    inputs = batch(model, [SCENES[family, modality]])
    (visual,) = compress_inputs(model, inputs, "pool", retention_ratio=ratio).report.visuals
    budget = max(1, half_up(Fraction(str(ratio)) * visual.total))
    layout = visual.layout
    if modality == "video":
        per_row = int(layout.num_separators > 1)
        trailing = (0, 1) if layout.trailing_separator else (0,)
        counts = {5 * r * (c + per_row) + n for r, c in pooled_counts(*layout.grid) for n in trailing}
    elif layout.canvas is None:
        counts = {r * c for r, c in pooled_counts(*layout.grid)}
    else:
        per_row, counts = int(layout.num_lines > 0), set()
        for (a, b), (c, d) in itertools.product(pooled_counts(*layout.grid), pooled_counts(*layout.canvas)):
            factors = (a / layout.grid[0], b / layout.grid[1], c / layout.canvas[0], d / layout.canvas[1])
            if max(factors) <= 2 * min(factors):
                counts.add(a * b + c * (d + per_row))
    assert visual.budget == budget
    # Below one token and newline per view newlines go, then time is averaged to exactly the budget.
    smallest = min(budget, len(visual.views))
    assert visual.kept == max((count for count in counts if count <= budget), default=smallest)


@pytest.mark.parametrize("separators", ["thin", "keep"])
@pytest.mark.parametrize("budget", range(1, 22))
def test_2_frames_reaches_the_largest_count_or_names_the_floor(budget: int, separators: str) -> None:
    """5 frames of 4 tokens, and one newline that gives way unless it is to be kept."""
    model = tiny_model("llava_onevision")
    inputs = batch(model, [VIDEO_SCENE])
    newlines = (1,) if separators == "keep" else (0, 1)
    reachable = [4 * n + newline for n in range(1, 6) for newline in newlines]
    settings = {"max_tokens": budget, "separators": separators}
    if budget < min(reachable):
        with pytest.raises(BudgetError, match=f"whole frames of 4 tokens.* at least {min(reachable)}"):
            compress_inputs(model, inputs, "frames", **settings)
        return
    (visual,) = compress_inputs(model, inputs, "frames", **settings).report.visuals
    assert visual.budget == budget
    assert visual.kept == max(count for count in reachable if count <= budget)
    assert {v.kept for v in visual.views} <= {0, 4}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize(("method", "family", "modality"), CASES)
def test_3_a_row_does_not_depend_on_its_neighbours(
    method: str, family: str, modality: str, data: st.DataObject
) -> None:
    model = tiny_model(family)
    ratio = data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.9]))
    what = data.draw(st.sampled_from(SIZES)) if modality == "image" else 5
    row = Scene(((modality, what),), before=data.draw(st.integers(1, 6)), seed=data.draw(st.integers(0, 99)))
    longer = Scene(((modality, (112, 112) if modality == "image" else 5),), before=30, after=20, seed=3)
    try:
        alone = compress_inputs(model, batch(model, [row]), method, retention_ratio=ratio)
    except BudgetError:
        assume(False)
    rows = [longer, row, Scene((), seed=5)] if data.draw(st.booleans()) else [row, longer]
    position = rows.index(row)
    together = compress_inputs(model, batch(model, rows), method, retention_ratio=ratio)
    mine = [v for v in together.report.visuals if v.row == position][0]
    first = alone.report.visuals[0]
    assume(
        torch.equal(first.kept_positions, mine.kept_positions)
        or not near_tie(model, batch(model, [row]), method, Fraction(str(ratio)))
    )
    assert torch.equal(first.kept_positions, mine.kept_positions)
    length = alone["input_ids"].shape[1]
    a = logits(model, alone)[0]
    b = logits(model, together)[position, -length:]
    assert (a - b).abs().max() <= 1e-5


def near_tie(model, inputs, method: str, ratio: Fraction) -> bool:  # type: ignore[no-untyped-def]
    """Whether rounding may decide in this scene: scores with gaps below 1e-5, or other choices under such noise."""
    adapter = adapter_for(model)
    from vidcompress.core.budget import visual_budget
    from vidcompress.core.method_lookup import get_method

    chosen = get_method(method)
    visual = sum(adapter.visuals(inputs), [])[0]
    (tokens,) = adapter.encode([visual], chosen.needs(visual.modality, adapter.has_cls))
    if not hasattr(chosen, "scores"):
        budget = visual_budget(visual.layout, half_up(ratio * len(visual.layout)), ratio=ratio)
        first = select_alone(chosen, tokens, budget).index
        for seed in range(8):
            noise = torch.randn(tokens.features.shape, generator=torch.Generator().manual_seed(seed))
            moved = replace(tokens, features=tokens.features * (1 + 1e-5 * noise))
            if not torch.equal(select_alone(chosen, moved, budget).index, first):
                return True
        return False
    scores, _ = chosen.scores(VisualBatch([tokens]), [visual_budget(visual.layout, 5)])
    return bool((scores.sort().values.diff().abs() < 1e-5).any())


@pytest.mark.parametrize(("method", "family", "modality", "positions"), PLACED)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_4_equal_to_the_full_model_with_dropped_tokens_masked(
    method: str, family: str, modality: str, positions: str, attention: str
) -> None:
    model = tiny_model(family, attention=attention, home_tokens=HOMES.get(family))
    inputs = batch(model, [SCENES[family, modality]])
    compressed = compress_inputs(model, inputs, method, retention_ratio=0.5, positions=positions)
    full = compress_inputs(model, inputs, "none")
    ids = inputs["input_ids"][0]
    visual = ((ids == IMAGE) | (ids == VIDEO)).nonzero().flatten()
    kept = visual[compressed.report.visuals[0].kept_positions]
    (features,), (sent,) = sent_rows(full), sent_rows(compressed)
    features = features.clone()
    if METHODS.get(method).merges:  # merged features at their source positions
        features[compressed.report.visuals[0].kept_positions] = sent
    elif method == "frames":  # encoded in another batch
        assert torch.allclose(sent, features[compressed.report.visuals[0].kept_positions], atol=1e-6)
    else:
        assert torch.equal(sent, features[compressed.report.visuals[0].kept_positions])
    mask = torch.ones_like(ids)
    mask[visual] = 0
    mask[kept] = 1
    alive = mask.nonzero().flatten()
    position_ids = torch.arange(len(ids))
    if positions == "contiguous":
        position_ids[alive] = torch.arange(len(alive))
    elif positions == "scaled":
        names = ["clip" if token in (IMAGE, VIDEO) else "" for token in ids.tolist()]
        clip = compressed.report.visuals[0]  # whose newlines do not count
        home = HOMES[family] * clip.total // clip.layout.num_tokens
        walked = scaled_positions(names, mask.bool().tolist(), {"clip": home})
        position_ids[alive] = torch.tensor([walked[column] for column in alive.tolist()])
        if len(alive) < len(ids):  # the controls: it is neither of the others
            assert position_ids[alive].tolist() not in (alive.tolist(), list(range(len(alive))))
    slow = dict(full)
    given = slow["mm_encoder_outputs"]["image"]
    given.pooler_output = features[:, None] if family == "internvl" else [features]
    slow |= {"attention_mask": mask[None], "position_ids": position_ids[None]}
    expected = logits(model, slow)[0, alive]
    assert (logits(model, compressed)[0] - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("between", [0, 2])
@pytest.mark.parametrize("family", VIDEO_FAMILIES)
def test_5_any_order_of_visuals_is_the_stock_model(family: str, between: int) -> None:
    """Videos before images, several of each, with and without text between them."""
    model = tiny_model(family)
    if family == "internvl":  # its pictures always stand between <img> and </img>
        between = max(between, 1)
    image, video = ("image", (112, 80)), ("video", 3)
    rows = [
        Scene((), seed=1),
        Scene((video, image, video, image), between=between, seed=2),
        Scene((video, video), between=between, seed=3),
        Scene((image,), between=between, seed=4),
    ]
    inputs = batch(model, rows)
    assert torch.equal(logits(model, compress_inputs(model, inputs, "none")), logits(model, inputs))
    some = compress_inputs(model, inputs, "uniform", retention_ratio=0.5)
    full = compress_inputs(model, inputs, "none")
    where = 0
    for row in (1, 2, 3):
        mine = [v for v in some.report.visuals if v.row == row]
        offsets = [sum(v.total for v in mine[:i]) for i in range(len(mine))]
        kept = torch.cat([offset + v.kept_positions for offset, v in zip(offsets, mine, strict=True)])
        assert torch.equal(sent_rows(some)[where], sent_rows(full)[where][kept])
        where += 1


@pytest.mark.parametrize("family", FAMILIES)
def test_5_text_is_untouched_and_mixed_prompts_work(family: str) -> None:
    model = tiny_model(family)
    visuals = [("image", (112, 80)), ("image", (56, 56))] + (
        [("video", 3)] if family in VIDEO_FAMILIES else []
    )
    rows = [Scene(tuple(visuals), seed=1), Scene((), before=9, seed=2), Scene((visuals[-1],), seed=3)]
    inputs = batch(model, rows)
    compressed = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.3)
    for before, after, mask in zip(
        inputs["input_ids"], compressed["input_ids"], compressed["attention_mask"], strict=True
    ):
        real = before[before != 0]
        assert (
            real[(real != IMAGE) & (real != VIDEO)].tolist() == after[(mask == 1) & (after != IMAGE)].tolist()
        )
    assert [v.row for v in compressed.report.visuals] == [0] * len(visuals) + [2]
    text = compress_inputs(model, batch(model, [rows[1]]), "globalcom2", retention_ratio=0.3)
    assert "mm_encoder_outputs" not in text and not text.report.visuals
    assert torch.equal(logits(model, text), logits(model, batch(model, [rows[1]])))


def test_5_max_tokens_is_shared_by_the_visuals_of_a_row() -> None:
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (112, 80)), ("video", 7))), Scene((("video", 7),), seed=4)])
    compressed = compress_inputs(model, inputs, "globalcom2", max_tokens=11)
    by_row = [sum(v.kept for v in compressed.report.visuals if v.row == row) for row in (0, 1)]
    assert by_row == [11, 11]
    assert [v.total for v in compressed.report.visuals] == [72, 29, 29]
    assert [v.kept for v in compressed.report.visuals] == [8, 3, 11]  # 11 in proportion to 72 and 29

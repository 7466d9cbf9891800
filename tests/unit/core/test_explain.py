"""What the commander said of each view is carried from the method to the report, and the table says it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from layouts import IMAGES, VIDEOS, make_tokens
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import Policy, VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method_lookup import get_method
from vidcompress.core.report import Report, VisualReport
from vidcompress.core.report.visual import Allotment
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.testing import select_alone

CLS = Evidence("cls_logits", -1)
RATIO = 0.25


def plan(layout: Layout, policy: Policy = "exact") -> VisualBudget:
    budget = round(len(layout) * RATIO)
    separators: Any = "keep" if policy == "reference" else "thin"
    return visual_budget(layout, budget, ratio=Fraction(RATIO), separators=separators, policy=policy)


def explained(method: str, tokens: VisualTokens, policy: Policy = "exact", **options: Any) -> VisualReport:
    """The report of one visual."""
    selection = select_alone(get_method(method, **options), tokens, plan(tokens.layout, policy))
    return VisualReport.from_selection(
        tokens.layout, selection.index, budget=len(selection), allotment=selection.allotment
    )


def with_louder_crop(tokens: VisualTokens, crop: int, by: float) -> VisualTokens:
    """The same tokens, with `by` more evidence at every place of the thumbnail that one crop covers."""
    layout = tokens.layout
    top, left, bottom, right = layout.views[crop].box or (0, 0, 0, 0)
    rows = (layout.row >= top) & (layout.row + 1 <= bottom)
    columns = (layout.col >= left) & (layout.col + 1 <= right)
    values = tokens.evidence[CLS] + by * ((layout.view == 0) & rows & columns)
    return VisualTokens(tokens.features, layout, {**tokens.evidence, CLS: values})


def rates(importance: list[float], tau: float) -> list[float]:
    """r_j / R of GlobalCom2 by its formula, without a tensor."""
    powers = [math.exp((value - max(importance)) / tau) for value in importance]
    sigma = [power / (sum(powers) + 1e-8) for power in powers]
    return [1 + share - sum(sigma) / len(sigma) for share in sigma]


@pytest.mark.parametrize("tau", [1.0, 10.0])
def test_shares_follow_from_the_sums_beside_them(tau: float) -> None:
    views = explained("globalcom2", make_tokens(IMAGES["two by two"]), tau=tau).views
    assert views[0].importance is None and views[0].kind == "thumbnail"
    importance = [view.importance for view in views[1:] if view.importance is not None]
    assert len(importance) == len(views) - 1
    weights = [view.total * rate for view, rate in zip(views, [1.0, *rates(importance, tau)], strict=True)]
    expected = [weight / sum(weights) for weight in weights]
    assert [view.share for view in views] == pytest.approx(expected, abs=1e-9)
    other = [1.0, *rates(importance, 3 * tau)]
    assert [view.share for view in views] != pytest.approx(
        [view.total * rate / sum(weights) for view, rate in zip(views, other, strict=True)], abs=1e-4
    )


def test_changed_evidence_changes_what_is_explained() -> None:
    tokens = make_tokens(IMAGES["two by two"])
    before = explained("globalcom2", tokens).views
    same = explained("globalcom2", with_louder_crop(tokens, 2, 0.0)).views
    assert same == before
    after = explained("globalcom2", with_louder_crop(tokens, 2, 2.0)).views
    places = 9 if tokens.layout.grid == (6, 6) else tokens.layout.grid[0] * tokens.layout.grid[1] / 4
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if number == 0:
            continue
        assert old.importance is not None and new.importance is not None
        more = 2.0 * places if number == 2 else 0.0
        assert new.importance - old.importance == pytest.approx(more, abs=1e-5)
        assert (new.share or 0) > (old.share or 0) if number == 2 else (new.share or 0) < (old.share or 0)
    assert after[2].kept > before[2].kept


@pytest.mark.parametrize("name", [name for name in IMAGES if len(IMAGES[name].views) > 1])
@pytest.mark.parametrize("method", ["globalcom2", "hired"])
def test_views_get_what_they_were_to_have_to_one_token(method: str, name: str) -> None:
    visual = explained(method, make_tokens(IMAGES[name]))
    tokens = sum(view.kept for view in visual.views)
    if any(view.kept == view.total for view in visual.views):
        return  # a full view hands on what it cannot take
    for view in visual.views:
        assert view.share is not None
        assert abs(view.kept - tokens * view.share) < 1 + 1e-9


@pytest.mark.parametrize("policy", ["exact", "reference"])
@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize(
    ("method", "options"), [("globalcom2", {}), ("vidcom2", {}), ("vidcom2", {"reconcile": "global"})]
)
def test_frames_have_a_word_each_under_both_policies(
    method: str, options: dict[str, Any], name: str, policy: Policy
) -> None:
    visual = explained(method, make_tokens(VIDEOS[name], dim=64), policy, **options)
    assert all(view.importance is not None and view.share is not None for view in visual.views)
    assert sum(view.share or 0 for view in visual.views) == pytest.approx(1)
    order = sorted(visual.views, key=lambda view: view.importance or 0)
    parts = [(view.share or 0) / view.total for view in order]
    assert parts == sorted(parts)  # the more important, the more of its tokens
    assert visual.importance_meaning


def test_the_reference_policy_of_hired_counts_stripes() -> None:
    layout = IMAGES["two by two"]
    exact, reference = (explained("hired", make_tokens(layout), policy) for policy in ("exact", "reference"))
    for visual in (exact, reference):
        words = [view.importance for view in visual.views]
        assert words[0] is None
        assert all(word is not None and word == int(word) for word in words[1:])
    assert [view.importance for view in exact.views] != [view.importance for view in reference.views]


@pytest.mark.parametrize(
    ("method", "options"),
    [("globalcom2", {}), ("globalcom2", {"allocation": "topk"}), ("vidcom2", {}), ("fastervlm", {})],
)
def test_a_batch_explains_each_as_alone(method: str, options: dict[str, Any]) -> None:
    layouts = [VIDEOS[name] for name in ("one newline", "newline per row", "no newline")]
    tokens = [make_tokens(layout, dim=64, seed=seed) for seed, layout in enumerate(layouts)]
    chosen = get_method(method, **options)
    together = chosen.select(VisualBatch(tokens), [plan(layout) for layout in layouts])
    for selection, one in zip(together, tokens, strict=True):
        visual = VisualReport.from_selection(
            one.layout, selection.index, budget=len(selection), allotment=selection.allotment
        )
        alone = explained(method, one, **options)
        assert [view.kept for view in visual.views] == [view.kept for view in alone.views]
        for mine, other in zip(visual.views, alone.views, strict=True):
            assert mine.share == pytest.approx(other.share, abs=1e-12)
            assert mine.importance == pytest.approx(other.importance, abs=1e-9)


def table_of(visual: VisualReport, method: str) -> list[str]:
    return Report(method, visuals=[visual]).explain().splitlines()


def test_the_table_has_a_line_per_view_with_its_numbers() -> None:
    visual = explained("globalcom2", make_tokens(IMAGES["two by two"]))
    head, commander, columns, *lines = table_of(visual, "globalcom2")
    assert head.startswith("image 0: ") and head.endswith("visual tokens, globalcom2")
    assert commander == "  commander: sum of the global view's scores over the view"
    assert columns.split() == ["view", "commander", "share", "wanted", "kept"]
    assert len(lines) == len(visual.views)
    assert lines[0].split()[:2] == ["thumbnail", f"{100 * (visual.views[0].share or 0):.1f}"]
    tokens = sum(view.kept for view in visual.views)
    for number, (line, view) in enumerate(zip(lines[1:], visual.views[1:], strict=True), 1):
        share = view.share or 0.0
        words = f"crop {number} {view.importance:.4g} {100 * share:.1f} % {tokens * share:.1f}"
        assert line.split() == [*words.split(), f"{view.kept}/{view.total}"]
    assert max(map(len, [head, columns, *lines])) <= 80


def test_methods_without_a_commander_say_so() -> None:
    tokens = make_tokens(IMAGES["two by two"])
    even = explained("fastervlm", tokens)
    assert "no commander: the method allots evenly" in table_of(even, "fastervlm")[1]
    assert all(view.importance is None and view.share is not None for view in even.views)
    uniform = explained("globalcom2", tokens, allocation="uniform")
    assert "allots evenly" in table_of(uniform, "globalcom2")[1]
    drawn = explained("random", tokens)
    assert "the method states no share for a view" in table_of(drawn, "random")[1]
    assert all(view.importance is None and view.share is None for view in drawn.views)
    assert table_of(drawn, "random")[2].split() == ["view", "kept"]
    assert "share" not in drawn.views[0].to_dict() and "importance" not in drawn.to_dict()
    weighed = VisualReport.from_selection(
        tokens.layout,
        torch.arange(4),
        budget=4,
        allotment=Allotment(torch.arange(len(tokens.layout.views), dtype=torch.float64)),
    )
    assert "a rule of its own" in table_of(weighed, "ours")[1]


def test_no_weights_and_broken_weights_count_as_equal_and_as_none() -> None:
    layout = IMAGES["two by two"]
    views = len(layout.views)

    def shares(weights: list[float]) -> list[float | None]:
        allotment = Allotment(torch.tensor(weights, dtype=torch.float64))
        visual = VisualReport.from_selection(layout, torch.arange(3), budget=3, allotment=allotment)
        return [view.share for view in visual.views]

    assert shares([0.0] * views) == [1 / views] * views
    assert shares([math.nan, *[1.0] * (views - 1)]) == [0.0, *[1 / (views - 1)] * (views - 1)]


def test_a_clip_of_which_frames_were_left_out_states_nothing() -> None:
    layout = VIDEOS["one newline"]
    short = Allotment(torch.ones(len(layout.views) - 1, dtype=torch.float64))
    visual = VisualReport.from_selection(layout, torch.arange(3), budget=3, allotment=short)
    assert all(view.share is None for view in visual.views)
    assert table_of(visual, "ours")[2].split()[0] == "view"


def test_json_has_the_words_and_what_they_are() -> None:
    visual = explained("globalcom2", make_tokens(IMAGES["two by two"]))
    entry = visual.to_dict()
    assert entry["importance"] == "sum of the global view's scores over the view"
    thumbnail, *crops = (view.to_dict() for view in visual.views)
    assert "importance" not in thumbnail and 0 < thumbnail["share"] < 1
    assert all({"importance", "share"} <= set(crop) for crop in crops)


def test_nothing_is_read_from_the_device_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = IMAGES["two by two"]
    tokens = make_tokens(layout)
    selection = select_alone(get_method("globalcom2"), tokens, plan(layout))

    def refuse(tensor: torch.Tensor) -> None:
        raise AssertionError("reads the tensor")

    monkeypatch.setattr(torch.Tensor, "tolist", refuse)
    visual = VisualReport.from_selection(
        layout, selection.index, budget=len(selection), allotment=selection.allotment
    )
    with pytest.raises(AssertionError, match="reads the tensor"):
        _ = visual.views


def test_methods_that_keep_everything_or_merge_say_no_more_than_they_state() -> None:
    for method in ("none", "pool", "visionzip"):
        visual = explained(method, make_tokens(IMAGES["two by two"]))
        (line,) = [
            line for line in table_of(visual, method) if "commander:" in line or "no commander" in line
        ]
        assert line == "  no commander: the method states no share for a view" or "allots evenly" in line, (
            method
        )


def test_a_narrow_terminal_breaks_lines() -> None:
    visual = explained("globalcom2", make_tokens(IMAGES["two by two"]))
    report = Report("globalcom2", visuals=[visual])
    assert max(map(len, report.explain(40).splitlines())) <= 40 < max(map(len, report.explain().splitlines()))

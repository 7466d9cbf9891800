"""No loop over views or tokens, and no question to the device that grows with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from device_questions import WATCHED, Count
from layouts import make_tokens
from vidcompress.adapters.layouts import image_layout, native_layout, video_layout
from vidcompress.core.budget import visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.ops.clustering import cluster_means, density_peaks
from vidcompress.testing import select_alone


def counted(name: str, layout: Layout, policy: str, ratio: Fraction, **options: Any) -> Counter[str]:
    tokens = make_tokens(layout)
    separators: Any = "keep" if policy == "reference" else "thin"
    policy_: Any = policy
    budget = visual_budget(
        layout, int(len(layout) * ratio), ratio=ratio, separators=separators, policy=policy_
    )
    fresh = replace(tokens, layout=replace(layout))
    with Count() as count:
        select_alone(get_method(name, **options), fresh, budget).gather(fresh)
    return count.seen


def test_tiles_cost_no_syncs_and_as_many_kernels_for_36_as_for_4() -> None:
    layout = native_layout((24, 24))
    few, many = (counted("globalcom2", layout, "exact", Fraction(1, 4), tiles=tiles) for tiles in (4, 36))
    assert not any(few[name] or many[name] for name in WATCHED)
    assert abs(sum(many.values()) - sum(few.values())) <= 8


@pytest.mark.parametrize("policy", ["exact", "reference"])
@pytest.mark.parametrize("name", available_methods())
def test_as_many_syncs_for_37_views_as_for_5(name: str, policy: str) -> None:
    pairs = []
    if "video" in get_method(name).modalities:
        pairs.append((video_layout(5, (4, 4), "row"), video_layout(37, (4, 4), "row")))
    if "image" in get_method(name).modalities:
        pairs.append((image_layout((4, 4), (2, 2)), image_layout((4, 4), (6, 6))))
    for few, many in pairs:
        ratio = Fraction(1, 2)
        a, b = counted(name, few, policy, ratio), counted(name, many, policy, ratio)
        assert [a[op] for op in WATCHED] == [b[op] for op in WATCHED]
        if get_method(name).sequential and sum(a.values()) != sum(b.values()):
            picks = ratio * (len(many) - len(few))  # at most
            assert sum(b.values()) - sum(a.values()) <= 10 * picks, "a few kernels per pick"
        else:
            assert sum(a.values()) == sum(b.values()), "the same kernels whatever the number of views"
        if policy == "exact":
            assert a["nonzero"] == a["masked_select"] == a["boolean index"] == 0
            assert a["_local_scalar_dense"] <= 1, "at most the check that frames are runs"


@pytest.mark.parametrize("name", ["divprune", "cdpruner"])
def test_no_question_per_picked_token(name: str) -> None:
    """Four times as many picks: more kernels, and still nothing that a device would be waited for."""
    layout = image_layout((12, 12), (2, 2))
    few, many = (counted(name, layout, "exact", Fraction(part, 10)) for part in (2, 8))
    assert sum(many.values()) > sum(few.values()), "chosen one after another"
    for seen in (few, many):
        assert sum(seen[op] for op in WATCHED) == 0


def test_no_question_per_density_peak() -> None:
    """Neither where FastVID's segments absorb, nor where SparseVLM's pruned tokens are clustered inside the model."""
    seen = []
    for frames, ratio in ((4, Fraction(1, 4)), (32, Fraction(3, 4))):
        seen.append(counted("fastvid", video_layout(frames, (6, 6), "none"), "exact", ratio))
    for members, clusters in ((40, 4), (400, 80)):
        with Count() as count:
            tokens = torch.randn(members, 16)
            peaks, cluster = density_peaks(tokens, clusters, clusters)
            cluster_means(tokens, cluster, clusters)
        seen.append(count.seen)
    for few, many in (seen[:2], seen[2:]):
        assert sum(few.values()) == sum(many.values())
        assert all(few[op] == many[op] for op in WATCHED)
    assert [sum(count[op] for op in WATCHED[1:]) for count in seen] == [0] * 4
    assert sum(count["_local_scalar_dense"] for count in seen[2:]) == 0

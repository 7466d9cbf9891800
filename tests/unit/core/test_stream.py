"""Streams: what they keep beside `select` on the whole clip, what they hold, and what they prove."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stream_clips import KINDS, clip, endless
from vidcompress.core.batch import VisualBatch, shared_out
from vidcompress.core.budget import visual_budget
from vidcompress.core.method import Method
from vidcompress.core.method_lookup import available_methods, get_method
from vidcompress.core.selection import Selection, largest_remainder
from vidcompress.core.stream.shared import SharedStream, certain
from vidcompress.core.stream.stream import Kept, Stream, StreamSize, frames_layout
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError, BudgetError, UnsupportedInputError
from vidcompress.methods.census import places_of
from vidcompress.ops.centres import apart
from vidcompress.ops.position_order import GOLDEN, _mixed, best_positions, golden_order, hashed_order

EXACT: dict[str, tuple[str, dict[str, Any]]] = {
    "evs": ("evs", {}),
    "random": ("random", {"rule": "hash", "seed": 3}),
    "uniform": ("uniform", {"rule": "golden"}),
    "frames": ("frames", {"rule": "golden"}),
    "dycoke": ("dycoke", {}),
    "dycoke, window 1": ("dycoke", {"window": 1}),
    "dycoke, window 32": ("dycoke", {"window": 32}),
}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "globalcom2": ("globalcom2", {}),
    "globalcom2, coverage": ("globalcom2", {"coverage": 0.5}),
    "globalcom2, uniform, local": ("globalcom2", {"allocation": "uniform", "score": "local"}),
    "vidcom2": ("vidcom2", {}),
    "vidcom2, coverage": ("vidcom2", {"coverage": 1.0}),
    "census": ("census", {}),
}
ALL = EXACT | OTHERS


def method_of(case: str) -> Method:
    name, options = ALL[case]
    return get_method(name, **options)


def streamed(method: Method, x: Tensor, most: int, chunk: int = 7, **size: Any) -> Stream:
    stream = method.stream(StreamSize(most, **size))
    for part in x.split(chunk):
        stream.add(part)
    return stream


def offline(method: Method, x: Tensor, count: int, grid: tuple[int, int] | None = None) -> Selection:
    layout = frames_layout(len(x), grid or (1, x.shape[1]))
    return method.select(
        VisualBatch([VisualTokens(x.flatten(0, 1), layout)]), [visual_budget(layout, count)]
    )[0]


def positions(kept: Kept, x: Tensor) -> Tensor:
    return kept.frame * x.shape[1] + kept.place


def overlap(kept: Kept, x: Tensor, wanted: Tensor) -> float:
    return torch.isin(positions(kept, x), wanted).double().mean().item()


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_clip_that_fits_is_selected_offline_to_the_bit(case: str, dtype: torch.dtype) -> None:
    method, x = method_of(case), clip("cuts", 24, 6, 16).to(dtype)
    stream = streamed(method, x, 36, chunk=5, grid=(2, 3))  # 144 tokens, and 4 x 36 are held
    for count in (36, 7, 1):
        if case == "frames" and count < 6:
            continue
        kept, selection = stream.keep(count), offline(method, x, count, (2, 3))
        assert torch.equal(positions(kept, x), selection.index)
        assert torch.equal(
            kept.features, selection.gather(VisualTokens(x.flatten(0, 1), frames_layout(24, (2, 3))))
        )
        assert (kept.mass is None) == (selection.mass is None)
        if kept.mass is not None and selection.mass is not None:
            assert torch.equal(kept.mass, selection.mass)
        assert kept.certified is not None and kept.certified.all() and len(kept.certified) == 24
    assert stream.evictions == 0
    stream.add(x[:1])
    assert stream.evictions == 1, "one frame more does not fit"


@pytest.mark.parametrize("case", EXACT)
@settings(max_examples=15, deadline=None)
@given(
    frames=st.integers(1, 90),
    tokens=st.integers(1, 9),
    most=st.integers(1, 80),
    hold=st.sampled_from([2, 2.5, 4]),
    chunk=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    data=st.data(),
)
def test_these_always_keep_what_select_keeps(
    case: str, frames: int, tokens: int, most: int, hold: float, chunk: int, kind: Any, data: st.DataObject
) -> None:
    method, x = method_of(case), clip(kind, frames, tokens, 8)
    stream = method.stream(StreamSize(most, hold))
    at = 0
    for part in x.split(chunk):
        stream.add(part)
        at += len(part)
        count = data.draw(st.integers(1, most))
        if case == "frames" and count < tokens:
            with pytest.raises(BudgetError, match="count=|needs at least"):
                stream.keep(count)
            continue
        count = min(count, at * tokens)
        assert torch.equal(positions(stream.keep(count), x), offline(method, x[:at], count).index)
    assert stream.largest <= max(hold * most, most + tokens)


@pytest.mark.parametrize("case", EXACT)
def test_another_order_of_frames_keeps_other_tokens(case: str) -> None:
    """The control: the same tokens in another order, or another seed, are another choice."""
    method, x = method_of(case), clip("cuts", 300, 6, 16)
    kept = streamed(method, x, 40).keep(40)
    other = streamed(method, x.flip(0), 40).keep(40)
    assert not torch.equal(kept.features, other.features.flip(0))
    if case == "random":
        other = streamed(get_method("random", rule="hash", seed=4), x, 40).keep(40)
        assert overlap(kept, x, positions(other, x)) < 0.3


@pytest.mark.parametrize("case", ALL)
@settings(max_examples=8, deadline=None)
@given(
    frames=st.integers(1, 120),
    tokens=st.integers(1, 7),
    most=st.integers(1, 60),
    hold=st.sampled_from([2, 3, 4]),
    rows=st.sampled_from([None, 2, 16]),
    data=st.data(),
)
def test_counts_are_exact(
    case: str, frames: int, tokens: int, most: int, hold: int, rows: int | None, data: st.DataObject
) -> None:
    x = clip("cuts", frames, tokens, 8)
    stream = method_of(case).stream(StreamSize(most, hold, rows=rows))
    for part in x.split(data.draw(st.integers(1, 30))):
        stream.add(part)
    count = data.draw(st.integers(1, most))
    if case == "frames" and count < tokens:
        return
    kept, whole = stream.keep(count), min(count, frames * tokens)
    reached = whole - whole % tokens if case == "frames" else whole
    assert len(kept.frame) == len(kept.place) == len(kept.features) == reached
    place = positions(kept, x)
    assert bool((place[1:] > place[:-1]).all()), "in the order of the clip, none twice"
    assert torch.equal(kept.features, x.flatten(0, 1)[place])
    if kept.mass is not None:
        assert kept.mass.sum() == frames * tokens and kept.mass.min() >= 1
    assert stream.largest <= max(hold * most, most + tokens)


@pytest.mark.parametrize("case", ALL)
def test_keep_uses_nothing_up(case: str) -> None:
    """Asked in between for small and large budgets, a stream holds and keeps what one never asked does."""
    method, x = method_of(case), clip("cuts", 400, 6, 16)
    asked, silent = (method.stream(StreamSize(60, 3, rows=64)) for _ in range(2))
    for number, part in enumerate(x.split(5)):
        asked.add(part)
        silent.add(part)
        for count in (6, 60, 17 + number % 40):
            asked.keep(count)
    first = asked.keep(50)
    asked.keep(6)
    asked.keep(60)
    for kept in (asked.keep(50), silent.keep(50)):
        assert torch.equal(kept.features, first.features) and torch.equal(kept.frame, first.frame)
        assert (kept.mass is None) or torch.equal(kept.mass, first.mass)
        assert (kept.certified is None) or torch.equal(kept.certified, first.certified)
    assert not torch.equal(asked.keep(60).frame, first.frame)


@pytest.mark.parametrize("case", ALL)
def test_chunks_do_not_matter(case: str) -> None:
    method, x = method_of(case), clip("two halves", 300, 6, 16)
    whole = streamed(method, x, 50, chunk=300).keep(50)
    for chunk in (1, 13):
        part = streamed(method, x, 50, chunk=chunk).keep(50)
        assert torch.equal(part.frame, whole.frame) and torch.equal(part.place, whole.place)


@pytest.mark.parametrize("case", ALL)
def test_a_restored_stream_goes_on(case: str) -> None:
    method, x = method_of(case), clip("cuts", 400, 6, 16)
    stream = streamed(method, x[:230], 50, rows=32)
    state = stream.state()
    assert all(isinstance(part, Tensor) for part in state.values())
    assert not any(part.data_ptr() == stream.table.columns["features"].data_ptr() for part in state.values())
    other = method.stream(StreamSize(50, rows=32))
    other.restore({name: part.clone() for name, part in state.items()})
    assert torch.equal(other.keep(50).features, stream.keep(50).features)
    for one in (stream, other):
        one.add(x[230:])
    assert torch.equal(other.keep(33).features, stream.keep(33).features)
    assert (other.frames, other.evictions, other.largest) == (400, stream.evictions, stream.largest)
    again = method.stream(StreamSize(50, rows=32))
    again.restore(state)
    assert again.frames == 230, "what went on did not write into the state"
    with pytest.raises(ArgumentError, match="state lacks 'grid'"):
        again.restore({"numbers": state["numbers"]})
    with pytest.raises(ArgumentError, match="a table that is not whole"):
        again.restore({name: part for name, part in state.items() if name != "table.frame"})
    with pytest.raises(ArgumentError, match="another size, this one holds"):
        method.stream(StreamSize(6, 2)).restore(state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{}, {"coverage": 1.0}, {"score": "local"}, {"score": "global"}, {"allocation": "uniform"}, {"tau": 0.5}],
)
@pytest.mark.parametrize("most", [100, 700])
def test_certified_frames_are_chosen_as_offline(kind: Any, options: dict[str, Any], most: int) -> None:
    method, x = get_method("globalcom2", **options), clip(kind, 400, 9, 24)
    stream, proven = method.stream(StreamSize(most)), 0
    for at, part in enumerate(x.split(40)):
        stream.add(part)
        for count in (most, most // 3):
            kept, seen = stream.keep(count), x[: 40 * (at + 1)]
            if stream.evictions:
                mine, theirs = (
                    positions(kept, x),
                    offline(method, seen, min(count, seen[..., 0].numel())).index,
                )
                same = ~torch.isin(torch.arange(len(seen)), _frames_of_difference(mine, theirs, 9))
                assert kept.certified is not None and len(kept.certified) == len(seen)
                assert bool((same | ~kept.certified).all()), "a certified frame is chosen otherwise offline"
                proven += int(kept.certified.sum())
    assert proven > 0


def _frames_of_difference(mine: Tensor, theirs: Tensor, size: int) -> Tensor:
    """Frames of which one of the two choices has a token that the other has not."""
    only = torch.cat((mine[~torch.isin(mine, theirs)], theirs[~torch.isin(theirs, mine)]))
    return only // size


def test_certificates_are_common_on_still_clips_and_not_given_away() -> None:
    method = get_method("globalcom2")
    still = streamed(method, clip("needle", 600), 64).keep(64)
    assert still.certified is not None and still.certified.double().mean() > 0.9
    x = clip("two halves", 600)
    halves = streamed(method, x, 64).keep(64)
    differs = _frames_of_difference(positions(halves, x), offline(method, x, 64).index, 16).unique()
    assert len(differs) > 5, "the second half moves the mean"
    assert halves.certified is not None and not halves.certified[differs].any()


def test_certificates_of_joined_rows() -> None:
    """Rows of several frames: kept tokens of a certified row beat all tokens that the row ever had."""
    x, method = clip("needle", 512, 8, 24), get_method("globalcom2")
    stream = streamed(method, x, 100, rows=32)
    kept = stream.keep(100)
    assert kept.certified is not None and len(kept.certified) == 32
    unit = torch.nn.functional.normalize(x.double(), dim=-1)
    mean = torch.nn.functional.normalize(unit.sum((0, 1)), dim=0)
    c, local = -(unit @ mean), -(unit * torch.nn.functional.normalize(unit.sum(1), dim=-1)[:, None]).sum(-1)
    local = local / local.norm(dim=1, keepdim=True)
    total, spread = c.sum(1).view(32, 16), (c - c.mean(1, keepdim=True)).square().sum(1).view(32, 16)
    norm = (total.mean(1).square() / 8 + spread.mean(1)).sqrt()
    h = 0.5 * c + 0.5 * norm.repeat_interleave(16)[:, None] * local
    rows, chosen = h.view(32, 128), torch.zeros(512 * 8, dtype=torch.bool)
    chosen[positions(kept, x)] = True
    chosen = chosen.view(32, 128)
    checked = 0
    for row in kept.certified.nonzero()[:, 0].tolist():
        count = int(chosen[row].sum())
        assert sorted(rows[row].topk(count).indices.tolist()) == chosen[row].nonzero()[:, 0].tolist()
        checked += count > 0
    assert checked > 3


@pytest.mark.parametrize("case", ["evs", "globalcom2"])
@pytest.mark.parametrize("most", [64, 400])
def test_needles_are_kept_as_offline(case: str, most: int) -> None:
    for seed in range(4):
        x = clip("needle", 256, seed=seed)
        kept = streamed(method_of(case), x, most).keep(most)
        assert overlap(kept, x, offline(method_of(case), x, most).index) >= 0.95


def test_vidcom2_is_frozen_on_arrival() -> None:
    """Stated, not hidden: a still clip is kept much as offline, cuts are not."""
    shares = {}
    for kind in ("needle", "cuts"):
        x, method = clip(kind, 600), method_of("vidcom2")
        shares[kind] = overlap(streamed(method, x, 400).keep(400), x, offline(method, x, 400).index)
    assert shares["needle"] > 0.75 > 0.5 > shares["cuts"] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("most", [48, 400])
def test_the_covering_radius_of_census_is_within_two_of_offline(kind: Any, most: int) -> None:
    method, x = method_of("census"), clip(kind, 600)
    kept, selection = streamed(method, x, most).keep(most), offline(method, x, most)
    mine, theirs = (radius(x, index) for index in (positions(kept, x), selection.index))
    assert mine <= 2 * theirs
    few = radius(x, torch.arange(most))
    assert few > (2 if most == 400 else 1.2) * theirs, "the control: the first tokens cover little"


def radius(x: Tensor, index: Tensor) -> float:
    """Largest distance of a token to its nearest kept one, in direction, place and time."""
    layout = frames_layout(len(x), (1, x.shape[1]))
    where = places_of(layout) * torch.tensor([1.0, 1.0, 0.3]).sqrt()
    points = torch.cat((torch.nn.functional.normalize(x.flatten(0, 1).double(), dim=1), where), 1)
    return torch.cdist(points, points[index]).amin(1).max().item()


def test_masses_go_to_tokens_alike() -> None:
    """Half of the tokens are one kind: what is kept of that kind stands for half of all that came."""
    x = torch.zeros(500, 8, 4)
    x[:, :4, 0], x[:, 4:, 1] = 1.0, 1.0
    x[:, :, 2] += 0.05 * torch.rand(500, 8, generator=torch.Generator().manual_seed(0))
    kept = streamed(method_of("census"), x, 30).keep(20)
    assert kept.mass is not None
    assert kept.mass[kept.place < 4].sum() == kept.mass[kept.place >= 4].sum() == 2000


def test_centres_lie_apart_and_near_everything() -> None:
    points = torch.randn(700, 5, generator=torch.Generator().manual_seed(0))
    live = torch.arange(700) != 5
    order = torch.randperm(700, generator=torch.Generator().manual_seed(1))
    chosen, near, complete = apart(points, order, live, 1.0, 700)
    far = torch.cdist(points.double(), points[chosen].double()).square()
    assert complete and not chosen[5] and chosen[order[0]]
    assert torch.allclose(near.double(), far.amin(1), atol=1e-5)
    assert far.amin(1)[live].max() <= 1 + 1e-5
    among = far[chosen].fill_diagonal_(9.0)
    assert among.min() > 1 - 1e-5
    slow: list[int] = []  # the definition, token by token
    for i in order.tolist():
        if live[i] and all((points[i] - points[j]).square().sum() > 1.0 for j in slow):
            slow.append(i)
    assert sorted(slow) == chosen.nonzero()[:, 0].tolist()
    few, _, complete = apart(points, order, live, 1.0, 10)
    assert not complete and int(few.sum()) == 10


def test_positions_are_ranked_by_themselves() -> None:
    order = golden_order(order_range := torch.arange(100_000).numpy())
    for count in (7, 100, 3333):
        gaps = torch.from_numpy(best_positions(order, count)).diff().unique()
        assert len(gaps) <= 3 and gaps.max() <= 3 * 100_000 / count
    hashes = hashed_order(order_range, 0)
    drawn = torch.from_numpy(best_positions(hashes, 20_000))
    share = torch.histc((drawn % 16).double(), 16, 0, 15) / 20_000
    assert (share - 1 / 16).abs().max() < 0.01, "every place of a frame alike"
    assert len(set(hashes.tolist())) == 100_000
    other = torch.from_numpy(best_positions(hashed_order(order_range, 1), 20_000))
    assert 0.15 < torch.isin(drawn, other).double().mean() < 0.25
    published = _mixed(np.uint64(GOLDEN))
    assert int(published) == 0xE220A8397B1DCDAF, "the first number of splitmix64 from seed 0"


@pytest.mark.parametrize("dtype", [torch.float64])
def test_coverage_follows_time(dtype: torch.dtype) -> None:
    weights = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=dtype) + 0.5
    caps = torch.full((400,), 4)
    assert torch.equal(shared_out(weights, 90, caps), largest_remainder(weights, 90, caps)), "off by default"
    for share in (0.25, 1.0):
        counts = shared_out(weights, 90, caps, share)
        assert counts.sum() == 90 and counts.max() <= 4
    running = (weights.cumsum(0) / weights.sum() * 90 + 0.5).floor()
    assert torch.equal(shared_out(weights, 90, caps, 1.0).cumsum(0), running.long())
    stretches = shared_out(weights, 90, caps, 1.0).view(40, 10).sum(1)
    by_weight = shared_out(weights, 90, caps).view(40, 10).sum(1)
    assert int((stretches == 0).sum()) == 0 < int((by_weight == 0).sum())
    assert torch.equal(shared_out(weights, 900, caps, 1.0), largest_remainder(weights, 900, caps)), (
        "above a token a view"
    )
    rows = shared_out(weights.view(2, 200), torch.tensor([[30], [60]]), caps.view(2, 200), 0.5)
    assert torch.equal(rows[1], shared_out(weights[200:], 60, caps[200:], 0.5))
    assert shared_out(torch.zeros(9, dtype=dtype), 4, caps[:9], 1.0).sum() == 4


@pytest.mark.parametrize("name", ["globalcom2", "vidcom2"])
def test_coverage_of_a_whole_clip(name: str) -> None:
    x = clip("drift", 400)
    touched = {}
    for coverage in (0.0, 1.0):
        index = offline(get_method(name, coverage=coverage), x, 100).index
        assert len(index) == 100
        touched[coverage] = len((index // 16 // 4).unique())
    assert touched[1.0] == 100 > touched[0.0]
    assert torch.equal(
        offline(get_method(name), x, 100).index, offline(get_method(name, coverage=0), x, 100).index
    )
    several = VisualBatch(
        [VisualTokens(part.flatten(0, 1), frames_layout(200, (1, 16))) for part in x.split(200)]
    )
    budgets = [visual_budget(one.layout, 50) for one in several.visuals]
    method = get_method(name, coverage=0.7)
    for one, part in zip(method.select(several, budgets), x.split(200), strict=True):
        assert torch.equal(one.index, offline(method, part, 50).index)


def test_counts_near_a_boundary_are_not_certain() -> None:
    weights = torch.tensor([1.0, 1.0 + 1e-9, 2.0, 3.3, 0.4], dtype=torch.float64)
    caps = torch.full((5,), 50)
    for total in (3, 11, 30):
        counts = shared_out(weights, total, caps)
        for slack in (1e-7, 1e-13):
            sure = certain(counts, weights, torch.full((5,), slack, dtype=torch.float64), total, caps, 0.0)
            moved = [
                shared_out(weights + slack * torch.tensor(signs), total, caps) != counts
                for signs in itertools.product((-1.0, 0.0, 1.0), repeat=5)
            ]
            assert not bool((torch.stack(moved).any(0) & sure).any())
    assert bool(certain(shared_out(weights, 30, caps), weights, weights * 1e-12, 30, caps, 0.0).all())


@pytest.mark.parametrize("case", ["globalcom2", "vidcom2", "evs", "census"])
def test_live_bytes_differ_by_the_frame_sums_alone(case: str) -> None:
    """Between frames a stream of 1,000 frames has the tensors of one of 10,000, but for one row per frame."""
    held, sums = {}, {}
    for frames in (1_000, 10_000):
        frames_layout.cache_clear()
        before, stream, source = live(), method_of(case).stream(StreamSize(128)), endless(50, 8, 16)
        for part in itertools.islice(source, frames // 50):
            stream.add(part)
        del part, source
        rows = stream.rows.columns.values() if isinstance(stream, SharedStream) else ()
        sums[frames] = sum(column.nbytes for column in rows)
        table = sum(column.nbytes for column in stream.table.columns.values())
        held[frames] = live_bytes(before) - sums[frames]
        assert table <= held[frames] <= table + 2_000
        del stream, rows, before
    assert held[1_000] == held[10_000]
    per_frame = {"globalcom2": 16 * 4 + 7 * 8, "vidcom2": 8}.get(case, 0)
    for frames, size in sums.items():  # the table grows twofold
        assert frames * per_frame <= size <= 2 * frames * per_frame + 100 * per_frame


def live() -> list[Tensor]:
    """All tensors that are referenced, caches of other tests among them; the list keeps them alive."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is Tensor]


def live_bytes(before: Sequence[Tensor] = ()) -> int:
    """Bytes of the storages of all tensors that are referenced and are not among those of before."""
    old = {one.data_ptr() for one in before}
    tensors = {one.data_ptr(): one.untyped_storage().nbytes() for one in live() if one.data_ptr() not in old}
    return sum(tensors.values())


@pytest.mark.parametrize("case", ["globalcom2", "vidcom2", "census"])
def test_a_stream_without_end_is_flat(case: str) -> None:
    stream, source, sizes = method_of(case).stream(StreamSize(48, rows=64)), endless(64, 8, 16), []
    for number, part in zip(range(120), source, strict=False):
        stream.add(part)
        if number % 30 == 29:
            sizes.append(live_bytes())
    assert stream.frames == 120 * 64 and len(set(sizes)) == 1
    kept = stream.keep(48)
    assert len(kept.frame) == 48 and kept.frame.max() > 6000
    if kept.mass is not None:
        assert kept.mass.sum() == stream.tokens
    if kept.certified is not None:
        assert len(kept.certified) == 60


def test_refusals_say_what_to_use() -> None:
    whole = {"divprune", "fastvid", "pool", "cdpruner", "none", "fastv", "random", "uniform", "frames"}
    for name in available_methods():
        method = get_method(name)
        if name in ("evs", "dycoke", "globalcom2", "vidcom2", "census"):
            assert isinstance(method.stream(StreamSize(10)), Stream)
            continue
        whole.discard(name)
        with pytest.raises(UnsupportedInputError, match=f"'{name}'.*needs the whole clip.*; use "):
            method.stream(StreamSize(10))
    assert not whole, "all of these were tried"
    for name, options, instead in (
        ("random", {}, "rule='hash'"),
        ("uniform", {}, "rule='golden'"),
        ("frames", {}, "rule='golden'"),
        ("dycoke", {"window": 6}, "a power of two"),
        ("globalcom2", {"allocation": "topk"}, "allocation='softmax_sum'"),
        ("globalcom2", {"evidence": "cls_logits"}, "evidence='auto'"),
        ("vidcom2", {"reconcile": "global"}, "reconcile='largest_remainder'"),
        ("census", {"weight": "question"}, "weight='commander'"),
        ("census", {"selection": "proportional"}, "selection='coverage'"),
    ):
        with pytest.raises(UnsupportedInputError, match=f"needs the whole clip.*use .*{instead}"):
            get_method(name, **options).stream(StreamSize(10))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"most": 0}, "most=0: must be a whole number of at least 1"),
        ({"hold": 1.5}, "hold=1.5: must be a number from 2 to 1024"),
        ({"hold": "4"}, "hold='4': must be a number"),
        ({"grid": (4,)}, r"grid=\(4,\): must be \(rows, cols\)"),
        ({"grid": (4, 0)}, "grid=0: must be a whole number"),
        ({"rows": 3}, "rows=3: must be an even number"),
        ({"rows": 0}, "rows=0: must be a whole number of at least 2"),
    ],
)
def test_wrong_sizes_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        StreamSize(**{"most": 5, **options})


def test_wrong_frames_and_budgets_are_refused() -> None:
    with pytest.raises(ArgumentError, match="size=5: must be a StreamSize"):
        get_method("evs").stream(5)  # type: ignore[arg-type]
    stream = get_method("evs").stream(StreamSize(5))
    assert (stream.tokens, stream.held) == (0, 0) and "0 frames" in repr(stream)
    with pytest.raises(UnsupportedInputError, match="call add"):
        stream.keep(1)
    for features in (torch.zeros(4, 3), torch.zeros(2, 3, 4).long(), "frames", torch.zeros(2, 0, 4)):
        with pytest.raises(ArgumentError, match="features="):
            stream.add(features)  # type: ignore[arg-type]
    stream.add(torch.ones(2, 3, 4))
    for features in (torch.ones(1, 2, 4), torch.ones(1, 3, 5), torch.ones(1, 3, 4).double()):
        with pytest.raises(ArgumentError, match="must go on as the first frames"):
            stream.add(features)
    with pytest.raises(BudgetError, match="count=6: this stream holds tokens for a budget of at most 5"):
        stream.keep(6)
    with pytest.raises(BudgetError, match="count=0: must be a whole number"):
        stream.keep(0)
    with pytest.raises(ArgumentError, match="must have 8 tokens a frame"):
        get_method("evs").stream(StreamSize(5, grid=(2, 4))).add(torch.ones(1, 3, 4))
    assert len(stream.keep(5).frame) == 5 and stream.frames == 2


@pytest.mark.parametrize("case", ALL)
def test_broken_tokens_do_not_break_what_follows(case: str) -> None:
    x = clip("cuts", 300, 6, 16)
    x[20, 2], x[21, :, 3], x[200] = torch.nan, torch.inf, 0.0
    stream = streamed(method_of(case), x, 50)
    kept = stream.keep(50)
    assert len(kept.frame) in (48, 50)
    if case in ("globalcom2", "census"):
        assert not bool(((kept.frame == 20) & (kept.place == 2)).any()), (
            "a broken token comes last in its frame"
        )
        assert len(kept.frame.unique()) > 10

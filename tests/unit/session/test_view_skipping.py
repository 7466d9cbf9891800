"""Frames that look alike: which follow which, and what the option says."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
import torch

from bench import growth
from vidcompress.adapters.layouts import image_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import visual_budget
from vidcompress.core.config import ViewSkipping, read_view_skipping
from vidcompress.core.tokens import VisualTokens
from vidcompress.errors import ArgumentError
from vidcompress.methods import globalcom2
from vidcompress.session import view_skipping
from vidcompress.session.view_skipping import leaders


def clip(*pictures: int, size: int = 32) -> torch.Tensor:
    """Frames (F, 3, size, size) of random pictures, by number."""
    return torch.stack(
        [torch.randn(3, size, size, generator=torch.Generator().manual_seed(n)) for n in pictures]
    )


def with_cells(frame: torch.Tensor, cells: int, by: float) -> torch.Tensor:
    """The frame with its first cells of 8 x 8 pixels brighter."""
    changed = frame.clone()
    for n in range(cells):
        row, col = divmod(n, frame.shape[-1] // 8)
        changed[:, 8 * row : 8 * row + 8, 8 * col : 8 * col + 8] += by
    return changed


def test_frames_follow_the_first_of_their_kind() -> None:
    assert leaders(clip(1, 2, 1, 1, 3, 2), ViewSkipping(frames=True)) == (0, 1, 0, 0, 4, 1)
    assert leaders(clip(7), ViewSkipping(frames=True)) == (0,)
    assert leaders(clip(7)[:0], ViewSkipping(frames=True)) == ()


def test_threshold_is_per_cell_and_area_is_their_share() -> None:
    frame = clip(1)[0]  # 16 cells
    pixels = torch.stack([frame, with_cells(frame, 2, 0.3)])
    assert leaders(pixels, ViewSkipping(True, threshold=0.31, area=0.0)) == (0, 0)
    assert leaders(pixels, ViewSkipping(True, threshold=0.29, area=2 / 16)) == (0, 0)
    assert leaders(pixels, ViewSkipping(True, threshold=0.29, area=1.9 / 16)) == (0, 1)
    by_a_quarter = torch.stack([frame.round(), with_cells(frame.round(), 2, 0.25)])  # exact in binary
    assert leaders(by_a_quarter, ViewSkipping(True, threshold=0.25, area=0.0)) == (0, 0), (
        "as much as may change"
    )
    assert leaders(by_a_quarter, ViewSkipping(True, threshold=0.2499, area=0.0)) == (0, 1)
    one_channel = torch.stack([frame, frame + torch.tensor([0.3, 0, 0])[:, None, None]])
    assert leaders(one_channel, ViewSkipping(True, threshold=0.29)) == (0, 1)


def test_noise_within_a_cell_is_no_change() -> None:
    frame = clip(1)[0]
    noise = 0.05 * torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(9))
    assert set(leaders(frame + noise, ViewSkipping(frames=True))) == {0}


def test_small_changes_do_not_add_up_unseen() -> None:
    frame = clip(1)[0]
    pixels = torch.stack([frame + 0.06 * t for t in range(5)])
    assert leaders(pixels, ViewSkipping(True, threshold=0.1)) == (0, 0, 2, 2, 4)


def test_a_frame_follows_the_one_most_like_it() -> None:
    frame = clip(1)[0]
    pixels = torch.stack([frame, with_cells(frame, 4, 1.0), with_cells(frame, 3, 1.0)])
    assert leaders(pixels, ViewSkipping(True, area=0.2)) == (
        0,
        1,
        1,
    )  # 3/16 from the first, 1/16 from the second


def with_these_cells(frame: torch.Tensor, cells: set[int]) -> torch.Tensor:
    """The frame with some of its 16 cells, numbered row by row, brighter."""
    changed = frame.clone()
    for n in cells:
        changed[:, 8 * (n // 4) : 8 * (n // 4) + 8, 8 * (n % 4) : 8 * (n % 4) + 8] += 1.0
    return changed


def test_a_frame_follows_the_new_frame_most_like_it_not_its_likest_neighbour_s() -> None:
    """By hand, of 16 cells of which 4 may change: the last frame is most like the third, which follows the first."""
    brighter: list[set[int]] = [set(), {1, 2, 3, 4, 5}, {1, 2, 6}, {1, 2, 3, 6}]
    # Cells that differ: 5 of the first two, so both are new; the third 3 from the first, 4 from the second; the
    # fourth 4 from the first, 3 from the second and 1 from the third.
    pixels = torch.stack([with_these_cells(clip(1)[0], cells) for cells in brighter])
    assert leaders(pixels, ViewSkipping(True, area=4 / 16)) == (0, 1, 0, 1)


@pytest.mark.parametrize("seed", range(8))
def test_frames_follow_as_sets_of_cells_say(seed: int) -> None:
    """Against the rule told with sets: the new frame with the fewest differing cells, the earlier of two alike."""
    draw = torch.Generator().manual_seed(seed)
    brighter = [{int(n) for n in torch.randperm(16, generator=draw)[: 2 + t % 5]} for t in range(24)]
    for t in range(1, 24, 2):  # every other frame is one that came before with a cell changed
        brighter[t] = brighter[int(torch.randint(t, (1,), generator=draw))] ^ {t % 16}
    wanted: list[int] = []
    for number, cells in enumerate(brighter):
        new = sorted(set(wanted))
        nearest = min(new, key=lambda other: len(cells ^ brighter[other]), default=number)
        wanted.append(nearest if len(cells ^ brighter[nearest]) <= 3 else number)
    assert 2 < len(set(wanted)) < 24
    pixels = torch.stack([with_these_cells(clip(1)[0], cells) for cells in brighter])
    assert leaders(pixels, ViewSkipping(True, area=3 / 16)) == tuple(wanted)


# -- long clips -------------------------------------------------------------------------------------------------------


def followed(pictures: Sequence[int], remembered: int) -> tuple[int, ...]:
    """The rule for pictures that are alike or differ in every cell: the last new frame of its kind among so many."""
    new: list[int] = []
    out = []
    for number, picture in enumerate(pictures):
        same = [frame for frame in new[-remembered:] if pictures[frame] == picture]
        new += [] if same else [number]
        out.append(same[0] if same else number)
    return tuple(out)


@pytest.mark.parametrize("together", [1, 3, 7, 64])
@pytest.mark.parametrize("remembered", [1, 2, 5, 128])
def test_a_frame_is_compared_with_the_last_new_frames(
    together: int, remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many frames are compared at once; one that looks like an older frame is new."""
    monkeypatch.setattr(view_skipping, "TOGETHER", together)
    monkeypatch.setattr(view_skipping, "REMEMBERED", remembered)
    draw = torch.Generator().manual_seed(together)
    pictures = [1, 2, 3, 1, 3, *torch.randint(0, 7, (35,), generator=draw).tolist()]
    expected = followed(pictures, remembered)
    assert leaders(clip(*pictures), ViewSkipping(frames=True)) == expected
    if remembered == 2:
        assert expected[3] == 3 and expected[4] == 2  # 1 is the third-last new frame, 3 the last
    assert (expected == followed(pictures, 1000)) is (remembered == 128)


def compared(frames: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Pairs of frames that are compared in a clip without copies."""
    pairs: list[int] = []

    def count(cells: torch.Tensor, others: torch.Tensor, threshold: float) -> torch.Tensor:
        pairs.append(len(cells) * len(others))
        return torch.ones(len(cells), len(others))

    monkeypatch.setattr(view_skipping, "_changed", count)
    assert leaders(torch.zeros(frames, 1, 8, 8), ViewSkipping(frames=True)) == tuple(range(frames))
    return sum(pairs)


def test_the_work_grows_with_the_length_of_a_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exponent from 1,000 to 16,000 frames; it is near 2 where every new frame is remembered."""
    lengths = [1000, 4000, 16_000]
    assert growth.fit(lengths, [compared(n, monkeypatch) for n in lengths])["exponent"] < 1.02
    assert compared(16_000, monkeypatch) <= 16_000 * (view_skipping.REMEMBERED + view_skipping.TOGETHER)
    monkeypatch.setattr(view_skipping, "REMEMBERED", 10**6)
    assert growth.fit(lengths[:2], [compared(n, monkeypatch) for n in lengths[:2]])["exponent"] > 1.8


def test_frames_are_read_in_order_as_they_are_decoded() -> None:
    """A clip that is still being decoded is asked for its first frames first, and never for all of them at once."""
    pixels, asked = clip(*[n % 3 for n in range(150)], size=8), []

    class Frames:
        shape = pixels.shape

        def __getitem__(self, index: slice) -> torch.Tensor:
            asked.append((index.start, min(index.stop, 150)))
            return pixels[index]

    assert leaders(Frames(), ViewSkipping(frames=True)) == tuple(n % 3 for n in range(150))  # type: ignore[arg-type]
    assert asked == [(0, 64), (64, 128), (128, 150)]


def test_frames_smaller_than_a_cell() -> None:
    assert leaders(clip(1, 2, 1, size=4), ViewSkipping(frames=True)) == (0, 1, 0)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("off", ViewSkipping()),
        ("frames", ViewSkipping(frames=True)),
        ("crops", ViewSkipping(crops=True)),
        ("crops+frames", ViewSkipping(frames=True, crops=True)),
        ("frames:threshold=0.2", ViewSkipping(frames=True, threshold=0.2)),
        ("frames+crops:area=0,threshold=0.2", ViewSkipping(True, True, threshold=0.2, area=0)),
    ],
)
def test_the_option(text: str, wanted: ViewSkipping) -> None:
    assert read_view_skipping(text) == wanted
    assert read_view_skipping(wanted) is wanted


@pytest.mark.parametrize(
    "value",
    ["", "on", "frames+frames", "off:1", "off+frames", "crops:area=0.2", "off:area=0.2", "frames:x", "frames:0.2:0.05",
     "frames:size=1", "frames:threshold", "frames:=1", True, None, 3, ["frames"], torch.zeros(2)],
)  # fmt: skip
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"encoder_saving=.*: must be 'off', 'frames', 'crops' or"):
        read_view_skipping(value)


@pytest.mark.parametrize("number", ["-1", "nan", "x", "true", "null", "2"])
def test_numbers_of_the_text_are_checked(number: str) -> None:
    with pytest.raises(ArgumentError, match="area=.*: must be a number from 0 to 1"):
        read_view_skipping(f"frames:area={number}")
    if number == "2":
        assert read_view_skipping(f"frames:threshold={number}").threshold == 2
        return
    with pytest.raises(ArgumentError, match="threshold=.*: must be a number from 0$"):
        read_view_skipping(f"frames:threshold={number}")


def test_frames_that_are_no_numbers_are_new() -> None:
    pixels = clip(1, 1, 1)
    pixels[1] = torch.nan
    assert leaders(pixels, ViewSkipping(frames=True)) == (0, 1, 0)


def test_edges_that_are_no_whole_cells_count() -> None:
    pixels = clip(1, 1, size=30)
    pixels[1, :, 24:, 24:] += 1
    assert leaders(pixels, ViewSkipping(frames=True)) == (0, 1)


def test_crops_are_judged_as_the_scores_judge_them(monkeypatch: Any) -> None:
    """From tensors of one shape, to the last bit, or crops that are worth the same could be left out and yet sent."""
    layout = image_layout((8, 8), (2, 2), unpadded=(0, 0, 16, 16), device="cpu")
    features = torch.randn(len(layout), 96, generator=torch.Generator().manual_seed(0))
    single, shapes, grids = image_layout((8, 8), newline=False, device="cpu"), [], []
    for name, seen in (("distances", shapes), ("gated_views", grids)):
        real = getattr(globalcom2, name)
        monkeypatch.setattr(
            globalcom2,
            name,
            lambda first, *rest, real=real, seen=seen, **how: seen.append(first) or real(first, *rest, **how),
        )
    method = globalcom2.GlobalCom2(allocation="gated", evidence="distance")
    budget = visual_budget(layout, len(layout) // 8, ratio=Fraction(1, 8))
    stay = method.crops(VisualTokens(features[: len(single)], single), layout, budget)
    method.scores(VisualBatch([VisualTokens(features, layout)]), [budget])
    assert [seen.features.shape for seen in shapes] == [features.shape] * 2
    assert torch.equal(*(seen.grid for seen in grids)) and stay is not None and 1 <= len(stay) < 4


@pytest.mark.parametrize("value", [-0.1, float("nan"), "much", None, True])
def test_an_object_is_checked_as_the_text_is(value: Any) -> None:
    with pytest.raises(ArgumentError, match="threshold=.*: must be a number from 0$"):
        ViewSkipping(frames=True, threshold=value)
    with pytest.raises(ArgumentError, match="area=.*: must be a number from 0 to 1"):
        ViewSkipping(frames=True, area=value)
    with pytest.raises(ArgumentError, match="area=1.5: must be a number from 0 to 1"):
        ViewSkipping(frames=True, area=1.5)

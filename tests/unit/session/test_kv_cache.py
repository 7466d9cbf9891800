"""What a later turn is compared with: pixels of another picture, and caches that were cut too short or are too long."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vidcompress.errors import UnsupportedInputError
from vidcompress.llm_pruning.cache_names import cache_name
from vidcompress.session.kv_cache import Transcript, check_pixels, open_transcript, resume, sample_pixels

KEYS = ("pixel_values", "pixel_values_videos")


def transcript(**inputs: torch.Tensor) -> Transcript:
    """A transcript that was opened with these pixels."""
    ids = torch.zeros(1, 1, dtype=torch.int64)
    return Transcript(ids, ids, {"input_ids": ids}, (), sample_pixels(inputs, KEYS))


def same(before: torch.Tensor, now: torch.Tensor) -> bool:
    """Whether pixels pass for those of the first turn."""
    opened = transcript(pixel_values=before)
    try:
        check_pixels(opened, {"pixel_values": now}, KEYS)
    except UnsupportedInputError:
        return False
    return True


def test_every_value_of_a_small_picture_is_compared() -> None:
    """A picture of up to 4,096 values is looked at whole, so no single change passes."""
    pixels = torch.randn(1, 3, 36, 36, generator=torch.Generator().manual_seed(0))
    assert same(pixels, pixels.clone())
    for place in range(0, pixels.numel(), 7):
        changed = pixels.clone()
        changed.view(-1)[place] += 1
        assert not same(pixels, changed), place


@pytest.mark.parametrize("shape", [(5, 3, 64, 64), (1, 3, 112, 112), (2, 3, 91, 53)])
def test_no_run_of_a_4096th_of_a_larger_picture_is_overlooked(shape: tuple[int, ...]) -> None:
    """At least 4,096 values, evenly taken, are compared: a change of a 4,096th, wherever it begins, holds one."""
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    run = pixels.numel() // 4096
    assert run > 1
    assert same(pixels, pixels.clone())
    for start in range(0, pixels.numel() - run, 97 * run + 1):
        changed = pixels.clone()
        changed.view(-1)[start : start + run] += 1
        assert not same(pixels, changed), start


def test_each_key_and_each_picture_of_a_list_is_compared() -> None:
    pictures = [torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    clip = pictures[0][None]
    opened = transcript(pixel_values=pictures, pixel_values_videos=clip)  # type: ignore[arg-type]
    check_pixels(opened, {"pixel_values": pictures, "pixel_values_videos": clip}, KEYS)
    check_pixels(opened, {"pixel_values": list(pictures)}, KEYS)
    for wrong in ([*pictures[:2], clip[0]], pictures[:2], [*pictures, clip[0]], [pictures[1], pictures[0]]):
        with pytest.raises(UnsupportedInputError, match="^pixel_values differs"):
            check_pixels(opened, {"pixel_values": wrong}, KEYS)
    with pytest.raises(UnsupportedInputError, match="^pixel_values_videos differs"):
        check_pixels(opened, {"pixel_values": pictures, "pixel_values_videos": clip + 1}, KEYS)


def test_where_a_cache_may_be_cut_by_hand() -> None:
    """Ten columns, of which the first eight are the prompt and 2 to 5 its picture; one of these four was sent.

    So the cache holds three columns fewer: three of it end just behind the picture, seven are all that was said.
    """
    ids = torch.tensor([[5, 6, 90, 90, 90, 90, 7, 8, 9, 9]])
    first = {"input_ids": ids[:, :8]}
    short = {"input_ids": torch.tensor([[5, 6, 90, 7, 8]])}
    opened = replace(open_transcript(first, None, short, (90,)), sequences=ids)
    assert (opened.settled, opened.shift) == (6, 3)
    assert [opened.held(cached) for cached in (3, 4, 7)] == [6, 7, 10]
    with pytest.raises(UnsupportedInputError, match="was cut to 2 tokens, within the visual tokens"):
        opened.held(2)
    with pytest.raises(UnsupportedInputError, match="holds 1 tokens more than this block put there"):
        opened.held(8)
    turn = torch.cat((ids, torch.tensor([[3]])), dim=1)
    later = resume(opened, {"input_ids": turn}, None, 7, caller_positions=False)
    assert later["input_ids"].tolist() == [[5, 6, 90, 7, 8, 9, 9, 3]]
    with pytest.raises(UnsupportedInputError, match=f"input_ids has 10 columns and {cache_name()} holds 10"):
        resume(opened, {"input_ids": ids}, None, 7, caller_positions=False)


def test_positions_with_axes_go_on_from_the_last_column() -> None:
    """Not from the largest: the time of a clip may be ahead of the text behind it. And padding does not count."""
    ids = torch.tensor([[90, 90, 5, 6], [0, 90, 90, 7]])
    positions = torch.tensor([[[0, 9, 2, 3], [0, 0, 9, 4]]] * 3)
    short = {"input_ids": ids, "attention_mask": (ids != 0).long(), "position_ids": positions}
    opened = open_transcript(short, short["attention_mask"], short, (90,))
    later = torch.cat((ids, torch.tensor([[8, 8], [8, 8]])), dim=1)
    out = resume(opened, {"input_ids": later}, (later != 0).long(), 4, caller_positions=True)
    assert out["position_ids"][:, 0].tolist() == [[0, 9, 2, 3, 4, 5]] * 3
    assert out["position_ids"][:, 1].tolist() == [[0, 0, 9, 4, 5, 6]] * 3


def test_text_behind_a_cut_prompt_has_the_positions_of_the_text_that_was_there() -> None:
    """The first text behind a picture of 2 x 2 stands two places behind its start, not one behind its last token."""
    ids = torch.tensor([[4, 90, 90, 90, 90, 5, 6]])
    positions = torch.tensor([[[0, 1, 1, 1, 1, 3, 4]], [[0, 1, 1, 2, 2, 3, 4]], [[0, 1, 2, 1, 2, 3, 4]]])
    short = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "position_ids": positions}
    cut = open_transcript(short, None, short, (90,)).cut_behind_visuals()
    later = torch.tensor([[4, 90, 90, 90, 90, 7, 8]])
    out = resume(cut, {"input_ids": later}, None, 5, caller_positions=False)
    assert out["position_ids"].tolist() == positions.tolist()


@pytest.mark.parametrize("scaled", [False, True])
def test_text_behind_a_cut_prompt_goes_on_behind_a_token_that_was_left_out(scaled: bool) -> None:
    """Of four visual tokens the first is sent; the text stands five places behind it, or two under `scaled`."""
    places = torch.tensor([[0, 1, 3, 4] if scaled else [0, 1, 6, 7]])
    ids = torch.tensor([[4, 90, 90, 90, 90, 90, 5, 6]])
    short = {"input_ids": torch.tensor([[4, 90, 5, 6]]), "position_ids": places}
    opened = open_transcript({"input_ids": ids}, None, short, (90,))
    later = torch.tensor([[4, 90, 90, 90, 90, 90, 7, 8]])
    cut = opened.cut_behind_visuals()
    out = resume(cut, {"input_ids": later}, None, 2, caller_positions=False)
    assert out["position_ids"].tolist() == places.tolist()
    bare = replace(cut, text_positions=None)  # the control: one behind the last token that is there
    out = resume(bare, {"input_ids": later}, None, 2, caller_positions=False)
    assert out["position_ids"].tolist() == [[0, 1, 2, 3]]


def test_positions_of_the_caller_do_not_go_on_from_those_of_a_clip_that_shrank() -> None:
    ids = torch.tensor([[4, 90, 90, 90, 5]])
    short = {"input_ids": torch.tensor([[4, 90, 5]]), "position_ids": torch.tensor([[0, 1, 2]])}
    opened = open_transcript({"input_ids": ids}, None, short, (90,))
    later = torch.cat((ids, torch.tensor([[7, 8]])), dim=1)
    inputs = {"input_ids": later, "position_ids": torch.arange(7)[None]}
    out = resume(opened, inputs, None, 3, caller_positions=True)
    assert out["position_ids"].tolist() == [[0, 1, 2, 5, 6]]
    shrunk = replace(opened, scaled=True)
    with pytest.raises(
        UnsupportedInputError, match="^position_ids=.*'scaled', under which the positions of its clip"
    ):
        resume(shrunk, inputs, None, 3, caller_positions=True)
    out = resume(shrunk, {"input_ids": later}, None, 3, caller_positions=True)
    assert out["position_ids"].tolist() == [[0, 1, 2, 3, 4]]

"""Positions under `scaled`: the tensors against a walk token by token, over all layouts of a row."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from device_questions import CountSyncs
from reference.slow import scaled_positions
from tiny_models import tiny_model
from vidcompress.adapters.base import adapter_for
from vidcompress.core.prompt import parse_prompt
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError
from vidcompress.loading.home_tokens import home_tokens_by_name, known_home_tokens
from vidcompress.loading.resources import find
from vidcompress.session.prompt import splice
from vidcompress.session.scaled_positions import home_tokens, scaled_places

IMAGE, VIDEO, PAD = 90, 91, 0
CODES = {"image": IMAGE, "video": VIDEO}
Key = tuple[str, int]


class Layout:
    """A batch of prompts: per row a list of (kind, lengths of its runs, text between two runs), text between them."""

    def __init__(
        self, rows: list[list[tuple[str, list[int], int]]], text: int = 2, right: bool = False
    ) -> None:
        self.runs: dict[str, list[tuple[int, ...]]] = {"image": [], "video": []}
        self.names: list[list[str]] = []
        self.keys: list[list[Key]] = []
        ids: list[list[int]] = []
        for row in rows:
            line, names, keys = [5] * text, [""] * text, []
            for kind, runs, between in row:
                keys.append((kind, len(self.runs[kind])))
                self.runs[kind].append(tuple(runs))
                name = f"{kind} {keys[-1][1]}"
                for number, run in enumerate(runs):
                    gap = between if number else 0
                    line += [6] * gap + [CODES[kind]] * run
                    names += [""] * gap + [name] * run
                line, names = line + [7] * text, names + [""] * text
            ids.append(line)
            self.names.append(names)
            self.keys.append(keys)
        width = max(map(len, ids))
        self.right = right
        pads = [width - len(line) for line in ids]
        self.ids = torch.tensor([self._padded(line, n, PAD) for line, n in zip(ids, pads, strict=True)])
        self.mask = torch.tensor([self._padded([1] * (width - n), n, 0) for n in pads])
        self.prompt = parse_prompt(self.ids, self.mask, CODES, self.runs)  # type: ignore[arg-type]

    def _padded(self, line: list[int], count: int, value: int) -> list[int]:
        return line + [value] * count if self.right else [value] * count + line

    def length(self, key: Key) -> int:
        return sum(self.runs[key[0]][key[1]])

    def short(self, kept: dict[Key, Tensor], homes: dict[Key, int], prompt: Any = None, **more: Any) -> Any:
        return splice(
            {"input_ids": self.ids, "attention_mask": self.mask, **more},
            self.prompt if prompt is None else prompt,
            kept,
            placeholders={"image": IMAGE, "video": VIDEO},
            pad_token_id=PAD,
            original_positions=True,
            homes=homes,
        )

    def rows(self, short: Any) -> list[list[int]]:
        """Positions of each row without padding."""
        pairs = zip(short["position_ids"], short["attention_mask"].bool(), strict=True)
        return [places[real].tolist() for places, real in pairs]

    def walked(
        self, kept: dict[Key, Tensor], home: int, gone: list[set[int]] | None = None
    ) -> list[list[int]]:
        """The same by the slow walk; `gone` has columns of text that leave."""
        made = []
        for number, (names, keys) in enumerate(zip(self.names, self.keys, strict=True)):
            stays, order = [True] * len(names), list(range(len(names)))
            for key in keys:
                columns = [c for c, name in enumerate(names) if name == f"{key[0]} {key[1]}"]
                chosen = [columns[i] for i in kept[key].tolist()]
                for column in columns:
                    stays[column] = column in chosen
                if chosen != sorted(chosen):  # sent in another order, in the place of the whole run
                    order[columns[0] : columns[-1] + 1] = chosen + [c for c in columns if c not in chosen]
            for column in gone[number] if gone else ():
                stays[column] = False
            homes = {f"{kind} {n}": home for kind, n in keys if kind == "video"}
            found = scaled_positions(names, stays, homes)
            made.append([found[column] for column in order if column in found])
        return made

    def homes(self, home: int) -> dict[Key, int]:
        clips = [key for keys in self.keys for key in keys if key[0] == "video"]
        return {key: home for key in clips if self.length(key) > home}


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    clip = st.tuples(st.just("video"), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 3))
    picture = st.tuples(
        st.just("image"), st.lists(st.integers(1, 9), min_size=1, max_size=2), st.integers(1, 2)
    )
    row = st.lists(st.one_of(clip, clip, picture), max_size=3)
    rows = draw(st.lists(row, min_size=1, max_size=3))
    return Layout(rows, text=draw(st.integers(1, 3)), right=draw(st.booleans()))


def some(draw: st.DrawFn, layout: Layout, *, least: int = 0) -> dict[Key, Tensor]:
    """Any part of each visual, ascending."""
    kept = {}
    for keys in layout.keys:
        for key in keys:
            whole = range(layout.length(key))
            chosen = draw(st.sets(st.sampled_from(whole), min_size=min(least, len(whole))))
            kept[key] = torch.tensor(sorted(chosen), dtype=torch.int64)
    return kept


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_layout_equals_the_walk(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    kept, home = some(data.draw, layout), data.draw(st.integers(1, 30))
    homes = layout.homes(home)
    short = layout.short(kept, homes)
    got, original = layout.rows(short), layout.rows(layout.short(kept, {}))
    assert got == layout.walked(kept, home)
    words = short["input_ids"], short["attention_mask"].bool()
    for row, whole, ids, real in zip(got, original, *words, strict=True):
        text = (ids[real] < IMAGE).tolist()
        for at in range(len(row) - 1):
            if text[at] and text[at + 1] and whole[at + 1] == whole[at] + 1:
                assert row[at + 1] == row[at] + 1, "text stays together"
        assert all(a < b for a, b in zip(row, row[1:], strict=False)), "strictly increasing"
        assert all(a <= b for a, b in zip(row, whole, strict=True)), "never behind the original"
    if not homes:
        assert got == original


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_all_tokens_keep_their_columns_whatever_the_scale(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    kept = {key: torch.arange(layout.length(key)) for keys in layout.keys for key in keys}
    got = layout.rows(layout.short(kept, layout.homes(data.draw(st.integers(1, 9)))))
    assert got == [list(range(len(names))) for names in layout.names]


def test_by_hand() -> None:
    """12 tokens shrink to 4: floor(p / 3). Two text tokens before, and two behind."""
    layout = Layout([[("video", [12], 0)]])
    kept = {("video", 0): torch.tensor([0, 5, 6, 7, 11])}
    homes = {("video", 0): 4}
    assert layout.rows(layout.short(kept, homes)) == [[0, 1, 2, 3, 4, 5, 6, 7, 8]]
    assert layout.rows(layout.short(kept, {})) == [[0, 1, 2, 7, 8, 9, 13, 14, 15]]
    few = {("video", 0): torch.tensor([4, 11])}
    assert layout.rows(layout.short(few, homes)) == [[0, 1, 3, 5, 6, 7]]
    nothing = {("video", 0): torch.tensor([], dtype=torch.int64)}
    assert layout.rows(layout.short(nothing, homes)) == [[0, 1, 6, 7]]


def test_text_between_runs_by_hand() -> None:
    """Two runs of 6 with two tokens of text between them, to a third: 0 1 | clip from 2: 12 / 3 + 2 = 6 places."""
    layout = Layout([[("video", [6, 6], 2)]])
    kept = {("video", 0): torch.tensor([3, 11])}
    assert layout.rows(layout.short(kept, {("video", 0): 4})) == [[0, 1, 3, 4, 5, 7, 8, 9]]
    assert layout.rows(layout.short(kept, {})) == [[0, 1, 5, 8, 9, 15, 16, 17]]


def test_text_that_leaves_by_hand() -> None:
    """The same clip, with a token of text gone before it and another between its runs: their places stay empty."""
    layout = Layout([[("video", [6, 6], 2)]])
    kept = {("video", 0): torch.tensor([3, 11])}
    prompt = layout.prompt.without([[range(1, 2), range(8, 9)]])
    assert layout.rows(layout.short(kept, {("video", 0): 4}, prompt)) == [[0, 3, 5, 7, 8, 9]]
    assert layout.rows(layout.short(kept, {}, prompt)) == [[0, 5, 9, 15, 16, 17]]


@pytest.mark.parametrize(
    ("total", "home", "at"), [(10_000, 5_700, 100), (10_000, 5_700, 2_900), (300_000, 199_999, 100_001)]
)
def test_floors_are_those_of_whole_numbers(total: int, home: int, at: int) -> None:
    """Floating point is one off: 100 x 0.57 in 64 bits, 2,900 / 10,000 x 5,700 too, the last product in 32 bits."""
    wrong = (int(at * (home / total)), int(at / total * home), int(torch.tensor(at) * (home / total)))
    right = at * home // total
    assert set(wrong) - {right}, "the control"
    layout = Layout([[("video", [total], 0)]])
    kept = {("video", 0): torch.tensor([at])}
    found = [[0, 1, 2 + right, 2 + home, 3 + home]]
    assert layout.rows(layout.short(kept, {("video", 0): home})) == found


def test_tokens_sent_in_another_order_keep_their_places() -> None:
    """As authors do who append tokens: positions rise with the source, not with the order."""
    layout = Layout([[("video", [12], 0)]])
    kept = {("video", 0): torch.tensor([6, 11, 0, 7])}
    got = layout.rows(layout.short(kept, layout.homes(4)))
    assert got == layout.walked(kept, 4) == [[0, 1, 4, 6, 2, 5, 7, 8]]
    assert got != layout.rows(
        layout.short({key: one.sort().values for key, one in kept.items()}, layout.homes(4))
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_text_that_leaves_with_its_view_leaves_the_rest_in_place(data: st.DataObject) -> None:
    layout = data.draw(layouts())
    kept, home = some(data.draw, layout), data.draw(st.integers(1, 9))
    gone: list[set[int]] = []
    for names in layout.names:
        text = [column for column, name in enumerate(names) if not name]
        gone.append(data.draw(st.sets(st.sampled_from(text), max_size=len(text) - 1)))
    prompt = layout.prompt.without([[range(c, c + 1) for c in sorted(row)] for row in gone])
    got = layout.rows(layout.short(kept, layout.homes(home), prompt))
    assert got == layout.walked(kept, home, gone)


def test_the_device_is_asked_for_nothing() -> None:
    layout = Layout([[("video", [12], 0), ("image", [3], 0), ("video", [4, 4], 1)], []])
    kept = {
        ("video", 0): torch.tensor([1, 8]),
        ("video", 1): torch.tensor([1, 2]),
        ("image", 0): torch.tensor([0]),
    }
    with CountSyncs() as counter:
        layout.short(kept, layout.homes(4))
    assert not counter.seen
    with CountSyncs() as counter:
        int(layout.short(kept, layout.homes(4))["position_ids"].max())
    assert counter.seen, "the control: reading a number asks"


def test_positions_of_the_caller_are_refused_beside_a_clip_that_shrinks() -> None:
    layout = Layout([[("video", [12], 0)]])
    kept = {("video", 0): torch.tensor([1, 8])}
    own = (layout.mask.cumsum(-1) - 1) * 2
    short = layout.short(kept, {}, position_ids=own)
    assert layout.rows(short) == [[0, 2, 6, 20, 28, 30]]
    message = r"position_ids=.* cannot go with positions='scaled' and a clip that shrinks to 4 positions; .*'original'"
    with pytest.raises(UnsupportedInputError, match=message):
        layout.short(kept, layout.homes(4), position_ids=own)


def test_nothing_is_changed_without_clips() -> None:
    places = torch.tensor([0, 3, 4, 9])
    assert scaled_places(places, []).tolist() == places.tolist()


# -- the length that a checkpoint is at home with ---------------------------------------------------------------------


def loaded_from(name: str) -> Any:
    return SimpleNamespace(config=SimpleNamespace(_name_or_path=name))


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("llava-hf/llava-onevision-qwen2-7b-ov-hf", 6272),
        ("lmms-lab/llava-onevision-qwen2-0.5b-ov", 6272),
        ("/data/models/llava-onevision-qwen2-7b-ov-hf", 6272),
        ("C:\\models\\llava-onevision-qwen2-7b-ov-hf", 6272),
        ("/h/hub/models--llava-hf--llava-onevision-qwen2-7b-ov-hf/snapshots/0d50680527681998e456c7b7", 6272),
        ("/anywhere/tiny-onevision", 128),
        ("llava-hf/llava-onevision-qwen2-7b-si-hf", None),  # which saw no clips
        ("llava-onevision-qwen2-7b-ov/finetuned", None),
        ("", None),
    ],
)
def test_known_checkpoints_are_known_by_name(name: str, home: int | None) -> None:
    assert known_home_tokens(loaded_from(name)) == home


def test_the_table_is_frames_times_tokens_of_a_frame() -> None:
    data = json.loads(find("models/home_tokens.json").read_text(encoding="utf-8"))
    for entry in data["checkpoints"].values():
        words = entry["source"].split()
        assert words[1:3] == ["frames", "of"] and int(words[0]) * int(words[3]) == entry["home_tokens"]
    assert set(home_tokens_by_name()) == set(data["checkpoints"])


def test_the_config_says_it_first_then_the_table() -> None:
    plain, stated = tiny_model("llava_onevision"), tiny_model("llava_onevision", home_tokens=40)
    assert home_tokens(adapter_for(plain)) is None
    assert home_tokens(adapter_for(stated)) == adapter_for(stated).home_tokens == 40


def test_an_adapter_may_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llava_onevision", home_tokens=40)
    monkeypatch.setattr(type(adapter_for(model)), "home_tokens", property(lambda self: 24))
    assert home_tokens(adapter_for(model)) == 24


@pytest.mark.parametrize("value", [0, -3, 1.5, "128", True, [128]])
def test_a_length_that_is_none_is_refused(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llava_onevision")
    monkeypatch.setattr(model.config, "home_tokens", value, raising=False)
    with pytest.raises(
        UnsupportedModelError, match=r"home_tokens=.*whole number of at least 1.*config.home_tokens"
    ):
        home_tokens(adapter_for(model))

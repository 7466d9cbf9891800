"""A second generate over the cache of the first, inside the block: equal to a recompute, nothing encoded again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

import vidcompress
from cases import CASES, SCENES, reads_question
from tiny_models import FAMILIES, IMAGE, PAD, Scene, batch, tiny_model
from vidcompress.errors import UnsupportedInputError
from vidcompress.llm_pruning.cache_names import CACHE_NAMES, cache_name, returned_cache

pytestmark = pytest.mark.transformers

STEPS = {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
TURN = torch.tensor([[7, 8, 9, 10, 11]])


@contextmanager
def encodings(model: Any) -> Iterator[list[int]]:
    """Counts how often the vision tower runs."""
    seen: list[int] = []
    handle = model.model.vision_tower.register_forward_pre_hook(lambda module, args: seen.append(1))
    try:
        yield seen
    finally:
        handle.remove()


class Streamer:
    """Keeps what generate streams."""

    def __init__(self) -> None:
        self.got: list[torch.Tensor] = []

    def put(self, value: torch.Tensor) -> None:
        self.got.append(value.reshape(-1))

    def end(self) -> None:
        assert self.got


def ids_only(ids: torch.Tensor, mask: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}


def same(one: Any, other: Any, rows: slice = slice(None), first: int = 0) -> None:
    """Equal tokens and, to 1e-5, equal logits of every step."""
    assert len(one.logits) == len(other.logits) == STEPS["max_new_tokens"]
    for a, b in zip(one.logits, other.logits, strict=True):
        torch.testing.assert_close(a[rows], b, atol=1e-5, rtol=1e-5)
    new = STEPS["max_new_tokens"]
    assert one.sequences[rows, -new:].tolist() == other.sequences[:, -new:].tolist()


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize(("method", "family", "modality"), CASES)
def test_later_turns_equal_a_recompute(method: str, family: str, modality: str, positions: str) -> None:
    model = tiny_model(family)
    raw = batch(model, [SCENES[family, modality]])
    pixels = {k: v for k, v in raw.items() if k not in ("input_ids", "attention_mask")}
    with vidcompress.compress(model, method, retention_ratio=0.4, positions=positions) as session:
        out = model.generate(**raw, **STEPS)
        report = session.report
        with encodings(model) as seen:
            for give_pixels, name in ((False, "cache"), (True, "past_key_values")):
                ids = torch.cat((out.sequences, TURN), dim=1)
                extra = {**(pixels if give_pixels else {}), name: returned_cache(out)}
                out = model.generate(**ids_only(ids), **extra, **STEPS)
                assert not seen
                assert torch.equal(out.sequences[:, : ids.shape[1]], ids)
                streamer = Streamer()
                again = model.generate(**ids_only(ids), **pixels, streamer=streamer, **STEPS)
                assert torch.cat(streamer.got).tolist() == again.sequences[0].tolist()
                assert seen
                seen.clear()
                if not reads_question(method):  # which goes by the first question, a recompute by all of them
                    same(out, again)
        assert report is not None


@pytest.mark.parametrize("positions", ["contiguous", "original"])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_unequal_length_go_on_together(family: str, positions: str) -> None:
    """A ragged batch with a text-only row; the second turn masks part of one row's answer."""
    model = tiny_model(family)
    rows = [
        Scene((("image", (112, 80)),), before=3, seed=1),
        Scene((), before=5, seed=2),
        Scene((("image", (40, 100)),), before=11, seed=3),
    ]
    raw = batch(model, rows)
    width = raw["input_ids"].shape[1]
    with vidcompress.compress(model, retention_ratio=0.4, positions=positions):
        out = model.generate(**raw, **STEPS)
        ids = torch.cat((out.sequences, TURN.repeat(3, 1)), dim=1)
        mask = torch.cat((raw["attention_mask"], torch.ones_like(ids[:, width:])), dim=1)
        # What generate does to a row that ended early: padding behind its end, masked in the next turn.
        ended = width + 3
        ids[2, ended : width + 4], mask[2, ended : width + 4] = PAD, 0
        later = model.generate(**ids_only(ids, mask), cache=returned_cache(out), **STEPS)
        for number, scene in enumerate(rows):
            alone = batch(model, [scene])
            tail = ids[number, width:][mask[number, width:] == 1]
            whole = torch.cat((alone["input_ids"], tail[None]), dim=1)
            again = model.generate(**{**alone, **ids_only(whole)}, **STEPS)
            same(later, again, slice(number, number + 1))


@pytest.mark.parametrize("positions", ["contiguous", "original"])
def test_a_cache_may_be_the_callers_own_or_static_or_cut(positions: str) -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [Scene((("video", 5),))])
    plain = {k: v for k, v in STEPS.items() if k != "return_dict_in_generate" and k != "output_logits"}
    with vidcompress.compress(model, retention_ratio=0.4, positions=positions):
        expected = None
        text = model.config.get_text_config()
        for own, name in (
            (DynamicCache(), "past_key_values"),
            (StaticCache(text, max_cache_len=128), "cache"),
        ):
            first = model.generate(**raw, **{name: own}, disable_compile=True, **plain)
            ids = torch.cat((first, TURN), dim=1)
            second = model.generate(**ids_only(ids), **{name: own}, disable_compile=True, **plain)
            expected = second if expected is None else expected
            assert second.tolist() == expected.tolist()
        cache = DynamicCache()
        model.generate(**raw, cache=cache, **plain)
        cache.crop(-3)  # the answer away: another one is put into the assistant's mouth
        other = torch.cat((raw["input_ids"], TURN), dim=1)
        out = model.generate(**ids_only(other), past_key_values=cache, **STEPS)  # the other name
        same(out, model.generate(**{**raw, **ids_only(other)}, **STEPS))


def test_text_turns_limits_and_streamers() -> None:
    model = tiny_model("llava_next")
    text = batch(model, [Scene((), seed=4)])
    raw = batch(model, [SCENES["llava_next", "image"]])

    with vidcompress.compress(model, retention_ratio=0.3):
        out = model.generate(**text, **STEPS)
        ids = torch.cat((out.sequences, TURN), dim=1)
        later = model.generate(**ids_only(ids), cache=returned_cache(out), **STEPS)
        same(later, model.generate(**ids_only(ids), **STEPS))

        out = model.generate(**raw, **STEPS)
        ids = torch.cat((out.sequences, TURN), dim=1)
        streamer = Streamer()
        more = {"max_length": ids.shape[1] + 2, "do_sample": False, "streamer": streamer}
        later = model.generate(**ids_only(ids), cache=returned_cache(out), **more)
        assert later.shape[1] == ids.shape[1] + 2
        assert torch.cat(streamer.got).tolist() == later[0].tolist()


def test_what_does_not_go_on_is_refused() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [Scene((("image", (112, 80)),))])
    other = batch(model, [Scene((("image", (112, 80)),), seed=5)])
    with vidcompress.compress(model, retention_ratio=0.4) as session:
        out = model.generate(**raw, **STEPS)
        cache = returned_cache(out)
        good = torch.cat((out.sequences, TURN), dim=1)

        def refused(match: str, ids: torch.Tensor = good, **kwargs: Any) -> None:
            call = {**ids_only(ids), "cache": cache, **STEPS, **kwargs}
            with pytest.raises(UnsupportedInputError, match=match):
                model.generate(**call)

        refused("pixel_values differs", pixel_values=other["pixel_values"])
        refused("pixel_values differs", pixel_values=raw["pixel_values"][:, :1])
        refused("pass all of it, from the first prompt on", TURN)
        refused("pass all of it, from the first prompt on", out.sequences[:, :-1])
        changed = good.clone()
        changed[0, 2] = 50
        refused("differs in column 2 ", changed)
        refused("later turn cannot bring", torch.cat((good, torch.tensor([[IMAGE, 3]])), dim=1))
        refused("must have 1 rows", good.repeat(2, 1))
        mask = torch.ones_like(good)
        mask[0, 0] = 0
        refused("attention_mask differs in the first prompt", attention_mask=mask)
        refused(f"use_cache=False cannot go with {cache_name()};", use_cache=False)
        refused(
            f"prompt_lookup_num_tokens cannot go with a filled {cache_name()}:", prompt_lookup_num_tokens=2
        )
        refused(f"num_beams=2 cannot go with {cache_name()}, which", num_beams=2)
        refused("cache and past_key_values are two names", past_key_values=cache)
        foreign = DynamicCache()
        model.model.language_model(torch.tensor([[3, 4]]), **{cache_name(): foreign})
        refused("was not filled by model.generate inside this compress block", cache=foreign)
        refused("was not filled by model.generate inside this compress block", cache="cache")
        beams = model.generate(**raw, num_beams=2, max_new_tokens=2, return_dict_in_generate=True)
        for name in CACHE_NAMES:
            refused("was not filled", **{"cache": None, name: returned_cache(beams)})
        static = model.generate(
            **raw,
            max_new_tokens=2,
            return_dict_in_generate=True,
            cache_implementation="static",
            disable_compile=True,
        )
        refused("was not filled", cache=returned_cache(static))
        same(
            model.generate(**ids_only(good), cache=cache, **STEPS),
            model.generate(**{**raw, **ids_only(good)}, **STEPS),
        )
        refused("holds 2 tokens more than", cache=_longer(model, cache))
        cache.crop(-(cache.get_seq_length() - 8))
        refused("was cut to 8 tokens, within the visual tokens")
        last = model.generate(**raw, **STEPS)
    with vidcompress.compress(model, retention_ratio=0.4):
        ids = torch.cat((last.sequences, TURN), dim=1)
        refused("was not filled", ids, cache=returned_cache(last))
    assert not session._transcripts


def _longer(model: Any, cache: Any) -> Any:
    """The same cache after somebody else's three tokens."""
    model.model.language_model(torch.tensor([[3, 4, 5]]), **{cache_name(): cache})
    return cache


def test_caches_are_not_held() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [Scene((("image", (112, 80)),))])
    with vidcompress.compress(model, retention_ratio=0.4) as session:
        out = model.generate(**raw, **STEPS)
        assert len(session._transcripts) == 1
        del out
        assert len(session._transcripts) == 0


def test_a_direct_forward_takes_a_filled_cache_under_any_name() -> None:
    """One token over a cache that a forward in the block filled; as a fresh prompt it would have other logits."""
    model = tiny_model("llava_onevision")
    raw = batch(model, [Scene((("image", (112, 80)),))])
    token = torch.tensor([[5]])
    with vidcompress.compress(model, retention_ratio=0.4), torch.no_grad():
        logits = []
        for name in ("cache", "past_key_values"):
            cache = returned_cache(model(**raw, use_cache=True))
            logits.append(model(input_ids=token, **{name: cache}).logits)
        assert torch.equal(*logits)
        assert not torch.allclose(model(input_ids=token).logits, logits[0], atol=1e-3)
        for name in ("cache", "past_key_values"):
            with pytest.raises(UnsupportedInputError, match=f"{cache_name()} together with pixels"):
                model(**raw, **{name: cache})
        with pytest.raises(UnsupportedInputError, match="cache and past_key_values are two names"):
            model(input_ids=token, cache=cache, past_key_values=cache)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_of_an_output_that_was_built_by_hand_is_known(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llava_next")
    raw = batch(model, [SCENES["llava_next", "image"]])
    own = model.generate

    def rebuilt(*args: Any, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        return SimpleNamespace(sequences=out.sequences, logits=out.logits, **{name: returned_cache(out)})

    monkeypatch.setattr(model, "generate", rebuilt)
    with vidcompress.compress(model, retention_ratio=0.3):
        out = model.generate(**raw, **STEPS)
        ids = torch.cat((out.sequences, TURN), dim=1)
        later = model.generate(**ids_only(ids), cache=getattr(out, name), **STEPS)
        same(later, model.generate(**raw | ids_only(ids), **STEPS))


@pytest.mark.parametrize("masked", [True, False])
def test_a_text_turn_without_a_mask_goes_on(masked: bool) -> None:
    """`attention_mask=None` and all else that may be left out, as None, in the first turn and the second."""
    model = tiny_model("llava_next")
    text = batch(model, [Scene((), seed=4)])
    if not masked:
        text["attention_mask"] = None
    nothing = dict.fromkeys(("pixel_values", "image_sizes", "position_ids", "generation_config", "labels"))
    stock = model.generate(**text, **STEPS)
    ids = torch.cat((stock.sequences, TURN), dim=1)
    later = model.generate(ids, attention_mask=None, **STEPS)
    with vidcompress.compress(model, retention_ratio=0.3):
        for name in CACHE_NAMES[:2]:
            first = model.generate(**text, **nothing, **{name: None}, **STEPS)
            same(first, stock)
            second = model.generate(
                input_ids=ids, attention_mask=None, **nothing, **{name: returned_cache(first)}, **STEPS
            )
            same(second, later)
    assert later.sequences[0, -4:].tolist() != stock.sequences[0, -4:].tolist()


def test_a_first_turn_with_pixels_takes_none_for_what_may_be_left_out() -> None:
    model = tiny_model("llava_onevision")
    raw = batch(model, [SCENES["llava_onevision", "image"]])
    nothing = dict.fromkeys(
        ("position_ids", "generation_config", "labels", "pixel_values_videos", "streamer")
    )
    bare = {**raw, "attention_mask": None}
    with vidcompress.compress(model, retention_ratio=0.4):
        expected = model.generate(**raw, **STEPS)
        out = model.generate(**bare, **nothing, past_key_values=None, **STEPS)
        same(out, expected)
        ids = torch.cat((out.sequences, TURN), dim=1)
        cache = {"past_key_values": returned_cache(out)}
        second = model.generate(input_ids=ids, attention_mask=None, **nothing, **cache, **STEPS)
        same(second, model.generate(**{**raw, **ids_only(ids)}, **STEPS))
        with torch.no_grad():
            direct = model(**bare, position_ids=None, past_key_values=None, labels=None).logits
            assert torch.equal(direct, model(**raw).logits)


@pytest.mark.parametrize("scene", ["image", "text"])
def test_a_model_may_be_its_own_assistant(scene: str) -> None:
    """As stock: the answer is that without an assistant, and every token of it was guessed right."""
    model = tiny_model("llava_next")
    raw = batch(model, [SCENES["llava_next", "image"] if scene == "image" else Scene((), seed=4)])
    plain = {"max_new_tokens": 6, "do_sample": False}
    outside = model.generate(**raw, **plain)
    assert torch.equal(model.generate(**raw, assistant_model=model, **plain), outside)
    other = tiny_model("llava_next", decoder="mistral")
    with vidcompress.compress(model, retention_ratio=0.3) as session:
        expected = model.generate(**raw, **plain)
        report = session.report
        for assistant in (model, other):
            assert torch.equal(model.generate(**raw, assistant_model=assistant, **plain), expected)
        again = model.generate(**raw, **plain)
    assert torch.equal(again, expected)
    if scene == "image":
        assert report.kept == session.report.kept and not torch.equal(expected, outside)

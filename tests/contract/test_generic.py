"""The generic adapter: classes without an adapter of their own are served rightly, or refused with a reason."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import vidcompress
from classes.inputs import inputs_of, prompt
from classes.judge import judge_class, toy_model
from classes.listing import taking_classes
from vidcompress.adapters.base import ADAPTERS, Adapter, Visual, adapter_for
from vidcompress.adapters.generic.adapter import EncodedVisual, GenericAdapter
from vidcompress.adapters.generic.interface import pieces_of_runs, position_axes, read_features
from vidcompress.adapters.generic.verdicts import known_verdicts
from vidcompress.core.config import CompressionConfig
from vidcompress.errors import UnsupportedInputError, UnsupportedModelError
from vidcompress.session import entrance
from vidcompress.session.compress import compress_with
from vidcompress.session.generation_options import CHUNKED_PREFILL_SINCE, transformers_version

JUDGED = {
    "AyaVisionForConditionalGeneration": ["image"],  # one tensor of all pictures
    "Exaone4_5_ForConditionalGeneration": ["image", "video"],  # generate ignores positions
    "Glm4vForConditionalGeneration": ["image", "video"],  # M-RoPE, clips behind the image placeholder
    "Idefics3ForConditionalGeneration": ["image"],  # a list of pictures
    "PaliGemmaForConditionalGeneration": ["image"],  # attention both ways inside a picture
    "Qwen3VLForConditionalGeneration": ["image", "video"],  # companions
    "Qwen3_5ForConditionalGeneration": ["image", "video"],  # a hybrid decoder
    "VideoLlavaForConditionalGeneration": ["image", "video"],
    "VipLlavaForConditionalGeneration": ["image"],
}
"""One class of every kind, and the media that it is served for."""


@cache
def classes() -> dict[str, Any]:
    return taking_classes()


@cache
def toy(name: str) -> Any:
    if name not in classes():
        pytest.skip(f"transformers {transformers.__version__} has no {name} that takes encoder outputs")
    return toy_model(classes()[name])


def vip() -> tuple[Any, dict[str, Any]]:
    model = toy("VipLlavaForConditionalGeneration")
    torch.manual_seed(1)
    return model, inputs_of(model, "image")


@pytest.mark.transformers
@pytest.mark.parametrize("name", JUDGED)
def test_a_class_of_every_kind_is_served_rightly(name: str) -> None:
    toy(name)
    verdict = judge_class(name, classes()[name])
    assert (verdict.served, verdict.reason, verdict.wrong) == (JUDGED[name], "", [])


def test_the_table_is_of_the_newest_version_and_nothing_in_it_is_wrong() -> None:
    path = Path(vidcompress.__file__).parent / "adapters/generic/classes.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8")
    version = content["provenance"]["versions"]["transformers"]
    assert f"\ntransformers=={version}\n" in pinned
    assert all(one["wrong"] == [] for one in content["classes"])
    verdicts = {one.name: one for one in known_verdicts()}
    assert sum(one.verdict == "served" for one in verdicts.values()) >= 38
    assert all(one.reason for one in verdicts.values() if one.verdict != "served")
    for name, served in JUDGED.items():
        assert list(verdicts[name].served) == served
    if transformers.__version__ == version:
        assert verdicts.keys() == classes().keys()


def test_the_table_of_the_oldest_version_has_nothing_wrong() -> None:
    path = Path(__file__).parents[2] / "docs/results/classes-5.18.0.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["provenance"]["versions"]["transformers"] == "5.18.0"
    assert [one["name"] for one in content["classes"] if one["wrong"]] == []
    assert sum(bool(one["served"]) for one in content["classes"]) > 20


class Rolled(GenericAdapter):
    """A wrong one: features in another order."""

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images, videos = super().visuals(inputs)
        return [replace(one, pixels=one.pixels.roll(1, 0)) for one in images], videos  # type: ignore[union-attr]


class WithoutPositions(GenericAdapter):
    """A wrong one: positions are columns."""

    @property
    def traits(self) -> Any:
        return replace(super().traits, axes=1)

    def positions(self, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> None:
        return None


class WithoutCompanions(GenericAdapter):
    """A wrong one: companions are zeros."""

    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        images, videos = super().visuals(inputs)
        emptied = []
        for one in images:
            assert isinstance(one, EncodedVisual)
            emptied.append(replace(one, deep=tuple(torch.zeros_like(level) for level in one.deep)))
        return list(emptied), videos


class AnotherContainer(GenericAdapter):
    """A wrong one: a tensor where the class reads a list."""

    @property
    def traits(self) -> Any:
        return replace(super().traits, container="tensor")


@pytest.mark.parametrize(
    ("wrong", "name", "message"),
    [
        (Rolled, "VipLlavaForConditionalGeneration", "inputs_embeds is neither that of the whole prompt"),
        (WithoutPositions, "Qwen3VLForConditionalGeneration", "position_ids"),
        (WithoutCompanions, "Qwen3VLForConditionalGeneration", "deepstack_visual_embeds"),
        (AnotherContainer, "Qwen3VLForConditionalGeneration", "does not take what AnotherContainer gives it"),
    ],
)
def test_a_model_that_would_get_something_else_is_refused(
    wrong: type[GenericAdapter], name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy(name)
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    torch.manual_seed(1)
    inputs = inputs_of(model, "image")
    settings = CompressionConfig("random", retention_ratio=0.5)
    for _ in range(2):  # and again: a refusal is not forgotten
        with pytest.raises(UnsupportedModelError, match=rf"has no adapter of its own.*{message}"):
            compress_with(wrong(model), inputs, settings)
    compress_with(GenericAdapter(model), inputs, settings)


def test_a_model_is_judged_once_for_each_kind_of_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = vip()
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    forwards: list[int] = []
    handle = model.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    try:
        counts = []
        two = {key: torch.cat([value, value]) for key, value in inputs.items()}
        for given in (inputs, inputs, two, inputs, two):
            vidcompress.compress_inputs(model, given, "random", retention_ratio=0.5)
            counts.append(len(forwards))
        text = {"input_ids": torch.tensor([[1, 2, 3]])}
        vidcompress.compress_inputs(model, text, "random", retention_ratio=0.5)
    finally:
        handle.remove()
    assert counts == [2, 2, 4, 4, 4] and len(forwards) == 4


GENERATED: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}


@pytest.mark.parametrize("name", ["VipLlavaForConditionalGeneration", "Lfm3VlForConditionalGeneration"])
def test_a_block_judges_what_the_model_itself_gets_and_serves_a_second_turn(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = toy(name)
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    torch.manual_seed(1)
    inputs = inputs_of(model, "image")
    with vidcompress.compress(model, "divprune", retention_ratio=0.5):
        first = model.generate(**inputs, **GENERATED, return_dict_in_generate=True)
        assert len(entrance._JUDGED[model]) == 1
        ids = torch.cat([first.sequences, torch.tensor([[5, 9, 4]])], 1)
        later = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if (types := inputs.get("mm_token_type_ids")) is not None:
            later["mm_token_type_ids"] = torch.nn.functional.pad(types, (0, ids.shape[1] - types.shape[1]))
        options = {**GENERATED, "output_logits": True, "return_dict_in_generate": True}
        again = model.generate(**{**inputs, **later}, **options).logits[0]
        unseen = model.generate(input_ids=ids[:, -9:], attention_mask=torch.ones(1, 9), **options).logits[0]
        cached = model.generate(**later, **options, past_key_values=first.past_key_values).logits[0]
    assert (cached - again).abs().max() < 1e-5 < 1e-3 < (cached - unseen).abs().max()
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    with vidcompress.compress(model, "divprune", retention_ratio=0.5), torch.no_grad():
        assert model(**inputs).logits.shape[1] < inputs["input_ids"].shape[1]


CHUNKED = {"prefill_chunk_size": 7}
STATIC = {"cache_implementation": "static"}
WAYS = (
    STATIC,
    *((CHUNKED, {**CHUNKED, **STATIC}) if transformers_version() >= CHUNKED_PREFILL_SINCE else ()),
)


def steps(model: Any, inputs: Mapping[str, Any], **options: Any) -> Tensor:
    """Logits of the generated tokens, (step, row, word)."""
    options = {**GENERATED, "output_logits": True, "return_dict_in_generate": True, **options}
    try:
        return torch.stack(model.generate(**inputs, **options).logits)
    finally:
        vars(model).pop("_cache", None)  # where some versions keep it; the model is shared between tests


@pytest.mark.transformers
@pytest.mark.parametrize("name", [name for name in JUDGED if not name.startswith(("Idefics3", "PaliGemma"))])
def test_static_caches_and_chunks_give_the_same_logits(name: str) -> None:
    model = toy(name)
    torch.manual_seed(1)
    inputs = inputs_of(model, "image")
    short, other = (
        compress_with(GenericAdapter(model), inputs, CompressionConfig(method, retention_ratio=0.5))
        for method in ("random", "uniform")
    )
    plain = steps(model, short)
    for way in WAYS:
        assert (steps(model, short, **way) - plain).abs().max() < 1e-5, way
        assert (steps(model, other, **way) - plain).abs().max() > 1e-4, "the control: other tokens are kept"
        if type(adapter_for(model)) is GenericAdapter:
            with vidcompress.compress(model, "random", retention_ratio=0.5):
                assert (steps(model, inputs, **way) - plain).abs().max() < 1e-5, way


@pytest.mark.transformers
@pytest.mark.skipif(len(WAYS) < 2, reason="chunked prefill is refused on this version")
def test_chunks_are_refused_where_pictures_attend_both_ways() -> None:
    model = toy("PaliGemmaForConditionalGeneration")
    torch.manual_seed(1)
    inputs = inputs_of(model, "image")
    plain = steps(model, inputs)
    assert (steps(model, inputs, **STATIC) - plain).abs().max() < 1e-5
    assert (steps(model, inputs, **CHUNKED) - plain).abs().max() > 1e-3, "the stock model itself"
    with vidcompress.compress(model, "random", retention_ratio=0.5):
        whole = steps(model, inputs)
        assert (steps(model, inputs, **STATIC) - whole).abs().max() < 1e-5
        with pytest.raises(
            UnsupportedInputError, match="prefill_chunk_size=7 cuts pictures apart.* in PaliGemma"
        ):
            steps(model, inputs, **CHUNKED)
    vip_model, others = vip()
    with vidcompress.compress(vip_model, "random", retention_ratio=0.5):
        steps(vip_model, others, **CHUNKED)


def test_judging_leaves_the_offset_of_the_last_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy("Cosmos3EdgeForConditionalGeneration")
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    torch.manual_seed(1)
    inputs = inputs_of(model, "image")
    held = torch.tensor([[-5]])
    monkeypatch.setattr(model.model, "rope_deltas", held)
    vidcompress.compress_inputs(model, inputs, "random", retention_ratio=0.5)
    assert model.model.rope_deltas is held
    with torch.no_grad():
        model(**inputs)
    assert model.model.rope_deltas is not held


def test_another_thread_is_neither_stopped_nor_let_through_unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread judges, the model runs in another, and a wrong adapter there is refused as ever."""
    model, inputs = vip()
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    judge, found = entrance.difference_at_entrance, []

    def elsewhere() -> None:
        with torch.no_grad():
            found.append(model(**inputs).logits.shape[1])
        try:
            compress_with(Rolled(model), inputs, CompressionConfig("random", retention_ratio=0.5))
        except UnsupportedModelError as error:
            found.append("neither that of the whole prompt" in str(error))

    def meanwhile(*args: Any) -> str | None:
        monkeypatch.setattr(entrance, "difference_at_entrance", judge)
        return with_hook(*args)

    def with_hook(*args: Any) -> str | None:
        register = decoder.register_forward_pre_hook

        def registered(*given: Any, **options: Any) -> Any:
            monkeypatch.delattr(decoder, "register_forward_pre_hook")
            handle = register(*given, **options)
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            return handle

        monkeypatch.setattr(decoder, "register_forward_pre_hook", registered, raising=False)
        return judge(*args)

    decoder = model.get_decoder()
    monkeypatch.setattr(entrance, "difference_at_entrance", meanwhile)
    vidcompress.compress_inputs(model, inputs, "random", retention_ratio=0.5)
    assert found == [inputs["input_ids"].shape[1], True]


def test_other_arguments_of_the_encoder_are_judged_or_refused() -> None:
    model, inputs = vip()
    vidcompress.compress_inputs(model, inputs, "random", retention_ratio=0.5)
    with pytest.raises(UnsupportedInputError, match=r"vision_feature_layers=\[-1, -2\] differs"):
        vidcompress.compress_inputs(
            model, {**inputs, "vision_feature_layers": [-1, -2]}, "random", retention_ratio=0.5
        )
    before = len(entrance._JUDGED[model])
    for switch in (True, False, True):
        given = {**inputs, "interpolate_pos_encoding": switch}
        vidcompress.compress_inputs(model, given, "random", retention_ratio=0.5)
    assert len(entrance._JUDGED[model]) == before + 2


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_wrong_order_is_noticed_in_bfloat16(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small features are compared with features, not with 1."""
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    model, inputs = vip()
    model = deepcopy(model)
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.weight *= scale
        model.model.multi_modal_projector.linear_2.bias *= scale
        model.get_input_embeddings().weight *= scale
    model, inputs = model.bfloat16(), {**inputs, "pixel_values": inputs["pixel_values"].bfloat16()}
    settings = CompressionConfig("random", retention_ratio=0.5)
    with pytest.raises(UnsupportedModelError, match="inputs_embeds is neither that of the whole prompt"):
        compress_with(Rolled(model), inputs, settings)
    assert compress_with(GenericAdapter(model), inputs, settings).report.kept == 64


def test_masks_are_compared_to_the_bit() -> None:
    """The least number of a mask of floating point is no scale for the others."""
    hidden = torch.finfo(torch.float32).min
    whole = torch.full((1, 1, 4, 4), hidden).triu(1)
    some = torch.tensor([0, 1, 3])
    cut = entrance.Cut(4, 3, 2, [some], [torch.arange(3)], torch.tensor([1]), tolerance=1e-5)
    short = whole[..., some, :][..., some]
    both_ways = torch.zeros_like(short)
    assert list(entrance._mask_differences({"full": whole}, {"full": short}, cut)) == []
    assert list(entrance._mask_differences(whole, None, cut)) == []
    assert list(entrance._mask_differences(None, short, cut)) == []
    (said,) = entrance._mask_differences({"full": whole}, {"full": short + both_ways.fill_(1.0)}, cut)
    assert said == "attention_mask is not that of surviving columns"
    for one in (torch.zeros_like(short), torch.ones(1, 1, 3, 3, dtype=torch.bool)):
        (said,) = entrance._mask_differences(None, one, cut)
        assert said == "attention_mask hides columns of one prompt only"


def test_rows_of_unequal_length_without_a_mask_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortened rows are padded then, which hides nothing of the prompt."""
    model, inputs = vip()
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    ids = inputs["input_ids"]
    both = {"input_ids": torch.cat([ids, torch.full_like(ids, 5)]), "pixel_values": inputs["pixel_values"]}
    settings = CompressionConfig("random", retention_ratio=0.5)
    got = compress_with(GenericAdapter(model), both, settings, for_generate=False)
    assert got["attention_mask"].sum(1).tolist() == [ids.shape[1] - 64, ids.shape[1]]


def test_a_class_whose_generate_names_the_mask_is_judged_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy("JanusForConditionalGeneration")
    torch.manual_seed(1)
    inputs = inputs_of(model, "image")
    padded = {**inputs, "input_ids": torch.nn.functional.pad(inputs["input_ids"], (3, 0))}
    padded["attention_mask"] = torch.nn.functional.pad(inputs["attention_mask"], (3, 0))
    assert "attention_mask" in entrance._of_forward(model, {**padded, "max_new_tokens": 3})
    assert "max_new_tokens" not in entrance._of_forward(model, {**padded, "max_new_tokens": 3})
    got = vidcompress.compress_inputs(model, padded, "random", retention_ratio=0.5)
    assert bool(got["attention_mask"].all())


def test_missing_token_types_are_the_callers_to_add() -> None:
    model = toy("GlmOcrForConditionalGeneration")
    torch.manual_seed(1)
    inputs = inputs_of(model, "image")
    bare = {key: value for key, value in inputs.items() if key != "mm_token_type_ids"}
    with pytest.raises(UnsupportedInputError, match=r"mm_token_type_ids.*; pass all that its processor"):
        vidcompress.compress_inputs(model, bare, "random", retention_ratio=0.5)


def test_a_model_in_training_is_judged_in_eval_mode_first(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = vip()
    monkeypatch.setattr(entrance, "_JUDGED", type(entrance._JUDGED)())
    model.train()
    try:
        with pytest.raises(
            UnsupportedModelError, match=r"must be judged in eval mode first; call model\.eval\(\)"
        ):
            vidcompress.compress_inputs(model, inputs, "random", retention_ratio=0.5)
        model.eval()
        vidcompress.compress_inputs(model, inputs, "random", retention_ratio=0.5)
        model.train()
        vidcompress.compress_inputs(model, inputs, "random", retention_ratio=0.5)
    finally:
        model.eval()


@pytest.mark.parametrize("method", ["none", "random", "uniform", "divprune", "globalcom2", "census:mass=off"])
def test_methods_that_read_features_are_served(method: str) -> None:
    model, inputs = vip()
    got = vidcompress.compress_inputs(model, inputs, method, retention_ratio=0.25)
    assert got.report.total == 128
    assert got.report.kept == (got.report.total if method == "none" else got.report.total // 4)
    with torch.no_grad():
        answer = model.generate(**got, max_new_tokens=3, do_sample=False, pad_token_id=0)
    assert answer.shape[1] == got["input_ids"].shape[1] + 3


def test_pooling_needs_rows_and_columns() -> None:
    model, inputs = vip()
    with pytest.raises(
        UnsupportedInputError,
        match="'pool' averages over rows.*those of a thumbnail of 64 tokens are not known",
    ):
        vidcompress.compress_inputs(model, inputs, "pool", retention_ratio=0.25)
    model = toy("Cosmos3EdgeForConditionalGeneration")
    torch.manual_seed(1)
    got = vidcompress.compress_inputs(model, inputs_of(model, "image"), "pool", retention_ratio=0.25)
    assert [(one.kept, one.total) for one in got.report.visuals] == [(2, 8)] * 2


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("visionzip", {}, "has features and no attention_received"),
        ("fastv", {"retention_ratio": 0.75}, "does not act inside the language model"),
        ("census", {}, "does not act inside the language model.*mass='off'"),
        ("random", {"mass": "on"}, "does not act inside the language model.*mass='off'"),
        ("globalcom2", {"encoder_saving": "crops"}, "encoder_saving='crops' is not known to GenericAdapter"),
    ],
)
def test_what_it_cannot_serve_is_one_error(method: str, settings: dict[str, Any], message: str) -> None:
    model, inputs = vip()
    with pytest.raises((UnsupportedModelError, UnsupportedInputError), match=message):
        vidcompress.compress_inputs(model, inputs, method, **{"retention_ratio": 0.25, **settings})


def test_a_clip_has_frames_and_their_grid() -> None:
    model = toy("Qwen3VLForConditionalGeneration")
    torch.manual_seed(1)
    adapter = GenericAdapter(model)
    _, (clip,) = adapter.visuals(inputs_of(model, "video", frames=4))
    assert [(view.kind, view.rows, view.cols) for view in clip.layout.views] == [("frame", 4, 2)] * 4
    assert clip.placeholder_runs == (8,) * 4
    images, _ = adapter.visuals(inputs_of(model, "image"))
    assert [(one.layout.views[0].kind, one.layout.grid) for one in images] == [("image", (4, 2))] * 2
    got = compress_with(
        adapter, inputs_of(model, "video", frames=4), CompressionConfig("vidcom2", retention_ratio=0.25)
    )
    assert got.report.kept == 8


def test_a_clip_whose_frames_are_encoded_apart_is_one_clip() -> None:
    model = toy("VideoLlavaForConditionalGeneration")
    torch.manual_seed(1)
    inputs = inputs_of(model, "video")
    _, clips = GenericAdapter(model).visuals(inputs)
    frames = inputs["pixel_values_videos"].shape[1]
    assert frames > 1 and [len(clip.layout.views) for clip in clips] == [frames]
    got = vidcompress.compress_inputs(model, inputs, "vidcom2", retention_ratio=0.25)
    counts = [int(view.kept.sum()) for view in got.report.visuals[0].maps]
    assert len(counts) == frames and sum(counts) == got.report.kept == got.report.total // 4


def test_the_right_half_of_a_left_padded_batch() -> None:
    """Rows of a batch give what they give alone."""
    model, inputs = vip()
    torch.manual_seed(2)
    pixels = torch.randn_like(inputs["pixel_values"])
    short = dict(inputs)
    ids = inputs["input_ids"]
    longer = torch.cat([torch.tensor([[3, 5, 9, 4]]), ids], 1)
    padded = torch.cat([torch.zeros(1, 4, dtype=ids.dtype), ids], 1)
    mask = torch.ones_like(longer)
    both = {
        "input_ids": torch.cat([padded, longer]),
        "attention_mask": torch.cat([torch.cat([mask[:, :4] * 0, mask[:, 4:]], 1), mask]),
        "pixel_values": torch.cat([short["pixel_values"], pixels]),
    }
    alone = {"input_ids": longer, "attention_mask": mask, "pixel_values": pixels}
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    rows = []
    for given in (short, alone):
        got = vidcompress.compress_inputs(model, given, "divprune", retention_ratio=0.25)
        rows.append(model.generate(**got, **options)[0, got["input_ids"].shape[1] :])
    for beams in (1, 2):
        got = vidcompress.compress_inputs(model, both, "divprune", retention_ratio=0.25)
        out = model.generate(**got, **options, num_beams=beams)[:, got["input_ids"].shape[1] :]
        if beams == 1:
            assert torch.equal(out, torch.stack(rows))
        assert len(out) == 2 and not torch.equal(out[0], out[1])


def test_adapter_for_takes_it_where_there_is_no_other() -> None:
    model, _ = vip()
    assert type(adapter_for(model)) is GenericAdapter
    assert ADAPTERS.otherwise is GenericAdapter and "vipllava" not in ADAPTERS.names()
    with pytest.raises(KeyError):
        ADAPTERS.get("vipllava")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Blip2ForConditionalGeneration", "it has no core `model`"),
        ("MllamaForConditionalGeneration", "its forward takes no mm_encoder_outputs"),
    ],
)
def test_classes_are_refused_with_a_reason(name: str, reason: str) -> None:
    cls = getattr(transformers, name)
    with torch.device("meta"):
        model = cls(cls.config_class())
    with pytest.raises(UnsupportedModelError, match=rf"no adapter for {name} .*does not serve it: {reason}"):
        adapter_for(model)


@pytest.mark.parametrize(
    ("runs", "entries", "pieces"),
    [
        ([4, 4], [4, 4], [(4,), (4,)]),
        ([8], [4, 4], [(4,), (4,)]),
        ([2, 2, 2, 2], [8], [(2, 2, 2, 2)]),
        ([3, 5], [6, 2], [(3, 3), (2,)]),
        ([], [], []),
    ],
)
def test_runs_are_cut_at_the_borders_of_entries(
    runs: list[int], entries: list[int], pieces: list[tuple[int, ...]]
) -> None:
    assert pieces_of_runs(runs, entries, "Model") == pieces


def test_sums_that_differ_are_refused() -> None:
    with pytest.raises(UnsupportedInputError, match="gives 8 tokens, the prompts have 7 placeholders"):
        pieces_of_runs([3, 4], [8], "Model")
    model, inputs = vip()
    short = {**inputs, **prompt(model, "image", [3], adapter_for(model).image_token_id)}
    with pytest.raises(UnsupportedInputError, match="placeholders; pass the processor's output unchanged"):
        vidcompress.compress_inputs(model, short, "random", retention_ratio=0.5)


def test_outputs_that_it_cannot_read_are_refused() -> None:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    with pytest.raises(UnsupportedModelError, match="gives no pooler_output"):
        read_features(BaseModelOutputWithPooling(last_hidden_state=torch.zeros(1, 2, 3)), [2], "Model")
    with pytest.raises(UnsupportedModelError, match=r"an entry of its features is \(2, 3, 4\)"):
        read_features(BaseModelOutputWithPooling(pooler_output=torch.zeros(1, 2, 3, 4)), [2], "Model")
    flat = BaseModelOutputWithPooling(pooler_output=torch.zeros(6, 4))
    entries, levels, is_list = read_features(flat, [4, 2], "Model")
    assert [len(entry) for entry in entries] == [4, 2] and levels == [] and not is_list


def test_fields_that_a_model_may_read_are_refused() -> None:
    """The scores of a router, for example, which no shortened output could have; states of the encoder are none."""
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    @dataclass
    class Routed(BaseModelOutputWithPooling):
        high_res_vision_hidden_states: Any = None
        image_embeds: Any = None
        router_logits: Any = None

    features = torch.zeros(1, 2, 3)
    with pytest.raises(
        UnsupportedModelError, match="Model: its encoder gives router_logits beside its features"
    ):
        read_features(Routed(pooler_output=features), [2], "Model")
    entries, _, _ = read_features(BaseModelOutputWithPooling(pooler_output=features), [2], "Model")
    assert [entry.shape for entry in entries] == [(2, 3)]


def test_a_class_whose_preparation_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may ignore positions, which the entrance does not show."""
    model, inputs = vip()
    assert GenericAdapter(model).traits.honours_positions

    def fails(*args: Any, **kwargs: Any) -> None:
        raise KeyError("grids")

    monkeypatch.setattr(type(model), "prepare_inputs_for_generation", fails)
    with pytest.raises(
        UnsupportedModelError, match=r"does not prepare a plain prompt for generation \(KeyError: 'grids'\)"
    ):
        vidcompress.compress_inputs(model, inputs, "random", retention_ratio=0.5)


@pytest.mark.parametrize(
    "method", ["globalcom2:evidence=distance", "divprune", "random", "uniform", "census:mass=off"]
)
def test_what_the_refusal_of_evidence_names_is_served(method: str) -> None:
    model, inputs = vip()
    with pytest.raises(UnsupportedModelError) as caught:
        vidcompress.compress_inputs(model, inputs, "visionzip", retention_ratio=0.25)
    assert method in " ".join(str(caught.value).split())
    report = vidcompress.compress_inputs(model, inputs, method, retention_ratio=0.25).report
    assert report.kept == report.total // 4


def test_axes_of_positions_are_read_without_a_picture() -> None:
    expected = {"VipLlavaForConditionalGeneration": 1, "Qwen3VLForConditionalGeneration": 4}
    for name, axes in expected.items():
        assert position_axes(toy(name)) == axes
    assert not GenericAdapter(toy("Exaone4_5_ForConditionalGeneration")).traits.honours_positions
    assert issubclass(GenericAdapter, Adapter)

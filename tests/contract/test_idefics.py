"""Idefics3 and SmolVLM against the stock model: crops with the whole picture last, clips as frames of SmolVLM."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from idefics_models import (
    CLIP,
    FAMILIES,
    IMAGE,
    MARK,
    MIXED,
    ONE,
    PICTURES,
    SIDE,
    TALL,
    TOKENS,
    WIDE,
    idefics_inputs,
    idefics_model,
)
from vidcompress import UnsupportedInputError, compress, compress_inputs, testing
from vidcompress.adapters.base import adapter_for
from vidcompress.adapters.idefics.adapter import Idefics3Adapter
from vidcompress.adapters.idefics.prompt import crop_text, written_pictures
from vidcompress.adapters.model_shape import geometry_of
from vidcompress.core.method_lookup import get_method
from vidcompress.core.tokens import Evidence
from vidcompress.llm_pruning.cache_names import cache_name, returned_cache
from vidcompress.session.generation_options import CHUNKED_PREFILL_SINCE, transformers_version
from vidcompress.testing.inside import check_inside

pytestmark = pytest.mark.transformers

STEPS: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False}
SCENES: dict[str, list[list[Any]]] = {"picture": [[5, 6, WIDE, 7]], "pictures": PICTURES}
CASES = [(family, name) for family in FAMILIES for name in SCENES]


def logits(model: Any, inputs: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**inputs).logits
    return out


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize(("family", "scene"), CASES)
def test_the_contract_is_kept_by_every_method(family: str, scene: str) -> None:
    model = idefics_model(family)
    methods = None if scene == "picture" else ["globalcom2", "fastervlm", "prumerge", "random", "pool"]
    testing.check_adapter(model, idefics_inputs(SCENES[scene], sizes=False), methods)


@pytest.mark.parametrize("rows", [[[5, CLIP, 7]], MIXED], ids=["clip", "mixed"])
def test_clips_of_smolvlm_keep_the_contract(rows: list[list[Any]]) -> None:
    """Alone, and beside pictures behind the same placeholder; without sizes a frame is a picture."""
    model = idefics_model("smolvlm")
    methods = None if rows is not MIXED else ["globalcom2", "random", "pool"]
    testing.check_adapter(model, idefics_inputs(rows), methods)
    testing.check_adapter(model, idefics_inputs(rows, sizes=False), ["globalcom2"])


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_kept_is_the_stock_model_to_the_bit(family: str) -> None:
    model = idefics_model(family)
    inputs = idefics_inputs(PICTURES, sizes=False)
    stock = logits(model, inputs)
    for most in (1, 3, 16):
        for method in ("none", "globalcom2"):
            whole = compress_inputs(model, inputs, method, retention_ratio=1.0, max_views=most)
            assert torch.equal(logits(model, whole), stock), (most, method)
    moved = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    moved["pixel_values"][0, :7] = moved["pixel_values"][0, :7].roll(1, 0)
    assert apart(logits(model, compress_inputs(model, moved, "none")), stock) > 1e-3, "the control"


def test_views_in_another_order_turn_red(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = idefics_model("idefics3"), idefics_inputs([[5, WIDE, 7]], sizes=False)
    true, shuffle = Idefics3Adapter._real_views, Idefics3Adapter.join_patches
    with monkeypatch.context() as patch:
        patch.setattr(Idefics3Adapter, "_real_views", lambda self, *given: true(self, *given).roll(1, 0))
        with pytest.raises(testing.ContractError, match="inputs_embeds"):
            testing.check_adapter(model, inputs, ["uniform"])
    # A projector that reads the patches of a token in another order, as one without the layer norm.
    for wrong in (
        lambda self, hidden: shuffle(self, hidden.flip(1).contiguous()),
        lambda self, hidden: self.core.connector.pixel_shuffle(hidden.contiguous(), 2),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Idefics3Adapter, "join_patches", wrong)
            with pytest.raises(testing.ContractError, match="inputs_embeds"):
                testing.check_entrance(model, inputs)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_are_read_from_the_text(family: str) -> None:
    model = idefics_model(family)
    inputs = idefics_inputs([*PICTURES, [("image", (1, 4)), ("image", (3, 2))]], sizes=False)
    images, clips = adapter_for(model).visuals(inputs)
    assert not clips
    assert [(len(v.layout.views), v.layout.canvas) for v in images] == [
        (7, (6, 9)),
        (3, (6, 3)),
        (1, None),
        (5, (3, 12)),
        (7, (9, 6)),
    ]
    kinds = [view.kind for view in images[0].layout.views]
    assert kinds == ["crop"] * 6 + ["thumbnail"]
    assert images[0].layout.views[4].box == (1.5, 1.0, 3.0, 2.0)
    assert images[0].runs == (TOKENS,) * 7
    short = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.5)
    shares = {view.kept for view in short.report.visuals[0].views}
    assert len(shares) > 1, "the whole picture commands the crops"


def test_a_text_that_does_not_tell_leaves_the_places_open() -> None:
    view = [IMAGE] * TOKENS
    first, others = [5, MARK, 60, *view, MARK, 61, *view, 7], [MARK, 60, *view, 7, MARK, 61, *view, 8]
    ids = torch.tensor([[*first, *others, 62, *view, MARK]])
    (row,) = written_pictures(ids, IMAGE)
    assert [len(picture.runs) for picture in row] == [5] and row[0].crops is None
    assert written_pictures(torch.tensor([[1, 2]]), IMAGE) == [[]]


def test_marks_of_a_view_leave_with_it_and_line_breaks_stay() -> None:
    model = idefics_model("idefics3")
    inputs = idefics_inputs([[5, ("image", (2, 2)), 7]], sizes=False)
    row = inputs["input_ids"][0]
    (picture,) = written_pictures(inputs["input_ids"], IMAGE)[0]
    texts = [[row[list(part)].tolist() for part in parts] for parts in crop_text(row, picture.runs)]
    assert texts == [[[MARK, 60]], [[MARK, 61]], [[MARK, 66]], [[MARK, 67]], [[MARK, 93], [MARK]]]
    kept = compress_inputs(model, inputs, "uniform", max_tokens=2)
    short = compress_inputs(model, inputs, "uniform", max_tokens=2, view_text="drop")
    gone = [view for view in short.report.visuals[0].views if not view.kept]
    assert len(gone) == 3
    lost = kept["input_ids"].shape[1] - short["input_ids"].shape[1]
    assert lost == 2 * len(gone) + (1 if gone[-1].kind == "thumbnail" else 0)
    assert (short["input_ids"] == 94).sum() == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_zeros_are_padding_as_in_the_model(family: str) -> None:
    """A padding picture in the middle is dropped as at the end; a text with placeholders for it is refused."""
    model = idefics_model(family)
    inputs = idefics_inputs([[5, ONE, 6, ONE, 7]], sizes=False)
    gap = {key: value for key, value in inputs.items() if key != "pixel_attention_mask"}
    pixels = gap["pixel_values"]
    gap["pixel_values"] = torch.cat((pixels[:, :1], torch.zeros_like(pixels[:, :1]), pixels[:, 1:]), 1)
    assert torch.equal(logits(model, gap), logits(model, inputs))
    assert torch.equal(logits(model, compress_inputs(model, gap, "none")), logits(model, inputs))
    black = {**inputs, "pixel_values": pixels.clone()}
    black["pixel_values"][0, 1] = 0
    with pytest.raises(UnsupportedInputError, match="1 pictures that are not all zeros.* dropped as padding"):
        compress_inputs(model, black, "uniform", retention_ratio=0.5)


def test_smolvlm_keeps_one_empty_picture() -> None:
    model = idefics_model("smolvlm")
    inputs = idefics_inputs([[5, ONE, 6]], sizes=False)
    inputs["pixel_values"] = torch.zeros_like(inputs["pixel_values"])
    assert torch.equal(logits(model, compress_inputs(model, inputs, "none")), logits(model, inputs))
    with pytest.raises(UnsupportedInputError, match="0 pictures that are not all zeros"):
        compress_inputs(idefics_model("idefics3"), inputs, "none")


def test_what_does_not_fit_is_refused() -> None:
    model = idefics_model("smolvlm")
    inputs = idefics_inputs(MIXED)
    pixels, mask = inputs["pixel_values"], inputs["pixel_attention_mask"].clone()
    mask[0, 0, SIDE // 2 :] = 0
    ids = inputs["input_ids"].clone()
    ids[0, (ids[0] == IMAGE).nonzero()[TOKENS - 1]] = 7
    fewer = inputs["image_sizes"].clone()
    fewer[0, 2] = 2
    for change, message in (
        (
            {"pixel_values": pixels[0]},
            r"pixel_values must be \(row, picture, channel, height, width\), got \(7",
        ),
        ({"pixel_values": [pixels]}, r"pixel_values must be .* got list"),
        (
            {"pixel_values": pixels[:, :2], "pixel_attention_mask": None},
            "6 pictures that are .* stand for 16",
        ),
        ({"pixel_values": pixels[..., :-4]}, "pixel_attention_mask .* another shape"),
        ({"pixel_attention_mask": mask}, "pixel_attention_mask hides a part of a picture"),
        ({"input_ids": ids}, rf"a clip has runs of .* must be one run of {TOKENS} for each of its 3 frames"),
        (
            {"image_sizes": inputs["image_sizes"][:-1]},
            "image_sizes states .* frames of clips, and the text",
        ),
        ({"image_sizes": fewer}, "image_sizes states 7 .* and the text holds 8"),
        ({"image_sizes": [5]}, "image_sizes=.*must be a row"),
    ):
        with pytest.raises(UnsupportedInputError, match=message):
            compress_inputs(model, {**inputs, **change}, "uniform", retention_ratio=0.5)
    single = idefics_inputs([[5, WIDE, 7]], sizes=False)
    single["pixel_values"] = single["pixel_values"][..., :20]
    single["pixel_attention_mask"] = None
    with pytest.raises(UnsupportedInputError, match=rf"the encoder takes \(3, {SIDE}, {SIDE}\)"):
        compress_inputs(model, single, "uniform", retention_ratio=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_received_is_that_of_the_last_layer(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against eager maps, the mean over the patches of a token; its control is the first layer."""
    model, asked = idefics_model(family), Evidence("attention_received", -1)
    inputs = idefics_inputs([[5, TALL, 7]], sizes=False)
    module = __import__(f"transformers.models.{family}.modeling_{family}", fromlist=["x"])
    maps, eager = [], module.eager_attention_forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        output, weights = eager(*args, **kwargs)
        maps.append(weights)
        return output, weights

    adapter = adapter_for(model)
    with torch.no_grad():
        (tokens,) = adapter.encode(adapter.visuals(inputs)[0], [asked])
        monkeypatch.setattr(module, "eager_attention_forward", noted)
        monkeypatch.setattr(model.model.vision_model.config, "_attn_implementation", "eager")
        model.get_image_features(inputs["pixel_values"])
    first, *_, last = (adapter.average_patches(weights.mean((1, 2))[..., None]).flatten() for weights in maps)
    assert apart(tokens.evidence[asked], last) < 1e-6
    assert apart(tokens.evidence[asked], first) > 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_beams_sequences_and_later_turns(family: str) -> None:
    model = idefics_model(family)
    rows = PICTURES[:2] if family == "idefics3" else MIXED[:2]
    inputs = idefics_inputs(rows, sizes=family == "smolvlm")
    short = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.5)
    greedy = model.generate(**short, **STEPS)
    assert torch.equal(greedy, model.generate(**short, **STEPS, use_cache=False))
    assert torch.equal(greedy, model.generate(**short, **STEPS, cache_implementation="static"))
    if transformers_version() >= CHUNKED_PREFILL_SINCE:  # a block refuses it before
        assert torch.equal(greedy, model.generate(**short, **STEPS, prefill_chunk_size=4))
    for options in ({"num_beams": 2}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}):
        together = model.generate(**short, **STEPS, **options)[:, -5:]
        apiece = []
        for number in range(2):
            one = idefics_inputs([row if number == n else [5] for n, row in enumerate(rows)], sizes=False)
            real = inputs["attention_mask"][number].bool()
            views = inputs["pixel_attention_mask"][number].flatten(1).any(1)
            one = {"input_ids": inputs["input_ids"][number : number + 1, real]}
            one["pixel_values"] = inputs["pixel_values"][number : number + 1, views]
            if family == "smolvlm":
                one["image_sizes"] = inputs["image_sizes"][2 * number : 2 * number + 2]
            alone = compress_inputs(model, one, "globalcom2", retention_ratio=0.5)
            apiece.append(model.generate(**alone, **STEPS, **options)[:, -5:])
        assert torch.equal(together, torch.cat(apiece)), options
    more: dict[str, Any] = {**STEPS, "output_logits": True, "return_dict_in_generate": True}
    with compress(model, "globalcom2", retention_ratio=0.5):
        first = model.generate(**inputs, **more)
        turn = torch.cat((first.sequences, torch.tensor([[7, 8, 9], [9, 8, 7]])), dim=1)
        longer = turn.shape[1] - inputs["input_ids"].shape[1]
        mask = torch.cat((inputs["attention_mask"], torch.ones(2, longer, dtype=torch.int64)), 1)
        later = {**inputs, "input_ids": turn, "attention_mask": mask}
        anew = model.generate(**later, **more)
        again = model.generate(**later, **more, **{cache_name(): returned_cache(first)})
    assert torch.equal(again.sequences, anew.sequences)
    assert apart(torch.stack(again.logits), torch.stack(anew.logits)) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_inside_the_language_model_and_masses_are_served(family: str) -> None:
    model = idefics_model(family)
    inputs = idefics_inputs(PICTURES, sizes=False)
    for method in ("fastv", "pdrop"):
        check_inside(model, inputs, get_method(method))
    short = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="on")
    with short.pruning():
        weighed = logits(model, short)
    plain = compress_inputs(model, inputs, "divprune", retention_ratio=0.4, mass="off")
    assert torch.equal(plain["input_ids"], short["input_ids"])
    assert apart(weighed, logits(model, plain)) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_crops_are_spared_that_the_whole_picture_does_not_want(family: str) -> None:
    model = idefics_model(family)
    inputs = idefics_inputs([[5, WIDE, 7]], sizes=False)
    spared = compress_inputs(
        model, inputs, "globalcom2", retention_ratio=0.2, encoder_saving="crops", allocation="gated"
    )
    plain = compress_inputs(model, inputs, "globalcom2", retention_ratio=0.2, allocation="gated")
    assert apart(logits(model, spared), logits(model, plain)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_has_one_matrix_behind_the_encoder(family: str) -> None:
    model = idefics_model(family)
    shape = geometry_of(model.config)
    weight = model.model.connector.modality_projection.proj.weight
    assert shape.projector == ((weight.shape[1], weight.shape[0]),)
    assert shape.encoder.merge == 2 and shape.encoder.projected == TOKENS and not shape.encoder.cls

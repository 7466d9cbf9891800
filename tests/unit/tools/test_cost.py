"""Cost on paper: against torch's own count of operations, the runs' own plans, and figures worked out by hand."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import vidcompress
from tiny_models import FAMILIES, VIDEO_FAMILIES, Scene, batch, tiny_model
from vidcompress import compress_inputs
from vidcompress.adapters.model_shape import geometry_of
from vidcompress.cli import main
from vidcompress.errors import ArgumentError, BudgetError, UnsupportedInputError, UnsupportedModelError
from vidcompress.loading.known_shapes import config_of, known_shapes
from vidcompress.tools.cost import DEVICES, allowed_ratio, estimate
from vidcompress.tools.cost.estimate import Estimate
from vidcompress.tools.cost.operations import Operation
from vidcompress.tools.cost.table import as_table

TEXT = 11  # of a Scene with one visual
WAYS: dict[str, dict[str, Any]] = {
    "none": {"method": "none"},
    "globalcom2": {"method": "globalcom2", "retention_ratio": 0.25},
    "attention": {"method": "fastervlm", "retention_ratio": 0.25},
    "merging": {"method": "visionzip", "retention_ratio": 0.25},
    "inside": {"method": "fastv", "retention_ratio": 0.7},
    "inside, fitted": {"method": "pdrop", "retention_ratio": 0.4, "schedule": "fit"},
    "both": {"method": "globalcom2+fastv", "retention_ratio": 0.25},
}


def counted(model: Any, inputs: dict[str, Any], new_tokens: int = 1, **settings: Any) -> tuple[int, Any]:
    """Operations of a whole run by torch's count, and its report; the CPU's fused attention is made known to it."""

    def fused(q: Any, k: Any, v: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
        return sdpa_flop_count(q, k, v)

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused}
    with FlopCounterMode(display=False, custom_mapping=mapping) as mode, torch.no_grad():
        shorter = compress_inputs(model, inputs, **settings)
        given = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
        if shorter.report.inside is None:
            model.generate(**shorter, **given)
        else:
            with shorter.pruning():
                model.generate(**shorter, **given)
    return mode.get_total_flops(), shorter.report


def paper(model: Any, **settings: Any) -> Estimate:
    text = TEXT
    if model.config.model_type == "internvl":  # the text that belongs to a frame
        text += 2 * (settings.get("frames") or 0)
    return estimate(model, text_tokens=text, dtype="float32", **settings)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_torch_counts_the_same(family: str, attention: str) -> None:
    """Within 2 %; within 0.01 % where nothing is selected by products."""
    model = tiny_model(family, attention=attention)
    inputs = {"image": {"size": (112, 112)}} | ({"video": {"frames": 6}} if family in VIDEO_FAMILIES else {})
    for kind, described in inputs.items():
        scene = batch(model, [Scene(((kind, described.get("size") or described.get("frames")),))])
        for name, way in WAYS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found, report = counted(model, scene, **way)
                expected = paper(model, **described, **way)
            assert expected.prefill_flops["everything"] == pytest.approx(found, rel=0.02), (kind, name)
            if name in ("none", "inside"):
                # transformers 5.18 makes rotary angles by a product of its own: 792 of 17 million.
                assert expected.prefill_flops["everything"] == pytest.approx(found, rel=1e-4), (kind, name)
            assert expected.visual["total"] == report.total
            if report.inside is None:
                assert expected.visual["sent"] == report.kept


def test_torch_counts_the_same_of_a_larger_model_and_of_decoding() -> None:
    """OneVision 0.5B with two layers each: grouped queries, SigLIP's real widths, an image cut into crops."""
    config = config_of("llava-onevision-0.5b", decoder_layers=2, encoder_layers=2)
    config.text_config.vocab_size = 2000
    config.image_token_id = config.image_token_index = 1999
    config.video_token_id = config.video_token_index = 1998
    config.vision_config.image_size = 112
    config.image_grid_pinpoints = [[112, 224], [224, 112]]
    torch.manual_seed(0)
    model = vidcompress_model(config)
    inputs = one_image(model, (112, 224), TEXT)
    for new in (1, 4):
        for way in (WAYS["none"], WAYS["globalcom2"], WAYS["inside"]):
            found, _ = counted(model, inputs, new, **way)
            expected = paper(model, size=(112, 224), new_tokens=new, **way)
            both = expected.prefill_flops["everything"] + expected.decode_flops["everything"]
            assert both == pytest.approx(found, rel=0.002)


def vidcompress_model(config: Any) -> Any:
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_config(config).eval()
    model.generation_config.eos_token_id = None
    return model


def one_image(model: Any, size: tuple[int, int], text: int) -> dict[str, torch.Tensor]:
    from vidcompress.adapters.base import adapter_for

    layout = adapter_for(model).image_layout(size, False, "cpu")
    side = model.config.vision_config.image_size
    ids = [5] * text
    ids[4:4] = [model.config.image_token_id] * len(layout)
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.int64),
        "pixel_values": torch.randn(1, len(layout.views), 3, side, side),
        "image_sizes": torch.tensor([size]),
        "batch_num_images": torch.tensor([1]),
    }


def test_layers_are_those_of_the_run() -> None:
    """Tokens of each layer under published and fitted schedules and in a composition, as a run reports them."""
    model = tiny_model("llava_onevision")
    inputs = batch(model, [Scene((("image", (112, 112)),))])
    for method, ratio, options in (
        ("sparsevlm", 0.8, {}),
        ("sparsevlm", 0.5, {"schedule": "fit"}),
        ("pdrop", 0.9, {}),
        ("random+fastv", 0.3, {}),
    ):
        made = compress_inputs(model, inputs, method, retention_ratio=ratio, **options)
        got = paper(model, size=(112, 112), method=method, retention_ratio=ratio, **options)
        assert got.visual["per_layer"] == made.report.inside.per_layer
        assert got.visual["sent"] == made.report.kept


@pytest.mark.parametrize("method", ["frames", "pool"])
def test_methods_that_reach_the_count_below(method: str) -> None:
    model = tiny_model("llava_video")
    inputs = batch(model, [Scene((("video", 8),))])
    made = compress_inputs(model, inputs, method, retention_ratio=0.4)
    got = paper(model, frames=8, method=method, retention_ratio=0.4)
    assert got.visual["sent"] == made.report.kept
    assert got.views == (4 if method == "frames" else 8)  # 19 positions: 4 frames of 4 tokens, 3 newlines
    whole = paper(model, frames=8)
    saved = whole.parts["encoder"] / got.parts["encoder"]
    assert saved == pytest.approx(8 / got.views)


def test_the_headline() -> None:
    whole, tenth = estimate(), estimate(method="globalcom2", retention_ratio=0.1)
    assert [row.visual["sent"] for row in (whole, tenth)] == [2880, 288]
    assert [round(row.prefill_flops["llm_viewer"] / 1e12, 1) for row in (whole, tenth)] == [41.7, 3.8]
    assert round(whole.prefill_flops["fastv"] / 1e12, 2) == 16.67
    for row in (whole, tenth):
        assert sum(row.parts.values()) == row.prefill_flops["everything"]
        assert row.left_out == row.prefill_flops["everything"] - row.parts["decoder"] > 0
        assert row.parts["encoder"] > 1.8e12 > row.parts["projector"] > 0
    # 2 x 32 heads x 128 numbers of 2 bytes in 32 layers for every visual and text token.
    assert whole.kv_cache_bytes == 2 * 32 * 128 * 2 * 32 * (2880 + 64)
    assert whole.parameters == 7_063_431_168
    text = as_table([whole, tenth])
    assert "23.0 -> 13.9 GB" in text
    assert "3.8 -> 6.7 samples/s" in text
    assert "measured" in text


def test_memory_and_time_move_the_right_way() -> None:
    described: dict[str, Any] = {"frames": 32, "text_tokens": 20}
    base = estimate("llava-onevision-7b", **described)
    less = estimate("llava-onevision-7b", **described, method="vidcom2", retention_ratio=0.25)
    double = estimate("llava-onevision-7b", **described, batch_size=2)
    wide = estimate("llava-onevision-7b", **described, dtype="float32")
    assert base.memory.weights == 2 * base.parameters
    assert wide.memory.weights == 2 * base.memory.weights
    assert wide.kv_cache_bytes == double.kv_cache_bytes == 2 * base.kv_cache_bytes
    assert double.prefill_flops == {name: 2 * flops for name, flops in base.prefill_flops.items()}
    assert less.memory_bytes < base.memory_bytes < double.memory_bytes
    assert list(base.time_s) == list(DEVICES)
    for name in DEVICES:
        now, then = base.time_s[name], less.time_s[name]
        assert now["first_token"] == pytest.approx(now["encode"] + now["select"] + now["prefill"])
        assert then["encode"] == now["encode"]
        assert then["prefill"] < now["prefill"] / 3
        assert wide.time_s[name]["first_token"] > now["first_token"]
    assert (
        base.time_s["H200"]["first_token"]
        < base.time_s["H100"]["first_token"]
        < base.time_s["A100-80G"]["first_token"]
    )


def test_decoding_is_bound_by_weights() -> None:
    one = estimate("llava-next-7b", visual_tokens=288, new_tokens=2)
    device = DEVICES["A100-80G"]
    decoder_bytes = 2 * (one.parameters - 303_507_456)  # all but the vision tower
    assert one.time_s["A100-80G"]["per_token"] == pytest.approx(decoder_bytes / device.bytes_per_s, rel=0.06)
    longer = estimate("llava-next-7b", visual_tokens=288, new_tokens=11)
    assert longer.decode_flops["everything"] > 10 * one.decode_flops["everything"]  # the cache grows
    assert longer.time_s["A100-80G"]["total"] > one.time_s["A100-80G"]["total"]


def test_roofline_takes_the_longer_of_the_two() -> None:
    device = replace(DEVICES["H200"], flops_16=1e3, flops_32=1e2, bytes_per_s=1e3)
    assert Operation("a", flops=5e3, load_act=1e3).seconds(device, "bfloat16") == 5
    assert Operation("a", flops=5e3, load_act=1e3).seconds(device, "float32") == 50
    assert Operation("a", flops=5e3, load_act=1e3).seconds(device, "float16") == 5
    assert Operation("a", flops=5, load_weight=1e3, store_kv=1e3).seconds(device, "float16") == 2


def test_allowed_ratio() -> None:
    ratio = allowed_ratio("llava-onevision-7b", frames=32, method="vidcom2", retention_ratio=0.1)
    whole = estimate("llava-onevision-7b", frames=32).prefill_flops["everything"]
    tenth = estimate("llava-onevision-7b", frames=32, method="vidcom2", retention_ratio=0.1)
    assert ratio == whole / tenth.prefill_flops["everything"]
    assert 3.5 < ratio < 4.5  # the encoder stays: far from the 10 of the decoder
    assert allowed_ratio("llava-onevision-7b", frames=32) == 1


def test_evidence_that_lies_deeper_costs_layers() -> None:
    """LLaVA-NeXT reads features one layer before the last: CLS attention is there, logits of the last need more."""
    last = estimate(method="globalcom2", retention_ratio=0.5).parts["selection"]
    here = estimate(method="fastervlm", retention_ratio=0.5).parts["selection"]
    queries_and_keys = 2 * 2 * 5 * 577 * 1024**2
    assert last - here == pytest.approx(queries_and_keys, rel=0.1)


def test_distances_too_many_to_hold_cost_a_row_per_token_chosen() -> None:
    """An accelerator holds those of 8,192 tokens: of 32 frames, and not of 64; `cdpruner` compares within views."""
    for frames, rows in ((32, 0), (64, 1)):
        found = estimate("llava-onevision-7b", frames=frames, method="divprune", retention_ratio=0.25)
        count, chosen = frames * 196, found.visual["sent"] - found.visual["separators"]
        assert found.parts["selection"] == 2 * 3584 * (2 * count + count**2 + rows * count * chosen)
    within = estimate("llava-onevision-7b", frames=64, method="cdpruner", retention_ratio=0.25)
    assert within.parts["selection"] == 2 * 3584 * (2 * count + count * 196)


def test_any_registered_model_without_its_weights(tmp_path: Path) -> None:
    config = config_of("llava-next-mistral-7b")
    config.save_pretrained(tmp_path)  # nothing but config.json
    by_folder, by_name = (
        estimate(where, size=(336, 672)) for where in (str(tmp_path), "llava-next-mistral-7b")
    )
    assert by_folder.prefill_flops == by_name.prefill_flops
    assert by_name.geometry == geometry_of(config)
    embedded = estimate("tiny-onevision", size=(64, 64), dtype="float32")
    assert embedded.geometry.decoder.layers == 4
    assert embedded.memory.weights == 4 * embedded.parameters
    for name in known_shapes():
        assert json.loads(json.dumps(estimate(name, visual_tokens=100).to_dict()))["model"] == name


@pytest.mark.parametrize("size", [(768, 1024), (1024, 768), (30, 4000)])
def test_under_the_preset_every_picture_is_five_views(size: tuple[int, int]) -> None:
    laid_out = estimate("llava-next-7b", size=size, preset="2880", method="globalcom2", retention_ratio=0.1)
    assert laid_out.visual["total"] == 2880 != estimate("llava-next-7b", size=size).visual["total"]
    assert (laid_out.visual["sent"], laid_out.visual["separators"], laid_out.views) == (288, 0, 5)
    headline = estimate("llava-next-7b", visual_tokens=2880, method="globalcom2", retention_ratio=0.1)
    assert laid_out.prefill_flops["llm_viewer"] == headline.prefill_flops["llm_viewer"]
    two = estimate("llava-next-7b", size=size, images=2, preset="2880")
    assert (two.visual["total"], two.views) == (5760, 10)
    described = {"size": size, "preset": "2880", "method": "globalcom2", "retention_ratio": 0.1}
    counted_alone = {"visual_tokens": 2880, "method": "globalcom2", "retention_ratio": 0.1}
    assert allowed_ratio(**described) == pytest.approx(allowed_ratio(**counted_alone), rel=1e-3)


def test_the_preset_counts_what_a_run_sends() -> None:
    qa = vidcompress.VisualQA.from_pretrained("tiny-next", preset="2880", local_files_only=True)
    picture = Image.new("RGB", (200, 90), (200, 10, 10))
    for method, ratio in (("globalcom2", 0.25), ("fastervlm", 0.1)):
        report = (
            qa.using(method=method, retention_ratio=ratio).ask("?", image=picture, max_new_tokens=1).report
        )
        on_paper = estimate("tiny-next", size=(90, 200), preset="2880", method=method, retention_ratio=ratio)
        assert (on_paper.visual["total"], on_paper.visual["sent"]) == (report.total, report.kept)
        assert on_paper.views == sum(len(visual.views) for visual in report.visuals)


def test_the_preset_has_its_canvas_whatever_the_model_s_are() -> None:
    config = config_of("llava-next-7b")
    config.image_grid_pinpoints = [[336, 336]]  # one crop at most
    assert estimate(config, size=(500, 500), preset="2880").visual["total"] == 2880


def test_it_is_there_without_an_import_of_its_own() -> None:
    assert vidcompress.tools.cost.estimate is estimate


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": "llava-nxt-7b"}, ArgumentError, "did you mean 'llava-next-7b'"),
    ({"model": 5}, ArgumentError, "model=5: must be a named geometry"),
    ({"visual_tokens": 0}, ArgumentError, "visual_tokens=0: must be a whole number from 1"),
    ({"visual_tokens": 5, "frames": 5}, ArgumentError, "pass either"),
    ({"visual_tokens": 5, "method": "frames", "retention_ratio": 0.5}, ArgumentError, "pass frames= instead"),
    ({"size": (0, 5)}, ArgumentError, "must be (height, width), whole pixels"),
    ({"size": 5}, ArgumentError, "must be (height, width), whole pixels"),
    ({"images": 2}, ArgumentError, "of which size? pass size= too"),
    ({"images": 0, "size": (5, 5)}, ArgumentError, "images=0: must be a whole number from 1"),
    ({"preset": "2880"}, ArgumentError, "it lays out pictures, and none is described; pass size="),
    ({"preset": "2880", "visual_tokens": 2880}, ArgumentError, "pass size= (instead of visual_tokens)"),
    (
        {"preset": "2880", "visual_tokens": 2880, "size": (5, 5)},
        ArgumentError,
        "how many tokens it has; pass",
    ),
    ({"preset": "288", "size": (5, 5)}, ArgumentError, "did you mean '2880'?; leave it out"),
    ({"preset": 2880, "size": (5, 5)}, ArgumentError, "preset=2880 with llava_next: must be a text"),
    (
        {"model": "llava-onevision-7b", "preset": "2880", "size": (5, 5)},
        ArgumentError,
        "preset='2880' with llava_onevision: it has no presets; leave it out",
    ),
    ({"frames": 0}, ArgumentError, "frames=0: must be a whole number from 1"),
    ({"frames": 3}, UnsupportedInputError, "take no clips; pass a picture"),
    ({"text_tokens": -1}, ArgumentError, "text_tokens=-1: must be a whole number from 0"),
    ({"new_tokens": 0}, ArgumentError, "new_tokens=0: must be a whole number from 1"),
    ({"batch_size": 2.5}, ArgumentError, "batch_size=2.5: must be a whole number from 1"),
    ({"dtype": "int8"}, ArgumentError, "dtype must be one of float32, bfloat16, float16, got 'int8'"),
    ({"method": "globalcom2"}, BudgetError, "give exactly one of retention_ratio"),
    ({"method": "fastv", "retention_ratio": 0.01}, BudgetError, "its floor is"),
    ({"max_views": 0}, ArgumentError, "max_views must be an integer of at least 1"),
    ({"tau": 1}, ArgumentError, "method 'none' has no option 'tau'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        estimate(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, VipLlavaConfig

    with pytest.raises(
        UnsupportedModelError,
        match="of type 'vipllava', which the generic adapter serves: .*; measure on media of yours with compare",
    ):
        estimate(VipLlavaConfig())
    with pytest.raises(UnsupportedModelError, match="of type 'llama', which no adapter serves"):
        estimate(LlamaConfig())
    with pytest.raises(UnsupportedModelError, match="has no vision_config; cost is known of models with"):
        geometry_of(LlamaConfig())
    broken = LlavaConfig(vision_config=CLIPVisionConfig(), text_config=LlamaConfig())
    broken.vision_config.patch_size = 0
    with pytest.raises(
        UnsupportedModelError, match="patch_size=0 in the clip_vision_model config: expected a whole"
    ):
        geometry_of(broken)
    (tmp_path / "config.json").write_text('{"model_type": "llava_next", "text_config": 5}')
    with pytest.raises(ArgumentError, match=r"its config\.json cannot be read \(.*\); fetch it again"):
        estimate(str(tmp_path))
    deep = config_of("llava-next-7b")
    deep.text_config.num_hidden_layers = 10**9
    with pytest.raises(
        UnsupportedModelError, match="num_hidden_layers=1000000000 in the llama config: .* at most 1000"
    ):
        estimate(deep)
    deep.text_config.num_hidden_layers, deep.vision_config.image_size = 1, 10**7
    with pytest.raises(
        UnsupportedModelError, match="image_size=10000000 in the clip_vision_model config.* at most"
    ):
        estimate(deep)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ArgumentError, match=r"there is no config\.json; pass the folder"):
        estimate(str(tmp_path))


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        ("text_config", "num_key_value_heads", 0, "expected a whole number of at least 1 and at most 14"),
        ("text_config", "num_key_value_heads", 10**30, "and at most 14"),
        ("text_config", "num_key_value_heads", 4, "must divide num_attention_heads=14"),
        ("text_config", "head_dim", -8, "expected a whole number"),
        ("text_config", "base_vocab_size", "x", "expected a whole number"),
        ("text_config", "hidden_size", 10**12, "and at most 1048576"),
        ("vision_config", "num_channels", -3, "expected a whole number"),
        (None, "vision_feature_layer", 99, "has hidden states from -27 to 26"),
        (None, "vision_feature_layer", -99, "has hidden states from -27 to 26"),
        (None, "vision_feature_layer", [], "has hidden states from -27 to 26"),
    ],
)
def test_a_number_that_no_model_has_is_named(part: str | None, key: str, value: Any, message: str) -> None:
    config = config_of("llava-onevision-0.5b")
    setattr(config if part is None else getattr(config, part), key, value)
    with pytest.raises(UnsupportedModelError) as caught:
        estimate(config, frames=2)
    said = str(caught.value)
    assert said.startswith(f"{key}={value!r} in the ")
    assert message in said and said.endswith("fetch the checkpoint again")


def test_a_config_of_which_no_model_can_be_made_is_refused() -> None:
    config = config_of("llava-onevision-0.5b")
    config.vision_config.num_attention_heads = 7
    with pytest.raises(ArgumentError, match=r"no model can be made of its config \(.*\); fetch it again"):
        estimate(config, frames=2)


def test_the_original_layout_needs_no_tokenizer(tmp_path: Path) -> None:
    flat = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava_qwen",
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_newline_position": "grid",
        "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": [[384, 384], [384, 768]],
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(flat))
    found, named = (estimate(model, frames=4) for model in (str(tmp_path), "llava-video-7b"))
    assert found.parameters == named.parameters and found.parts == named.parts


def test_a_family_without_processor_counts_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidcompress.adapters.families import FAMILIES as PROCESSORS

    monkeypatch.delitem(PROCESSORS, "llava_next")
    with pytest.raises(
        UnsupportedModelError, match="has no registered processor.*pass visual_tokens= instead"
    ):
        estimate(size=(336, 336))
    assert estimate(visual_tokens=576).views == 1


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> str:
        with pytest.raises(SystemExit, match="^0$"):
            main(["cost", *words])
        return capsys.readouterr().out

    plain = json.loads(run("--geometry", "llava-next-7b", "--visual-tokens", "2880", "--json"))
    assert {"llm_viewer", "fastv", "everything"} == plain["prefill_flops"].keys()
    assert plain["prefill_flops"]["llm_viewer"] == 41_699_838_525_440
    assert plain["memory_bytes"] > plain["kv_cache_bytes"] > 1.5e9
    assert plain["time_s"].keys() == DEVICES.keys()
    words = (
        "--geometry",
        "llava-next-7b",
        "--image",
        "672x672",
        "--method",
        "globalcom2",
        "--retention-ratio",
        "0.1",
    )
    tenth = json.loads(run(*words, "--new-tokens", "5", "--json"))
    assert tenth["visual"]["total"] == tenth["uncompressed"]["visual"]["total"] == 2928
    assert tenth["visual"]["sent"] == 293
    assert tenth["allowed_ratio"] == allowed_ratio(
        size=(672, 672), method="globalcom2", retention_ratio=0.1, new_tokens=5
    )
    assert "a later token" in run(*words, "--new-tokens", "5")
    laid_out = json.loads(run("--size", "1024x768", "--preset", "2880", "--json"))
    assert laid_out["visual"]["total"] == 2880
    text = run()
    assert "41.7" in text
    assert "3.8" in text
    assert "globalcom2 0.1" in text
    assert "fastv 1500" in run("--method", "fastv", "--max-tokens", "1500", "--option", "schedule=fit")

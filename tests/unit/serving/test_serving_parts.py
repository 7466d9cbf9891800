"""Parts of serving that know no engine: settings, budgets of items, the choice, positions, the server's command."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vidcompress.adapters.layouts import image_layout, native_layout, video_layout
from vidcompress.core.config import CompressionConfig
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, BudgetError, UnsupportedModelError
from vidcompress.serving import plugin
from vidcompress.serving.budgets import item_budget, read_budget
from vidcompress.serving.choice import choose
from vidcompress.serving.engine.positions import (
    COLUMNS,
    Offsets,
    clip_positions,
    from_columns,
    image_positions,
    prompt_positions,
    timed_clip_positions,
    to_columns,
)
from vidcompress.serving.launch import ServerOptions, plain_settings, server_command, server_environment
from vidcompress.serving.settings import (
    SERVED,
    Served,
    Share,
    only_budgets,
    read_settings,
    read_share,
    request_budget,
    served_with,
)

ONEVISION = SERVED["LlavaOnevisionForConditionalGeneration"]
NEXT = SERVED["LlavaNextForConditionalGeneration"]
QWEN = SERVED["Qwen3VLForConditionalGeneration"]
LAYOUTS = {
    "crops": image_layout((4, 4), (2, 2), unpadded=(1, 0, 6, 8)),
    "native": native_layout((5, 7)),
    "clip": video_layout(6, (3, 4), "end"),
    "runs": video_layout(3, (4, 2), "none"),
}


@pytest.mark.parametrize(
    ("settings", "served", "message"),
    [
        (None, ONEVISION, "hf_overrides"),
        ({}, ONEVISION, "retention_ratio"),
        ({"retention_ratio": 2}, ONEVISION, "retention_ratio"),
        ({"retention_ratio": 0.25, "tua": 3}, ONEVISION, "tua"),
        ({"method": "fastv", "retention_ratio": 0.25}, ONEVISION, "inside the language model"),
        ({"method": "fastervlm", "retention_ratio": 0.25}, ONEVISION, "attention_received"),
        ({"method": "visionzip", "retention_ratio": 0.25}, NEXT, "mean_keys"),
        ({"method": "vidcom2", "retention_ratio": 0.25}, NEXT, "takes no images"),
        ({"method": "cdpruner", "retention_ratio": 0.25}, QWEN, "question"),
        ({"retention_ratio": 0.25, "mass": "on"}, ONEVISION, "mass"),
        ({"retention_ratio": 0.25, "mass_strength": 0.5}, ONEVISION, "mass_strength"),
        ({"retention_ratio": 0.25, "policy": "reference"}, ONEVISION, "policy"),
        ({"retention_ratio": 0.25, "encoder_saving": "frames"}, ONEVISION, "encoder_saving"),
        ({"retention_ratio": 0.25, "view_text": "drop"}, QWEN, "view_text"),
        ({"retention_ratio": 0.25, "positions": "original"}, ONEVISION, "positions"),
        ({"retention_ratio": 0.25, "positions": "contiguous"}, QWEN, "positions"),
    ],
)
def test_settings_that_no_engine_serves_are_refused_by_name(
    settings: Any, served: Served, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        read_settings(settings, served)


def test_positions_are_those_of_the_engine_and_mass_is_off(caplog: Any) -> None:
    assert (
        read_settings({"method": "evs", "retention_ratio": 0.5}, ONEVISION).resolved_positions == "contiguous"
    )
    assert read_settings({"retention_ratio": 0.5}, QWEN).resolved_positions == "original"
    census = read_settings({"method": "census", "retention_ratio": 0.5}, QWEN)
    assert not census.weighs and "without mass" in caplog.text
    assert read_settings({"method": "fastervlm", "retention_ratio": 0.5}, NEXT).method.name == "fastervlm"


def test_evidence_of_a_cls_token_needs_one() -> None:
    clip = SimpleNamespace(vision_config=SimpleNamespace(model_type="clip_vision_model"))
    siglip = SimpleNamespace(vision_config=SimpleNamespace(model_type="siglip_vision_model"))
    assert served_with(NEXT, clip) == NEXT
    assert served_with(NEXT, siglip).quantities == ()


def test_a_request_may_state_a_budget_and_where_strict_nothing_else() -> None:
    settings = CompressionConfig("random", 0.25)
    assert request_budget({}, settings) == settings.budget
    assert request_budget({"retention_ratio": "0.1", "fps": 2}, settings).ratio == Fraction(1, 10)
    assert request_budget({"max_tokens": 7}, settings, strict=True).max_tokens == 7
    for wrong in ({"retention_ratio": 1.5}, {"retention_ratio": 0.5, "max_tokens": 5}, {"max_tokens": True}):
        with pytest.raises(BudgetError):
            request_budget(wrong, settings)
    with pytest.raises(ArgumentError, match="fps"):
        request_budget({"fps": 2}, settings, strict=True)
    assert not only_budgets({}) and only_budgets({"only_budgets": True})
    with pytest.raises(ArgumentError, match="only_budgets"):
        only_budgets({"only_budgets": 1})


@pytest.mark.parametrize(
    "share", [Share(Fraction(1, 3)), Share(None, 30), Share(None, 30, 100), Share(Fraction(1), unasked=True)]
)
def test_shares_travel_as_text(share: Share) -> None:
    assert read_share(str(share)) == share


def test_shares_of_several_items_stay_within_the_budget() -> None:
    share = Share(None, 30, 148 + 148 + 91)
    parts = [share.of(length) for length in (148, 148, 91)]
    assert parts == [11, 11, 7] and sum(parts) <= 30
    assert Share(None, 30).of(148) == 30 and Share(None, 300).of(148) == 148
    with pytest.raises(ArgumentError, match="max_tokens=2"):
        Share(None, 2, 300).of(100)


METHODS = (
    "globalcom2:evidence=distance",
    "pool",
    "frames",
    "census:mass=off",
    "divprune",
    "none",
    "uniform",
    "dycoke",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("ratio", [1, 0.5, 0.1])
@pytest.mark.parametrize("separators", ["thin", "drop"])
def test_what_is_chosen_is_what_was_counted(method: str, kind: str, ratio: float, separators: Any) -> None:
    layout = LAYOUTS[kind]
    settings = CompressionConfig(method, retention_ratio=ratio, separators=separators)
    if layout.modality not in settings.method.modalities:
        pytest.skip("another modality")
    if method == "frames" and ratio == 0.1:  # below one frame, which is an error of the request
        with pytest.raises(BudgetError, match="whole frames"):
            item_budget(layout, Share(settings.budget.ratio), settings)
        return
    budget = item_budget(layout, Share(settings.budget.ratio), settings)
    assert read_budget(budget.row().tolist(), layout, settings) == budget
    tokens = VisualTokens(torch.randn(len(layout), 16), layout)
    (chosen,) = choose([tokens], [budget.plan], settings.method)
    assert len(chosen.source) == len(chosen.features) == budget.count
    assert (chosen.source.diff() > 0).all()


def test_companions_go_with_their_tokens() -> None:
    layout, settings = LAYOUTS["runs"], CompressionConfig("frames", retention_ratio=0.4)
    budget = item_budget(layout, Share(settings.budget.ratio), settings)
    deep = torch.arange(len(layout))[:, None].float()
    (chosen,) = choose([VisualTokens(deep * 2, layout, deep=(deep, -deep))], [budget.plan], settings.method)
    assert torch.equal(chosen.deep[0][:, 0].long(), chosen.source)
    assert torch.equal(chosen.deep[1][:, 0].long(), -chosen.source)
    assert torch.equal(chosen.features[:, 0].long(), 2 * chosen.source)


def test_a_method_whose_count_depends_on_features_is_refused(monkeypatch: Any) -> None:
    from vidcompress.methods.controls import Uniform

    class Moody(Uniform):
        name = "moody"

        def select(self, batch: Any, budgets: Any) -> Any:
            (one,) = super().select(batch, budgets)
            return [type(one)(one.index[: len(one) - int(batch.features.sum() > 0)])]

    settings = CompressionConfig(Moody(), retention_ratio=0.5)
    monkeypatch.setattr(
        torch, "randn", lambda *shape, generator: torch.full(shape, generator.initial_seed() - 0.5)
    )
    with pytest.raises(ArgumentError, match="by the features"):
        item_budget(LAYOUTS["native"], Share(Fraction(1, 2)), settings)


def test_positions_of_a_prompt_advance_by_the_extent_of_its_items() -> None:
    places, delta = prompt_positions(9, [(2, 3, 5), (6, 1, 4)])
    assert places[0].tolist() == [0, 1, 2, 2, 2, 7, 8, 12, 13] and torch.equal(places[0], places[2])
    assert delta == 14 - 9
    assert prompt_positions(3, [])[0][1].tolist() == [0, 1, 2]


def test_positions_of_items() -> None:
    image = image_positions(2, 3, [7] * 6)
    assert image.positions.tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2] * 2] and image.extent == 3
    clip = clip_positions(2, 1, 2, [7] * 4, lambda frame: frame * 2.5)
    assert clip.positions[0].tolist() == [0, 0, 2, 2] and clip.extent == 3
    timed = timed_clip_positions(1, 2, [1, 2, 9, 9, 3, 2, 9, 9, 3], 9)
    assert timed.positions[2].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert timed.positions[1].tolist() == [0, 1, 2, 2, 4, 5, 6, 6, 8] and timed.extent == 9


def test_offsets_are_added_once_at_the_places_of_items() -> None:
    offsets = Offsets(4, torch.device("cpu"))
    moved = torch.tensor([[1, 700], [2, 0], [70_000, 3]])
    columns = to_columns(moved, torch.bfloat16)
    assert columns.shape == (2, COLUMNS) and torch.equal(from_columns(columns), moved)
    offsets.put(columns, torch.tensor([False, True, False, False, True, False]))  # more than the table had
    whole = offsets.add_to(torch.full((3, 8), 10))
    assert whole[0].tolist() == [10, 11, 10, 10, 710, 10, 10, 10]
    assert whole[2].tolist() == [10, 70_010, 10, 10, 13, 10, 10, 10]
    assert (offsets.add_to(torch.zeros(3, 8, dtype=torch.int64)) == 0).all()


# -- the plugin and the server's command -------------------------------------------------------------------------------


def test_versions_that_were_not_run_are_refused_in_one_line() -> None:
    assert plugin.untested("0.32.0") is None and plugin.untested("0.32.0+cpu") is None
    line = plugin.untested("0.33.0")
    assert line is not None and "vllm==0.32.0" in line and "\n" not in line


def test_overrides_are_checked_before_an_engine_starts() -> None:
    made = plugin.hf_overrides("Qwen3VLForConditionalGeneration", method="evs", retention_ratio=0.5)
    assert made["architectures"] == ["VidcompressQwen3VLForConditionalGeneration"]
    assert made["vidcompress"] == {"method": "evs", "retention_ratio": 0.5}
    with pytest.raises(UnsupportedModelError, match="InternVLForConditionalGeneration"):
        plugin.hf_overrides("InternVLForConditionalGeneration", retention_ratio=0.5)
    with pytest.raises(ArgumentError, match="fastv"):
        plugin.hf_overrides("Qwen3VLForConditionalGeneration", method="fastv", retention_ratio=0.5)


def test_register_is_reentrant_and_silent_about_other_versions(monkeypatch: Any, caplog: Any) -> None:
    added: dict[str, str] = {}
    registry = SimpleNamespace(get_supported_archs=lambda: list(added), register_model=added.__setitem__)
    configs: dict[str, object] = {"Qwen3_5ForConditionalGeneration": object}
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="0.32.0", ModelRegistry=registry))
    monkeypatch.setitem(
        sys.modules, "vllm.model_executor.models.config", SimpleNamespace(MODELS_CONFIG_MAP=configs)
    )
    for name in ("vllm.model_executor", "vllm.model_executor.models"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    plugin.register()
    first = dict(added)
    plugin.register()
    assert added == first and len(added) == len(SERVED) and not caplog.records
    assert configs["VidcompressQwen3_5ForConditionalGeneration"] is object
    added.clear()
    monkeypatch.setattr(sys.modules["vllm"], "__version__", "0.99.0")
    plugin.register()
    assert not added and "vllm==0.32.0" in caplog.text
    with pytest.raises(UnsupportedModelError, match="0.99.0"):
        plugin.check_engine()


def test_command_of_a_server() -> None:
    config = CompressionConfig("random:seed=3", max_tokens=40)
    command = server_command("tiny-onevision", config, ServerOptions(data_parallel=2), ["--seed", "1"])
    told = dict(zip(command, command[1:], strict=False))
    assert told["--host"] == "127.0.0.1" and told["--allowed-media-domains"] == "nowhere.invalid"
    assert json.loads(told["--hf-overrides"])["vidcompress"] == {
        "method": "random",
        "rule": "permutation",
        "seed": 3,
        "max_tokens": 40,
        "only_budgets": True,
    }
    assert "--trust-request-mm-kwargs" in command and "--tensor-parallel-size" not in command
    assert (
        told["--data-parallel-size"] == "2"
        and told["--max-model-len"] == "4096"
        and command[-2:] == ["--seed", "1"]
    )
    strict = server_command(
        "tiny-qwen", config, ServerOptions(request_budgets=False, media_domains=("a.org",))
    )
    assert "--trust-request-mm-kwargs" not in strict and "only_budgets" not in " ".join(strict)
    assert strict[strict.index("--allowed-media-domains") + 1] == "a.org"
    assert strict[strict.index("--max-model-len") + 1] == "2048"  # positions may run ahead of tokens


@pytest.mark.parametrize(
    ("model", "options", "further", "message"),
    [
        ("tiny-qwen", {"pipeline_parallel": 2}, (), "pipeline_parallel=2"),
        ("tiny-onevision", {}, ("--host", "0.0.0.0"), "--host behind --"),
        ("tiny-onevision", {}, ("--hf-overrides={}",), "--hf-overrides behind --"),
        ("tiny-onevision", {}, ("clip.mp4",), "clip.mp4"),
        ("tiny-onevision", {"port": 0}, (), "port"),
        ("tiny-onevision", {"max_model_len": 0}, (), "max_model_len"),
        ("tiny-onevision", {"tensor_parallel": 0}, (), "tensor_parallel"),
        ("tiny-onevision", {"max_images": -1}, (), "max_images"),
        ("tiny-onevision", {"host": 3}, (), "host"),
    ],
)
def test_commands_that_no_server_takes(model: str, options: Any, further: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        server_command(model, CompressionConfig("random", 0.5), ServerOptions(**options), further)


def test_settings_in_types_of_json_read_back_as_the_same() -> None:
    config = CompressionConfig("globalcom2:tau=5", "0.3", separators="drop")
    plain = json.loads(json.dumps(plain_settings(config)))
    assert read_settings(plain, ONEVISION) == config.replace(positions="contiguous")


def test_environment_without_the_plugin_starts_nothing(monkeypatch: Any) -> None:
    from vidcompress.serving import launch

    monkeypatch.setattr(launch, "entry_points", lambda group: [SimpleNamespace(name="vidcompress")])
    made = server_environment({"VLLM_MAX_IMAGE_PIXELS": "7"})
    assert made["VLLM_MAX_IMAGE_PIXELS"] == "7" and made["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"
    with pytest.raises(UnsupportedModelError, match="VLLM_PLUGINS='other'"):
        server_environment({"VLLM_PLUGINS": "other"})
    monkeypatch.setattr(launch, "entry_points", lambda group: [])
    with pytest.raises(UnsupportedModelError, match="pip install"):
        server_environment({})


def test_evidence_is_cut_with_frames() -> None:
    layout, settings = LAYOUTS["clip"], CompressionConfig("frames", retention_ratio=0.4)
    budget = item_budget(layout, Share(settings.budget.ratio), settings)
    key = Evidence("attention_received")
    tokens = VisualTokens(torch.randn(len(layout), 4), layout, {key: torch.rand(len(layout))})
    assert len(choose([tokens], [budget.plan], settings.method)[0].source) == budget.count

"""Operations, bytes, memory and time as LLM-Viewer printed them for three decoders at ten lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidcompress.adapters.model_shape import DecoderShape
from vidcompress.tools.cost.estimate import estimate
from vidcompress.tools.cost.llm_viewer import analyse, decode_flops, prefill_flops

ROWS = json.loads(
    (Path(__file__).parents[1] / "data" / "golden" / "llmviewer.json").read_text(encoding="utf-8")
)["rows"]


def shape(row: dict[str, Any]) -> DecoderShape:
    return DecoderShape(
        row["d"], row["m"], row["L"], row["H"], row["G"], row["d"] // row["H"], row["V"], False, row["V"]
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['model']} {row['n']} {row['flash_attention']}")
def test_every_number_is_theirs(row: dict[str, Any]) -> None:
    found = analyse(shape(row), row["n"], fused=row["flash_attention"])
    for phase in ("prefill", "decode"):
        expected = dict(row[phase])
        assert found[phase].pop("inference_time") == pytest.approx(expected.pop("inference_time"), rel=1e-12)
        assert found[phase] == expected
    every = [row["n"]] * row["L"]
    assert prefill_flops(shape(row), every) == row["prefill"]["OPs"]
    assert decode_flops(shape(row), every) == row["decode"]["OPs"]
    if "closed_form_prefill_OPs" in row:
        assert prefill_flops(shape(row), every) == row["closed_form_prefill_OPs"]


@pytest.mark.parametrize(("name", "model"), [("llava-next-7b", "llama-7b"), ("llava-next-13b", "llama-13b")])
def test_named_geometries_are_those_decoders(name: str, model: str) -> None:
    rows = {row["n"]: row for row in ROWS if row["model"].startswith(model) and not row["flash_attention"]}
    for n in (288, 2880):
        assert estimate(name, visual_tokens=n).prefill_flops["llm_viewer"] == rows[n]["prefill"]["OPs"]

"""`vidcompress bench` and the scripts around it, as they are typed, with toy widths."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vidcompress.cli import main

ROOT = Path(__file__).parents[2]
LAYERS = ("--encoder-layers", "2", "--decoder-layers", "4")
TOY = ("--geometry", "llava-video-7b", "--scale", "tiny", *LAYERS, "--rounds", "1")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit, match="^0$"):
        main(["bench", *words])
    return capsys.readouterr().out


def test_one_run_makes_json_table_and_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("run.jsonl", "out.json", "plot.png")}
    words = [
        *TOY,
        "--frames",
        "4",
        "--sizes",
        "768x768",
        "--methods",
        "vidcom2,stock",
        "--batch-sizes",
        "1,2",
    ]
    words += ["--decode", "--retention-ratios", "0.25", "--journal", str(files["run.jsonl"])]
    words += ["--out", str(files["out.json"]), "--plot", str(files["plot.png"])]
    said = run(capsys, *words)
    assert "4 frames, batch 2" in said and "decode_video" in said
    known = ("none", "stock", "vidcom2", "random", "uniform")
    methods = [line.split()[0] for line in said.splitlines() if line.startswith(known)]
    image, clip = ["none", "stock", "random", "uniform"], list(known)
    assert methods == [*image, *image, *clip, *clip]
    result: dict[str, Any] = json.loads(files["out.json"].read_text())
    assert result["complete"] and result["plan"]["geometry"] == "llava-video-7b"
    assert Image.open(files["plot.png"]).size[0] > 300
    words[-1] = str(tmp_path / "plots")
    again = json.loads(run(capsys, *words, "--json"))
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["bench.png", "bench.svg"]
    assert again["groups"] == result["groups"]  # all from the journal


def test_the_embedded_model_and_probes(capsys: pytest.CaptureFixture[str]) -> None:
    said = run(
        capsys,
        "--model",
        "tiny-onevision",
        "--frames",
        "4",
        "--methods",
        "fastervlm",
        "--rounds",
        "1",
        "--probes",
    )
    assert "attention_received of features" in said and "fastervlm@0.25" in said


def test_the_table_of_a_gpu_is_filled_by_one_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, out = str(ROOT / "scripts" / "bench_h200.py"), tmp_path / "bench_h200-tiny.json"

    def call(*more: str) -> str:
        words = [
            "--scale",
            "tiny",
            "--rounds",
            "1",
            "--journals",
            str(tmp_path / "journals"),
            "--out",
            str(tmp_path),
        ]
        monkeypatch.setattr("sys.argv", [script, *words, *more])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    image = ("--part", "llava-next-7b")
    with pytest.raises(SystemExit, match="^llava-next-7b: time is up; the same command goes on$"):
        call(*image, "--minutes", "1e-9")
    assert not out.exists()
    assert "not measured yet: llava-onevision-7b, llava-video-7b, llava-onevision-7b-128" in call(*image)
    result = json.loads(out.read_text())
    assert list(result["runs"]) == ["llava-next-7b"] and not result["complete"] and result["scale"] == "tiny"
    groups = {group["name"]: group for group in result["runs"]["llava-next-7b"]["groups"]}
    assert [group["batch"] for group in groups.values()] == [1, 8]
    rows = groups["image 112x112, batch 8"]["rows"]
    measured = {(row["method"], row["budget"]) for row in rows if "summary" in row}
    methods = ("globalcom2", "fastervlm", "fastv", "random", "uniform")
    assert measured >= {("none", "1"), *((name, budget) for name in methods for budget in ("0.25", "0.1"))}
    assert {entry["aim"] for entry in result["aims"]["llava-next-7b"]} >= {
        "samples/s against none",
        "compress, ms per image",
    }
    (tmp_path / "journals" / "h200-tiny-llava-next-7b.jsonl").unlink()  # on a machine that is gone
    with pytest.raises(
        SystemExit, match="^llava-onevision-7b, .*-128: time is up; the same command goes on$"
    ):
        call("--minutes", "0.06")  # enough to make a model and to measure a row or two
    later = json.loads(out.read_text())
    assert later["runs"]["llava-next-7b"] == result["runs"]["llava-next-7b"]  # not measured again
    out.write_text("{")
    with pytest.raises(SystemExit, match=r"bench_h200-tiny\.json is damaged \(.*delete it"):
        call(*image)

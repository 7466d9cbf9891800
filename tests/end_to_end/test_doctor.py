"""`vidcompress doctor`, on this machine, on checkpoints in folders and on a hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from hub import serve
from vidcompress.cli import main
from vidcompress.loading.resources import embedded_models
from vidcompress.tools.doctor import run

EMBEDDED = embedded_models()
REPO = "somebody/tiny-onevision"


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit, match="^[012]$") as stop:
        main(["doctor", *words])
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vidcompress.cli import main; main()", "doctor", *words]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.slow
def test_this_installation_is_in_order() -> None:
    done = process("--json", "--timeout", "300")
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    entry = json.loads(done.stdout)
    checks = {(check["topic"], check["name"]): check for check in entry["checks"]}
    assert (done.returncode, entry["ok"], entry["problems"]) == (0, True, [])
    for topic, name in (
        ("packages", "transformers"),
        ("video decoders", "pyav h264"),
        ("devices", "cpu float32"),
        ("devices", "cpu sdpa"),
        *(("embedded models", model) for model in EMBEDDED),
    ):
        assert checks[topic, name]["status"] == "ok" and checks[topic, name]["needed"], name
    assert not checks["packages", "matplotlib"]["needed"]
    assert checks["devices", "cpu flash_attention_2"]["status"] in ("missing", "ok")


@pytest.mark.slow
def test_a_broken_library_is_reported_and_not_fatal(tmp_path: Path) -> None:
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("raise ImportError('half an installation')\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), *filter(None, sys.path)])
    done = process("--timeout", "300", PYTHONPATH=paths)
    assert done.returncode == 1 and done.stderr == ""
    assert "FAILED   transformers" in done.stdout and "half an installation" in done.stdout
    assert "FAILED   cpu sdpa" in done.stdout and "ok       pyav h264" in done.stdout
    assert "broken: packages, transformers: " in done.stdout


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_models(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = doctor(capsys, "--model", name)
    assert (code, err) == (0, "")
    assert out.startswith(f"checkpoint {name}\n") and out.endswith("all that is needed works\n")
    assert "fit the model by name and shape" in out and "image of 640 x 480" in out
    assert ("clip of 8 frames" in out) == (name == "tiny-onevision")


def test_a_picture_and_a_clip(capsys: pytest.CaptureFixture[str], image: Path, clip: Path) -> None:
    words = (
        "--model",
        "tiny-onevision",
        "--image",
        str(image),
        "--video",
        str(clip),
        "--frames",
        "4",
        "--json",
    )
    code, out, _ = doctor(capsys, *words)
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 0
    (picture,) = checks["as tokens"]["data"]["inputs"]
    assert picture["full_length"] == 464 and picture["budgets"]["0.25"]["kept"] == 116
    assert "4 of 8 frames" in checks["clip clip.mp4"]["detail"]
    (frames,) = checks["clip of 4 frames"]["data"]["inputs"]
    assert (frames["full_length"], len(frames["views"])) == (65, 4)


def test_what_is_wrong_makes_the_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, clip: Path
) -> None:
    folder = Path(shutil.copytree(EMBEDDED["tiny-next"], tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    del tensors["image_newline"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    code, out, _ = doctor(capsys, "--model", str(folder))
    assert code == 1
    assert f"broken: checkpoint {folder}, tensors: 1 missing (model.image_newline)" in out
    (tmp_path / "text.mp4").write_text("not a clip")
    code, out, _ = doctor(capsys, "--model", "tiny-onevision", "--video", str(tmp_path / "text.mp4"))
    assert code == 1 and "FAILED   clip text.mp4" in out
    code, out, _ = doctor(capsys, "--model", "tiny-onevision", "--timeout", "0.01")
    assert code == 1 and "took longer than 0.01 s and was stopped" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--size", "640x480"), 2, "only a model can say what it makes of an input"),
        (("--model", "tiny-next", "--size", "big"), 2, "--size='big': must be WIDTHxHEIGHT"),
        (("--model", "tiny-next", "--size", "0x4"), 2, "size=(4, 0): must be (height, width)"),
        (("--model", "tiny-nxt"), 2, "did you mean 'tiny-next'"),
        (("--model", "tiny-next", "--frames", "0"), 2, "num_frames=0"),
        (("--timeout", "0"), 2, "timeout_s=0"),
        (("--model", "tiny-next", "--image", "missing.png"), 1, "no such file"),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    got, out, err = doctor(capsys, *words)
    assert (got, out) == (code, "")
    assert message in err and err.count("\n") == 1


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and leave to ask a hub; the worker's process reads both."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def statuses(diagnosis: Any) -> dict[str, str]:
    return {check.name: check.status for check in diagnosis.checks}


def test_of_a_hub_only_headers_are_fetched(online: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(EMBEDDED["tiny-onevision"], REPO) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        diagnosis = run(REPO, timeout_s=300)
    assert diagnosis.ok, str(diagnosis)
    (files,) = [check for check in diagnosis.checks if check.name == "files"]
    assert files.data["where"] == "hub" and files.data["tensors"] == 124
    fetched = sum(count for name, count in hub.sent if name.endswith(".safetensors"))
    assert 0 < fetched <= 100_001 < (EMBEDDED["tiny-onevision"] / "model.safetensors").stat().st_size
    assert not list(online.rglob("*.safetensors"))


def test_pickled_weights_on_a_hub(online: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(EMBEDDED["tiny-onevision"], tmp_path / "model"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with serve(folder, REPO) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        diagnosis = run(REPO, timeout_s=300)
    assert "only pickled weights (pytorch_model.bin)" in str(diagnosis)
    assert statuses(diagnosis)["files"] == "failed" and statuses(diagnosis)["config"] == "ok"
    assert not diagnosis.ok and "pytorch_model.bin" not in {name for name, _ in hub.sent}


def test_a_hub_that_is_not_to_be_asked(online: Path) -> None:
    diagnosis = run(REPO, local_files_only=True, timeout_s=300)
    assert statuses(diagnosis) == {"config": "failed", "files": "failed"}
    assert "the weights are not in the local cache" in str(diagnosis)

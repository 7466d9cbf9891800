"""`vidcompress ask` on the embedded model, in a process of its own and in this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image

from vidcompress.cli import main

PHASES = {"decode", "preprocess", "encode", "compress", "prefill", "generate", "total"}


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Stdout of a successful `ask`."""
    return both(capsys, *words)[0]


def both(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """Stdout and stderr of a successful `ask`."""
    with pytest.raises(SystemExit, match="^[012]$") as stop:
        main(["ask", "--question", "how many objects are there?", "--max-new-tokens", "4", *words])
    written = capsys.readouterr()
    assert stop.value.code == 0, written.err
    return written.out, written.err


@pytest.mark.slow
def test_a_process_prints_one_object_and_nothing_else(clip: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from vidcompress.cli import main; main()", "ask", "--video", str(clip)]
    command += ["--question", "which shape appears first?", "--retention-ratio", "0.25", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    entry = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert entry["answer"]
    assert (entry["model"], entry["method"], entry["retention_ratio"]) == (
        "tiny-onevision",
        "globalcom2",
        0.25,
    )
    assert set(entry["timing_ms"]) == PHASES
    tokens = entry["visual_tokens"]
    assert set(tokens) == {"total", "budget", "kept", "per_view"}
    assert tokens["kept"] == tokens["budget"]
    assert all(view["kind"] == "frame" for view in tokens["per_view"])


def test_device_map_and_dtype(capsys: pytest.CaptureFixture[str], image: Path) -> None:
    words = ("--image", str(image), "--device-map", "auto", "--dtype", "bfloat16", "--json")
    entry = json.loads(ask(capsys, *words))
    assert entry["dtype"] == "bfloat16"
    assert entry["device"].split(":")[0] in ("cpu", "cuda")
    assert entry["visual_tokens"]["kept"] == entry["visual_tokens"]["budget"]


def test_image_with_overlay(capsys: pytest.CaptureFixture[str], image: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.png"
    words = (
        "--image",
        str(image),
        "--image",
        str(image),
        "--overlay",
        str(kept),
        "--max-tokens",
        "40",
        "--json",
    )
    entry = json.loads(ask(capsys, *words))
    assert (entry["max_tokens"], entry["retention_ratio"], entry["visual_tokens"]["kept"]) == (40, None, 40)
    assert entry["overlay"] == [str(kept), str(tmp_path / "kept-1.png")]
    for path in entry["overlay"]:
        assert Image.open(path).width > 300


def test_words_for_people(capsys: pytest.CaptureFixture[str], image: Path) -> None:
    words = ("--image", str(image), "--retention-ratio", "0.1", "--method", "random", "--seed", "3")
    out, err = both(capsys, *words)
    assert out == f"{json.loads(ask(capsys, *words, '--json'))['answer']}\n", "the answer and nothing else"
    assert "random (exact):" in err
    assert "thumbnail" in err
    assert "prefill" in err


def test_no_line_is_broken_for_its_length(capsys: pytest.CaptureFixture[str], image: Path) -> None:
    times = [line for line in both(capsys, "--image", str(image))[1].splitlines() if "decode" in line]
    assert len(times) == 1
    assert len(times[0]) > 80
    assert times[0].endswith("ms")
    assert "total" in times[0]


def test_same_seed_same_tokens(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    words = ("--video", str(clip), "--num-frames", "4", "--method", "random", "--json")
    entries = [json.loads(ask(capsys, *words, "--seed", seed)) for seed in "11234"]
    kept = [[view["kept"] for view in entry["visual_tokens"]["per_view"]] for entry in entries]
    assert kept[0] == kept[1]
    assert any(kept[0] != other for other in kept[2:])
    assert len(kept[0]) == 4


def test_text_only_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--dtype", "bfloat16", "--attn-implementation", "eager", "--device", "cpu", "--json")
    entry = json.loads(
        ask(capsys, *words, "--policy", "reference", "--separators", "keep", "--positions", "original")
    )
    assert (entry["dtype"], entry["attn_implementation"], entry["device"]) == ("bfloat16", "eager", "cpu")
    assert (entry["policy"], entry["separators"], entry["positions"]) == ("reference", "keep", "original")
    assert entry["visual_tokens"]["total"] == 0


def test_mass_is_said_where_it_is_on(capsys: pytest.CaptureFixture[str], image: Path) -> None:
    words = ("--image", str(image), "--method", "uniform", "--mass", "on", "--mass-cap", "16")
    assert "\n  mass on (strength 1, cap 16)\n" in both(capsys, *words)[1]
    assert json.loads(ask(capsys, *words, "--json"))["mass"] == {"strength": 1.0, "cap": 16.0}
    for more in (("--mass", "off"), ("--mass-strength", "0"), ("--retention-ratio", "1")):
        assert "\n  mass " not in both(capsys, *words, *more)[1]
        assert "mass" not in json.loads(ask(capsys, *words, *more, "--json"))


def test_rows_of_compare_say_their_mass(capsys: pytest.CaptureFixture[str], image: Path) -> None:
    words = ("compare", "what digit is shown?", str(image), "--methods", "uniform,random:mass=off", "--only")
    words += ("-r", "0.25", "--repeats", "1", "--max-new-tokens", "2", "--json")
    for more, wanted in (((), None), (("--mass", "on"), {"strength": 1.0, "cap": None})):
        with pytest.raises(SystemExit, match="^0$"):
            main([*words, *more])
        rows = json.loads(capsys.readouterr().out)["rows"]
        assert {row["method"]: row.get("mass") for row in rows} == {
            "none": None,
            "uniform": wanted,
            "random:mass=off": None,
        }


def test_files_that_cannot_be_read_exit_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="^1$") as stop:
        main(["ask", "--question", "what?", "--image", str(tmp_path / "missing.png")])
    written = capsys.readouterr()
    assert (stop.value.code, written.out) == (1, "")
    assert "no such file" in written.err
    assert written.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--image", "clip.mp4"), "is a video, not a picture; pass it as video= (--video)"),
        (("--video", "scene.png"), "is a still picture, not a video; pass it as image= (--image)"),
        (("--video", "clip.mp4", "--backend", "pillow"), "clip.mp4' is not an animation that Pillow reads"),
    ],
)
def test_media_in_the_wrong_place_exit_1(
    capsys: pytest.CaptureFixture[str], clip: Path, words: tuple[str, ...], message: str
) -> None:
    given = [str(clip.parent / word) if "." in word else word for word in words]
    with pytest.raises(SystemExit, match="^[012]$") as stop:
        main(["ask", "--question", "what?", *given])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (1, "")
    assert message in err and err.count("\n") == 1


def test_a_rate_that_cannot_be_met_is_noted(capsys: pytest.CaptureFixture[str], clip: Path) -> None:
    words = ["--video", str(clip), "--fps", "100", "--backend", "pyav", "--no-time-instruction", "--json"]
    with pytest.raises(SystemExit, match="^[012]$"):
        main(["ask", "--question", "how many objects are there?", *words])
    entry = json.loads(capsys.readouterr().out)
    assert entry["notes"] == ["video: fps=100 is more than the clip's own 2; every frame was taken"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num-frames", "0"), "num_frames=0: must be from 1 to 300"),
        (("--num-frames", "3", "--fps", "2"), "num_frames=3 and fps=2.0 exclude each other"),
        (("--option", "policy=reference"), "has no option 'policy'"),
        (("--option", "tau=x"), "tau must be a number, got 'x'"),
        (("--method", "vidcom2"), "serves video inputs only, got an image; use globalcom2"),
        (("--retention-ratio", "2"), "retention_ratio must be a number with 0 < R <= 1"),
        (("--question", "what <image> is it?"), "holds '<image>', which stands for a picture"),
    ],
)
def test_what_the_caller_can_mend_exits_2(
    capsys: pytest.CaptureFixture[str], image: Path, words: tuple[str, ...], message: str
) -> None:
    given = ["ask", "--image", str(image), *words]
    with pytest.raises(SystemExit, match="^2$") as stop:
        main(given if "--question" in words else [*given, "--question", "how many objects are there?"])
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, "")
    assert message in err and len(err.strip().splitlines()) == 1


def test_unknown_words_are_said(capsys: pytest.CaptureFixture[str], image: Path) -> None:
    with pytest.raises(SystemExit, match="^[012]$") as stop:
        main(["ask", "--image", str(image), "--question", "where is the zeppelin?", "--json"])
    entry = json.loads(capsys.readouterr().out)
    assert stop.value.code == 0
    assert entry["notes"] == ["1 of 5 words of the question are unknown to this model"]


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_a_clip_with_its_mask_moving(
    ending: str, capsys: pytest.CaptureFixture[str], clip: Path, tmp_path: Path
) -> None:
    kept = tmp_path / f"kept{ending}"
    words = ("--video", str(clip), "--num-frames", "4", "--retention-ratio", "0.25", "--overlay", str(kept))
    entry = json.loads(ask(capsys, *words, "--json"))
    assert entry["overlay"] == [str(kept)]
    with av.open(str(kept)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 4
    dark = [float((frame[80:400].max(-1) < 90).mean()) for frame in frames]
    whole = tmp_path / f"whole{ending}"
    ask(capsys, *(*words[:-3], "1.0", "--overlay", str(whole)))
    with av.open(str(whole)) as container:
        bright = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    light = [float((frame[80:400].max(-1) < 90).mean()) for frame in bright]
    assert all(one > other + 0.4 for one, other in zip(dark, light, strict=True))


def test_explain_prints_a_table_beside_the_answer(capsys: pytest.CaptureFixture[str], image: Path) -> None:
    words = ["--image", str(image), "--retention-ratio", "0.25", "--json"]
    plain = ask(capsys, *words)
    with pytest.raises(SystemExit, match="^0$"):
        main(
            ["ask", "--question", "how many objects are there?", "--max-new-tokens", "4", *words, "--explain"]
        )
    written = capsys.readouterr()
    entry, before = json.loads(written.out), json.loads(plain)
    assert entry["visuals"] == before["visuals"]
    views = entry["visual_tokens"]["per_view"]
    lines = written.err[written.err.index("image 0:") :].splitlines()
    assert lines[1] == f"  commander: {entry['visuals'][0]['importance']}"
    assert [line.split()[-1] for line in lines[3:]] == [f"{view['kept']}/{view['total']}" for view in views]
    assert f"{views[1]['importance']:.4g}" in lines[4]

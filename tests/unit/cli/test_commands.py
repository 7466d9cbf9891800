"""The command line: one object on stdout, one line on stderr, and the right exit code. No model is loaded here."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vidcompress
from vidcompress.cli import main


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit, match="^[012]$") as stop:
        main(list(words))
    written = capsys.readouterr()
    return int(stop.value.code or 0), written.out, written.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"vidcompress {vidcompress.__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        *((command, "--help") for command in ("ask", "compare", "cost", "doctor", "methods", "models")),
    ],
)
def test_help(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, _ = run(capsys, *words)
    assert code == 0
    assert "Usage" in out


SHARED = (
    "image images video question model max-tokens num-frames fps backend time-instruction no-time-instruction "
    "device dtype device-map quantization preset "
    "attn-implementation policy separators positions mass mass-strength mass-cap seed overlay html max-new-tokens json"
)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("ask", f"{SHARED} method retention-ratio option explain"),
        ("compare", f"{SHARED} methods only retention-ratios repeats"),
        (
            "cost",
            "model geometry visual-tokens image size images preset frames method option retention-ratio max-tokens "
            "text-tokens new-tokens batch-size dtype json",
        ),
        ("doctor", "model image video size frames fps preset timeout json"),
    ],
)
def test_help_names_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, options: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = run(capsys, command, "--help")[1]
    for option in options.split():
        assert f"--{option}" in out


@pytest.mark.parametrize("command", ["ask", "compare", "cost", "doctor", "eval", "bench", "results"])
def test_help_does_not_wait_for_torch(command: str) -> None:
    probe = (
        "import sys\n"
        "from vidcompress.cli import main\n"
        f"try: main([{command!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'transformers', 'av', 'vidcompress.tools')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_methods(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "methods", "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)["methods"]}
    assert code == 0
    assert set(entries) == set(vidcompress.available_methods())
    assert entries["vidcom2"]["modalities"] == ["video"]
    assert entries["globalcom2"]["options"]["tau"] == 10.0
    assert (entries["globalcom2"]["positions"], entries["evs"]["positions"]) == ("contiguous", "original")
    for name, entry in entries.items():
        assert entry["mass"] == vidcompress.get_method(name).mass
    text = run(capsys, "methods")[1]
    for name, entry in entries.items():
        assert name in text
        assert entry["summary"] in text


def test_card_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    card = run(capsys, "methods", "vidcom2")[1]
    assert "2505.14454" in card and "by default: positions contiguous, mass off" in card
    assert "by default: positions original, mass off" in run(capsys, "methods", "fastvid")[1]
    entry = json.loads(run(capsys, "methods", "vidcom2", "--json")[1])
    assert (entry["name"], entry["card"]["modalities"]) == ("vidcom2", ["video"])
    code, out, err = run(capsys, "methods", "vidcom")
    assert (code, out) == (2, "")
    assert "did you mean 'vidcom2'" in err


def test_models(capsys: pytest.CaptureFixture[str]) -> None:
    entry = json.loads(run(capsys, "models", "--json")[1])
    families = {family["model_type"]: family["modalities"] for family in entry["families"]}
    assert families["llava_next"] == ["image"]
    for family in ("llava_onevision", "llava_video", "llava_next_video"):
        assert families[family] == ["image", "video"]
    assert {"tiny-onevision", "tiny-next", "tiny-qwen"} <= {model["name"] for model in entry["embedded"]}
    text = run(capsys, "models")[1]
    assert "tiny-onevision" in text
    assert "llava_next" in text
    served = [one for one in entry["classes"] if one["verdict"] == "served"]
    assert f"{len(served)} more classes of transformers" in text and "PaliGemma" not in text
    assert not {one["model_type"] for one in entry["classes"]} & families.keys()
    every = run(capsys, "models", "--all")[1]
    assert all(one["class"] in every for one in entry["classes"]) and "class it refuses" in every


ASK = ("ask", "--question", "what?")
SCENE = Path(__file__).parents[3] / "examples" / "scene.png"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("ask",), 2, "question: there is none; pass it first"),
        (("aks",), 2, "No such command 'aks'"),
        ((*ASK, "--imaeg", "x"), 2, "No such option: --imaeg"),
        (
            (*ASK, "--retention-ratio", "1.5"),
            2,
            "retention_ratio must be a number with 0 < R <= 1, got '1.5'",
        ),
        ((*ASK, "--retention-ratio", "lots"), 2, "got 'lots'"),
        ((*ASK, "--retention-ratio", "0.5", "--max-tokens", "5"), 2, "exactly one of retention_ratio"),
        ((*ASK, "--max-tokens", "0"), 2, "max_tokens must be an integer of at least 1, got 0"),
        ((*ASK, "--method", "globalcom"), 2, "unknown method 'globalcom'"),
        ((*ASK, "--policy", "strict"), 2, "policy must be one of exact, reference, got 'strict'"),
        ((*ASK, "--separators", "all"), 2, "separators must be one of"),
        ((*ASK, "--positions", "all"), 2, "positions must be one of"),
        ((*ASK, "--backend", "ffmpeg"), 2, "backend='ffmpeg': not known; use one of ['auto', 'decord',"),
        ((*ASK, "--option", "tau"), 2, "--option='tau': must look like NAME=VALUE"),
        ((*ASK, "--option", "tua=1"), 2, "has no option 'tua'"),
        ((*ASK, "--overlay", "kept.png"), 2, "there is nothing to draw over"),
        ((*ASK, "--image", "a.png", "--overlay", "kept.tif"), 2, "must end in .png, .jpg or .webp"),
        (
            (*ASK, "--image", "a.png", "--overlay", "kept.gif"),
            2,
            "a picture is not animated, only a clip alone is",
        ),
        (
            (*ASK, "--image", "a.png", "--overlay", "kept.MP4"),
            2,
            "name a .png, .jpg or .webp, or ask about a clip",
        ),
        ((*ASK, "--video", "a.mp4", "--overlay", "kept.avi"), 2, "or for a clip in .gif or .mp4"),
        ((*ASK, "--image", "a.png", "--overlay", "no/such/kept.png"), 2, "its folder does not exist"),
        ((*ASK, "--html", "kept.html"), 2, "there is nothing to show"),
        ((*ASK, "--image", "a.png", "--html", "kept.png"), 2, "must end in .html or .htm"),
        ((*ASK, "--model", "tiny-onevison"), 2, "did you mean 'tiny-onevision'"),
        ((*ASK, "--dtype", "int8"), 2, "dtype='int8'"),
        ((*ASK, "--device", "toaster"), 2, "device='toaster' is not a device"),
        ((*ASK, "--device-map", "everywhere"), 2, "device_map='everywhere': must be one of auto"),
        ((*ASK, "--device", "cpu", "--device-map", "auto"), 2, "exclude each other"),
        ((*ASK, "--quantization", "2bit"), 2, "quantization='2bit': must be one of 4bit, 8bit"),
        (
            (*ASK, "--attn-implementation", "foo"),
            2,
            "attn_implementation='foo' is no attention implementation",
        ),
    ],
)
def test_errors_are_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    got, out, err = run(capsys, *words)
    assert (got, out) == (code, "")
    assert err.startswith("vidcompress: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_unforeseen_errors_are_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("out\nof luck")

    monkeypatch.setattr("vidcompress.qa.VisualQA.from_pretrained", broken)
    assert run(capsys, *ASK) == (1, "", "vidcompress: error: RuntimeError: out of luck\n")
    monkeypatch.setenv("VIDCOMPRESS_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="of luck"):
        main(list(ASK))


def test_the_mass_of_a_command_line_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ask and compare in what makes the model, of eval in the rows."""
    from vidcompress.tools.evaluation.run.runner import Runner

    got: list[dict[str, Any]] = []

    def arrived(*_: Any, **given: Any) -> Any:
        got.append(given)
        raise SystemExit(7)

    monkeypatch.setattr("vidcompress.qa.VisualQA.from_pretrained", arrived)
    monkeypatch.setattr(Runner, "run", lambda self: arrived(config=self.sweep.rows()[1].settings))
    flags = ("--mass", "on", "--mass-strength", "0.5", "--mass-cap", "16")
    commands = (ASK, ("compare", *ASK[1:], "--image", str(SCENE)), ("eval", "--task", "shapes:image"))
    for words in commands:
        for more, wanted in (
            (flags, ("on", 0.5, 16.0)),
            (flags[:2], ("on", 1.0, None)),
            ((), (None, 1.0, None)),
        ):
            with pytest.raises(SystemExit, match="7"):
                main([*words, *more])
            given = got.pop()
            config = given.get("config")
            names = ("mass", "mass_strength", "mass_cap")
            values = tuple(given.get(name) if config is None else getattr(config, name) for name in names)
            assert values == wanted, words


def test_method_options_are_read_as_json() -> None:
    from vidcompress import CompressionConfig
    from vidcompress.cli.options import compression_config, read_options

    options = read_options("globalcom2", ["tau=5", "score=local"])
    assert options == {"tau": 5, "score": "local"}
    assert compression_config("globalcom2", options, 3) == CompressionConfig(
        "globalcom2:tau=5,score=local", retention_ratio=0.25
    )
    seeds = {("random", 3): {}, ("random", 1): {"seed": 1}, ("random:seed=1", 1): {}}
    for (method, seed), given in seeds.items():
        assert compression_config(method, given, 3).method.seed == seed
    assert compression_config("none", {}, 3).retention_ratio == 1


def test_the_defaults_that_help_shows_are_those_of_the_configuration() -> None:
    """They stand in the options as text, since the configuration imports torch."""
    from vidcompress.cli.ask import ask
    from vidcompress.core.config.compression import DEFAULTS

    shared = inspect.signature(ask).parameters.keys() & DEFAULTS.keys()
    assert shared >= {"method", "policy", "separators", "positions", "encoder_saving", "view_text"}
    assert shared >= {"mass", "mass_strength", "mass_cap"}
    for name in shared:
        assert inspect.signature(ask).parameters[name].default == DEFAULTS[name], name

"""Every help and every table of the command line at a width, from fixed figures; run as a script it records them anew.

python tests/terminal_screens.py    # rewrites tests/data/terminal
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import typer

from result_files import marks, row, run_of, write
from vidcompress.cli import app, main
from vidcompress.core.report import Report
from vidcompress.core.report.visual import ViewReport
from vidcompress.qa.answer import Answer
from vidcompress.qa.compare.result import Comparison
from vidcompress.qa.compare.row import ComparisonRow
from vidcompress.table import terminal_width
from vidcompress.tools.benchmark.probes import _figures
from vidcompress.tools.benchmark.row import Workload
from vidcompress.tools.benchmark.serving import ServePlan
from vidcompress.tools.benchmark.serving.summary import summary_of
from vidcompress.tools.doctor import Check, Diagnosis
from vidcompress.tools.evaluation.tuning import TunedRow, Tuning
from vidcompress.tools.evaluation.tuning.agreement import Agreement

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "tests" / "data" / "terminal"
WIDTHS = (80, 200)
SENTENCE = (
    "a red ring stands left of a blue square, and above both of them there is a digit that looks like a six"
)


class _Inside:
    """Visual tokens from layer to layer."""

    requested, mean = 232, 231.5

    def __str__(self) -> str:
        return "fastv: 231.5 of 232 wanted on average over the layers (328, 200 x 3)"


def _report(method: str, kept: int, views: int, kind: str, **fields: Any) -> Report:
    seen = [ViewReport(kind, 196, kept, None, None, (14, 14)) for _ in range(views)]  # type: ignore[arg-type]
    visual = SimpleNamespace(
        modality="video" if kind == "frame" else "image",
        kept=kept * views,
        total=196 * views,
        budget=kept * views,
        views=seen,
        separators_total=14,
        separators_kept=3,
        view_text=0,
        view_text_dropped=0,
        position_scale=None,
        tiles=(),
        note="",
    )
    phases = ("decode", "preprocess", "encode", "compress", "prefill", "generate")
    times = {name: 10.0 * number for number, name in enumerate(phases, 2)}
    return Report(method, visuals=[visual], timing_ms={**times, "total": 270.0}, **fields)  # type: ignore[list-item]


def _row(label: str, ratio: float, ms: float, text: str, inside: bool = False) -> ComparisonRow:
    report = _report(label, round(196 * ratio), 7, "crop", retention_ratio=ratio)
    if inside:
        report.inside = _Inside()  # type: ignore[assignment]
    times = {name: part * ms for name, part in (("encode", 0.4), ("compress", 0.1), ("prefill", 0.5))}
    return ComparisonRow(
        label,
        ratio,
        None,
        answer=Answer(text, "what is this?", report, {}),
        median_ms={**times, "first_token": ms, "total": 1.5 * ms},
        speedup={"first_token": 80 / ms, "total": 80 / ms},
        speedup_range={"first_token": (76 / ms, 84 / ms), "total": (76 / ms, 84 / ms)},
        agreement=None if label == "none" else 0.5,
    )


def _comparison() -> Comparison:
    out = ComparisonRow("fastv", 0.1, None, note="its floor is 25.2 %; raise the budget")
    return Comparison(
        question="what is this?",
        rows=(
            _row("none", 1.0, 80.0, SENTENCE),
            _row("globalcom2", 0.25, 42.0, SENTENCE.replace("red", "green")),
            _row("globalcom2:allocation=topk,score=local+fastv:schedule=fit", 0.5, 55.0, "6", inside=True),
            out,
        ),
        skipped=dict.fromkeys(("dycoke", "evs", "fastvid", "frames", "vidcom2"), "serves video inputs only"),
        shared_ms={"decode": 20.0, "preprocess": 30.0},
        runs=2,
        model="tiny-onevision",
        settings={"dtype": "float32", "device": "cpu", "attn_implementation": "sdpa"},
    )


def _run(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit, match=f"^{code}$"):
        main(list(words))


def _compare() -> None:
    qa = SimpleNamespace(compare=lambda *_, **__: _comparison())
    with mock.patch("vidcompress.qa.VisualQA.from_pretrained", return_value=qa):
        _run("compare", "-i", str(ROOT / "examples" / "scene.png"), "-q", "what is this?")


def _ask() -> None:
    clip = _report("globalcom2", 49, 32, "frame", retention_ratio=0.25)
    both = _report("globalcom2+fastv", 140, 7, "crop", retention_ratio=0.5)
    both.inside = _Inside()  # type: ignore[assignment]
    for report in (clip, both):
        print(report.text(terminal_width()))


def _bench() -> None:
    """Two groups of a committed run, with an uncompressed row of twice the time; in one a row beats its operations."""
    result = json.loads((ROOT / "docs" / "results" / "length-llava-onevision-0.5b.json").read_text())
    result["groups"] = [group for group in result["groups"] if group["views"] in (8, 32)]
    for group, operations in zip(result["groups"], (1.5, 3.0), strict=True):
        rows = group["rows"]
        none = copy.deepcopy({**rows[-1], "method": "none", "budget": "1", "retention_ratio": 1.0})
        for one in none["rounds"]:
            one["first_token"] *= 2
        none["paper"]["first_token_flops"] *= operations
        skipped = {**rows[1], "rounds": [], "skipped": "out of memory"}
        del skipped["summary"]
        rows[:] = [none, *rows, {**skipped, "method": "fastv"}, {**skipped, "method": "pdrop"}]
    with mock.patch("vidcompress.tools.benchmark.run_bench", return_value=result):
        _run("bench", "-g", "llava-onevision-0.5b", "--frames", "8,32")


def _probes() -> None:
    result = json.loads((ROOT / "docs" / "results" / "bench_probes.json").read_text())
    result["inputs"] = [_figures(entry["raw"], _workload(entry["workload"])) for entry in result["inputs"]]
    with mock.patch("vidcompress.tools.benchmark.probes.run_probes", return_value=result):
        _run("bench", "-g", "llava-onevision-0.5b", "--frames", "8", "--probes")


def _workload(name: str) -> Workload:
    if name.startswith("image "):
        width, _, height = name.removeprefix("image ").partition("x")
        return Workload("image", size=(int(height), int(width)))
    return Workload("video", frames=int(name.split()[0]))


def _results() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        tasks = ("lmms:gqa", "lmms:pope", "lmms:mmbench_en", "lmms:textvqa_val", "lmms:vqav2_val")
        run_of(Path("run"), tasks=tasks, questions=40)
        _run("results", "run", "--pairs", "globalcom2,random", "--parts", "--against", "published")


def _baseline() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for run, dtype, loss in (("new", "float32", 0.1), ("old", "bfloat16", 0.4)):
            started = {"command": f"python -m vidcompress eval -t shapes:image --dtype {dtype} -o {run}"}
            same = {
                "vidcompress": "0.2.0",
                "commit": "0" * 40,
                "machine": "a processor, 2 cores",
                "threads": 1,
            }
            more: dict[str, Any] = {"settings": {"dtype": dtype}, "provenance": {**started, **same}}
            reached = [row("shapes:image", score=marks(40, 0.9, 0), **more)]
            reached += [
                row("shapes:image", "globalcom2", r, score=marks(40, 0.9 - loss, 1), **more)
                for r in (0.5, 0.1)
            ]
            empty = row(
                "shapes:image", "fastv", 0.1, unreachable="its floor is 25.2 %; raise the budget", **more
            )
            write(Path(run), [*reached, empty])
        _run("results", "new", "--baseline", "old")


def _dry_run() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        methods = "globalcom2:allocation=topk,score=local,random"
        _run(
            "eval", "-t", "shapes:image", "--methods", methods, "-r", "0.25", "-o", "runs/first", "--dry-run"
        )


def _doctor() -> None:
    checks = [
        Check("packages", "python", "ok", "3.11.7 (>=3.11)"),
        Check(
            "packages",
            "torchcodec",
            "missing",
            "not installed (wanted >=0.11); pip install '.[torchcodec]' here",
        ),
        Check(
            "video decoders", "decord av1", "failed", "backend='decord' cannot read av1; use backend='pyav'"
        ),
        Check(
            "devices",
            "cuda",
            "failed",
            "no kernel image is available for execution on the device",
            needed=True,
        ),
    ]

    def run(*_: Any, on_check: Callable[[Check], None], **__: Any) -> Diagnosis:
        for check in checks:
            on_check(check)
        return Diagnosis(checks)

    with mock.patch("vidcompress.tools.doctor.run", run):
        _run("doctor", code=1)


def _tune() -> None:
    def tuned(method: str, *equal: int) -> list[TunedRow]:
        shares = zip((0.5, 0.25, 0.1), equal, strict=True)
        return [
            TunedRow(
                method,
                {"retention_ratio": ratio},
                f"{100 * ratio:g} %",
                Agreement(count, 600),
                {kind: Agreement(count // 2, 300, 2) for kind in ("counting", "digit")},
                score=count / 700,
                kept=1452 * ratio,
            )
            for ratio, count in shares
        ]

    ours = tuned("globalcom2:tau=5", 598, 588, 571)
    controls = [*tuned("random", 540, 460, 330), *tuned("uniform", 544, 471, 380)]
    tuning = Tuning(
        "tiny-onevision", "my-questions", "ab12", ours[0].method, 0.95, ours, controls, 0.91, 1452.0, 2, 450
    )
    with mock.patch("vidcompress.tools.evaluation.tuning.tune", return_value=tuning):
        _run("tune", "-t", "shapes:image", "--method", ours[0].method, "-r", "0.5,0.25,0.1")


def _servers() -> None:
    def rounds(wait: float) -> list[dict[str, Any]]:
        exchanges = [
            {"sent": 0.0, "first": wait + n / 50, "ended": wait + 1, "prompt_tokens": int(900 * wait)}
            | {"new_tokens": 16, "error": "status 500: no room" if wait < 0.5 and not n else None}
            for n in range(10)
        ]
        return [{"round": n, "seconds": 12 * wait + n, "load": 1.5, "exchanges": exchanges} for n in range(3)]

    rows = {"stock": rounds(1.2), "vidcompress 0.25": rounds(0.7), "vidcompress 0.1": rounds(0.4)}
    plan = ServePlan(["http://a:1", "http://b:2"], size=(672, 672), batch_sizes=(1, 16), new_tokens=64)
    group = {
        "name": "16 requests at once",
        "at_once": 16,
        "rows": [
            {"row": name, "rounds": each, "summary": summary_of(each, rows["stock"] if number else None)}
            for number, (name, each) in enumerate(rows.items())
        ],
    }
    result = {
        "plan": plan.to_dict(),
        "servers": {name: {"id": "owner/name", "version": None} for name, _ in plan.servers},
        "groups": [group],
        "complete": True,
        "provenance": {"machine": "a processor, 2 cores", "device": "cpu"},
    }
    serving = "vidcompress.tools.benchmark.serving"
    model = {"id": "owner/name", "root": "owner/name", "version": None}
    with (
        mock.patch(f"{serving}.run_serve", return_value=result),
        mock.patch(f"{serving}.client.served_model", return_value=model),
    ):
        words = ["--serve", "http://a:1", "--serve", "http://b:2", "--model", "qwen2.5-vl-7b"]
        _run("bench", *words, "--sizes", "672x672", "--batch-sizes", "1,16", "--new-tokens", "64")


SCREENS: dict[str, Callable[[], None]] = {
    "ask": _ask,
    "bench": _bench,
    "bench-probes": _probes,
    "bench-serve": _servers,
    "card": lambda: _run("methods", "fastervlm"),
    "compare": _compare,
    "cost": lambda: _run("cost"),
    "cost-clip": lambda: _run(
        "cost", "-g", "llava-onevision-7b", "-n", "32", "--method", "globalcom2+fastv", "-r", "0.1",
        "--new-tokens", "5",
    ),
    "doctor": _doctor,
    "eval-dry-run": _dry_run,
    "methods": lambda: _run("methods"),
    "models": lambda: _run("models"),
    "results": _results,
    "results-baseline": _baseline,
    "tune": _tune,
    "suite-list": lambda: _run("suite", "list"),
}  # fmt: skip
"""Name of each table to what prints it."""


def commands(group: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    """Name and command of the program itself and of every command in it."""
    group = typer.main.get_command(app) if group is None else group
    yield name, group
    for word, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{name} {word}".strip())


HELPS = {f"help-{name.replace(' ', '-') or 'vidcompress'}": name for name, _ in commands()}


def screen(name: str, width: int) -> str:
    """What a terminal of so many columns shows, without the spaces at the ends of lines.

    Args:
        name: of `SCREENS` or `HELPS`.
        width: columns of the terminal.
    """
    said = io.StringIO()
    environment = {"COLUMNS": str(width), "TERM": "dumb"}
    with mock.patch.dict(os.environ, environment), contextlib.redirect_stdout(said):
        if name in HELPS:
            _run(*HELPS[name].split(), "--help")
        else:
            SCREENS[name]()
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines()).strip("\n") + "\n"


def recorded(name: str, width: int) -> Path:
    """File of a recorded screen."""
    return FOLDER / str(width) / f"{name}.txt"


if __name__ == "__main__":
    for each in WIDTHS:
        for place in sorted((FOLDER / str(each)).glob("*.txt")):
            place.unlink()
        for title in (*SCREENS, *HELPS):
            recorded(title, each).parent.mkdir(parents=True, exist_ok=True)
            recorded(title, each).write_text(screen(title, each), encoding="utf-8")

"""How far a call travels: functions and files of the package that one call enters, and how often the file changes.

    python scripts/trace_calls.py
    python scripts/trace_calls.py --against ../older-checkout --json docs/results/trace.json

The embedded tiny-onevision compresses and answers about `examples/scene.png` and `examples/clip.mp4`. Every call runs
twice and the second run is traced, so imports and what is cached do not count. Only the main thread is traced, by
`sys.setprofile`. Comprehensions and generator expressions are not functions; a generator is entered once. `all` counts
every file of the package, `core` leaves out errors, checks of arguments and the clock (`LEFT_OUT`). With `--against`
another checkout is traced too, in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "what digit is shown?"
RATIO = 0.25
CASES = ("compress_inputs(image)", "compress_inputs(clip)", "ask(image)", "ask(video)")
LEFT_OUT = frozenset(
    {"errors.py", "checks.py", "core/timing.py", "media/errors.py", "timing.py", "qa/phases.py"}
)
"""Files that `core` leaves out; the last three are where the same code lay in older checkouts."""
NO_FUNCTIONS = frozenset({"<module>", "<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>"})


class Trace:
    """The functions of the package that the main thread enters while the block runs, in order.

    Attributes:
        package: folder of the package.
        calls: (file, function) of every call: the file's path in the package, the function's qualified name.
    """

    def __init__(self, package: Path) -> None:
        self.package = f"{package}{os.sep}"
        self.calls: list[tuple[str, str]] = []
        self._names: dict[CodeType, tuple[str, str] | None] = {}
        self._generators: set[FrameType] = set()

    def __enter__(self) -> Trace:
        gc.disable()  # what is thrown away calls functions too, whenever it pleases the collector
        sys.setprofile(self._called)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)
        self._generators.clear()
        gc.enable()

    def _called(self, frame: FrameType, event: str, arg: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code not in self._names:
            self._names[code] = self._name(code)
        name = self._names[code]
        if name is None or frame in self._generators:  # which is entered again after each yield
            return
        if code.co_flags & inspect.CO_GENERATOR:
            self._generators.add(frame)
        self.calls.append(name)

    def _name(self, code: CodeType) -> tuple[str, str] | None:
        if code.co_name in NO_FUNCTIONS or not code.co_filename.startswith(self.package):
            return None
        file = code.co_filename.removeprefix(self.package).replace(os.sep, "/")
        return file, f"{code.co_qualname}:{code.co_firstlineno}"


def counts(calls: list[tuple[str, str]]) -> dict[str, int]:
    """Number of functions, of files, and of consecutive calls that are in different files."""
    return {
        "functions": len(set(calls)),
        "files": len({file for file, _ in calls}),
        "changes": sum(before != after for (before, _), (after, _) in pairwise(calls)),
    }


def described(calls: list[tuple[str, str]]) -> dict[str, Any]:
    """The counts of a traced call with and without `LEFT_OUT`, and which files and changes make up the latter."""
    core = [call for call in calls if call[0] not in LEFT_OUT]
    steps = Counter(f"{a} -> {b}" for (a, _), (b, _) in pairwise(core) if a != b)
    return {
        "all": counts(calls),
        "core": counts(core),
        "calls": dict(sorted(Counter(file for file, _ in core).items())),
        "steps": dict(sorted(steps.items())),
    }


def cases() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The calls that are traced, by name."""
    import vidcompress

    qa = vidcompress.VisualQA.from_pretrained(retention_ratio=RATIO)
    for name, kind in (("compress_inputs(image)", "image"), ("compress_inputs(clip)", "video")):
        yield name, _compression(qa, kind)
    for name, kind in (("ask(image)", "image"), ("ask(video)", "video")):
        media = {kind: str(_example(kind))}
        yield name, lambda media=media: qa.ask(QUESTION, **media)


def _compression(qa: Any, kind: str) -> Callable[[], Any]:
    import vidcompress

    message = {"role": "user", "content": [{"type": kind}, {"type": "text", "text": QUESTION}]}
    prompt = qa.processor.apply_chat_template([message])
    inputs = qa.processor(text=[prompt], **{f"{kind}s": [_example(kind)]})
    model = qa.model
    return lambda: vidcompress.compress_inputs(model, inputs, retention_ratio=RATIO)


def _example(kind: str) -> Path:
    return ROOT / "examples" / {"image": "scene.png", "video": "clip.mp4"}[kind]


def traced() -> dict[str, dict[str, Any]]:
    """What each case does in its second run, with the package that is imported: `described`, by name."""
    import vidcompress

    package = Path(vidcompress.__file__).resolve().parent
    results = {}
    for name, call in cases():
        call()
        with Trace(package) as trace:
            call()
        results[name] = described(trace.calls)
    return results


def of_checkout(checkout: Path) -> dict[str, dict[str, Any]]:
    """`traced` in a process of its own, with the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, __file__, "--serve"],
        env=environment,
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    results: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return results


def commit_of(checkout: Path) -> str:
    """The commit that is checked out there."""
    done = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def table(rows: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    """A Markdown table of the counts: a line per case and checkout, `core` and then `all` in brackets."""
    lines = [
        "| call | commit | functions | files | changes of file |",
        "|---|---|---:|---:|---:|",
    ]
    for name in CASES:
        for who, results in rows.items():
            core, every = results[name]["core"], results[name]["all"]
            cells = [f"{core[key]} ({every[key]})" for key in ("functions", "files", "changes")]
            lines.append(f"| `{name}` | {who} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Trace the cases, print the table, write JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--against", type=Path, help="another checkout of this repository, which is traced too"
    )
    parser.add_argument("--files", action="store_true", help="also list the files that each call enters")
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        print(json.dumps(traced()))
        return
    from vidcompress.tools.runs.provenance import provenance

    source = provenance(ROOT)
    checkouts = {"before": args.against.resolve()} if args.against else {}
    checkouts["now"] = ROOT
    rows = {name: of_checkout(path) for name, path in checkouts.items()}
    print("\n".join(table(rows)))
    for name in CASES if args.files else ():
        print(f"\n{name}")
        for file, number in sorted(rows["now"][name]["calls"].items(), key=lambda item: -item[1]):
            print(f"  {number:5d} calls  {file}")
    if args.json:
        found = {
            "question": QUESTION,
            "retention_ratio": RATIO,
            "left_out": sorted(LEFT_OUT),
            "commits": {name: commit_of(path) for name, path in checkouts.items()},
            **rows,
            "provenance": source,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

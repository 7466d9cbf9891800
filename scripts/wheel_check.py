"""Check of an installed wheel from an empty folder, as for a user who has never seen the repository.

Run it with the Python of the environment that holds the wheel:

    runs/release/venv-3.11/bin/python scripts/wheel_check.py --examples examples
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROBE = """
import importlib.util, json, vidcompress
from vidcompress.loading import resources
print(json.dumps({
    "package": vidcompress.__file__,
    "stray": [name for name in ("models", "configs", "tests", "scripts", "examples") if importlib.util.find_spec(name)],
    "configs": str(resources.find("configs/README.md")),
}))
"""


def run(command: list[str], folder: str) -> str:
    """Run a command in a folder, offline, and return its stdout.

    Raises:
        SystemExit: the command failed.
    """
    names = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ... failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def check(condition: bool, message: str) -> None:
    """Stop with a message unless the condition holds."""
    if not condition:
        sys.exit(f"wheel check: {message}")


def main() -> None:
    """Check imports, data files and the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=Path, required=True, help="folder with scene.png and clip.mp4")
    examples = parser.parse_args().examples.resolve()
    command = str(Path(sys.executable).parent / "vidcompress")
    with tempfile.TemporaryDirectory() as empty:
        probe = json.loads(run([sys.executable, "-I", "-c", PROBE], empty))
        check(Path(probe["package"]).is_relative_to(sys.prefix), f"imported from {probe['package']}")
        check(probe["stray"] == [], f"top-level packages that are not ours to take: {probe['stray']}")
        check("_configs" in probe["configs"], f"configs found at {probe['configs']}")
        listed = json.loads(run([command, "models", "--json"], empty))["embedded"]
        names = {entry["name"] for entry in listed}
        check({"tiny-onevision", "tiny-next", "tiny-qwen"} <= names, f"embedded: {listed}")
        check(
            all(entry["path"].startswith(sys.prefix) for entry in listed),
            f"models outside the wheel: {listed}",
        )
        for media in (["--image", str(examples / "scene.png")], ["--video", str(examples / "clip.mp4")]):
            words = [
                "ask",
                *media,
                "--question",
                "how many objects are there?",
                "--retention-ratio",
                "0.25",
                "--json",
            ]
            answer = json.loads(run([command, *words, "--overlay", "kept.png", "--html", "kept.html"], empty))
            tokens = answer["visual_tokens"]
            check(bool(answer["answer"]), f"no answer: {answer}")
            check(tokens["kept"] == tokens["budget"] < tokens["total"], f"token counts: {tokens}")
            check((Path(empty) / "kept.png").stat().st_size > 1000, "the overlay is empty")
            page = (Path(empty) / "kept.html").read_text(encoding="utf-8")
            check(
                "keptViewer" in page and "data:image/webp" in page,
                "the page lacks its script or its pictures",
            )
            print(
                f"{media[0][2:]}: {answer['answer']!r} from {tokens['kept']} of {tokens['total']} visual tokens"
            )
    print("wheel check: fine")


if __name__ == "__main__":
    main()

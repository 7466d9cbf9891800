"""Does a budget that `vidcompress tune` confirms hold on a second sample? Shapes folders, the embedded model.

    python scripts/tune_shapes.py --folder runs/tune-shapes --out docs/results/tune_shapes.json

Two folders of questions about pictures that no training has seen, and that share no picture, are drawn. Each method is
tuned on the first; the budget that was found is then the only one that is tried on the second, whose verdict stands
beside it. Run again, it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from vidcompress.core.method_spec import split_method_specs
from vidcompress.tools.evaluation.tasks.shapes import ShapesTask
from vidcompress.tools.evaluation.tuning import Tuning, tune
from vidcompress.tools.runs.provenance import provenance


def draw(folder: Path, questions: int, block: int) -> Path:
    """Write a folder benchmark with the held-out pictures of a block of seeds."""
    task = ShapesTask("image", folder / "media", questions=questions, seed=block)
    task.write_media()
    lines = [
        {
            "id": item.id,
            "image": item.images[0].relative_to(folder).as_posix(),
            "question": item.question,
            "answer": item.answers[0],
            "kind": item.kind,
        }
        for item in task.items()
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "benchmark.toml").write_text(
        f'name = "shapes-{block}"\nmax_new_tokens = {task.max_new_tokens}\n'
    )
    return folder


def _tuned(tuning: Tuning | None) -> dict[str, Any]:
    if tuning is None:
        raise SystemExit("run it as one process")
    return tuning.to_dict()


def measured(
    folder: Path, model: str, methods: list[str], ratios: list[float], questions: int, agreement: float
) -> list[dict[str, Any]]:
    """Tune each method on the first sample, and try what was found on the second."""
    first, second = (draw(folder / f"sample-{block}", questions, block) for block in (0, 1))
    entries = []
    for method in methods:
        tuned = _tuned(
            tune(
                model,
                f"data:{first}",
                out=folder / "first",
                method=method,
                retention_ratios=ratios,
                agreement=agreement,
            )
        )
        again = None
        if tuned["choice"] is not None:
            chosen = [tuned["choice"]["retention_ratio"]]
            again = _tuned(
                tune(
                    model,
                    f"data:{second}",
                    out=folder / "second",
                    method=method,
                    retention_ratios=chosen,
                    agreement=agreement,
                )
            )
        entries.append({"method": method, "first": tuned, "second": again})
    return entries


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of samples and answers")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="tiny-onevision")
    parser.add_argument("--methods", default="census,globalcom2")
    parser.add_argument("--ratios", default="0.75,0.5,0.25,0.1,0.05")
    parser.add_argument("--questions", type=int, default=1000, help="of each sample")
    parser.add_argument("--agreement", type=float, default=0.95)
    given = parser.parse_args(arguments)
    entries = measured(
        given.folder,
        given.model,
        split_method_specs(given.methods),
        [float(ratio) for ratio in given.ratios.split(",")],
        given.questions,
        given.agreement,
    )
    content = {
        "model": given.model,
        "questions": given.questions,
        "agreement": given.agreement,
        "methods": entries,
        "load": os.getloadavg()[1],
        "provenance": provenance(),
    }
    given.out.write_text(json.dumps(content, indent=1) + "\n")
    for entry in entries:
        again = entry["second"] and entry["second"]["rows"][0]
        print(
            entry["method"],
            entry["first"]["choice"],
            again and (again["equal"], again["low"], again["verdict"]),
        )


if __name__ == "__main__":
    main()

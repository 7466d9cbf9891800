"""Runs lmms-eval in a process of its own: a list of evaluations as JSON on stdin, what came of them on stdout."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    given = json.load(sys.stdin)
    from loguru import logger

    logger.remove()
    from lmms_eval import evaluator
    from lmms_eval.tasks import TaskManager

    manager = TaskManager("ERROR", include_path=given["include_path"])
    found = {}
    for job in given["jobs"]:
        manager.model_name = job["model"]
        begun = time.process_time(), time.perf_counter()
        found[job["name"]] = evaluate(evaluator, manager, job)
        spent = time.process_time() - begun[0], time.perf_counter() - begun[1]
        print(f"{job['name']}: {spent[0]:.1f} s of processor time, {spent[1]:.1f} s", file=sys.stderr)
    json.dump(found, open(given["out"], "w"), default=str)


def evaluate(evaluator: Any, manager: Any, job: dict[str, Any]) -> dict[str, Any]:
    try:
        made = evaluator.simple_evaluate(
            model=job["model"],
            model_args=job["model_args"],
            tasks=[job["task"]],
            task_manager=manager,
            batch_size=job.get("batch_size", 1),
            device="cpu",
            limit=job.get("limit"),
            force_simple=job.get("simple", True),
            use_cache=job.get("use_cache"),
            bootstrap_iters=0,
        )
    except Exception as error:  # noqa: BLE001  (the tests look at what it was)
        return {"error": f"{type(error).__name__}: {error}"}
    samples = made["samples"][job["task"]]
    return {
        "results": made["results"][job["task"]],
        "throughput": made.get("throughput", {}),
        "answers": [
            sample["filtered_resps"][0] if len(sample["filtered_resps"]) == 1 else sample["filtered_resps"]
            for sample in samples
        ],
        "prompts": [sample["arguments"][0] for sample in samples],
        "counts": [sample["token_counts"] for sample in samples],
    }


if __name__ == "__main__":
    main()

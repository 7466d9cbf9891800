"""Run tasks of the suite in the real lmms-eval with a model that knows every second answer; prints one JSON object.

python tests/lmms_parrot.py TASK,TASK,...
"""

from __future__ import annotations

import json
import sys
from typing import Any

from lmms_eval import evaluator
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages
from lmms_eval.tasks import TaskManager

from vidcompress.tools.evaluation.suite import tasks_folder


class Parrot(lmms):
    """Looks at what it is given, and says the right answer to the first question, the third, ..."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def generate_until(self, requests: list[Any]) -> list[str]:
        said = []
        for request in requests:
            told, doc = self._look(request)
            self.seen.append(told)
            said.append(f"The {doc['answer']}." if request.args[3] % 2 == 0 else "nothing")
        return said

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        raise NotImplementedError


class Simple(Parrot):
    """Gets a prompt and the media of a document."""

    is_simple = True

    def _look(self, request: Any) -> tuple[Any, Any]:
        prompt, _, visual, number, task, split = request.args
        doc = self.task_dict[task][split][number]
        return [prompt, [getattr(media, "mode", media) for media in visual(doc)]], doc


class Chat(Parrot):
    """Gets messages."""

    is_simple = False

    def _look(self, request: Any) -> tuple[Any, Any]:
        _, messages, _, number, task, split = request.args
        doc = self.task_dict[task][split][number]
        said = ChatMessages(messages=messages(doc))
        (turn,) = said.to_hf_messages()
        images, videos, _ = said.extract_media()
        prompt = "".join(part["text"] for part in turn["content"] if part["type"] == "text")
        return [prompt, [*(image.mode for image in images), *videos]], doc


def main() -> None:
    """Run both forms."""
    tasks = TaskManager(include_path=[str(tasks_folder())], include_defaults=False)
    told: dict[str, Any] = {"tasks": sorted(tasks.all_tasks)}
    for model in (Simple(), Chat()):
        found = evaluator.simple_evaluate(
            model=model, tasks=sys.argv[1].split(","), task_manager=tasks, bootstrap_iters=0
        )
        told[type(model).__name__] = {
            "scores": {name: scores["accuracy,none"] for name, scores in found["results"].items()},
            "seen": model.seen,
            "samples": {name: len(samples) for name, samples in found["samples"].items()},
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

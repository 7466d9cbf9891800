"""Models of the lmms-eval plugin: `SimpleModel` for tasks with `doc_to_visual`, `ChatModel` for `doc_to_messages`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import get_cpu_distributed_information
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from tqdm import tqdm

from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.evaluation.lmms_eval.conventions import convention
from vidcompress.tools.evaluation.lmms_eval.engine import Engine, LmmsRequest
from vidcompress.tools.evaluation.lmms_eval.metadata import dataset_metadata, peak_memory, run_metadata
from vidcompress.tools.evaluation.lmms_eval.multi_turn import answer_turns, likelihoods
from vidcompress.tools.evaluation.lmms_eval.record import Response, ResponseStore
from vidcompress.tools.evaluation.lmms_eval.requests import RequestPrompt, chat_prompt, simple_prompt
from vidcompress.tools.evaluation.lmms_eval.settings import LmmsSettings, read_settings
from vidcompress.tools.evaluation.lmms_eval.usage import TokenUsage, log_throughput

Results = list[Any]


class _Model(lmms):  # type: ignore[misc]
    """Base of both models. Arguments: see `settings.LmmsSettings`."""

    def __init__(self, **model_args: Any) -> None:
        super().__init__()
        self.settings: LmmsSettings = read_settings(model_args)
        self.accelerator = Accelerator()
        # Counted as in the harness. Where accelerate finds no GPU and was not set to use the CPU, its state
        # takes every process for the only one.
        launched = get_cpu_distributed_information()
        self._rank, self._world_size = launched.rank, launched.world_size
        self._local_rank = launched.local_rank
        self._device = self._choose_device()
        chosen = self.settings
        qa = VisualQA.from_pretrained(
            chosen.pretrained,
            config=chosen.config,
            device=None if "device_map" in chosen.loading else self._device,
            backend=chosen.video_backend,
            time_instruction=chosen.time_instruction,
            **chosen.loading,
        )
        own = self.convention = convention(qa.model.config.model_type, chosen, qa.processor)
        qa.pipeline = replace(qa.pipeline, processor=own.fitted(qa.processor))
        head = {"form": "simple" if self.is_simple else "chat", **chosen.head()}
        self.record = ResponseStore(chosen.journal, head, rank=self._rank, world_size=self._world_size)
        self.record.note("model", facts=run_metadata(qa, own, chosen.batch_size))
        self.engine: Engine | None = Engine(qa, self.record, chosen.batch_size, own)

    @property
    def device(self) -> torch.device:
        """Device of this process's model."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Questions per batch."""
        return self.settings.batch_size

    def clean(self) -> None:
        """Release the model, as lmms-eval requires before a judge is loaded."""
        self.engine = None
        super().clean()

    def generate_until(self, instances: Sequence[Any]) -> Results:
        """Generate the answers of instances, in order."""
        engine = self._ready(instances)
        begun = len(engine.fresh)
        names = _names(instances)
        requests = {
            name: self._request(instance, name) for name, instance in zip(names, instances, strict=True)
        }
        own = [requests[name] for name in dict.fromkeys(names)]
        with tqdm(total=len(own), disable=self.rank != 0, desc="Model Responding") as bar:
            responses = {
                request.id: response
                for request, response in zip(own, engine.answer(own, bar.update), strict=True)
            }
        self._log_usage(engine.fresh[begun:])
        return [_result(responses[requests[name].id]) for name in names]

    def generate_until_multi_round(self, instances: Sequence[Any]) -> Results:
        """Generate the answers of multi-turn instances: a list of answers for each."""
        engine = self._ready(instances)
        begun = len(engine.fresh)
        responses: dict[str, Response] = {}
        names = _names(instances)
        for name, instance in zip(
            tqdm(names, disable=self.rank != 0, desc="Multi-round"), instances, strict=True
        ):
            if name not in responses:
                request = self._request(instance, name)
                responses[name] = answer_turns(engine, request, self._next_turn(instance))
        self._log_usage(engine.fresh[begun:])
        return [_result(responses[name]) for name in names]

    def loglikelihood(self, instances: Sequence[Any]) -> Results:
        """Return the mean loss of given answers and whether each is the greedy one; the harness takes the smallest.

        lmms-eval 0.7.3 turns a pair (loss, greedy) into a text and fails on it; a wrapped pair arrives whole.
        """
        engine = self._ready(instances)
        names = _names(instances)
        requests = [self._request(instance, name) for name, instance in zip(names, instances, strict=True)]
        texts = [self._target_text(instance) for instance in instances]
        unique = dict(zip(names, zip(requests, texts, strict=True), strict=True))
        fresh = likelihoods(engine, *(list(part) for part in zip(*unique.values(), strict=True)))
        responses = dict(zip(unique, fresh, strict=True))
        return [
            GenerationResult(tuple(responses[name].answer), TokenUsage(responses[name])) for name in names
        ]

    def _ready(self, instances: Sequence[Any]) -> Engine:
        if self.engine is None:
            raise RuntimeError("lmms-eval has cleaned this model after a run; make a new one")
        for task, split in dict.fromkeys((r.metadata["task"], r.metadata.get("split")) for r in instances):
            if task in self.task_dict:
                self.record.note("data", task=task, dataset=dataset_metadata(self.task_dict[task], split))
        return self.engine

    def _log_usage(self, fresh: Sequence[Response]) -> None:
        log_throughput(fresh)
        self.record.note("peak memory", bytes=peak_memory(self._device))

    def _choose_device(self) -> torch.device:
        device = self.settings.device
        if self._world_size > 1 and (device or "cuda").startswith("cuda") and torch.cuda.is_available():
            return torch.device("cuda", self._local_rank)
        return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def _request(self, instance: Any, name: str) -> LmmsRequest:
        """Make the request of a harness's instance; its `args` depend on the form."""
        raise NotImplementedError

    def _next_turn(self, instance: Any) -> Callable[[list[str]], RequestPrompt | None]:
        raise NotImplementedError

    def _target_text(self, instance: Any) -> Callable[[], str]:
        raise NotImplementedError

    def _doc(self, task: str, split: str, doc_id: int) -> Any:
        return self.task_dict[task][split][doc_id]

    def _named(
        self, name: str, text: str, generation: Any, prompt: Callable[[], RequestPrompt]
    ) -> LmmsRequest:
        written = json.dumps([text, generation], sort_keys=True, default=str)
        digest = hashlib.sha256(written.encode()).hexdigest()[:12]
        recorded = self.record.get(name)
        if (
            recorded is not None and recorded.prompt != digest
        ):  # an agent's next step, or a task that has changed
            name = f"{name}@{digest}"
        return LmmsRequest(name, prompt, generation, digest)


class SimpleModel(_Model):
    """Model of the simple form: a prompt is a text and a list of pictures or a clip."""

    is_simple = True

    def _request(self, instance: Any, name: str) -> LmmsRequest:
        text, generation, *_ = instance.args
        if instance.request_type == "loglikelihood":
            generation = {}
        doc_to_visual, (doc_id, task, split) = _document_of(instance)

        def prompt() -> RequestPrompt:
            visuals = doc_to_visual(self._doc(task, split, doc_id)) if doc_to_visual else None
            return self._prompt(text, visuals, instance)

        return self._named(name, text, generation, prompt)

    def _prompt(self, text: str, visuals: Any, instance: Any) -> RequestPrompt:
        assert self.engine is not None  # noqa: S101  (for the type checker)
        own, processor = self.convention, self.engine.qa.processor
        return simple_prompt(text, visuals, own.rule, processor, instance.metadata, own.system_prompt)

    def _next_turn(self, instance: Any) -> Callable[[list[str]], RequestPrompt | None]:
        _, _, doc_to_visual, doc_to_text, doc_id, task, split = instance.args
        doc = self._doc(task, split, doc_id)
        state: dict[str, Any] = {"info": None}

        def next_turn(said: list[str]) -> RequestPrompt | None:
            visuals, text, ended, _, state["info"] = doc_to_text(
                doc, previous_output=said, round_idx=len(said), previous_round_info=state["info"]
            )
            if ended:
                return None
            return self._prompt(text, doc_to_visual(doc) if visuals is None else visuals, instance)

        return next_turn

    def _target_text(self, instance: Any) -> Callable[[], str]:
        target = instance.args[1]
        if not callable(target):
            return lambda: str(target)
        _, (doc_id, task, split) = _document_of(instance)
        return lambda: str(target(self._doc(task, split, doc_id)))


class ChatModel(_Model):
    """Model of the chat form: a prompt is a conversation."""

    is_simple = False

    def _request(self, instance: Any, name: str) -> LmmsRequest:
        text, doc_to_messages, generation, doc_id, task, split = instance.args

        def prompt() -> RequestPrompt:
            return self._prompt(doc_to_messages(self._doc(task, split, doc_id)))

        return self._named(name, text, generation, prompt)

    def _next_turn(self, instance: Any) -> Callable[[list[str]], RequestPrompt | None]:
        _, doc_to_messages, _, doc_id, task, split = instance.args
        doc = self._doc(task, split, doc_id)
        state: dict[str, Any] = {"info": None}

        def next_turn(said: list[str]) -> RequestPrompt | None:
            turn = doc_to_messages(
                doc, round_idx=len(said), previous_output=said, previous_round_info=state["info"]
            )
            if not isinstance(turn, tuple):
                return None
            messages, ended, _, state["info"] = turn
            return None if ended else self._prompt(messages)

        return next_turn

    def _prompt(self, messages: Any) -> RequestPrompt:
        return chat_prompt(messages, self.convention.rule, self.convention.system_prompt)

    def _target_text(self, instance: Any) -> Callable[[], str]:
        raise NotImplementedError("lmms-eval's chat form has no likelihoods; pass --force_simple")


def _document_of(instance: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return `doc_to_visual` and (document, task, split) of a simple instance; mutual information lacks the former."""
    if len(instance.args) < 6:
        return None, (instance.metadata["doc_id"], instance.metadata["task"], instance.metadata.get("split"))
    return instance.args[2], instance.args[-3:]


def _names(instances: Sequence[Any]) -> list[str]:
    """Return unique ids of instances: task and document, and a number for repetitions.

    An instance that only pads a rank is a copy of the last real one and has its id, so it is not answered again.
    """
    seen: dict[tuple[str, int], int] = {}
    names: list[str] = []
    for instance in instances:
        name = f"{instance.metadata['task']}/{instance.metadata['doc_id']}"
        if instance.request_type == "loglikelihood":
            name += f"/{instance.idx}{'' if len(instance.args) > 2 else 'u'}"
        if instance.metadata.get("__padding_only__"):
            names.append(next((other for other in reversed(names) if other.startswith(name)), name))
            continue
        count = seen[name, 0] = seen.get((name, 0), -1) + 1
        names.append(f"{name}#{count}" if count else name)
    return names


def _result(response: Response) -> Any:
    return GenerationResult(response.answer, TokenUsage(response))

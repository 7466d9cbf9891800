"""The two classes that lmms-eval makes: `Simple` for tasks with `doc_to_visual`, `Chat` for `doc_to_messages`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult
from lmms_eval.api.model import lmms
from tqdm import tqdm

from vidcompress.qa.visual_qa import VisualQA
from vidcompress.tools.evaluation.lmms_eval.engine import Ask, Engine
from vidcompress.tools.evaluation.lmms_eval.frame_rules import frame_rule
from vidcompress.tools.evaluation.lmms_eval.metadata import describe, facts, peak_memory
from vidcompress.tools.evaluation.lmms_eval.multi_turn import answer_rounds, likelihoods
from vidcompress.tools.evaluation.lmms_eval.record import Outcome, Record
from vidcompress.tools.evaluation.lmms_eval.requests import Prompt, chat_prompt, simple_prompt
from vidcompress.tools.evaluation.lmms_eval.settings import LmmsSettings, read_settings
from vidcompress.tools.evaluation.lmms_eval.usage import Counts, log_throughput

Results = list[Any]


class _Model(lmms):  # type: ignore[misc]
    """What both forms share. Arguments: see `settings.LmmsSettings`."""

    def __init__(self, **model_args: Any) -> None:
        super().__init__()
        self.settings: LmmsSettings = read_settings(model_args)
        self.accelerator = Accelerator()
        self._rank = int(os.environ.get("RANK", self.accelerator.process_index))
        self._world_size = int(os.environ.get("WORLD_SIZE", self.accelerator.num_processes))
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
        self.rule = frame_rule(
            qa.model.config.model_type,
            max_frames=chosen.max_frames_num,
            fps=chosen.fps,
            force_sample=chosen.force_sample,
            backend=chosen.video_backend,
        )
        head = {"form": "simple" if self.is_simple else "chat", **chosen.head()}
        self.record = Record(chosen.journal, head, rank=self._rank, world_size=self._world_size)
        self.record.note({"facts": facts(qa, self.rule, chosen.batch_size)})
        self.engine: Engine | None = Engine(qa, self.record, chosen.batch_size)

    @property
    def device(self) -> torch.device:
        """Where this process's model is."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Questions per batch."""
        return self.settings.batch_size

    def clean(self) -> None:
        """Let go of the model, as lmms-eval wants it before a judge is loaded."""
        self.engine = None
        super().clean()

    def generate_until(self, requests: Sequence[Any]) -> Results:
        """Answer requests, in order."""
        engine = self._ready(requests)
        begun = len(engine.fresh)
        names = _names(requests)
        asks = {name: self._ask(request, name) for name, request in zip(names, requests, strict=True)}
        own = [asks[name] for name in dict.fromkeys(names)]
        with tqdm(total=len(own), disable=self.rank != 0, desc="Model Responding") as bar:
            outcomes = {
                ask.id: outcome for ask, outcome in zip(own, engine.answer(own, bar.update), strict=True)
            }
        self._tell(engine.fresh[begun:])
        return [_result(outcomes[asks[name].id]) for name in names]

    def generate_until_multi_round(self, requests: Sequence[Any]) -> Results:
        """Answer requests that go on for several rounds; a list of answers for each."""
        engine = self._ready(requests)
        begun = len(engine.fresh)
        outcomes: dict[str, Outcome] = {}
        names = _names(requests)
        for name, request in zip(
            tqdm(names, disable=self.rank != 0, desc="Multi-round"), requests, strict=True
        ):
            if name not in outcomes:
                ask = self._ask(request, name)
                outcomes[name] = answer_rounds(engine, ask, self._following(request))
        self._tell(engine.fresh[begun:])
        return [_result(outcomes[name]) for name in names]

    def loglikelihood(self, requests: Sequence[Any]) -> Results:
        """Mean loss of given answers and whether each is the greedy one; the harness takes the smallest.

        lmms-eval 0.7.3 turns a pair (loss, greedy) into a text and fails over it; wrapped, it arrives whole.
        """
        engine = self._ready(requests)
        names = _names(requests)
        asks = [self._ask(request, name) for name, request in zip(names, requests, strict=True)]
        texts = [self._continuation(request) for request in requests]
        unique = dict(zip(names, zip(asks, texts, strict=True), strict=True))
        made = likelihoods(engine, *(list(part) for part in zip(*unique.values(), strict=True)))
        outcomes = dict(zip(unique, made, strict=True))
        return [GenerationResult(tuple(outcomes[name].answer), Counts(outcomes[name])) for name in names]

    def _ready(self, requests: Sequence[Any]) -> Engine:
        if self.engine is None:
            raise RuntimeError("lmms-eval has cleaned this model after a run; make a new one")
        for task, split in dict.fromkeys((r.metadata["task"], r.metadata.get("split")) for r in requests):
            if task in self.task_dict:
                self.record.note({"task": task, "dataset": describe(self.task_dict[task], split)})
        return self.engine

    def _tell(self, fresh: Sequence[Outcome]) -> None:
        log_throughput(fresh)
        self.record.note({"peak_memory_bytes": peak_memory(self._device)})

    def _choose_device(self) -> torch.device:
        wanted = self.settings.device
        if self._world_size > 1 and (wanted or "cuda").startswith("cuda") and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))

    def _ask(self, request: Any, name: str) -> Ask:
        """A request of the simple form: (text, generation, doc_to_visual, ..., document, task, split)."""
        raise NotImplementedError

    def _following(self, request: Any) -> Callable[[list[str]], Prompt | None]:
        raise NotImplementedError

    def _continuation(self, request: Any) -> Callable[[], str]:
        raise NotImplementedError

    def _doc(self, task: str, split: str, doc_id: int) -> Any:
        return self.task_dict[task][split][doc_id]

    def _named(self, name: str, text: str, generation: Any, prompt: Callable[[], Prompt]) -> Ask:
        written = json.dumps([text, generation], sort_keys=True, default=str)
        digest = hashlib.sha256(written.encode()).hexdigest()[:12]
        known = self.record.get(name)
        if known is not None and known.prompt != digest:  # an agent's next step, or a task that has changed
            name = f"{name}@{digest}"
        return Ask(name, prompt, generation, digest)


class Simple(_Model):
    """Prompts are a text and a list of pictures or a clip."""

    is_simple = True

    def _ask(self, request: Any, name: str) -> Ask:
        text, generation, *_ = request.args
        if request.request_type == "loglikelihood":
            generation = {}
        doc_to_visual, (doc_id, task, split) = _where(request)

        def prompt() -> Prompt:
            visuals = doc_to_visual(self._doc(task, split, doc_id)) if doc_to_visual else None
            return self._prompt(text, visuals, request)

        return self._named(name, text, generation, prompt)

    def _prompt(self, text: str, visuals: Any, request: Any) -> Prompt:
        assert self.engine is not None  # noqa: S101  (for the type checker)
        return simple_prompt(text, visuals, self.rule, self.engine.qa.processor, request.metadata)

    def _following(self, request: Any) -> Callable[[list[str]], Prompt | None]:
        _, _, doc_to_visual, doc_to_text, doc_id, task, split = request.args
        doc = self._doc(task, split, doc_id)
        state: dict[str, Any] = {"info": None}

        def following(said: list[str]) -> Prompt | None:
            visuals, text, ended, _, state["info"] = doc_to_text(
                doc, previous_output=said, round_idx=len(said), previous_round_info=state["info"]
            )
            if ended:
                return None
            return self._prompt(text, doc_to_visual(doc) if visuals is None else visuals, request)

        return following

    def _continuation(self, request: Any) -> Callable[[], str]:
        target = request.args[1]
        if not callable(target):
            return lambda: str(target)
        _, (doc_id, task, split) = _where(request)
        return lambda: str(target(self._doc(task, split, doc_id)))


class Chat(_Model):
    """Prompts are conversations."""

    is_simple = False

    def _ask(self, request: Any, name: str) -> Ask:
        text, doc_to_messages, generation, doc_id, task, split = request.args

        def prompt() -> Prompt:
            return chat_prompt(doc_to_messages(self._doc(task, split, doc_id)), self.rule)

        return self._named(name, text, generation, prompt)

    def _following(self, request: Any) -> Callable[[list[str]], Prompt | None]:
        _, doc_to_messages, _, doc_id, task, split = request.args
        doc = self._doc(task, split, doc_id)
        state: dict[str, Any] = {"info": None}

        def following(said: list[str]) -> Prompt | None:
            made = doc_to_messages(
                doc, round_idx=len(said), previous_output=said, previous_round_info=state["info"]
            )
            if not isinstance(made, tuple):
                return None
            messages, ended, _, state["info"] = made
            return None if ended else chat_prompt(messages, self.rule)

        return following

    def _continuation(self, request: Any) -> Callable[[], str]:
        raise NotImplementedError("lmms-eval's chat form has no likelihoods; pass --force_simple")


def _where(request: Any) -> tuple[Any, tuple[Any, ...]]:
    """`doc_to_visual` and (document, task, split) of a simple request; mutual information asks without any."""
    if len(request.args) < 6:
        return None, (request.metadata["doc_id"], request.metadata["task"], request.metadata.get("split"))
    return request.args[2], request.args[-3:]


def _names(requests: Sequence[Any]) -> list[str]:
    """An id for each request: task and document, which of several of it, which repeat.

    A request that only fills up a rank is a copy of the last real one, and has its id: it costs nothing.
    """
    seen: dict[tuple[str, int], int] = {}
    names: list[str] = []
    for request in requests:
        name = f"{request.metadata['task']}/{request.metadata['doc_id']}"
        if request.request_type == "loglikelihood":
            name += f"/{request.idx}{'' if len(request.args) > 2 else 'u'}"
        if request.metadata.get("__padding_only__"):
            names.append(next((known for known in reversed(names) if known.startswith(name)), name))
            continue
        count = seen[name, 0] = seen.get((name, 0), -1) + 1
        names.append(f"{name}#{count}" if count else name)
    return names


def _result(outcome: Outcome) -> Any:
    return GenerationResult(outcome.answer, Counts(outcome))

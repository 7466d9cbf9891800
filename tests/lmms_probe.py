"""Runs lmms-eval in a process of its own: a list of evaluations as JSON on stdin, what came of them on stdout."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
        with calls() as seen, decoding_by_decord():
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
        "calls": seen,
    }


OF_GENERATE = ("max_new_tokens", "num_beams", "do_sample", "temperature", "top_p", "top_k", "eos_token_id")


@contextmanager
def calls() -> Iterator[dict[str, list[Any]]]:
    """What models get while this is open, in an order that does not depend on that of the questions.

    `prompts`: for each call of `generate` the ids, the positions of the decoder's first forward, and the arguments of
    `OF_GENERATE` that are neither None nor one beam. `pixels`: what each convolution gets, the first layer of the
    encoders. Tensors are digests of their values.
    """
    from torch.nn.modules import module
    from transformers import GenerationMixin

    seen: dict[str, list[Any]] = {"prompts": [], "pixels": []}
    stock = GenerationMixin.generate

    def generate(self: Any, *args: Any, **given: Any) -> Any:
        options = {name: given[name] for name in OF_GENERATE if given.get(name) is not None}
        options = {name: value for name, value in options.items() if (name, value) != ("num_beams", 1)}
        call = {"ids": digest(given["input_ids"]), "options": options}
        seen["prompts"].append(call)

        def look(part: Any, args: Any, kwargs: Any) -> None:
            positions = kwargs.get("position_ids")
            call.setdefault("positions", None if positions is None else digest(positions[-3:]))

        hook = self.model.language_model.register_forward_pre_hook(look, with_kwargs=True)
        try:
            return stock(self, *args, **given)
        finally:
            hook.remove()

    def look_at_pixels(part: Any, args: Any) -> None:
        if type(part).__name__ in ("Conv2d", "Conv3d"):
            seen["pixels"].append(digest(args[0]))

    hook = module.register_module_forward_pre_hook(look_at_pixels)
    GenerationMixin.generate = generate
    try:
        yield seen
    finally:
        GenerationMixin.generate = stock
        hook.remove()
        for name, entries in seen.items():
            seen[name] = sorted(entries, key=str)


@contextmanager
def decoding_by_decord() -> Iterator[None]:
    """Let transformers' video processors decode by decord: they insist on torchcodec, whose FFmpeg may not be here."""
    from transformers import video_processing_utils as videos

    stock = {name: getattr(videos, name) for name in ("load_video", "is_torchcodec_usable")}

    def load_video(video: Any, backend: str, **given: Any) -> Any:
        return stock["load_video"](video, backend="decord", **given)

    videos.load_video, videos.is_torchcodec_usable = load_video, lambda **what: True
    try:
        yield
    finally:
        for name, value in stock.items():
            setattr(videos, name, value)


def digest(tensor: Any) -> str:
    values = tensor.detach().float().contiguous().numpy().tobytes()
    return hashlib.sha256(repr(tuple(tensor.shape)).encode() + values).hexdigest()[:12]


if __name__ == "__main__":
    main()

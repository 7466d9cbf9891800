"""Streaming of an answer piece by piece, while it is generated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor

from vidcompress.errors import ArgumentError


def check_streamable(generate: Mapping[str, Any]) -> None:
    """Refuse arguments of `generate` with which an answer cannot be streamed.

    Raises:
        ArgumentError: beams, or a streamer or stopping criteria of the caller's own.
    """
    for name in ("streamer", "stopping_criteria"):
        if generate.get(name) is not None:
            raise ArgumentError(f"{name}={generate[name]!r}: stream brings its own; use ask with yours")
    if generate.get("num_beams", 1) != 1:
        raise ArgumentError(
            f"num_beams={generate['num_beams']!r}: beams cannot be streamed; use ask, or 1 beam"
        )


def stream_text(tokenizer: Any, generate: Callable[..., Any], left: Event | None = None) -> Iterator[str]:
    """Run a call of `generate` in a thread and yield its text as it is generated.

    Args:
        tokenizer: turns ids into text.
        generate: called with `streamer` and `stopping_criteria`; its errors are raised here.
        left: set by another thread, it stops the generation at its next token.

    Yields:
        Pieces of text in order. Leaving the loop early stops the generation at its next token.
    """
    from transformers import TextIteratorStreamer

    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    left, failed = left or Event(), list[BaseException]()

    def stop(ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.full((ids.shape[0],), left.is_set(), dtype=torch.bool, device=ids.device)

    def work() -> None:
        try:
            generate(streamer=streamer, stopping_criteria=[stop])
        except BaseException as error:  # noqa: BLE001  (handed to the reader, who is in another thread)
            failed.append(error)
        finally:
            streamer.on_finalized_text("", stream_end=True)

    worker = Thread(target=work, name="vidcompress-stream", daemon=True)
    worker.start()
    try:
        yield from (piece for piece in streamer if piece)
    except BaseException:  # the reader has left the loop, or was interrupted
        left.set()
        raise
    finally:
        worker.join()
    if failed:
        raise failed[0]

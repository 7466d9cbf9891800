"""Prefetch of batches in a thread, one ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(
    make: Callable[[Item], Made],
    items: Sequence[Item],
    device: torch.device,
    tensors: Callable[[Made], Mapping[str, Any]],
) -> Iterator[Made]:
    """Apply `make` to every item, each while the caller works on the one before.

    On CUDA the thread has a stream of its own, so that its copies and resizing run beside the model. The caller's
    stream waits for the results, not the host.

    Args:
        make: called in the thread, for one item at a time; for a single item in the caller's thread.
        items: in order. At most one is ready and waiting at any time.
        device: of the caller's work.
        tensors: function from a result to its tensors, or lists of them, by name.

    Yields:
        The results in order. An error of `make` is raised in the place of its item.
    """
    if len(items) < 2:
        yield from map(make, items)
        return
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    if stream is not None:  # items that lie on the device were made on the caller's stream
        stream.wait_stream(torch.cuda.current_stream(device))

    def work(item: Item) -> tuple[Made, Any]:
        with torch.cuda.stream(stream):  # does nothing without one
            return make(item), None if stream is None else stream.record_event()

    pool = ThreadPoolExecutor(1, "vidcompress-ahead")
    try:
        waiting = pool.submit(work, items[0])
        for number in range(len(items)):
            batch, ready = waiting.result()
            if number + 1 < len(items):
                waiting = pool.submit(work, items[number + 1])
            if ready is not None:
                _take_over(tensors(batch), ready, torch.cuda.current_stream(device))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _take_over(tensors: Mapping[str, Any], ready: Any, stream: Any) -> None:
    """Make a stream wait for tensors of another stream, and keep their memory until it has used them."""
    stream.wait_event(ready)
    for value in tensors.values():
        for tensor in value if isinstance(value, list) else [value]:
            if isinstance(tensor, torch.Tensor) and tensor.is_cuda:
                tensor.record_stream(stream)

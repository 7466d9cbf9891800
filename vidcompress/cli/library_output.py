"""Output of libraries: it goes to stderr, so that stdout has results only; their bars and hints are off."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sized
from typing import Any

from vidcompress.progress import loading_progress


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run a block in which transformers and the hub print only errors, and nothing reaches stdout."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub.utils import logging as hub_logging
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        hub_logging.set_verbosity_error()
        yield


@contextlib.contextmanager
def loading(name: str | None) -> Iterator[None]:
    """Show a bar of a checkpoint's tensors on a terminal while the block loads it.

    Args:
        name: of the checkpoint; None is the embedded one.
    """
    with loading_progress(name or "the embedded model") as report:
        from transformers.utils import logging

        set_hook: Any = getattr(logging, "set_tqdm_hook", None)  # older versions keep the spinner
        if set_hook is None:
            yield
            return

        def counted(factory: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
            if options.get("desc") == "Loading weights" and args and isinstance(args[0], Sized):
                return _Counted(args[0], report)
            return factory(*args, **options)

        before = set_hook(counted)
        try:
            yield
        finally:
            set_hook(before)


class _Counted:
    """Replacement of a tqdm bar that reports the progress of its loop.

    Args:
        items: of the loop.
        report: function to call with the items done and the items in all.
    """

    def __init__(self, items: Any, report: Callable[[int, int], None]) -> None:
        self._items, self._report = items, report

    def __iter__(self) -> Iterator[Any]:
        total = len(self._items)
        for done, item in enumerate(self._items):
            self._report(done, total)
            yield item
        self._report(total, total)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **options: None

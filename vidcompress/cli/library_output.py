"""Keep stdout for results: whatever libraries print goes to stderr, and their progress bars and hints are off."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run a block in which transformers and the hub say nothing but errors, and nothing reaches stdout."""
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

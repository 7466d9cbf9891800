"""Manifest of the plugin for the entry-point group `lmms_eval.models`.

An entry point that raises makes lmms-eval drop all others too, so this module imports nothing at its top.
"""

from __future__ import annotations

import os
from typing import Any

PROMPTS_OF = "VIDCOMPRESS_PROMPTS_OF"
"""Environment variable: answer under the name of this built-in model, too, for one run. A task's own prompts are keyed
by the name in `--model`; LLaVA-Video's ("The best answer is:") have the key `llava_vid`."""


def manifests() -> list[Any]:
    """Return the model ids and their classes as lmms-eval's manifests."""
    from lmms_eval.models.registry_v2 import ModelManifest

    models = "vidcompress.tools.evaluation.lmms_eval.models"
    names = dict.fromkeys(["vidcompress", os.environ.get(PROMPTS_OF) or "vidcompress"])
    paths = {"simple_class_path": f"{models}.SimpleModel", "chat_class_path": f"{models}.ChatModel"}
    return [ModelManifest(name, **paths) for name in names]

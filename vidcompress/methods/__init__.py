"""Compression methods, one short file each: tensors in, `Selection` out. Importing the package registers them all.

The names here serve a method of another package: the base classes `ScoredMethod`, `PerVisualMethod` and `Method`, or
`InLLMMethod` inside the language model; its arguments (`VisualBatch` of `VisualTokens`, `VisualBudget`) and its result
(`Selection`); checks of options; `in_groups`, which reads large features; and `Stream` of a `StreamSize`.
"""

from vidcompress.checks import require_flags, require_numbers, require_one_of
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget, tokens_to_keep, visual_budget
from vidcompress.core.layout import Layout, View
from vidcompress.core.method import Method, PerVisualMethod, ScoredMethod, register_method
from vidcompress.core.pruning.method import Between, InLLMMethod, visual_attention
from vidcompress.core.reductions import in_groups
from vidcompress.core.report.visual import Allotment
from vidcompress.core.scoring import ratios_of
from vidcompress.core.selection import Selection, with_separators
from vidcompress.core.stream.stream import Stream, StreamSize
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import warn_once
from vidcompress.registry import import_modules

__all__ = [
    "Allotment",
    "Between",
    "Evidence",
    "InLLMMethod",
    "Layout",
    "Method",
    "PerVisualMethod",
    "ScoredMethod",
    "Selection",
    "Stream",
    "StreamSize",
    "View",
    "VisualBatch",
    "VisualBudget",
    "VisualTokens",
    "in_groups",
    "ratios_of",
    "register_method",
    "require_flags",
    "require_numbers",
    "require_one_of",
    "tokens_to_keep",
    "visual_attention",
    "visual_budget",
    "warn_once",
    "with_separators",
]

import_modules(__name__, __path__)

"""Wrong arguments of the registry, and wrong options of every method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from errors.rows import Row
from vidcompress.adapters.base import Adapter
from vidcompress.adapters.llava_next import LlavaNextAdapter
from vidcompress.core.method import Method


def _method(**attributes: Any) -> Any:
    """A method class that is fine apart from the attributes given."""
    fine = {"name": "mine", "summary": "keeps all", "modalities": frozenset({"image"})}
    cls = type("Mine", (Method,), {**fine, **attributes, "select": lambda self, tokens, budget: None})
    return dataclass(frozen=True)(cls)


class Loose(Method):
    """Not a dataclass of its own."""

    name: ClassVar[str] = "loose"


class Nobody(Adapter):
    """Serves no model type."""


class Taken(LlavaNextAdapter):
    """Serves a model type that is served."""


REGISTRY = [
    *(
        Row("register_method", "cls", value, "takes a subclass of vidcompress.core.method.Method", names="register_method")
        for value in (None, 5, "mine", object, Adapter)
    ),
    Row("register_method", "cls", Loose, "must be a frozen dataclass", names="Loose", says="Loose"),
    Row("register_method", "cls", _method(name=""), "must define the class attribute 'name'", names="Mine", says="Mine"),
    Row("register_method", "cls", _method(summary=""), "must define the class attribute 'summary'", names="Mine", says="Mine"),
    Row("register_method", "cls", _method(modalities=()), "must define the class attribute 'modalities'", names="Mine",
        says="Mine"),
    Row("register_method", "cls", _method(name="My Method"), "must be lower-case letters, digits", names="method name",
        says="'My Method'"),
    Row("register_method", "cls", _method(name="random"), "is already registered by", names="method",
        says="'random'"),
    *(
        Row("register_adapter", "cls", value, "takes a subclass of vidcompress.adapters.base.Adapter",
            names="register_adapter")
        for value in (None, 5, "mine", object, Method)
    ),
    Row("register_adapter", "cls", Nobody, "must define model_types, such as", names="Nobody", says="Nobody"),
    Row("register_adapter", "cls", Taken, "is already registered by", names="adapter", says="'llava_next'"),
    Row("get_method", "method", "globalcom3", "did you mean 'globalcom2'?"),
    *(
        Row("get_method", "method", value, "method must be a name or a Method, got ")
        for value in (None, 7, [], True, b"random", np.zeros(2), Method)
    ),
    Row("get_method", "tua", 5, "has no option 'tua'; known: allocation", names="tua", says="'tua'"),
]  # fmt: skip

NO_NUMBERS = ("5", None, True, [5], torch.zeros(2), np.zeros(2))
GLOBALCOM2, VIDCOM2, VCAST = "method globalcom2", "method vidcom2", "method vcast"
OPTIONS = [
    *(Row(call, "tau", value, "tau must be a number, got ") for call in (GLOBALCOM2, VIDCOM2, VCAST) for value in NO_NUMBERS),
    *(
        Row(call, "tau", value, "tau must be a number above 0, got ")
        for call in (GLOBALCOM2, VIDCOM2, VCAST)
        for value in (0, -1, math.nan, math.inf)
    ),
    *(Row(GLOBALCOM2, "gate", value, "gate must be a number, got ") for value in NO_NUMBERS),
    *(Row(GLOBALCOM2, "gate", value, "gate must be a number of at least 1, got ") for value in (0.9, -2, math.inf)),
    *(
        Row(GLOBALCOM2, "tiles", value, "tiles must be an integer from 1 to 144, got ")
        for value in (0, -4, 145, 1.5, True, "4", None, math.nan)
    ),
    *(Row(GLOBALCOM2, "alpha", value, "alpha must be a number, got ") for value in NO_NUMBERS),
    *(Row(GLOBALCOM2, "alpha", value, "alpha must be a number from 0") for value in (-0.1, 1.1, math.nan)),
    Row(GLOBALCOM2, "allocation", "unifrom", "did you mean 'uniform'?"),
    Row(GLOBALCOM2, "allocation", 3, "allocation must be one of uniform, topk"),
    Row(GLOBALCOM2, "score", "globl", "did you mean 'global'?"),
    Row(GLOBALCOM2, "score", [], "score must be one of local, global, holistic"),
    Row(GLOBALCOM2, "evidence", "cls", "evidence must be one of auto, cls_logits"),
    Row(GLOBALCOM2, "evidence", None, "evidence must be one of auto, cls_logits"),
    *(Row(GLOBALCOM2, "layer", value, "layer must be an integer such as -1") for value in (1.5, "last", True, None)),
    *(Row(VIDCOM2, "channel_share", value, "channel_share must be a number, got ") for value in NO_NUMBERS),
    *(Row(VIDCOM2, "channel_share", value, "channel_share must be above 0") for value in (0, 1.5, math.nan)),
    *(Row(VIDCOM2, "widths", value, "widths must be a list of numbers above 0") for value in (None, 1.0, "abc", {})),
    Row(VIDCOM2, "widths", [], "widths must be one or more numbers above 0", says="got ()"),
    *(
        Row(VIDCOM2, "widths", [value], "widths must be one or more numbers above 0", says=f"({float(value)},)")
        for value in (0.0, -1, math.nan)
    ),
    *(Row(VIDCOM2, "widths", [1.0, value], "widths[1] must be a number", says=repr(value)) for value in ("a", None, True)),
    Row(VIDCOM2, "reconcile", "globl", "did you mean 'global'?"),
    Row(VIDCOM2, "reconcile", 3, "reconcile must be one of largest_remainder, global"),
    *(
        Row(call, "coverage", value, "coverage must be a number from 0 (by weight) to 1 (evenly over time), got ")
        for call in (GLOBALCOM2, VIDCOM2)
        for value in (-0.1, 1.5, "1", None, True, math.nan)
    ),
    Row("method random", "rule", "hsah", "did you mean 'hash'?"),
    Row("method random", "rule", 3, "rule must be one of permutation, hash"),
    Row("method uniform", "rule", "goldn", "did you mean 'golden'?"),
    Row("method uniform", "rule", None, "rule must be one of stride, golden"),
    Row("method frames", "rule", "evn", "did you mean 'even'?"),
    Row("method frames", "rule", [], "rule must be one of even, golden"),
    *(
        Row("method random", "seed", value, "seed must be an integer from 0 to 2**63 - 1, got ")
        for value in (-1, 2**63, 1.5, "1", None, True, [1])
    ),
]  # fmt: skip

FASTVID, CDPRUNER, CENSUS = "method fastvid", "method cdpruner", "method census"
MORE = [
    *(Row(call, "auxiliary", value, "auxiliary must be a folder, got ") for call in (FASTVID, CDPRUNER) for value in (5, True, [])),
    Row(CDPRUNER, "relevance", "much", "relevance must be one of "),
    Row(CDPRUNER, "kernel", 3, "kernel must be one of "),
    *(Row(CDPRUNER, "theta", value, "theta must be a number, got ") for value in NO_NUMBERS),
    *(Row(CDPRUNER, "theta", value, "theta must be at least 0 and below 1") for value in (-0.1, 1, math.nan)),
    Row("method divprune", "start", [], "start must be one of "),
    *(
        Row(CENSUS, name, value, f"{name} must be a number, got ")
        for name in ("place", "time", "floor", "gamma")
        for value in NO_NUMBERS
    ),
    *(
        Row(CENSUS, name, value, f"{name} must be a number from 0 to 100, got ")
        for name in ("place", "time")
        for value in (-1, 101, math.nan, math.inf)
    ),
    *(Row(CENSUS, "floor", value, "floor must be above 0 (at least 1e-6) and at most 1, got ") for value in (0, -1, 1.1, math.nan)),
    *(Row(CENSUS, "gamma", value, "gamma must be a number from 0 to 1, got ") for value in (-0.1, 1.1, math.nan)),
    *(Row(CENSUS, "width", value, "width must be an integer from 1 to 4096, got ") for value in (0, 4097, 1.5, "128", True, None)),
    Row(CENSUS, "weight", "clss", "did you mean 'cls'?"),
    Row(CENSUS, "weight", 3, "weight must be one of commander, cls, question"),
    Row(CENSUS, "selection", "proportion", "did you mean 'proportional'?"),
    Row(CENSUS, "selection", None, "selection must be one of coverage, proportional"),
    *(Row("method dycoke", "window", value, "window must be an integer of at least 1") for value in (0, 1.5, "4", True, None)),
    *(
        Row(f"method {name}", "schedule", value, "schedule must be one of published")
        for name in ("dart", "fastv", "pdrop", "sparsevlm", "sparsevlm2")
        for value in ("publishd", 3, None)
    ),
    *(Row("method fastv", "depth", value, "depth must be a number, got ") for value in NO_NUMBERS),
    *(Row("method fastv", "depth", value, "depth must be a number above 0 and below 1") for value in (0, 1, -0.1, math.nan)),
    *(
        Row("method dart", name, value, f"{name} must be an integer of at least {least}")
        for name, least in (("image_pivots", 1), ("text_pivots", 0))
        for value in (least - 1, 1.5, "4", True, None)
    ),
    *(
        Row(f"method {name}", "recycle", value, "must be True or False")
        for name in ("sparsevlm", "sparsevlm2")
        for value in (1, "no", None)
    ),
    *(
        Row(FASTVID, name, value, "must be an integer of at least 1")
        for name in ("segments", "stride", "neighbours")
        for value in (0, 1.5, "4", True, None)
    ),
    *(
        Row(FASTVID, name, value, "must be a number, got ")
        for name in ("tau", "context_share", "beta")
        for value in NO_NUMBERS
    ),
    *(
        Row(f"method {call}", name, value, f"{name} must be a number, got ")
        for call, name in (("prunevid", "windows"), ("prunevid", "tau"), ("holitom", "tau"), ("holitom", "beta"))
        for value in NO_NUMBERS
    ),
    *(
        Row("method flashvid", name, value, f"{name} must be a number, got ")
        for name in ("cut", "chosen_share", "link")
        for value in NO_NUMBERS
    ),
    *(Row("method flashvid", "chosen_share", value, "chosen_share must be a number from 0 to 1") for value in (-0.1, 1.1, math.nan)),
    *(
        Row("method flashvid", name, value, f"{name} must be an integer of at least 1")
        for name in ("segments", "neighbours")
        for value in (0, 1.5, "4", True, None)
    ),
    *(Row("method flashvid", "events", value, "events must be true or false") for value in (1, "no", None)),
    *(Row("method prunevid", "windows", value, "windows must be above 0 and at most 1") for value in (0, -1, 1.1, math.nan)),
    *(Row("method holitom", "beta", value, "beta must be a number from 0 to 1") for value in (-0.1, 1.1, math.nan)),
    *(
        Row(f"method {call}", name, value, f"{name} must be an integer of at least {least}")
        for call, name, least in (("prunevid", "neighbours", 1), ("holitom", "neighbours", 1), ("holitom", "longest", 2))
        for value in (least - 1, 1.5, "4", True, None)
    ),
    *(Row(FASTVID, name, value, "must be a number from 0 to 1") for name in ("context_share", "beta") for value in (-1, 1.1)),
]  # fmt: skip

AUTHORS = ("fastervlm", "hired", "prumerge", "prumerge_plus", "visionzip", "vispruner")
SHARES = (("hired", "alpha"), ("visionzip", "contextual_share"), ("vispruner", "important_share"))
CLS = [
    *(
        Row(f"method {name}", "count", value, "count must be one of ")
        for name in ("prumerge", "prumerge_plus")
        for value in ("nonsense", 3, None, [])
    ),
    *(
        Row(f"method {name}", layer, value, "must be an integer such as -1 for the last encoder layer, or 'features'")
        for name in AUTHORS
        for layer in (("layer", "budget_layer") if name == "hired" else ("layer",))
        for value in (1.5, "last", True, None)
    ),
    *(Row(f"method {name}", share, value, f"{share} must be a number, got ") for name, share in SHARES for value in NO_NUMBERS),
    *(Row(f"method {name}", share, value, f"{share} must be a number from 0") for name, share in SHARES for value in (-1, 1.1, math.nan)),
    *(
        Row(f"method {name}", option, value, "must be true or false")
        for name, option in (
            ("prumerge", "merge"),
            ("prumerge", "extra_token"),
            ("prumerge_plus", "merge"),
            ("prumerge_plus", "extra_token"),
        )
        for value in (1, "no", None)
    ),
    *(
        Row(f"method {name}", "neighbours", value, "neighbours must be an integer of at least 0")
        for name in ("prumerge", "prumerge_plus")
        for value in (-1, 1.5, "4", True, None)
    ),
]  # fmt: skip

ROWS = [*REGISTRY, *OPTIONS, *MORE, *CLS]

"""Wrong settings: what VisualQA, `compress` and `compress_inputs` take alike, and how frames are sampled."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch

from errors.rows import Row
from vidcompress import CompressionConfig
from vidcompress.errors import BudgetError, SamplingError, UnsupportedInputError, shown

RATIO = "retention_ratio must be a number with 0 < R <= 1, got "
TOKENS = "max_tokens must be an integer of at least 1, got "
HOLD = ": must be a number from 2 to 1024"
WHOLE = ": must be a whole number of at least 1"
BOTH = "give exactly one of retention_ratio"


def budget_rows(call: str) -> list[Row]:
    """Rows of `retention_ratio` and `max_tokens`, for whatever takes both."""
    ratios = (
        0,
        -0.1,
        1.01,
        math.nan,
        math.inf,
        True,
        "",
        "a quarter",
        "1e-999999999",
        "1e999999999",
        [0.5],
        b"0.5",
    )
    arrays = (np.zeros(2), torch.zeros(2))
    counts = (0, -3, 2.5, math.nan, True, "10", [4], torch.zeros(2))
    clean = {"retention_ratio": None} if call.lower().startswith("compress") else {}
    return [
        *(
            Row(call, "retention_ratio", value, RATIO, BudgetError)
            for value in (*ratios, Fraction(3, 2), *arrays)
        ),
        *(Row(call, "max_tokens", value, TOKENS, BudgetError, clean) for value in counts),
        Row(call, "max_tokens", 9, BOTH, BudgetError, {"retention_ratio": 0.5}, says="(got 9)"),
    ]


def config_rows(call: str) -> list[Row]:
    """Rows of everything that `CompressionConfig` checks."""
    whole = {"retention_ratio": None} if call.lower().startswith("compress") else {}
    return [
        *budget_rows(call),
        Row(call, "method", "globalcom3", "did you mean 'globalcom2'?"),
        Row(call, "method", "", "unknown method ''; known: "),
        *(
            Row(call, "method", value, "method must be a name or a Method, got ")
            for value in (7, ["globalcom2"], True, b"globalcom2", torch.zeros(2), np.zeros(2), object)
        ),
        Row(
            call,
            "policy",
            "exakt",
            "policy must be one of exact, reference, got 'exakt'; did you mean 'exact'?",
        ),
        Row(call, "policy", 3, "policy must be one of exact, reference, got 3"),
        Row(call, "policy", np.zeros(2), "policy must be one of exact, reference"),
        Row(
            call,
            "policy",
            "reference",
            "use retention_ratio, or policy='exact'",
            others={**whole, "max_tokens": 5},
        ),
        *(Row(call, "hold", value, HOLD) for value in (1, 0, -4, 1025, math.nan, True, "4", [4], np.ones(2))),
        Row(
            call,
            "hold",
            4,
            "cannot go with policy='reference'",
            others={"policy": "reference", "method": "evs"},
        ),
        Row(
            call,
            "hold",
            4,
            "method 'divprune' needs the whole clip",
            UnsupportedInputError,
            {"method": "divprune"},
            says="divprune",
            names="method",
        ),
        Row(call, "separators", "all", "separators must be one of keep, thin, drop, got 'all'"),
        Row(call, "separators", True, "separators must be one of keep, thin, drop, got True"),
        Row(call, "positions", "orginal", "did you mean 'original'?"),
        Row(call, "positions", [], "positions must be one of contiguous, original, scaled, got []"),
        Row(call, "positions", "scaled", "it is sent every token", others={"method": "fastv"}),
        *(
            Row(call, name, value, f"{name} must be an integer of at least 1, got ")
            for name in ("max_views", "max_patches")
            for value in (0, -1, 1.5, True, "16", None, math.inf)
        ),
        Row(call, "view_text", "all", "view_text must be one of keep, drop, got 'all'"),
        Row(call, "view_text", "dorp", "did you mean 'drop'?"),
        Row(call, "view_text", True, "view_text must be one of keep, drop, got True"),
        Row(call, "view_text", None, "view_text must be one of keep, drop, got None"),
        Row(call, "mass", "onn", "mass must be one of on, off, got 'onn'; did you mean 'on'?"),
        *(Row(call, "mass", value, "mass must be one of on, off, got ") for value in ("", True, 1.0, [])),
        *(
            Row(call, "mass_strength", value, ": must be a finite number of at least 0")
            for value in (-0.5, math.nan, math.inf, True, None, "1", [1.0])
        ),
        *(
            Row(call, "mass_cap", value, ": must be a finite number of at least 1, or None")
            for value in (0.5, -2, math.nan, math.inf, True, "16", [16])
        ),
        *(
            Row(call, "encoder_saving", value, "must be 'off', 'frames', 'crops' or")
            for value in ("on", "frames:0.2:0.05", "frames:size=1", "off:1", "crops:area=0.5", True, None, 3)
        ),
    ]


def settings_rows(call: str) -> list[Row]:
    """Rows of what takes a configuration, or its fields and a method's options as keywords."""
    config, beside = (
        CompressionConfig("random:seed=3", retention_ratio=0.5),
        "cannot go with config=, which states it",
    )
    free = {"retention_ratio": None} if call.startswith("compress") else {}
    return [
        *config_rows(call),
        *(
            Row(call, "config", value, "must be a vidcompress.CompressionConfig, such as", others=free)
            for value in (
                7,
                "compression_config.json",
                {"method": "random"},
                True,
                np.zeros(2),
                CompressionConfig,
            )
        ),
        *(
            Row(
                call,
                "config",
                config,
                beside,
                others={**free, name: value},
                names=name,
                says=f"{name}={shown(value)}",
            )
            for name, value in (
                ("method", "uniform"),
                ("retention_ratio", 0.25),
                ("max_tokens", 9),
                ("separators", "drop"),
                ("max_views", 4),
                ("max_patches", 4),
                ("mass", "on"),
                ("mass_strength", 0.5),
                ("mass_cap", 16),
                ("seed", 5),
            )
        ),
        Row(call, "max_new_tokens", 8, "is an argument of generate; pass it to ask, as in qa.ask(question, "),
        Row(call, "tua", 5, "has no option 'tua'; known: allocation", names="tua", says="'tua'"),
        Row(call, "tau", 0, "tau must be a number above 0, got 0"),
        Row(call, "alpha", math.nan, "alpha must be a number from 0", others={"tau": 5}),
        *(
            Row(call, "tiles", value, "tiles must be an integer from 1 to 144, got ")
            for value in (0, 145, 1.5, True)
        ),
    ]


def sampling_rows(call: str) -> list[Row]:
    """Rows of `num_frames`, `fps` and `max_frames`."""
    pair = {"num_frames": 4}
    return [
        *(
            Row(call, "num_frames", value, "num_frames=", SamplingError)
            for value in (0, -1, 301, 2.5, math.nan, True, "4", "every", [4], torch.zeros(2))
        ),
        *(
            Row(call, "fps", value, ": must be a positive number of frames per second", SamplingError)
            for value in (0, -1, math.nan, math.inf, True, "2", [2], np.ones(2))
        ),
        Row(call, "fps", 2, "num_frames=4 and fps=2 exclude each other", SamplingError, pair, says="fps=2"),
        *(
            Row(call, "max_frames", value, WHOLE, SamplingError)
            for value in (0, -1, 1.5, math.inf, None, True, "8", [8])
        ),
        Row(
            call,
            "max_frames",
            3,
            "num_frames=4: must be from 1 to 3 (max_frames)",
            SamplingError,
            pair,
            says="3",
        ),
    ]

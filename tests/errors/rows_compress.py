"""Wrong arguments of `compress`, `compress_inputs`, budgets, and of what methods and adapters are built from."""

from __future__ import annotations

import math

import numpy as np
import torch

from errors.rows import Make, Row
from errors.rows_settings import budget_rows, config_rows, settings_rows
from vidcompress import Evidence
from vidcompress.errors import CompressionStateError, UnsupportedInputError, UnsupportedModelError

COMPRESS = [
    *settings_rows("compress"),
    *(
        Row("compress", "model", value, "model must be a transformers model with a config", UnsupportedModelError)
        for value in (None, 7, "tiny-onevision", np.zeros(2))
    ),
    Row("compress", "model", Make(lambda here: here.opened), "is inside a compress block already; leave it",
        CompressionStateError, names="Llava", says=""),
]  # fmt: skip

ids = torch.ones(1, 4, dtype=torch.int64)
gaps = torch.tensor([[1, 0, 1, 1]])
pixels = torch.zeros(1, 2, 3, 56, 56)
image = {"input_ids": torch.tensor([[5, *[90] * 36, 5]]), "pixel_values": pixels, "image_sizes": [[56, 56]]}
COMPRESS_INPUTS = [
    *settings_rows("compress_inputs"),
    *(
        Row("compress_inputs", "model", value, "model must be a transformers model with a config", UnsupportedModelError)
        for value in (None, 7, "tiny-onevision", np.zeros(2))
    ),
    *(
        Row("compress_inputs", "inputs", value, message, UnsupportedInputError, names=names, says=says)
        for value, message, names, says in (
            (None, "inputs must be a mapping with input_ids and pixels", "inputs", None),
            ([1], "inputs must be a mapping with input_ids and pixels", "inputs", None),
            ({}, "input_ids must be a tensor (row, column)", "input_ids", "NoneType"),
            ({"input_ids": [[1]]}, "input_ids must be a tensor (row, column)", "input_ids", "list"),
            ({"input_ids": ids[0]}, "input_ids must be a tensor (row, column)", "input_ids", "(4,)"),
            ({"input_ids": ids[:, :0]}, "with at least one column", "input_ids", "(1, 0)"),
            ({"input_ids": ids, "inputs_embeds": 1}, "cannot be compressed: pass input_ids", "inputs_embeds", ""),
            ({"input_ids": ids, "pixel_values": 5}, "pass the processor's output unchanged", "pixel_values", "int"),
            ({"input_ids": ids, "attention_mask": [[1]]}, "must be a tensor (row, column)", "attention_mask", "[[1]]"),
            ({"input_ids": ids, "attention_mask": ids[:, :2]}, "must have the shape of input_ids", "attention_mask", "(1, 2)"),
            ({"input_ids": ids, "attention_mask": gaps}, "must be one run of ones", "attention_mask", "3 ones"),
            ({"input_ids": ids, "attention_mask": ids * 0}, "has no ones", "attention_mask", "no ones"),
            ({**image, "pixel_values": pixels[..., :28]}, "pass the processor's output", "pixel_values", "(3, 56, 28)"),
            ({**image, "image_sizes": None}, "pass the processor's output", "image_sizes", "got nothing"),
            ({**image, "image_sizes": [["a", 5]]}, "must be whole numbers", "image_sizes", "'a'"),
            ({**image, "image_sizes": [[0, 5]]}, "must be positive", "image_sizes", "(0, 5)"),
            ({**image, "batch_num_images": [2]}, "pass the processor's output", "batch_num_images", "adds up to 2"),
            ({**image, "batch_num_images": "x"}, "must be whole numbers", "batch_num_images", "'x'"),
            ({"input_ids": ids, "pixel_values_videos": torch.zeros(1, 0, 3, 56, 56)}, "give at least 1 frame",
             "pixel_values_videos", "0 frames"),
        )
    ),
]  # fmt: skip

CONFIG = [
    *config_rows("CompressionConfig"),
    Row("CompressionConfig", "method", "random:seed=0.5", "must be an integer", names="seed", says="0.5"),
    Row("CompressionConfig", "method", "random:tau=5", "method 'random' has no option 'tau'; known: rule, seed", says="'tau'"),
    Row("CompressionConfig", "method", "random:tau", "must list options as key=value, got 'tau'"),
    Row("CompressionConfig.replace", "tau", 5, "method 'random' has no option 'tau'", says="'tau'"),
    Row("CompressionConfig.replace", "policy", "exakt", "policy must be one of exact, reference"),
    *(
        Row("CompressionConfig.from_dict", "values", value, "must be a mapping, such as {'method': 'random'")
        for value in (None, 7, "random", [("method", "random")], np.zeros(2))
    ),
    *(
        Row("CompressionConfig.from_dict", "values", value, message, names=names, says=says)
        for value, message, names, says in (
            ({"polcy": "exact"}, "unknown key 'polcy'; known: ", "policy", "did you mean 'policy'?"),
            ({"version": 2}, "must be 1, which this release of vidcompress reads", "version", "version=2"),
            ({"version": True}, "must be 1, which this release of vidcompress reads", "version", "version=True"),
            ({"options": [5]}, "must be an object of option names and values", "options", "options=[5]"),
            ({"options": {"tua": 5}}, "method 'globalcom2' has no option 'tua'", "tua", "did you mean 'tau'?"),
            ({"method": "globalcom3"}, "unknown method 'globalcom3'", "method", "did you mean 'globalcom2'?"),
        )
    ),
    *(
        Row(f"CompressionConfig.{name}", "folder", value, "must be the path of a folder, such as 'my-model'")
        for name in ("save_pretrained", "from_pretrained")
        for value in (None, 7, "", b"here", np.zeros(2))
    ),
    Row("CompressionConfig.save_pretrained", "folder", __file__, "compression_config.json cannot be written there"),
    Row("CompressionConfig.from_pretrained", "folder", "nowhere", "no such file; pass a folder that save_pretrained(folder) wrote to",
        names="'nowhere'"),
    Row("CompressionConfig.from_pretrained", "folder", __file__, "is no JSON file that can be read", names=__file__),
]  # fmt: skip

BUDGETS = [
    *budget_rows("Budget"),
    *(
        Row("ViewSkipping", name, value, "must be True or False")
        for name in ("frames", "crops")
        for value in (1, "yes", None)
    ),
    *(
        Row("ViewSkipping", "threshold", value, "must be a number from 0")
        for value in (-0.1, "much", True, None, math.nan)
    ),
    *(
        Row("ViewSkipping", "area", value, "must be a number from 0 to 1")
        for value in (-0.1, 1.5, "much", True, None)
    ),
    *(
        Row("Budget.split", "lengths", value, "must be a list of whole numbers of at least 0")
        for value in (None, 5, [-1], [1.5], [True], ["4"])
    ),
]

INDEX = "must be a tensor (N,) of torch."
TABLES = ("view", "row", "col", "line", "source", "separator")
NOUNS = [
    Row("View", "kind", "crops", "kind must be one of thumbnail, image, crop, frame, tile, got 'crops'; did you mean 'crop'?"),
    Row("View", "kind", 3, "kind must be one of thumbnail, image, crop, frame, tile, got 3"),
    *(
        Row("View", name, value, "must be a whole number of at least 0")
        for name in ("rows", "cols")
        for value in (-1, 1.5, True, "2")
    ),
    *(
        Row("View", name, value, "must be (top, left, bottom, right) in tokens of the thumbnail, or None")
        for name in ("box", "nominal_box")
        for value in (5, (1, 2, 3), (0, 0, 1, math.nan), "abcd")
    ),
    *(Row("View", "time", value, "must be a number of seconds, or None") for value in ("1", math.nan, True)),
    *(Row("View", "shaped", value, "must be True or False") for value in (0, "yes", None)),
    Row("Evidence", "quantity", "cls_logit", "did you mean 'cls_logits'?"),
    Row("Evidence", "quantity", 3, "quantity must be one of cls_logits, cls_attention"),
    *(Row("Evidence", "layer", value, "must be a whole number, such as -1 for the last layer, or") for value in (1.5, "last", None, True)),
    Row("Layout", "modality", "audio", "modality must be one of image, video, got 'audio'"),
    *(Row("Layout", "views", value, "must be a tuple of View") for value in ([], None, (1,))),
    *(
        Row("Layout", name, value, INDEX)
        for name in TABLES
        for value in (None, [0], torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64))
    ),
    Row("Layout", "row", ids[0], "must have one entry per position", says="Tensor of shape (4,)"),
    *(Row("Layout", "grid", value, "must be (rows, cols), whole numbers") for value in (None, 4, (1,), (1.5, 2), (-1, 2))),
    *(Row("Layout", "canvas", value, "must be (rows, cols), whole numbers") for value in (4, (1,), (True, 2))),
    *(
        Row("Layout", "picture", value, "must be (top, left, rows, cols) inside the canvas (12, 12)")
        for value in (4, (0, 0, 12), (0, 0, 13, 12), (-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 5, 1.5), (8, 0, 5, 5))
    ),
    Row("Layout", "picture", (0, 0, 1, 1), "inside the canvas None", others={"canvas": None}),
    Row("Layout", "sizes", (1,), "must be one number of tokens for each of "),
    Row("Layout", "sizes", None, "must be one number of tokens for each of "),
    *(
        Row("Layout", name, value, "must be a whole number of at least 0")
        for name in ("num_separators", "num_lines", "full_length")
        for value in (-1, 1.5, None)
    ),
    Row("Layout", "full_length", 3, "full_length=3: must be at least the"),
    *(
        Row("Selection", "index", value, "must be a tensor (K,) of torch.int64")
        for value in (None, [1], torch.zeros(2), torch.zeros(2, 2, dtype=torch.int64))
    ),
    *(
        Row("Selection", "features", value, "must be a tensor (K, D) with K = 3 rows")
        for value in ([1], torch.zeros(3), torch.zeros(2, 4))
    ),
    *(
        Row("Selection", "mass", value, "must be a tensor (K,) of torch.float32 with K = 3 as index, or None")
        for value in (1.0, [1.0] * 3, torch.ones(2), torch.ones(3, 1), torch.ones(3).double(), np.ones(3))
    ),
    *(Row("Selection", "allotment", value, "must be an Allotment, or None") for value in (1, [0.5], torch.ones(2))),
    *(
        Row("Selection", "scores", value, "must be a floating-point tensor (N,), or None")
        for value in (1, "best", torch.zeros(2, 2), torch.arange(3))
    ),
    *(
        Row("Selection", "heirless", value, "must be a tensor (N,) of torch.bool, with mass beside it, or None")
        for value in (1, [True], torch.ones(3), torch.ones(2, 2).bool(), torch.ones(5).bool())
    ),
    *(
        Row("VisualTokens", "features", value, "features must have shape (N, D) with N = ", says=says)
        for value, says in ((None, "None"), (torch.zeros(3, 4), "(3, 4)"), (torch.zeros(3), "(3,)"))
    ),
    Row("VisualTokens", "layout", None, "must be a Layout"),
    Row("VisualTokens", "project", 5, "must be a function of features, or None"),
    *(Row("VisualTokens", "deep", value, "must be a tuple of tensors (N, D)") for value in (None, 5, [])),
    *(
        Row("VisualTokens", "deep", (value,), "each level must be a tensor (N, D) with N = ", says="deep has")
        for value in (None, torch.zeros(3, 4), torch.zeros(3))
    ),
    Row("VisualTokens", "evidence", 5, "must be a dict of Evidence to tensors"),
    Row("VisualTokens", "evidence", {"a": torch.zeros(3)}, "must be a dict of Evidence to tensors"),
    Row("VisualTokens", "evidence", {Evidence("cls_logits"): torch.zeros(3)}, "must have shape (N = ", says="(3,)"),
    Row("VisualTokens", "evidence", {Evidence("cls_logits"): [1]}, "must have shape (N = ", says="got [1]"),
    *(Row("Evidence", "auxiliary", value, "must be a text that is not empty") for value in (5, "", [])),
]  # fmt: skip

MOVED = [
    *(
        Row("CompressedInputs.to", "device", value, "is not a device; pass 'cpu'")
        for value in ("toaster", "", 2.5, [])
    ),
    Row("CompressedInputs.to", "device", "cuda:99", "this machine has"),
    *(
        Row("CompressedInputs.to", "dtype", value, "must be a floating-point torch.dtype")
        for value in (torch.int8, torch.bool, "half", 5)
    ),
    *(
        Row("CompressedInputs.to", "non_blocking", value, "must be True or False")
        for value in (1, None, "yes")
    ),
]

ROWS = [*CONFIG, *COMPRESS, *COMPRESS_INPUTS, *BUDGETS, *NOUNS, *MOVED]

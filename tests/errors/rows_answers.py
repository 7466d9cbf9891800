"""Wrong arguments of VisualQA and of its answers."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import numpy as np
import torch

from errors.rows import Make, Row
from errors.rows_settings import RATIO, TOKENS, WHOLE, sampling_rows, settings_rows
from vidcompress.errors import (
    BudgetError,
    MediaError,
    SamplingError,
    UnsupportedInputError,
    UnsupportedModelError,
)

HALVES = ("what \ud800?", "\udcff")
"""Half a surrogate pair, and what Python makes of a byte of the command line that is no UTF-8."""
SECRET = "hf_secret"
LOADED = [
    ("token", SECRET, "run `hf auth login` or set HF_TOKEN, and leave it out"),
    ("use_auth_token", True, "run `hf auth login` or set HF_TOKEN"),
    ("cache_dir", "/cache", "set HF_HOME in the environment"),
    ("trust_remote_code", True, "code in a checkpoint is never run; leave it out"),
    ("load_in_4bit", True, "pass quantization='4bit'"),
    ("load_in_8bit", True, "pass quantization='8bit'"),
    ("use_flash_attention_2", True, "pass attn_implementation='flash_attention_2'"),
]
"""Foreign names of loading arguments, and what is said wherever they are passed."""
ASKED = [
    *LOADED,
    ("method", "random", "use qa.using(method='random').ask(...)"),
    ("retention_ratio", 0.1, "use qa.using(retention_ratio=0.1).ask(...)"),
    ("max_tokens", 20, "is max_new_tokens; for the number of visual tokens use qa.using(max_tokens=20)"),
    ("num_frames", 8, "pass it to VisualQA.from_pretrained(..., num_frames=8)"),
    ("dtype", "auto", "pass it to VisualQA.from_pretrained(..., dtype='auto')"),
    ("torch_dtype", "auto", "pass it to VisualQA.from_pretrained(..., torch_dtype='auto')"),
    ("videos", ["a.mp4"], "pass it as video=, and several questions to ask_batch"),
    ("stream", True, "use qa.stream(...)"),
]
"""Foreign names of what is passed with a question."""
OF_ONE = ("max_tokens", "num_frames")
"""Those of these that `VisualQA.ask` takes for one question."""


def foreign_rows(call: str, listed: list[tuple[str, object, str]]) -> list[Row]:
    """Rows of names of other libraries, or of another function here; a secret is not shown."""
    return [
        Row(call, name, value, message, says="..." if "token" == name.split("_")[-1] else None)
        for name, value, message in listed
    ]


def text_rows(call: str) -> list[Row]:
    """Rows of the question, its answer's length, and what goes to `generate`."""
    return [
        *(
            Row(call, "question", value, ": must be a text that is not empty")
            for value in ("", "  ", None, 7, True, b"what?", ["what?"])
        ),
        Row(call, "question", "a <image>?", "stands for a picture or clip in a prompt; leave it out"),
        *(Row(call, "question", value, "pass Unicode text") for value in HALVES),
        *(Row(call, "max_new_tokens", value, WHOLE) for value in (0, -1, 2.5, None, True, "many", math.inf)),
        Row(call, "num_beems", 2, "did you mean 'num_beams'?"),
        *foreign_rows(call, [row for row in ASKED if call != "VisualQA.ask" or row[0] not in OF_ONE]),
        Row(call, "input_ids", [[1]], "it is made from the question and its media", says="input_ids"),
        Row(call, "temperature", math.nan, "must be a finite number", others={"do_sample": True}),
        Row(call, "top_p", math.inf, "must be a finite number", others={"do_sample": True}),
        Row(call, "temperature", "hot", "generate refuses {", others={"do_sample": True}),
    ]  # fmt: skip


def media_rows(call: str) -> list[Row]:
    """Rows of the pictures and the clip."""
    photo = Make(lambda here: here.photo)
    return [
        Row(call, "image", "no.png", "image='no.png': no such file; check the path", MediaError),
        Row(call, "image", "", "no such file", MediaError),
        Row(call, "image", "https://example.org/a.png", "URLs are not opened; download it", MediaError),
        Row(call, "image", 5, "image: got int; pass a path, bytes", MediaError),
        Row(call, "image", True, "image: got bool; pass a path, bytes", MediaError),
        Row(call, "image", ["a.png"], "image is a list of 1; pass a list as images", says="list of 1"),
        Row(call, "image", b"", "is empty (0 bytes); fetch or write it again", MediaError, says="0 bytes"),
        Row(call, "image", b"no picture", "is not a picture in a known format", MediaError, says="10 bytes"),
        Row(call, "image", np.zeros((4, 4, 3)), "array of dtype float64; pass uint8", MediaError, says="float64"),
        Row(call, "image", np.zeros((4, 0, 3), np.uint8), "holds no pixel", MediaError, says="(4, 0, 3)"),
        Row(call, "image", np.zeros(4, np.uint8), "array of shape (4,); pass", MediaError, says="(4,)"),
        Row(call, "image", Make(lambda here: here.picture), "image and images exclude", others={"images": []}, says=""),
        Row(call, "images", "a.png", "images must be a list, got str; pass one picture as image"),
        Row(call, "images", 5, "images must be a list, got int"),
        *(
            Row(call, "images", empty, "images is an empty list; pass at least one picture, or leave it out", says="empty list")
            for empty in ([], ())
        ),
        Row(call, "images", ["no.png"], "image='no.png': no such file", MediaError, names="image", says="'no.png'"),
        Row(call, "images", [None], "image: got NoneType", MediaError, names="image", says="NoneType"),
        Row(call, "video", "no.mp4", "video='no.mp4': no such file; check the path", MediaError),
        Row(call, "video", "rtsp://example.org/a", "URLs are not opened; download it", MediaError),
        Row(call, "video", 5, "video: got int; pass a path, bytes", MediaError),
        Row(call, "video", [], "video is an empty list; pass", says="empty list"),
        Row(call, "video", b"", "is empty (0 bytes)", MediaError, says="0 bytes"),
        Row(call, "video", b"no clip", "is not a video in a known format", MediaError, says="7 bytes"),
        Row(call, "video", photo, "is a still picture, not a video; pass it as image=", MediaError),
        Row(call, "video", np.zeros((2, 4, 4, 3)), "array of dtype float64; pass uint8", MediaError, says="float64"),
    ]  # fmt: skip


def clip_rows(call: str) -> list[Row]:
    """Rows of what says how clips are read."""
    return [
        *sampling_rows(call),
        *(Row(call, "time_instruction", value, "must be True or False") for value in (1, "yes", None)),
        *(
            Row(call, "backend", value, "not known; use one of ['auto'", SamplingError)
            for value in ("ffmpeg", 3, ["pyav"])
        ),
    ]


VISUAL_QA = [
    *settings_rows("VisualQA"),
    *clip_rows("VisualQA"),
    *(
        Row(
            "VisualQA",
            "model",
            value,
            "model must be a transformers model with a config",
            UnsupportedModelError,
        )
        for value in (7, "tiny-onevision", [], object)
    ),
    *(
        Row("VisualQA", "processor", value, "must be one that vidcompress.load_processor(model) returned")
        for value in (7, "tiny-onevision", Make(lambda here: here.processor.tokenizer))
    ),
]

FROM_PRETRAINED = [
    *settings_rows("VisualQA.from_pretrained"),
    *clip_rows("VisualQA.from_pretrained"),
    *foreign_rows("VisualQA.from_pretrained", LOADED),
    *foreign_rows(
        "VisualQA.from_pretrained",
        [
            ("videos", ["a.mp4"], "pass it to ask as video="),
            ("image", "a.png", "is about one question; pass it to ask"),
            ("model", "tiny-next", "VisualQA.from_pretrained('owner/name')"),
            ("pretrained", "tiny-next", "VisualQA.from_pretrained('owner/name')"),
            ("processor", "own", "for one of load_processor use VisualQA(model, processor)"),
            ("processor", None, "this argument is not taken; leave it out"),
            ("load_in_4bit", False, "this argument is not taken; leave it out"),
            ("keep_ratio", 0.1, "pass retention_ratio= (a share) or max_tokens= (visual tokens)"),
        ],
    ),
    *(
        Row("VisualQA.from_pretrained", "torch_dtype", value, message, names="dtype")
        for value, message in (
            ("int8", "must be a torch dtype or one of"),
            (torch.int8, "must be a floating-point"),
        )
    ),
    Row(
        "VisualQA.from_pretrained",
        "torch_dtype",
        torch.float16,
        "two names of one argument; pass one of them",
        others={"dtype": "float32"},
    ),
    Row(
        "VisualQA.from_pretrained",
        "name_or_path",
        "tiny-onevison",
        "did you mean 'tiny-onevision'?",
        names="model",
    ),
    *(
        Row(
            "VisualQA.from_pretrained",
            "name_or_path",
            value,
            "is neither a folder nor an embedded model",
            names="model",
        )
        for value in ("", "a/b/c", "../up", "/no/such", "~/x", "a b/c", "x\0/y", "https://example.org/a")
    ),
    *(
        Row(
            "VisualQA.from_pretrained",
            "name_or_path",
            value,
            "must be the name of an embedded model, a folder or",
        )
        for value in (7, True, ["tiny-next"], b"tiny-next")
    ),
    Row("VisualQA.from_pretrained", "name_or_path", "owner/nothing", "does not load: ", names="model"),
    *(
        Row("VisualQA.from_pretrained", "device", value, "is not a device; pass 'cpu', 'cuda' or 'cuda:0'")
        for value in ("toaster", "", "cuda:x", -1, 2.5, True, ["cpu"])
    ),
    Row("VisualQA.from_pretrained", "device", "cuda:99", "this machine has "),
    Row("VisualQA.from_pretrained", "device", "cpu", "exclude each other", others={"device_map": "auto"}),
    *(
        Row("VisualQA.from_pretrained", "dtype", value, "must be a torch dtype or one of float32, float16")
        for value in ("int8", "", 16, True, np.float32)
    ),
    Row("VisualQA.from_pretrained", "dtype", torch.int8, "must be a floating-point torch dtype"),
    *(
        Row(
            "VisualQA.from_pretrained",
            "attn_implementation",
            value,
            "is no attention implementation of transformers; known",
        )
        for value in ("fast", 7, "", True, ["sdpa"])
    ),
    Row("VisualQA.from_pretrained", "attn_implementation", "spda", "did you mean 'sdpa'?"),
    *(
        Row("VisualQA.from_pretrained", "device_map", value, "must be one of auto, balanced")
        for value in ("nowhere", -1, 99, 2.5, {}, [], True)
    ),
    *(
        Row("VisualQA.from_pretrained", "quantization", value, "must be one of 4bit, 8bit, or None")
        for value in ("2bit", 4, [])
    ),
    Row(
        "VisualQA.from_pretrained",
        "quantization",
        "4bit",
        "exclude each other; pass one",
        others={"quantization_config": {}},
    ),
    *(
        Row(
            "VisualQA.from_pretrained",
            "quantization_config",
            value,
            "pass a config of transformers",
            says=type(value).__name__,
        )
        for value in (4, "4bit", [])
    ),
    *(
        Row("VisualQA.from_pretrained", "revision", value, "must be a text that is not empty, such as 'main'")
        for value in (7, "", True, ["main"])
    ),
    *(
        Row("VisualQA.from_pretrained", "local_files_only", value, "must be True or False")
        for value in (1, "yes", None)
    ),
    *(
        Row("VisualQA.from_pretrained", "resize_device", value, "is not a device; pass 'cpu'", MediaError)
        for value in ("toaster", "", 0, ["cpu"])
    ),
    *(
        Row("VisualQA.from_pretrained", "compile", value, "must be True or False")
        for value in (1, "yes", None, "inductor")
    ),
    *(
        Row("VisualQA.from_pretrained", "compile", True, message, others={name: value})
        for name, value, message in (
            ("method", "fastv", "cannot go with method 'fastv', which prunes between the layers"),
            ("method", "globalcom2+pdrop", "cannot go with method 'globalcom2+pdrop'"),
            ("device_map", "auto", "cannot go with device_map='auto'"),
            ("quantization_config", {}, "cannot go with quantization_config={}"),
        )
    ),
    *(
        Row("VisualQA.from_pretrained", "preset", value, message, others={"name_or_path": "tiny-next"})
        for value, message in (("288", "did you mean '2880'?"), ("", "known: 2880"), (2880, "must be a text"))
    ),
]

ASK_BATCH = [
    *(
        Row("VisualQA.ask_batch", "items", value, "items must be a list of dicts, got ")
        for value in (None, 5, "what?", {"question": "what?"}, b"what?")
    ),
    Row("VisualQA.ask_batch", "items", [5], "items[0]: must be a dict with the keys question, image", says="got int"),
    Row("VisualQA.ask_batch", "items", [{"question": ""}], "items[0]: question='': must be a text", says="''"),
    Row("VisualQA.ask_batch", "items", [{"question": "\ud800"}], "items[0]: question='\\ud800': character 0 is", says="ud800"),
    Row("VisualQA.ask_batch", "items", [{"question": "a"}, {}], "items[1]: question=None", says="None"),
    Row("VisualQA.ask_batch", "items", [{"question": "a", "videos": []}], "items[0]: videos=[]: a question is about one clip; pass", says="videos=[]"),
    Row("VisualQA.ask_batch", "items", [{"question": "a", "retention_ratio": 0.1}], "items[0]: retention_ratio=0.1: is set once", says="0.1"),
    *foreign_rows("VisualQA.ask_batch", ASKED),
    Row("VisualQA.ask_batch", "items", [{"question": "a", "vidoe": "b"}], "unknown keys ['vidoe']; allowed", says="vidoe"),
    Row("VisualQA.ask_batch", "items", [{"question": "a", "video": "no.mp4"}], "no such file", MediaError,
        names="video", says="'no.mp4'"),
    *(Row("VisualQA.ask_batch", "batch_size", value, WHOLE) for value in (0, -1, 2.5, True, None, "8")),
    *(Row("VisualQA.ask_batch", "max_new_tokens", value, WHOLE) for value in (0, 2.5, True, None, "8")),
    *(Row("VisualQA.ask_batch", "progress", value, "must be True or False") for value in (1, "yes", [])),
    Row("VisualQA.ask_batch", "num_beems", 2, "did you mean 'num_beams'?"),
]  # fmt: skip

NO_MEDIA = {"image": None}


def long_rows(call: str) -> list[Row]:
    """Rows of the frames of one clip; None is allowed."""
    return [row for row in sampling_rows(call) if row.value is not None]


HOLD = ": must be a number from 2 to 1024"
SPENT = (0, -3, 2.5, math.nan, True, "10", [4], torch.zeros(2))
LONG_CLIPS = [
    *long_rows("VisualQA.ask"),
    *(
        Row("VisualQA.ask", "max_tokens", value, "max_tokens must be an integer", BudgetError)
        for value in SPENT
    ),
    *(Row("VisualQA.ask", "hold", value, HOLD) for value in (1, True, "4", math.nan, [4], np.ones(2))),
    *(
        Row("VisualQA.ask", "memory", value, "must be the path of a file")
        for value in (3, "", b"", ["a"], np.ones(2))
    ),
    Row("VisualQA.ask", "memory", "nothing.memory", "no such file; pass one that qa.remember"),
    Row("VisualQA.ask", "memory", __file__, "is damaged or cut short", says=__file__),
    Row("VisualQA.ask", "memory", "a", "it stands for a clip that was read already", others={"fps": 2}),
    *(row for row in long_rows("VisualQA.remember")),
    *(
        Row("VisualQA.remember", "max_tokens", value, "max_tokens must be an integer", BudgetError)
        for value in SPENT
    ),
    *(Row("VisualQA.remember", "hold", value, HOLD) for value in (1, True, "4", None, [4])),
    *(
        Row("VisualQA.remember", "path", value, "must be the path of a file")
        for value in (3, "", None, b"", ["a"])
    ),
    Row("VisualQA.remember", "path", os.devnull + "/x", "cannot be written", says="/x"),
    *(Row("VisualQA.remember", "video", value, "video", MediaError) for value in (3, "nothing.mp4")),
    Row("VisualQA.remember", "video", [], "video is an empty list", says="empty"),
    *(
        Row("VisualQA.watch", "max_tokens", value, "max_tokens must be an integer", BudgetError)
        for value in SPENT
    ),
    Row("VisualQA.watch", "max_tokens", 10**7, "must be a whole number from 1 to 1000000"),
    *(Row("VisualQA.watch", "hold", value, HOLD) for value in (1, True, "4", None, [4])),
]

C = "VisualQA.compare"
COMPARE = [
    *(Row(C, "question", value, ": must be a text that is not empty") for value in ("", None, 7)),
    *(Row(C, "question", value, "pass Unicode text") for value in HALVES),
    Row(C, "image", None, "there is nothing to compress; pass image=", says=""),
    Row(C, "image", "no.png", "no such file", MediaError),
    Row(C, "images", 5, "images must be a list, got int", others=NO_MEDIA),
    Row(
        C,
        "images",
        [],
        "images is an empty list; pass at least one picture",
        others=NO_MEDIA,
        says="empty list",
    ),
    Row(C, "video", "no.mp4", "no such file", MediaError, NO_MEDIA),
    Row(C, "methods", "globalcom3", "did you mean 'globalcom2'?", names="method"),
    Row(C, "methods", "globalcom2:tau", "must list options as key=value"),
    Row(C, "methods", "vidcom2", "serves video inputs only", UnsupportedInputError),
    *(Row(C, "methods", value, "must be a list of names or methods") for value in (5, {}, b"random")),
    Row(C, "methods", [], "name at least one, or leave it out"),
    Row(C, "methods", [5], "pass names, or methods", says="5"),
    *(
        Row(C, "retention_ratios", value, RATIO, BudgetError, names="retention_ratio")
        for value in (0, 1.5, "a lot", math.nan, True)
    ),
    Row(C, "retention_ratios", [], "give at least one"),
    *(
        Row(C, "max_tokens", value, TOKENS, BudgetError, {"retention_ratios": None})
        for value in (0, 2.5, "10", True)
    ),
    Row(C, "max_tokens", 5, "exclude each other; pass one of them"),
    *(Row(C, "controls", value, "must be True or False") for value in (1, "yes", None)),
    *(Row(C, "repeats", value, "must be a whole number of at least 1") for value in (0, -1, 2.5, True, None)),
    *(Row(C, "seed", value, "must be a whole number of at least 0") for value in (-1, 2.5, "1", True)),
    *(Row(C, "max_new_tokens", value, WHOLE) for value in (0, 2.5, None)),
    *(Row(C, "progress", value, "must be True or False") for value in (1, "yes")),
    Row(C, "num_beems", 2, "did you mean 'num_beams'?"),
    Row(C, "mass", "heavy", "mass must be one of on, off, got 'heavy'"),
    Row(C, "mass_strength", -1, ": must be a finite number of at least 0"),
    Row(C, "mass_cap", 0.5, ": must be a finite number of at least 1, or None"),
    *foreign_rows(C, [*LOADED, ("num_frames", 8, "pass it to VisualQA.from_pretrained(..., num_frames=8)")]),
    Row(C, "method", "random", "compare takes several; pass methods=[...]"),
]

COMPARE_ROWS = [
    *(
        replace(row, call="VisualQA.compare_rows")
        for row in COMPARE
        if row.parameter not in ("repeats", "progress")
    ),
    Row("VisualQA.compare_rows", "num_beams", 2, "beams cannot be streamed; use ask, or 1 beam"),
]

OVERLAYS = [
    *(
        Row("draw_overlay", "report", value, "must be a Report; pass the one of what compress_inputs returned")
        for value in (None, 3, "uniform", [], {})
    ),
    *(
        Row(call, "index", value, "counted from 0; pass a whole number below that")
        for call in ("Answer.overlay", "Answer.animation", "Answer.masks", "Answer.scores", "draw_overlay")
        for value in (-1, 1, 10**30, 0.5, True, None, "0", [0], math.nan)
    ),
    Row("Answer.animation", "index", 0, "only clips are animated; draw a picture with"),
    *(
        Row("draw_overlay", "picture", value, "picture: image: got ", MediaError)
        for value in (None, 5, True, {})
    ),
    Row("draw_overlay", "picture", "no.png", "picture: image='no.png': no such file", MediaError),
    Row("draw_overlay", "picture", [1, 2], "drawn over one, got a list of 2", says="a list of 2"),
    Row("draw_overlay", "picture", [], "drawn over one, got a list of 0", says="a list of 0"),
    *(
        Row(call, "width", value, "must be a whole number of at least 1")
        for call in ("Report.text", "Report.explain")
        for value in (0, -1, 0.5, True, "80")
    ),
    *(
        Row(call, "masks", value, "must be True or False")
        for call in ("Answer.to_dict", "Report.to_dict", "Report.visual_tokens")
        for value in (None, 1, "yes")
    ),
    *(Row("Report.for_row", "row", value, "must be a whole number of at least 0") for value in (-1, 0.5, True, None, "0")),
]  # fmt: skip

ROWS = [
    *VISUAL_QA,
    *FROM_PRETRAINED,
    *settings_rows("VisualQA.using"),
    *foreign_rows(
        "VisualQA.using",
        [
            (
                "num_frames",
                8,
                "is set where a VisualQA is made; pass it to VisualQA.from_pretrained(..., num_frames=8)",
            ),
            ("torch_dtype", "auto", "belongs to loading a model; pass it to VisualQA.from_pretrained"),
        ],
    ),
    *foreign_rows(
        "VisualQA.chat",
        [
            *ASKED,
            ("question", "what?", "pass it to ask of the chat"),
            ("tempreature", 1, "chat takes image, images"),
        ],
    ),
    *(
        row
        for call in ("VisualQA.ask", "VisualQA.stream", "Chat.ask", "Chat.stream")
        for row in text_rows(call)
    ),
    *(row for call in ("VisualQA.ask", "VisualQA.stream", "VisualQA.chat") for row in media_rows(call)),
    *COMPARE,
    *COMPARE_ROWS,
    *(Row("VisualQA.chat", "history", value, "must be True or False") for value in (1, "yes", None)),
    Row("Chat.ask", "num_beams", 2, "a chat goes on from one row of a growing cache, only with 1"),
    Row("Chat.ask", "use_cache", False, "a chat goes on from one row of a growing cache, only with True"),
    Row("Chat.ask", "return_dict_in_generate", True, "a chat keeps its own cache; leave it out"),
    Row("Chat.stream", "num_beams", 2, "beams cannot be streamed; use ask"),
    Row("VisualQA.stream", "streamer", 5, "stream brings its own; use ask"),
    Row("VisualQA.ask", "num_beams", 0, "generate refuses {'num_beams': 0}", says="0"),
    Row("VisualQA.stream", "num_beams", 2, "beams cannot be streamed; use ask"),
    *LONG_CLIPS,
    *ASK_BATCH,
    *OVERLAYS,
]

"""Wrong options of `tune`, and of `bench` with servers."""

from __future__ import annotations

from errors.rows_command_line import FAILURE, NOT_WHOLE, TAKES_NO_VALUE, USAGE, Words

TASK = ("--task", "shapes:image")
SERVE = ("--serve", "http://127.0.0.1:9")


def tune(parameter: str, *words: str, message: str, code: int = USAGE, names: str | None = None) -> Words:
    """A row of `tune` with a task."""
    return Words("tune", parameter, (*TASK, *words), message, code, names)


def servers(parameter: str, *words: str, message: str, code: int = USAGE, names: str | None = None) -> Words:
    """A row of `bench` with a server."""
    return Words("bench", parameter, (*SERVE, *words), message, code, names)


ROWS = [
    Words("tune", "data", (), "nothing to ask; pass --data FOLDER or --task NAME"),
    Words("tune", "data", (*TASK, "--data", "x"), "exclude each other; pass --data FOLDER or --task NAME"),
    Words("tune", "data", ("--data", "nowhere"), "data='nowhere': holds no questions.jsonl; pass a folder"),
    Words("tune", "task", ("--task", "shapes:film"), "must be one of image, clip, got 'film'"),
    Words("tune", "task", ("--task", "lmms:pope"), "task='lmms:pope': lmms-eval asks it"),
    tune("model", "--model", "tiny-onevison", message="did you mean 'tiny-onevision'?"),
    tune("method", "--method", "globalcom3", message="did you mean 'globalcom2'?"),
    tune("method", "--method", "none", message="method='none': has no budget to tune; name a method"),
    tune("retention_ratios", "-r", "2", message="0 < R <= 1, got '2'", names="retention_ratio"),
    tune("retention_ratios", "-r", ",", message="retention_ratios=[]: give at least one"),
    tune("retention_ratios", "-r", "1", message="1 alone is the model with all tokens; give a smaller one"),
    tune("max_tokens", "--max-tokens", "5,x", message="must be whole numbers with commas between"),
    tune("max_tokens", "--max-tokens", "0", message="max_tokens must be an integer of at least 1, got 0"),
    tune("max_tokens", "--max-tokens", "5", "-r", "0.5", message="exclude each other; pass one of them"),
    tune(
        "agreement", "--agreement", "95", message="agreement=95.0: must be a share of equal answers from 0.6"
    ),
    tune("agreement", "--agreement", "1", message="agreement=1.0: must be a share of equal answers from 0.6"),
    tune("only", "--only=yes", message=TAKES_NO_VALUE, names="--only"),
    tune("limit", "--limit", "0", message="limit=0: must be a whole number of at least 1"),
    tune("limit", "--limit", "x", message=NOT_WHOLE, names="--limit"),
    tune("batch_size", "--batch-size", "0", message="batch_size=0: must be a whole number of at least 1"),
    tune("num_frames", "--num-frames", "0", message="num_frames=0: must be from 1 to 300"),
    tune("fps", "--fps", "0", message="fps=0.0: must be a positive number of frames per second"),
    tune("max_frames", "--max-frames", "0", message="max_frames=0"),
    tune("max_new_tokens", "--max-new-tokens", "0", message="max_new_tokens=0: must be a whole number of at"),
    tune("preset", "--preset", "", message="preset='': must be a text that is not empty"),
    tune("seed", "--seed", "-1", message="seed=-1: must be a whole number from 0 to 4294967295"),
    tune("device", "--device", "toaster", message="device='toaster' is not a device; pass 'cpu'"),
    tune(
        "dtype",
        "--dtype",
        "int8",
        message="dtype must be one of float32, float16, bfloat16, auto, got 'int8'",
    ),
    tune("attn_implementation", "--attn-implementation", "fast", message="is no attention implementation"),
    tune("device_map", "--device-map", "nowhere", message="device_map='nowhere': must be one of auto"),
    tune("quantization", "--quantization", "2bit", message="quantization='2bit': must be one of 4bit, 8bit"),
    tune("out", "--limit", "1", "--out", "{broken}", message="cannot be used: ", code=FAILURE),
    tune("as_json", "--json=5", message=TAKES_NO_VALUE, names="--json"),
    Words("bench", "serve", ("--serve", "ftp://x:1"), "must be http://HOST:PORT or NAME=http://HOST:PORT"),
    Words("bench", "serve", ("--serve", ""), "serve='': must be a text that is not empty"),
    Words("bench", "serve", (*SERVE, "--serve", "tiny-onevision"), "a model is served twice by itself"),
    Words(
        "bench", "serve", ("--serve", "a=http://x:1", "--serve", "a=http://y:1"), "two servers have one name"
    ),
    servers("serve", message="cannot be reached (", code=USAGE),
    *(
        servers("serve", option, *value, message=f"{option} cannot go with --serve; leave it out")
        for option, *value in (
            ("--frames", "4"),
            ("--image", "{photo}"),
            ("--video", "{clip}"),
            ("--decode",),
            ("--max-tokens", "9"),
            ("--probes",),
            ("--threads", "2"),
            ("--concurrency", "threads"),
            ("--device", "cpu"),
        )
    ),
    servers("requests", "--requests", "0", message="requests=0: must be a whole number from 1"),
    servers("requests", "--requests", "x", message=NOT_WHOLE, names="--requests"),
    servers("sizes", "--sizes", "9x9,8x8", message="--sizes: must be one with --serve, and 2 were given"),
    servers("new_tokens", "--new-tokens", "1,2", message="must be one with --serve, and 2 were given"),
    servers("batch_sizes", "--batch-sizes", "0", message="must be a whole number from 1 to 1024"),
    servers("methods", "--methods", "vidcom2,globalcom2", message="must be one method, that of the server"),
    servers("retention_ratios", "-r", "2", message="0 < R <= 1, got '2'", names="retention_ratio"),
    servers(
        "server_arguments",
        "--server-arguments",
        "--dtype auto",
        message="of which server? pass --serve MODEL",
    ),
]

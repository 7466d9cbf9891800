"""Does serving with fewer tokens pay on a small machine? A random Qwen2.5-VL of 0.2 B through `bench --serve`.

    python scripts/bench_server.py --folder runs/bench-server --out docs/results/serve_cpu.json

vLLM serves it twice, stock and with the plugin; both are ended by their ids. It needs the extra `vllm`, or a build of
vLLM for the CPU. The same folder goes on with a run that was stopped. What stands behind `--` goes to `bench`, so that
the command for a GPU is `--model owner/name -- --sizes 672x672 --batch-sizes 1,2,4,8,16,32,64`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

SERVER = (
    "--dtype {dtype} --max-model-len 2048 --max-num-seqs 8 --max-num-batched-tokens 2048 --skip-mm-profiling "
    "--enforce-eager"
)
"""Arguments of vLLM's server: what a small machine can hold."""


def write_model(folder: Path) -> Path:
    """Write a random Qwen2.5-VL of 12 decoder layers 896 wide and 8 encoder layers 640 wide, as on the hub."""
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    import processor_cases as cases
    from qwen_folder import TEMPLATE

    tokenizer = cases.bytes_tokenizer()
    ids = {
        f"{kind}_token_id": tokenizer.convert_tokens_to_ids(f"<|{word}|>")
        for kind, word in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    text: dict[str, Any] = dict(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=12,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        rope_parameters={"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6},
    )
    vision: dict[str, Any] = dict(
        depth=8,
        hidden_size=640,
        intermediate_size=2560,
        num_heads=10,
        patch_size=14,
        out_hidden_size=896,
        fullatt_block_indexes=[3, 7],
        window_size=112,
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    )
    model.generation_config.suppress_tokens = sorted(ids.values())
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    shared = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, **cases.CHANNELS["qwen2_5_vl"]}
    for name, settings in (
        ("preprocessor_config.json", cases.SETTINGS),
        ("video_preprocessor_config.json", cases.CLIP_SETTINGS),
    ):
        (folder / name).write_text(json.dumps(shared | settings["qwen2_5_vl"]["hub"]))
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Write the model where none is named, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of the model and the journal")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", help="instead of the random one")
    parser.add_argument("--method", default="globalcom2")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("rest", nargs="*", help="options of bench, behind --")
    given = parser.parse_args(arguments)
    model = given.model or str(write_model(given.folder / "model"))
    words = [
        "bench",
        "--serve",
        model,
        "--methods",
        given.method,
        "--dtype",
        given.dtype,
        "-r",
        "1.0,0.25,0.1",
    ]
    words += ["--batch-sizes", "1,4", "--sizes", "224x224", "--text-tokens", "8", "--new-tokens", "16"]
    words += ["--requests", "10", "--rounds", "3", "--journal", str(given.folder / "serve.jsonl")]
    words += ["--server-arguments", SERVER.format(dtype=given.dtype), "--out", str(given.out)]
    from vidcompress.cli import main as run

    run([*words, *given.rest])


if __name__ == "__main__":
    main()

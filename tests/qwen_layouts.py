"""Small random checkpoints saved just as two hub repositories of Qwen-VL are: files, keys, tokens, tensor names.

The tensor names give the published counts at the published depths: 729 of Qwen2.5-VL-7B, 750 of Qwen3-VL-8B. They were
checked against public listings: of Qwen2.5-VL-7B the names and shapes outside its layers and in the first of each stack
(a single-file copy in fp8, without its scales), of Qwen3-VL-8B the index of nvidia/Cosmos-Reason2, fine-tuned from it;
`PUBLISHED` has them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import processor_cases as cases
from hub_layouts import SHA, Shapes, qwen_tokenizer, random_tensors, save_sharded
from qwen_folder import TEMPLATE

TWO, THREE = "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
NAMES = (TWO, THREE)
FAMILY = {TWO: "qwen2_5_vl", THREE: "qwen3_vl"}
HIDDEN, INNER, HEADS, KV, ROWS, MERGED = 32, 64, 4, 2, 384, 4
LEVELS = (0, 1)
ADDED = ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]


def decoder_shapes(name: str, layers: int) -> Shapes:
    """Tensors of the language model: biases of q, k and v in the older one, norms of q and k in the newer one."""
    old = name == TWO
    root = "model." if old else "model.language_model."
    head = HIDDEN // HEADS
    shapes: Shapes = {
        f"{root}embed_tokens.weight": (ROWS, HIDDEN),
        f"{root}norm.weight": (HIDDEN,),
        "lm_head.weight": (ROWS, HIDDEN),
    }
    for layer in range(layers):
        at = f"{root}layers.{layer}."
        for part, size in (("q", HIDDEN), ("k", KV * head), ("v", KV * head), ("o", HIDDEN)):
            shapes[f"{at}self_attn.{part}_proj.weight"] = (size, HIDDEN)
            if old and part != "o":
                shapes[f"{at}self_attn.{part}_proj.bias"] = (size,)
        if not old:
            shapes |= {f"{at}self_attn.{part}_norm.weight": (head,) for part in ("q", "k")}
        shapes |= {f"{at}mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes |= {f"{at}{part}_layernorm.weight": (HIDDEN,) for part in ("input", "post_attention")}
    return shapes


def encoder_shapes(name: str, layers: int, levels: int) -> Shapes:
    """Tensors of the vision encoder with its merger, and the mergers of the levels of companions."""
    patch, together = cases.PATCH[FAMILY[name]], HIDDEN * MERGED
    shapes: Shapes = {"patch_embed.proj.weight": (HIDDEN, 3, 2, patch, patch)}
    pairs: Shapes = {}
    for layer in range(layers):
        at = f"blocks.{layer}."
        pairs |= {f"{at}attn.qkv": (3 * HIDDEN, HIDDEN), f"{at}attn.proj": (HIDDEN, HIDDEN)}
        if name == TWO:
            pairs |= {f"{at}mlp.{part}_proj": (INNER, HIDDEN) for part in ("gate", "up")}
            pairs[f"{at}mlp.down_proj"] = (HIDDEN, INNER)
            shapes |= {f"{at}norm{number}.weight": (HIDDEN,) for number in (1, 2)}
        else:
            pairs |= {f"{at}mlp.linear_fc1": (INNER, HIDDEN), f"{at}mlp.linear_fc2": (HIDDEN, INNER)}
            pairs |= {f"{at}norm{number}": (HIDDEN,) for number in (1, 2)}
    if name == TWO:
        shapes["merger.ln_q.weight"] = (HIDDEN,)
        pairs |= {"merger.mlp.0": (together, together), "merger.mlp.2": (HIDDEN, together)}
    else:
        shapes |= {"patch_embed.proj.bias": (HIDDEN,), "pos_embed.weight": (64, HIDDEN)}
        mergers = [("merger.", HIDDEN), *((f"deepstack_merger_list.{n}.", together) for n in range(levels))]
        for at, normed in mergers:
            pairs |= {f"{at}linear_fc1": (together, together), f"{at}linear_fc2": (HIDDEN, together)}
            pairs[f"{at}norm"] = (normed,)
    for part, shape in pairs.items():
        shapes |= {f"{part}.weight": shape, f"{part}.bias": shape[:1]}
    root = "visual." if name == TWO else "model.visual."
    return {f"{root}{part}": shape for part, shape in shapes.items()}


def shapes_of(name: str, decoder: int = 2, encoder: int = 2, levels: int = len(LEVELS)) -> Shapes:
    """Tensors of a repository by the names in its files."""
    return decoder_shapes(name, decoder) | encoder_shapes(name, encoder, levels)


def _both(names: str) -> set[str]:
    """Weight and bias of each name."""
    return {f"{name}.{part}" for name in names.split() for part in ("weight", "bias")}


def _weights(names: str) -> set[str]:
    return {f"{name}.weight" for name in names.split()}


PUBLISHED = {
    TWO: _both("visual.blocks.0.attn.proj visual.blocks.0.attn.qkv visual.blocks.0.mlp.down_proj")
    | _both(
        "visual.blocks.0.mlp.gate_proj visual.blocks.0.mlp.up_proj visual.merger.mlp.0 visual.merger.mlp.2"
    )
    | _weights(
        "visual.blocks.0.norm1 visual.blocks.0.norm2 visual.merger.ln_q visual.patch_embed.proj lm_head"
    )
    | _both("model.layers.0.self_attn.q_proj model.layers.0.self_attn.k_proj model.layers.0.self_attn.v_proj")
    | _weights("model.layers.0.self_attn.o_proj model.layers.0.mlp.gate_proj model.layers.0.mlp.up_proj")
    | _weights("model.layers.0.mlp.down_proj model.layers.0.input_layernorm model.norm model.embed_tokens")
    | _weights("model.layers.0.post_attention_layernorm"),
    THREE: _both("model.visual.patch_embed.proj model.visual.blocks.0.norm1 model.visual.blocks.0.norm2")
    | _both("model.visual.blocks.0.attn.qkv model.visual.blocks.0.attn.proj model.visual.merger.norm")
    | _both("model.visual.blocks.0.mlp.linear_fc1 model.visual.blocks.0.mlp.linear_fc2")
    | _both("model.visual.merger.linear_fc1 model.visual.merger.linear_fc2")
    | {
        f"model.visual.deepstack_merger_list.{level}.{name}"
        for level in range(3)
        for name in _both("norm linear_fc1 linear_fc2")
    }
    | {
        f"model.language_model.layers.0.{name}"
        for name in _weights(
            "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj self_attn.q_norm"
        )
        | _weights("self_attn.k_norm mlp.gate_proj mlp.up_proj mlp.down_proj input_layernorm")
        | _weights("post_attention_layernorm")
    }
    | _weights("model.visual.pos_embed model.language_model.embed_tokens model.language_model.norm lm_head"),
}
"""Names in public listings, of the first layer of each stack and of everything outside of layers."""


def ours(name: str, key: str) -> str:
    """What transformers calls a tensor of a repository, written out apart from its own tables."""
    if name == THREE or key == "lm_head.weight":
        return key
    if key.startswith("visual."):
        return f"model.{key}"
    return key.replace("model.", "model.language_model.", 1)


def _text() -> dict[str, Any]:
    return {
        "attention_dropout": 0.0,
        "bos_token_id": 256,
        "eos_token_id": 258,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_hidden_layers": 2,
        "num_key_value_heads": KV,
        "rms_norm_eps": 1e-06,
        "use_cache": True,
        "vocab_size": ROWS,
    }


def _config(name: str, ids: dict[str, int]) -> dict[str, Any]:
    """config.json: of the older one flat, of the newer one nested."""
    tokens = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    shared = {
        "depth": 2,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "patch_size": cases.PATCH[FAMILY[name]],
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if name == TWO:
        vision = shared | {
            "fullatt_block_indexes": [1],
            "hidden_act": "silu",
            "in_chans": 3,
            "spatial_patch_size": 14,
            "tokens_per_second": 2,
            "window_size": 112,
        }
        return {
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            **_text(),
            **tokens,
            "max_position_embeddings": 128000,
            "max_window_layers": 2,
            "model_type": "qwen2_5_vl",
            "rope_scaling": {"mrope_section": [2, 1, 1], "type": "mrope"},
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.41.2",
            "use_sliding_window": False,
            "vision_config": vision,
            "vision_token_id": ids["<|vision_pad|>"],
        }
    rope = {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "rope_type": "default"}
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        **tokens,
        "model_type": "qwen3_vl",
        "text_config": {
            **_text(),
            "attention_bias": False,
            "dtype": "bfloat16",
            "head_dim": HIDDEN // HEADS,
            "max_position_embeddings": 262144,
            "model_type": "qwen3_vl_text",
            "rope_scaling": rope,
            "rope_theta": 5000000,
        },
        "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0",
        "vision_config": shared
        | {
            "deepstack_visual_indexes": list(LEVELS),
            "hidden_act": "gelu_pytorch_tanh",
            "in_channels": 3,
            "initializer_range": 0.02,
            "model_type": "qwen3_vl",
            "num_position_embeddings": 64,
        },
    }


def save_qwen(name: str, cache: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """Save a repository as the cache of the hub holds it after a download, and return the folder of its files.

    Args:
        name: of `NAMES`.
        cache: what HF_HUB_CACHE names.
        tensors: instead of random ones.
    """
    root = cache / ("models--" + name.replace("/", "--"))
    folder = root / "snapshots" / SHA
    folder.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(SHA)
    ids = dict(zip(ADDED, qwen_tokenizer(folder, ADDED), strict=True))
    family = FAMILY[name]
    pixels = {"merge_size": 2, "patch_size": cases.PATCH[family], "temporal_patch_size": 2} | cases.CHANNELS[
        family
    ]
    if name == TWO:
        pixels |= {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor"}
        pixels |= {"max_pixels": 12845056, "min_pixels": 3136}
    else:
        clips = pixels | {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}
        clips |= {"processor_class": "Qwen3VLProcessor", "video_processor_type": "Qwen3VLVideoProcessor"}
        _write(folder / "video_preprocessor_config.json", clips)
        pixels |= {"image_processor_type": "Qwen2VLImageProcessorFast", "processor_class": "Qwen3VLProcessor"}
        pixels |= {"size": {"longest_edge": 16777216, "shortest_edge": 65536}}
    _write(folder / "preprocessor_config.json", pixels)
    _write(folder / "chat_template.json", {"chat_template": TEMPLATE})
    _write(folder / "config.json", _config(name, ids))
    _write(
        folder / "generation_config.json", {"do_sample": True, "eos_token_id": [258, 256], "temperature": 0.7}
    )
    save_sharded(
        random_tensors(shapes_of(name)) if tensors is None else tensors, folder, 4 if name == THREE else 5
    )
    return folder


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2))

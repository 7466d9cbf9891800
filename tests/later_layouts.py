"""Small random checkpoints saved just as three hub repositories are: Gemma 3, SmolVLM2 and Qwen3.5.

What was checked against public copies and listings: the list of files of SmolVLM2-2.2B-Instruct; the config.json of
gemma-3-4b-it (mlx-community/gemma-3-4b-it-bf16) and of Qwen3.5-27B (fine-tuned copies, QwenImageBench's code), key by
key; the preprocessor_config.json of Gemma 3; the processor_config.json of SmolVLM2. The tensor names give the counts of
an index of Qwen3.5's shape at the published depth: 850 of the language model, 333 of the encoder, 15 of a layer that
predicts several tokens (MTP), 1,199 in all; and the 437 of Gemma's encoder. Not seen were the config.json and the
preprocessor_config.json of SmolVLM2 and the processor files of Qwen3.5: their keys are those of transformers' classes
and of Qwen3-VL's repository. Sizes are scaled down, so keys that Gemma's config leaves to the class are stated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from hub_layouts import LETTERS, SHA, Shapes, qwen_tokenizer, random_tensors, save_sharded, save_tokenizer
from qwen_folder import TEMPLATE as QWEN_TEMPLATE
from qwen_layouts import ADDED

GEMMA, SMOL, QWEN = (
    "google/gemma-3-4b-it",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
    "Qwen/Qwen3.5-27B",
)
NAMES = (GEMMA, SMOL, QWEN)
FAMILY = {GEMMA: "gemma3", SMOL: "smolvlm", QWEN: "qwen3_5"}
HIDDEN, INNER, HEADS, KV, HEAD, ROWS, SIDE, PATCH = 32, 64, 4, 2, 16, 400, 56, 14
KEYS, VALUES, STATE = 2, 4, 8
"""Heads of keys and values of linear attention, and their width."""

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SMOL_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %} {{ c['text'] }}{% else %}<{{ c['type'] }}>{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


# -- tensors -----------------------------------------------------------------------------------------------------------


def _pairs(shapes: dict[str, tuple[int, ...]]) -> Shapes:
    """A weight of each shape and a bias of its first side."""
    weights = {f"{name}.weight": shape for name, shape in shapes.items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in shapes.items()}


def _mlp(at: str) -> Shapes:
    shapes: Shapes = {f"{at}mlp.{part}_proj.weight": (INNER, HIDDEN) for part in ("gate", "up")}
    return shapes | {f"{at}mlp.down_proj.weight": (HIDDEN, INNER)}


def _attention(at: str, *, gated: bool = False, normed: bool = True) -> Shapes:
    shapes: Shapes = {
        f"{at}self_attn.q_proj.weight": (HEADS * HEAD * (2 if gated else 1), HIDDEN),
        f"{at}self_attn.k_proj.weight": (KV * HEAD, HIDDEN),
        f"{at}self_attn.v_proj.weight": (KV * HEAD, HIDDEN),
        f"{at}self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD),
    }
    return shapes | ({f"{at}self_attn.{part}_norm.weight": (HEAD,) for part in ("q", "k")} if normed else {})


def _siglip(root: str, layers: int) -> Shapes:
    pairs: dict[str, tuple[int, ...]] = {"post_layernorm": (HIDDEN,)}
    for layer in range(layers):
        at = f"encoder.layers.{layer}."
        pairs |= {f"{at}self_attn.{part}_proj": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "out")}
        pairs |= {f"{at}mlp.fc1": (INNER, HIDDEN), f"{at}mlp.fc2": (HIDDEN, INNER)}
        pairs |= {f"{at}layer_norm{number}": (HIDDEN,) for number in (1, 2)}
    shapes = _pairs(pairs) | {
        "embeddings.patch_embedding.weight": (HIDDEN, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (HIDDEN,),
        "embeddings.position_embedding.weight": ((SIDE // PATCH) ** 2, HIDDEN),
    }
    return {f"{root}{name}": shape for name, shape in shapes.items()}


def _linear(at: str) -> Shapes:
    mixed, values = 2 * KEYS * STATE + VALUES * STATE, VALUES * STATE
    return {
        f"{at}linear_attn.in_proj_qkv.weight": (mixed, HIDDEN),
        f"{at}linear_attn.in_proj_z.weight": (values, HIDDEN),
        f"{at}linear_attn.in_proj_a.weight": (VALUES, HIDDEN),
        f"{at}linear_attn.in_proj_b.weight": (VALUES, HIDDEN),
        f"{at}linear_attn.conv1d.weight": (mixed, 1, 4),
        f"{at}linear_attn.A_log": (VALUES,),
        f"{at}linear_attn.dt_bias": (VALUES,),
        f"{at}linear_attn.norm.weight": (STATE,),
        f"{at}linear_attn.out_proj.weight": (HIDDEN, values),
    }


def _norms(at: str, *parts: str) -> Shapes:
    return {f"{at}{part}_layernorm.weight": (HIDDEN,) for part in parts}


def _gemma(layers: int, encoder: int) -> Shapes:
    root = "language_model.model."
    shapes: Shapes = {f"{root}embed_tokens.weight": (ROWS, HIDDEN), f"{root}norm.weight": (HIDDEN,)}
    for layer in range(layers):
        at = f"{root}layers.{layer}."
        shapes |= _attention(at) | _mlp(at)
        shapes |= _norms(at, "input", "post_attention", "pre_feedforward", "post_feedforward")
    shapes |= _siglip("vision_tower.vision_model.", encoder)
    return shapes | {
        "multi_modal_projector.mm_input_projection_weight": (HIDDEN, HIDDEN),
        "multi_modal_projector.mm_soft_emb_norm.weight": (HIDDEN,),
    }


def _smol(layers: int, encoder: int) -> Shapes:
    root = "model.text_model."
    shapes: Shapes = {
        "lm_head.weight": (ROWS, HIDDEN),
        f"{root}embed_tokens.weight": (ROWS, HIDDEN),
        f"{root}norm.weight": (HIDDEN,),
        "model.connector.modality_projection.proj.weight": (HIDDEN, 4 * HIDDEN),
    }
    for layer in range(layers):
        at = f"{root}layers.{layer}."
        shapes |= _attention(at, normed=False) | _mlp(at) | _norms(at, "input", "post_attention")
    return shapes | _siglip("model.vision_model.", encoder)


def _qwen(layers: int, encoder: int) -> Shapes:
    root, together = "model.language_model.", 4 * HIDDEN
    shapes: Shapes = {
        "lm_head.weight": (ROWS, HIDDEN),
        f"{root}embed_tokens.weight": (ROWS, HIDDEN),
        f"{root}norm.weight": (HIDDEN,),
    }
    for layer in range(layers):
        at = f"{root}layers.{layer}."
        shapes |= _linear(at) if (layer + 1) % 4 else _attention(at, gated=True)
        shapes |= _mlp(at) | _norms(at, "input", "post_attention")
    pairs: dict[str, tuple[int, ...]] = {}
    for layer in range(encoder):
        at = f"blocks.{layer}."
        pairs |= {f"{at}attn.qkv": (3 * HIDDEN, HIDDEN), f"{at}attn.proj": (HIDDEN, HIDDEN)}
        pairs |= {f"{at}mlp.linear_fc1": (INNER, HIDDEN), f"{at}mlp.linear_fc2": (HIDDEN, INNER)}
        pairs |= {f"{at}norm{number}": (HIDDEN,) for number in (1, 2)}
    pairs |= {"merger.linear_fc1": (together, together), "merger.linear_fc2": (HIDDEN, together)}
    vision = _pairs(pairs | {"merger.norm": (HIDDEN,)}) | {
        "patch_embed.proj.weight": (HIDDEN, 3, 2, 16, 16),
        "patch_embed.proj.bias": (HIDDEN,),
        "pos_embed.weight": (64, HIDDEN),
    }
    shapes |= {f"model.visual.{name}": shape for name, shape in vision.items()}
    shapes |= _attention("mtp.layers.0.", gated=True) | _mlp("mtp.layers.0.")
    shapes |= _norms("mtp.layers.0.", "input", "post_attention")
    shapes |= {
        f"mtp.{name}.weight": (HIDDEN,) for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")
    }
    return shapes | {"mtp.fc.weight": (HIDDEN, 2 * HIDDEN)}


DEPTHS = {GEMMA: (6, 2), SMOL: (2, 2), QWEN: (4, 2)}
"""Decoder and encoder layers of the small ones; Gemma's sixth and Qwen's fourth layer is the full one."""


def shapes_of(name: str, layers: int | None = None, encoder: int | None = None) -> Shapes:
    """Tensors of a repository by the names in its files."""
    depths = (layers or DEPTHS[name][0], encoder or DEPTHS[name][1])
    return {GEMMA: _gemma, SMOL: _smol, QWEN: _qwen}[name](*depths)


def ours(name: str, key: str) -> str | None:
    """What transformers calls a tensor of a repository, written out apart from its own tables; None: it has none."""
    if name == GEMMA:
        plain = key.replace("language_model.model.", "language_model.").replace(".vision_model.", ".")
        return f"model.{plain}"
    return None if key.startswith("mtp.") else key


# -- files -------------------------------------------------------------------------------------------------------------


def _vision(**others: Any) -> dict[str, Any]:
    return {"hidden_size": HIDDEN, "intermediate_size": INNER, **others}


def _text(**others: Any) -> dict[str, Any]:
    return {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV,
        "head_dim": HEAD,
        "vocab_size": ROWS,
        **others,
    }


def _gemma_files(folder: Path) -> dict[str, Any]:
    start = ["<pad>", "<eos>", "<bos>", "<unk>"]
    added = ["<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
    words = [*start, *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS, "\n", *added]
    core = Tokenizer(
        models.BPE(
            vocab={word: number for number, word in enumerate(words)},
            merges=[],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    core.normalizer = normalizers.Replace(" ", "▁")
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.post_processor = TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    marks = dict(zip(("boi_token", "eoi_token", "image_token"), added[2:], strict=True))
    save_tokenizer(
        folder,
        core,
        [*start, *added],
        tokenizer_class="GemmaTokenizer",
        processor_class="Gemma3Processor",
        add_bos_token=True,
        add_eos_token=False,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=marks,
        sp_model_kwargs=None,
        spaces_between_special_tokens=False,
        use_default_system_prompt=False,
        model_max_length=10**30,
        **marks,
    )
    ids = {key: core.token_to_id(token) for key, token in marks.items()}
    return {
        "config.json": {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "boi_token_index": ids["boi_token"],
            "eoi_token_index": ids["eoi_token"],
            "eos_token_id": [1, core.token_to_id("<end_of_turn>")],
            "image_token_index": ids["image_token"],
            "initializer_range": 0.02,
            "mm_tokens_per_image": 4,
            "model_type": "gemma3",
            "text_config": _text(
                model_type="gemma3_text",
                num_hidden_layers=6,
                rope_scaling={"factor": 8.0, "rope_type": "linear"},
                sliding_window=1024,
            ),
            "torch_dtype": "bfloat16",
            "transformers_version": "4.50.0.dev0",
            "vision_config": _vision(
                image_size=SIDE,
                model_type="siglip_vision_model",
                num_attention_heads=HEADS,
                num_hidden_layers=2,
                patch_size=PATCH,
                vision_use_head=False,
            ),
        },
        "generation_config.json": {"bos_token_id": 2, "do_sample": True, "eos_token_id": [1], "top_k": 64},
        "preprocessor_config.json": {
            "do_convert_rgb": None,
            "do_normalize": True,
            "do_pan_and_scan": None,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "Gemma3ImageProcessor",
            "image_seq_length": 4,
            "image_std": [0.5, 0.5, 0.5],
            "pan_and_scan_max_num_crops": None,
            "pan_and_scan_min_crop_size": None,
            "pan_and_scan_min_ratio_to_activate": None,
            "processor_class": "Gemma3Processor",
            "resample": 2,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": SIDE, "width": SIDE},
        },
        "processor_config.json": {"image_seq_length": 4, "processor_class": "Gemma3Processor"},
        "chat_template.json": {"chat_template": GEMMA_TEMPLATE},
    }


def _smol_files(folder: Path) -> dict[str, Any]:
    marks = {
        "end_of_utterance_token": "<end_of_utterance>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "image_token": "<image>",
    }
    words = ["<|im_start|>", "<|im_end|>", *marks.values()]
    words += [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate([*words, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    (folder / "vocab.json").write_text(json.dumps({word: core.token_to_id(word) for word in alphabet}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    save_tokenizer(
        folder,
        core,
        words,
        tokenizer_class="GPT2Tokenizer",
        processor_class="SmolVLMProcessor",
        add_prefix_space=False,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|im_end|>",
        extra_special_tokens=marks,
        model_max_length=16384,
        truncation_side="left",
        **marks,
    )
    (folder / "added_tokens.json").write_text(json.dumps({word: core.token_to_id(word) for word in words}))
    return {
        "config.json": {
            "architectures": ["SmolVLMForConditionalGeneration"],
            "image_token_id": core.token_to_id("<image>"),
            "model_type": "smolvlm",
            "pad_token_id": core.token_to_id("<|im_end|>"),
            "scale_factor": 2,
            "text_config": _text(
                architectures=["VLlama3ForCausalLM"],
                max_position_embeddings=8192,
                model_type="llama",
                num_hidden_layers=2,
                pad_token_id=core.token_to_id("<|im_end|>"),
                rms_norm_eps=1e-05,
                rope_theta=130000,
                torch_dtype="bfloat16",
            ),
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "transformers_version": "4.47.1",
            "use_cache": False,
            "vision_config": _vision(
                image_size=SIDE,
                max_image_size={"longest_edge": SIDE},
                model_type="smolvlm_vision",
                num_attention_heads=HEADS,
                num_hidden_layers=2,
                patch_size=PATCH,
                size={"longest_edge": 4 * SIDE},
            ),
            "vocab_size": ROWS,
        },
        "generation_config.json": {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 2},
        "preprocessor_config.json": {
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "SmolVLMImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "max_image_size": {"longest_edge": SIDE},
            "processor_class": "SmolVLMProcessor",
            "resample": 1,
            "rescale_factor": 0.00392156862745098,
            "size": {"longest_edge": 4 * SIDE},
            "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": SIDE}},
        },
        "processor_config.json": {"image_seq_len": 4, "processor_class": "SmolVLMProcessor"},
        "chat_template.json": {"chat_template": SMOL_TEMPLATE},
    }


def _qwen_files(folder: Path) -> dict[str, Any]:
    ids = dict(zip(ADDED, qwen_tokenizer(folder, ADDED), strict=True))
    pixels = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "merge_size": 2, "patch_size": 16}
    pixels |= {"temporal_patch_size": 2, "processor_class": "Qwen3VLProcessor"}
    rope = {"mrope_interleaved": True, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
    return {
        "config.json": {
            "architectures": ["Qwen3_5ForConditionalGeneration"],
            "image_token_id": ids["<|image_pad|>"],
            "model_type": "qwen3_5",
            "text_config": _text(
                attention_bias=False,
                attention_dropout=0.0,
                attn_output_gate=True,
                dtype="bfloat16",
                eos_token_id=258,
                full_attention_interval=4,
                hidden_act="silu",
                initializer_range=0.02,
                layer_types=["linear_attention"] * 3 + ["full_attention"],
                linear_conv_kernel_dim=4,
                linear_key_head_dim=STATE,
                linear_num_key_heads=KEYS,
                linear_num_value_heads=VALUES,
                linear_value_head_dim=STATE,
                mamba_ssm_dtype="float32",
                max_position_embeddings=262144,
                mlp_only_layers=[],
                model_type="qwen3_5_text",
                mtp_num_hidden_layers=1,
                mtp_use_dedicated_embeddings=False,
                num_hidden_layers=4,
                partial_rotary_factor=0.5,
                rms_norm_eps=1e-06,
                rope_parameters={**rope, "rope_theta": 10000000, "rope_type": "default"},
                tie_word_embeddings=False,
                use_cache=True,
            ),
            "tie_word_embeddings": False,
            "transformers_version": "4.57.0.dev0",
            "video_token_id": ids["<|video_pad|>"],
            "vision_config": _vision(
                deepstack_visual_indexes=[],
                depth=2,
                hidden_act="gelu_pytorch_tanh",
                in_channels=3,
                initializer_range=0.02,
                model_type="qwen3_5",
                num_heads=2,
                num_position_embeddings=64,
                out_hidden_size=HIDDEN,
                patch_size=16,
                spatial_merge_size=2,
                temporal_patch_size=2,
            ),
            "vision_end_token_id": ids["<|vision_end|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
        },
        "generation_config.json": {"do_sample": True, "eos_token_id": [258, 256], "temperature": 0.6},
        "preprocessor_config.json": pixels
        | {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        },
        "video_preprocessor_config.json": pixels
        | {
            "video_processor_type": "Qwen3VLVideoProcessor",
            "size": {"longest_edge": 25165824, "shortest_edge": 4096},
        },
        "chat_template.jinja": QWEN_TEMPLATE,
    }


def save_later(name: str, cache: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
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
    files = {GEMMA: _gemma_files, SMOL: _smol_files, QWEN: _qwen_files}[name](folder)
    for file, content in files.items():
        (folder / file).write_text(content if isinstance(content, str) else json.dumps(content, indent=2))
    form = "model.safetensors-{}-of-{}.safetensors" if name == QWEN else "model-{}-of-{}.safetensors"
    save_sharded(random_tensors(shapes_of(name)) if tensors is None else tensors, folder, 2, form)
    return folder

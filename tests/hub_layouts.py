"""Small random checkpoints saved just as six hub repositories are: their files, keys, tokens and tensor names.

What was checked against public copies of the repositories: the config.json of llava-onevision-qwen2-7b-ov, of
llava-v1.6-mistral-7b-hf, of LLaVA-NeXT-Video-7B-hf (as transformers 4.57 prints it) and of the original
llava-v1.6-vicuna-7b, key by key; and that llava-onevision-qwen2-7b-ov has 765 tensors, 26 encoder layers and no
pooling head. Sizes are scaled down, and the original layout names its encoder by a `vision_config`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

HIDDEN, INNER, HEADS, PATCH = 64, 128, 4, 14
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:?!<>/[]"
ROWS = 384
"""Rows of every embedding; like the real ones, more than there are tokens."""
SHA = "0123456789abcdef0123456789abcdef01234567"

Shapes = dict[str, tuple[int, ...]]


def decoder_shapes(layers: int, kv_heads: int, bias: bool) -> Shapes:
    """Tensors of a Llama, Mistral (no bias) or Qwen2 (q, k, v bias) decoder, as in its own repository."""
    kv = HIDDEN // HEADS * kv_heads
    shapes: Shapes = {"model.embed_tokens.weight": (ROWS, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for name, size in (("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)):
            shapes[f"{at}self_attn.{name}_proj.weight"] = (size, HIDDEN)
            if bias and name != "o":
                shapes[f"{at}self_attn.{name}_proj.bias"] = (size,)
        shapes |= {f"{at}mlp.{name}_proj.weight": (INNER, HIDDEN) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (HIDDEN, INNER)
        shapes |= {f"{at}{name}_layernorm.weight": (HIDDEN,) for name in ("input", "post_attention")}
    return shapes | {"lm_head.weight": (ROWS, HIDDEN)}


def encoder_shapes(layers: int, patches: int, cls: bool) -> Shapes:
    """Tensors of CLIP's (with CLS) or SigLIP's vision model below `vision_model.`, without pooling head."""
    shapes: Shapes = {
        "embeddings.patch_embedding.weight": (HIDDEN, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": (patches + cls, HIDDEN),
    }
    if cls:
        shapes |= {"embeddings.class_embedding": (HIDDEN,)}
    else:
        shapes |= {"embeddings.patch_embedding.bias": (HIDDEN,)}
    pairs = {"post_layernorm": (HIDDEN,)} | ({"pre_layrnorm": (HIDDEN,)} if cls else {})
    for layer in range(layers):
        at = f"encoder.layers.{layer}."
        pairs |= {f"{at}self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "out")}
        pairs |= {f"{at}mlp.fc1": (INNER, HIDDEN), f"{at}mlp.fc2": (HIDDEN, INNER)}
        pairs |= {f"{at}layer_norm{number}": (HIDDEN,) for number in (1, 2)}
    for name, shape in pairs.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {f"vision_model.{name}": shape for name, shape in shapes.items()}


def converted_shapes(decoder: Shapes, encoder: Shapes) -> Shapes:
    """Names of llava-hf repositories, which were saved before transformers 4.52."""
    return {
        "image_newline": (HIDDEN,),
        **{f"language_model.{name}": shape for name, shape in decoder.items()},
        **{f"vision_tower.{name}": shape for name, shape in encoder.items()},
        **{
            f"multi_modal_projector.{name}": shape
            for name, shape in _projector("linear_1", "linear_2").items()
        },
    }


def original_shapes(decoder: Shapes, encoder: Shapes) -> Shapes:
    """Names of the LLaVA-NeXT repository."""
    return {
        "model.image_newline": (HIDDEN,),
        **decoder,
        **{f"model.vision_tower.vision_tower.{name}": shape for name, shape in encoder.items()},
        **{f"model.mm_projector.{name}": shape for name, shape in _projector("0", "2").items()},
    }


def _projector(first: str, second: str) -> Shapes:
    square: Shapes = {f"{name}.weight": (HIDDEN, HIDDEN) for name in (first, second)}
    return square | {f"{name}.bias": (HIDDEN,) for name in (first, second)}


def renamed_since(names: str, name: str) -> str:
    """What transformers has called a tensor of `converted_shapes` since 4.52 ("4.52") and since 5 ("5")."""
    if name.startswith("language_model.lm_head"):
        return name.removeprefix("language_model.")
    new = "model." + name.replace("language_model.model.", "language_model.")
    return new.replace("vision_tower.vision_model.", "vision_tower.") if names == "5" else new


# -- tokenizers ----------------------------------------------------------------------------------------------


def llama_tokenizer(folder: Path, added: list[str], processor: str) -> list[int]:
    """A Llama tokenizer of bytes and letters, with the tokens that the conversion added; returns their ids."""
    start = ["<unk>", "<s>", "</s>"]
    vocabulary = {
        token: i for i, token in enumerate([*start, *(f"<0x{b:02X}>" for b in range(256)), *LETTERS])
    }
    core = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    save_tokenizer(
        folder,
        core,
        [*start, *added],
        tokenizer_class="LlamaTokenizer",
        processor_class=processor,
        add_bos_token=True,
        add_eos_token=False,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>" if "<pad>" in added else "<unk>",
        legacy=False,
        sp_model_kwargs={},
        model_max_length=4096,
        padding_side="left",
    )
    return [core.token_to_id(token) for token in added]


def qwen_tokenizer(folder: Path, added: list[str], **settings: Any) -> list[int]:
    """A Qwen2 tokenizer of bytes, with `added` after its own special tokens; returns their ids."""
    vocabulary = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *added]
    save_tokenizer(
        folder,
        core,
        special,
        tokenizer_class="Qwen2Tokenizer",
        add_prefix_space=False,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        errors="replace",
        model_max_length=32768,
        split_special_tokens=False,
        **settings,
    )
    (folder / "added_tokens.json").write_text(json.dumps({t: core.token_to_id(t) for t in special}))
    return [core.token_to_id(token) for token in added]


def save_tokenizer(folder: Path, core: Tokenizer, special: list[str], **settings: Any) -> None:
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    core.save(str(folder / "tokenizer.json"))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    decoder = {str(core.token_to_id(token)): {"content": token, **flags} for token in special}
    settings |= {"added_tokens_decoder": decoder, "clean_up_tokenization_spaces": False}
    _write(folder / "tokenizer_config.json", settings)
    _write(
        folder / "special_tokens_map.json", {k: v for k, v in settings.items() if k.endswith("_token") and v}
    )


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2))


# -- config.json ---------------------------------------------------------------------------------------------

_CLIP = {
    "hidden_size": HIDDEN,
    "image_size": 56,
    "intermediate_size": INNER,
    "model_type": "clip_vision_model",
    "num_attention_heads": HEADS,
    "num_hidden_layers": 3,
    "patch_size": PATCH,
    "projection_dim": 16,
    "vocab_size": 300,
}
_SIGLIP = {
    "hidden_size": HIDDEN,
    "image_size": 70,
    "intermediate_size": INNER,
    "model_type": "siglip_vision_model",
    "num_attention_heads": HEADS,
    "num_hidden_layers": 3,
    "patch_size": PATCH,
}
_SMALL = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_hidden_layers": 2,
    "vocab_size": ROWS,
}
_VICUNA = _SMALL | {
    "_name_or_path": "lmsys/vicuna-7b-v1.5",
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "torch_dtype": "float16",
}
_MISTRAL = _SMALL | {
    "_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2",
    "architectures": ["MistralForCausalLM"],
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "torch_dtype": "bfloat16",
}
_QWEN = {
    "attention_dropout": 0.0,
    "bos_token_id": 256,
    "eos_token_id": 258,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "max_position_embeddings": 32768,
    "max_window_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "use_cache": True,
    "use_sliding_window": False,
} | _SMALL
_NEXT_PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
_ONE_PINPOINTS = [[70 * i, 70 * j] for i in range(1, 7) for j in range(1, 7)]


def _next_config(text: dict[str, Any], image: int, pad: int) -> dict[str, Any]:
    return {
        "architectures": ["LlavaNextForConditionalGeneration"],
        "ignore_index": -100,
        "image_grid_pinpoints": _NEXT_PINPOINTS,
        "image_token_index": image,
        "model_type": "llava_next",
        "pad_token_id": pad,
        "projector_hidden_act": "gelu",
        "text_config": text,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.39.0.dev0",
        "use_image_newline_parameter": True,
        "vision_config": _CLIP,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": ROWS,
    }


def _next_video_config(image: int, video: int, pad: int) -> dict[str, Any]:
    linear = {"factor": 2.5, "rope_type": "linear", "type": "linear"}
    return _next_config(_VICUNA | {"rope_scaling": linear, "type": "linear"}, image, pad) | {
        "architectures": ["LlavaNextVideoForConditionalGeneration"],
        "image_seq_length": 576,
        "model_type": "llava_next_video",
        "multimodal_projector_bias": True,
        "spatial_pool_mode": "average",
        "spatial_pool_out_channels": HIDDEN,
        "spatial_pool_stride": 2,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.42.0.dev0",
        "video_seq_length": 288,
        "video_token_index": video,
    }


def _onevision_config(image: int, video: int) -> dict[str, Any]:
    return {
        "architectures": ["LlavaOnevisionForConditionalGeneration"],
        "ignore_index": -100,
        "image_grid_pinpoints": _ONE_PINPOINTS,
        "image_token_index": image,
        "model_type": "llava_onevision",
        "projector_hidden_act": "gelu",
        "text_config": _QWEN | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.45.0.dev0",
        "use_image_newline_parameter": True,
        "video_token_index": video,
        "vision_aspect_ratio": "anyres_max_9",
        "vision_config": _SIGLIP | {"vision_use_head": False},
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
    }


_FLAT = _QWEN | {
    "_name_or_path": "lmms-lab/llava-onevision-qwen2-7b-ov",
    "architectures": ["LlavaQwenForCausalLM"],
    "image_aspect_ratio": "anyres_max_9",
    "image_crop_resolution": None,
    "image_grid_pinpoints": _ONE_PINPOINTS,
    "image_split_resolution": None,
    "image_token_index": 151646,
    "mm_hidden_size": HIDDEN,
    "mm_newline_position": "one_token",
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_lr": None,
    "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None,
    "mm_spatial_pool_mode": "bilinear",
    "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "mm_vision_tower_lr": 2e-06,
    "model_type": "llava",
    "pos_skipping_range": 4096,
    "tokenizer_model_max_length": 32768,
    "tokenizer_padding_side": "right",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.40.0.dev0",
    "use_mm_proj": True,
    "use_pos_skipping": False,
    "vision_tower_pretrained": None,
    "vision_config": _SIGLIP,
}
_LLAVA_VIDEO = {
    "_name_or_path": "lmms-lab/LLaVA-Video-7B-Qwen2",
    "add_faster_video": False,
    "add_time_instruction": False,
    "faster_token_stride": 10,
    "force_sample": True,
    "mm_newline_position": "grid",
    "mm_spatial_pool_mode": "average",
    "mm_spatial_pool_stride": 2,
}

# -- processor files -----------------------------------------------------------------------------------------

_PARTS = "{% for part in message['content'] | selectattr('type', 'equalto', 'KIND') %}{{ SHOWN }}{% endfor %}"


def _template(turn: str, before: str, end: str, prompt: str, kinds: tuple[str, ...], line: str) -> str:
    """In the form of the llava-hf repositories: all pictures, all clips, then all text of a message."""
    shown = [(kind, f"'<{kind}>{line}'") for kind in kinds] + [("text", f"{before} part['text']")]
    parts = "".join(_PARTS.replace("KIND", kind).replace("SHOWN", what) for kind, what in shown)
    start, close = "{% for message in messages %}", "{% endfor %}"
    return (
        f"{start}{turn}{parts}{end}{close}{{% if add_generation_prompt %}}{{{{ '{prompt}' }}}}{{% endif %}}"
    )


_ROLE = "{{ message['role'].upper() + ': ' }}"
_VICUNA_TEMPLATE = _template(_ROLE, "", "{{ ' ' }}", "ASSISTANT:", ("image",), "\\n")
_VIDEO_TEMPLATE = _template(_ROLE, "", "{{ ' ' }}", "ASSISTANT:", ("image", "video"), "\\n")
_MISTRAL_TEMPLATE = _template("{{ '[INST] ' }}", "", "{{ ' [/INST]' }}", "", ("image",), "\\n")
_QWEN_TEMPLATE = _template(
    "{{ '<|im_start|>' + message['role'] + ' ' }}",
    "'\\n' +",
    "{{ '<|im_end|>' }}",
    "<|im_start|>assistant\\n",
    ("image", "video"),
    "",
)


def _processor_files(folder: Path, kind: str, template: str, pinpoints: Any, **joint: Any) -> None:
    clip = "Onevision" not in kind
    common: dict[str, Any] = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_grid_pinpoints": pinpoints,
        "image_mean": [0.48145466, 0.4578275, 0.40821073] if clip else [0.5, 0.5, 0.5],
        "image_processor_type": "LlavaNextImageProcessor" if clip else "LlavaOnevisionImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711] if clip else [0.5, 0.5, 0.5],
        "processor_class": kind,
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 56} if clip else {"height": 70, "width": 70},
    }
    if clip:
        common |= {"crop_size": {"height": 56, "width": 56}, "do_center_crop": True}
    _write(folder / "preprocessor_config.json", common)
    _write(folder / "processor_config.json", {"image_token": "<image>", "processor_class": kind, **joint})
    _write(folder / "chat_template.json", {"chat_template": template})


# -- the repositories ----------------------------------------------------------------------------------------


def _save_vicuna(folder: Path) -> None:
    image, pad = llama_tokenizer(folder, ["<image>", "<pad>"], "LlavaNextProcessor")
    _write(folder / "config.json", _next_config(_VICUNA, image, pad))
    joint = {
        "patch_size": PATCH,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }
    _processor_files(folder, "LlavaNextProcessor", _VICUNA_TEMPLATE, _NEXT_PINPOINTS, **joint)


def _save_mistral(folder: Path) -> None:
    image, pad = llama_tokenizer(folder, ["<image>", "<pad>"], "LlavaNextProcessor")
    _write(folder / "config.json", _next_config(_MISTRAL, image, pad))
    joint = {"patch_size": PATCH, "vision_feature_select_strategy": "default"}
    _processor_files(folder, "LlavaNextProcessor", _MISTRAL_TEMPLATE, _NEXT_PINPOINTS, **joint)


def _save_next_video(folder: Path) -> None:
    added = ["<video>", "<image>", "<pad>"]  # the clip's comes first here: 32000, and 32001 for pictures
    video, image, pad = llama_tokenizer(folder, added, "LlavaNextVideoProcessor")
    _write(folder / "config.json", _next_video_config(image, video, pad))
    joint = {"patch_size": PATCH, "video_token": "<video>", "vision_feature_select_strategy": "default"}
    _processor_files(folder, "LlavaNextVideoProcessor", _VIDEO_TEMPLATE, _NEXT_PINPOINTS, **joint)


def _save_onevision(folder: Path) -> None:
    image, video = qwen_tokenizer(folder, ["<image>", "<video>"], processor_class="LlavaOnevisionProcessor")
    _write(folder / "config.json", _onevision_config(image, video))
    joint = {"num_image_tokens": 25, "video_token": "<video>", "vision_feature_select_strategy": "full"}
    _processor_files(folder, "LlavaOnevisionProcessor", _QWEN_TEMPLATE, _ONE_PINPOINTS, **joint)


def _save_original(folder: Path, **settings: Any) -> None:
    qwen_tokenizer(folder, [], padding_side="right")
    _write(folder / "config.json", _FLAT | settings)
    _write(
        folder / "generation_config.json", {"do_sample": True, "eos_token_id": [258, 256], "temperature": 0.7}
    )


@dataclass(frozen=True)
class Repository:
    """One hub repository.

    Attributes:
        save: writes everything but the weights into a folder.
        shapes: of its tensors, by the names in its files.
        shards: how many weight files it has.
        clips: whether it answers questions about clips.
        model_type: of the model that it becomes.
    """

    save: Callable[[Path], None]
    shapes: Shapes
    shards: int
    clips: bool
    model_type: str


_CLIP_TOWER = encoder_shapes(3, 16, cls=True)
_SIGLIP_TOWER = encoder_shapes(3, 25, cls=False)
_LLAMA_TENSORS, _GQA_TENSORS = decoder_shapes(2, 4, bias=False), decoder_shapes(2, 2, bias=False)
_QWEN_TENSORS = decoder_shapes(2, 2, bias=True)
_CONVERTED_QWEN = converted_shapes(_QWEN_TENSORS, _SIGLIP_TOWER)
_ORIGINAL_QWEN = original_shapes(_QWEN_TENSORS, _SIGLIP_TOWER)
REPOSITORIES = {
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": Repository(
        _save_onevision, _CONVERTED_QWEN, 4, True, "llava_onevision"
    ),
    "llava-hf/llava-v1.6-vicuna-7b-hf": Repository(
        _save_vicuna, converted_shapes(_LLAMA_TENSORS, _CLIP_TOWER), 3, False, "llava_next"
    ),
    "llava-hf/llava-v1.6-mistral-7b-hf": Repository(
        _save_mistral, converted_shapes(_GQA_TENSORS, _CLIP_TOWER), 4, False, "llava_next"
    ),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": Repository(
        _save_next_video, converted_shapes(_LLAMA_TENSORS, _CLIP_TOWER), 3, True, "llava_next_video"
    ),
    "lmms-lab/LLaVA-Video-7B-Qwen2": Repository(
        lambda folder: _save_original(folder, **_LLAVA_VIDEO), _ORIGINAL_QWEN, 4, True, "llava_video"
    ),
    "lmms-lab/llava-onevision-qwen2-7b-ov": Repository(
        _save_original, _ORIGINAL_QWEN, 4, True, "llava_onevision"
    ),
}


def random_tensors(shapes: Shapes) -> dict[str, torch.Tensor]:
    """Weights in bfloat16, as the repositories have them; large enough that answers differ between inputs."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * (0.2 if len(shape) > 1 else 0.05)
        made[name] = (value + ("norm" in name and name.endswith("weight"))).to(torch.bfloat16)
    return made


def save_repository(name: str, cache: Path, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """Save a repository as the cache of the hub holds it after a download, and return the folder of its files.

    Args:
        name: of `REPOSITORIES`.
        cache: what HF_HUB_CACHE names.
        tensors: instead of random ones.
    """
    repository = REPOSITORIES[name]
    root = cache / ("models--" + name.replace("/", "--"))
    folder = root / "snapshots" / SHA
    folder.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(SHA)
    repository.save(folder)
    save_sharded(random_tensors(repository.shapes) if tensors is None else tensors, folder, repository.shards)
    return folder


def save_sharded(
    tensors: dict[str, torch.Tensor], folder: Path, shards: int, form: str = "model-{}-of-{}.safetensors"
) -> None:
    """Save weights in `shards` files of names of that form, with the index that says which tensor is where."""
    names = sorted(tensors)
    where = {}
    for number in range(shards):
        filename = form.format(f"{number + 1:05d}", f"{shards:05d}")
        part = {name: tensors[name] for name in names[number::shards]}
        save_file(part, folder / filename, metadata={"format": "pt"})
        where |= dict.fromkeys(part, filename)
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    _write(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": where})

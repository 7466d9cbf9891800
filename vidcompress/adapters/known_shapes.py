"""Public numbers of the checkpoints that people use: what the configs of model, encoder and decoder hold.

Embeddings have the rows that they were padded to when placeholders were added; `base_vocab_size` has those before.
"""

from __future__ import annotations

from typing import Any

_CLIP_L = {  # openai/clip-vit-large-patch14-336
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
_SIGLIP = {  # google/siglip-so400m-patch14-384 without its last layer and its pooling head, as these models use it
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
_VICUNA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32064,
    "base_vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_VICUNA_13B = _VICUNA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
}
_MISTRAL_7B = _VICUNA_7B | {
    "model_type": "mistral",
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}
_QWEN2_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152128,
    "base_vocab_size": 152064,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
}
_QWEN2_05B = _QWEN2_7B | {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 152000,
    "base_vocab_size": 151936,
    "tie_word_embeddings": True,
}
_NEXT = {
    "model_type": "llava_next",
    "image_token_index": 32000,
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
}
_ONEVISION = {
    "model_type": "llava_onevision",
    "image_token_index": 151646,
    "video_token_index": 151647,
    "vision_feature_layer": -1,
    "vision_feature_select_strategy": "full",
    "vision_aspect_ratio": "anyres_max_9",
    "image_grid_pinpoints": [[384 * i, 384 * j] for i in range(1, 7) for j in range(1, 7)],
}

GEOMETRIES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "llava-next-7b": (_NEXT, _CLIP_L, _VICUNA_7B),  # llava-v1.6-vicuna-7b
    "llava-next-13b": (_NEXT, _CLIP_L, _VICUNA_13B),  # llava-v1.6-vicuna-13b
    "llava-next-mistral-7b": (_NEXT, _CLIP_L, _MISTRAL_7B),  # llava-v1.6-mistral-7b
    "llava-onevision-0.5b": (_ONEVISION, _SIGLIP, _QWEN2_05B),  # llava-onevision-qwen2-0.5b-ov
    "llava-onevision-7b": (_ONEVISION, _SIGLIP, _QWEN2_7B),  # llava-onevision-qwen2-7b-ov
    "llava-video-7b": (  # LLaVA-Video-7B-Qwen2
        _ONEVISION | {"model_type": "llava_video"},
        _SIGLIP,
        _QWEN2_7B | {"vocab_size": 152064},
    ),
}
"""Name -> what the configs of the model, its encoder and its decoder hold."""

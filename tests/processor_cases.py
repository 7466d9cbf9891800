"""Cases of processors with native resolution, shared by the tests and by `scripts/record_processors.py`.

Nothing here imports vidcompress: the recordings are made where it is not installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

IMAGE_SIZES = (
    (28, 28),
    (20, 30),
    (37, 61),
    (200, 31),
    (3, 90),
    (56, 56),
    (96, 64),
    (480, 640),
    (333, 1000),
    (1000, 12),
    (512, 512),
    (720, 1280),
)
CLIP_FRAMES = (1, 2, 7, 32)
CLIP_SIZE = (90, 130)
STEP, FPS = 5, 12.0
"""Every fifth frame of a clip of 12 frames a second was sampled."""

SPECIAL = {
    "pad_token": "<|endoftext|>",
    "eos_token": "<|im_end|>",
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "qwen2_5_vl": {
        "hub": {"min_pixels": 3136, "max_pixels": 12845056},
        "small": {"size": {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 20}},
    },
    "qwen3_vl": {
        "hub": {"size": {"shortest_edge": 65536, "longest_edge": 16777216}},
        "small": {"size": {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 20}},
    },
}
"""By family and name: the settings of the pictures."""

CLIP_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "qwen2_5_vl": {
        "hub": {"min_pixels": 3136, "max_pixels": 12845056},
        "small": {"size": {"shortest_edge": 28 * 28 * 2, "longest_edge": 28 * 28 * 6}},
        "capped": {
            "size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 40},
            "cap_pixels_per_frame": True,
            "max_video_tokens": 100,
        },
    },
    "qwen3_vl": {
        "hub": {"size": {"shortest_edge": 4096, "longest_edge": 25165824}},
        "small": {"size": {"shortest_edge": 32 * 32 * 2, "longest_edge": 32 * 32 * 40}},
        "capped": {
            "size": {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 4000},
            "cap_pixels_per_frame": True,
            "max_video_tokens": 6,
        },
    },
}
CHANNELS = {
    "qwen2_5_vl": {
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "qwen3_vl": {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]},
}
PATCH = {"qwen2_5_vl": 14, "qwen3_vl": 16}
SAMPLED: tuple[tuple[int, float, dict[str, Any]], ...] = (
    (90, 30.0, {}),
    (10, 30.0, {}),
    (5, 25.0, {}),
    (3000, 29.97, {}),
    (61, 24.0, {"fps": 1}),
    (100, 25.0, {"fps": 5}),
    (100, 25.0, {"num_frames": 8}),
    (33, 10.0, {"num_frames": 7}),
)
"""Frames and frame rate of a clip, and what is asked of it; nothing is two frames per second."""


def template(video: bool) -> str:
    """A prompt with one picture, or one clip, in the words of the families' chat templates."""
    inner = SPECIAL["video_token" if video else "image_token"]
    return f"<|im_start|>user\n<|vision_start|>{inner}<|vision_end|>What is it?<|im_end|>\n<|im_start|>assistant\n"


def picture(seed: int, height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture with flat parts, sharp edges and noise: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x + y) % 256], axis=-1)
    edges = (((x // 5) + (y // 7)) % 2 * 255)[..., None]
    noise = rng.integers(0, 256, (height, width, 3))
    kind = ((x * 3 // max(1, width)) + (y * 2 // max(1, height))) % 3
    return np.choose(kind[..., None], [ramp, edges + 0 * ramp, noise]).astype(np.uint8)


def clip(frames: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Frames of a clip: uint8 (frame, height, width, 3)."""
    return np.stack([picture(100 + number, *CLIP_SIZE) for number in range(frames)])


def bytes_tokenizer() -> Any:
    """A tokenizer of single bytes with the families' special tokens, the same in every environment."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [*dict.fromkeys(SPECIAL.values()), "<|im_start|>"]
    vocab = {token: number for number, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    extra = {name: token for name, token in SPECIAL.items() if name not in ("pad_token", "eos_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL["pad_token"],
        eos_token=SPECIAL["eos_token"],
        extra_special_tokens=extra,
        padding_side="left",
    )


def few(values: Any) -> Any:
    """Some of the numbers of (patch, value): every 1009th."""
    return np.asarray(values, dtype=np.float32).reshape(-1)[::1009]

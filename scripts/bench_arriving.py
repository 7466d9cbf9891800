"""What decoding a clip while it is encoded gives, on the clock: the same question with and without, in turns.

    python scripts/bench_arriving.py --json docs/results/arriving.json

A drawn H.264 clip, and two models: the embedded tiny-onevision, whose encoder takes less time than decoding does, and a
random one as wide as LLaVA-OneVision-0.5B with few encoder layers, where both take about as long. "allowed" is what is
left when the shorter of reading (decode and preprocess) and encoding is hidden entirely behind the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

CASES: dict[str, dict[str, Any]] = {
    "tiny-onevision": {"frames": 64, "size": (1280, 720)},
    "middle": {"frames": 64, "size": (1280, 720)},
}
"""Models, frames taken of the clip, and its (width, height)."""


def middle() -> Any:
    """A random float32 OneVision: an encoder of 64 x 6 layers on 196 patches, a decoder of 128 x 2 layers."""
    import torch
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        Qwen2Config,
        SiglipVisionConfig,
    )

    from vidcompress import VisualQA, load_processor

    tiny = VisualQA.from_pretrained("tiny-onevision", device="cpu")
    known = tiny.model.config
    torch.manual_seed(0)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=256,
            intermediate_size=1024,
            num_hidden_layers=6,
            num_attention_heads=4,
            image_size=224,
            patch_size=16,
            vision_use_head=False,
        ),
        text_config=Qwen2Config(
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=known.text_config.vocab_size,
            max_position_embeddings=8192,
        ),
        image_token_id=known.image_token_id,
        video_token_id=known.video_token_id,
        image_grid_pinpoints=[[224, 224]],
    )
    model = LlavaOnevisionForConditionalGeneration(config).eval()
    processor = load_processor(model, tokenizer=tiny.processor.tokenizer)
    processor.chat_template = tiny.processor.chat_template
    return VisualQA(model, processor)


def draw(path: Path, frames: int, size: tuple[int, int]) -> None:
    """Write a moving picture with grain, three seconds for every eight frames taken, as H.264 with a group of 48."""
    import av

    width, height = size
    grain = np.random.default_rng(0).integers(-8, 9, (height, width, 1), dtype=np.int16)
    y, x = np.mgrid[0:height, 0:width]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "veryfast", "g": "48"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames * 3):
            waves = [np.sin((x * (1 + c) + y * (2 - c)) / 37 + number / (3 + c)) for c in range(3)]
            picture = (np.stack(waves, axis=-1) + 1) * 119.5 + np.roll(grain, 5 * number, axis=1)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)

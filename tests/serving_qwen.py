"""Prompts of the Qwen-VL families for the tests of serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving_answers import clip, picture

MARKS = {kind: f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video")}
PROMPT = "<|im_start|>user {} what is shown?<|im_end|><|im_start|>assistant"
ENGINE = dict(max_model_len=2048, max_num_batched_tokens=2048, block_size=32)


@dataclass(frozen=True)
class Clip:
    """Frames, and how many of them a second shows."""

    frames: Any
    fps: float

    @property
    def metadata(self) -> dict[str, Any]:
        count = len(self.frames)
        return {
            "fps": self.fps,
            "duration": count / self.fps,
            "total_num_frames": count,
            "frames_indices": list(range(count)),
            "video_backend": "opencv",
        }


IMAGE, WIDE = picture(100, 160), picture(60, 200, 2)
SHORT, LONG = Clip(clip(4), 2.0), Clip(clip(7, 90, 130, 5), 1.0)
KINDS: dict[str, list[Any]] = {
    "image": [IMAGE],
    "images": [IMAGE, WIDE],
    "clip": [SHORT],
    "clips": [LONG, SHORT],
    "image and clip": [IMAGE, LONG],
    "clip and image": [SHORT, IMAGE],
}


def text_of(items: list[Any]) -> str:
    return PROMPT.format("".join(MARKS["video" if isinstance(item, Clip) else "image"] for item in items))


def for_engine(items: list[Any]) -> dict[str, Any]:
    media: dict[str, Any] = {}
    for item in items:
        if isinstance(item, Clip):
            media.setdefault("video", []).append((item.frames, {**item.metadata, "do_sample_frames": False}))
        else:
            media.setdefault("image", []).append(item)
    return media

"""LLaVA-Video as a transformers model; transformers has no class for it.

It is LLaVA-OneVision with another way of laying out clips: frames are averaged 2 x 2 (27 x 27 patches become 13 x 13
tokens) instead of resized, and every row of every frame ends with a newline instead of the clip as a whole. The
weights have the same names, so they load on the OneVision class, where they are another model.

Importing this module makes the family known to AutoConfig, AutoModel and AutoModelForImageTextToText, and lets it read
checkpoints in the older naming that transformers reads for OneVision.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
    LlavaOnevisionPreTrainedModel,
)
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.utils import can_return_tuple


class LlavaVideoConfig(LlavaOnevisionConfig):  # type: ignore[misc]
    """The config of LLaVA-OneVision, every field and default of it, under `model_type` "llava_video"."""

    model_type = "llava_video"


class LlavaVideoModel(LlavaOnevisionModel):  # type: ignore[misc]
    """Encoder, projector and language model, without the language-modelling head."""

    config_class = LlavaVideoConfig

    def apply_pooling(self, image_features: Tensor) -> Tensor:
        """Average pooling 2 x 2; an odd last row and column are left out.

        Args:
            image_features: (frame, patch, channel), patches of a square in row order.

        Returns:
            (frame, token, channel), a quarter of the patches.
        """
        vision = self.config.vision_config
        side = vision.image_size // vision.patch_size
        grid = image_features.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return avg_pool2d(grid, 2).flatten(2).transpose(1, 2)

    @can_return_tuple  # type: ignore[untyped-decorator]
    def get_video_features(self, pixel_values_videos: Tensor, **kwargs: Any) -> Any:
        """Encode clips, with a newline after every row of every frame and none after the clip.

        Args:
            pixel_values_videos: (clip, frame, channel, height, width).
            **kwargs: as in LLaVA-OneVision.

        Returns:
            The encoder's outputs; `pooler_output` is (clip, frame x row x (col + 1), D).
        """
        outputs = super().get_video_features(pixel_values_videos, **{**kwargs, "return_dict": True})
        vision = self.config.vision_config
        side = vision.image_size // vision.patch_size // 2
        rows = outputs.pooler_output[:, :-1].unflatten(1, (-1, side))  # without OneVision's trailing newline
        newline = self.image_newline.to(rows.device, rows.dtype).expand(*rows.shape[:2], 1, -1)
        outputs.pooler_output = torch.cat((rows, newline), dim=2).flatten(1, 2)
        return outputs


class LlavaVideoForConditionalGeneration(LlavaOnevisionForConditionalGeneration):  # type: ignore[misc]
    """LLaVA-Video with its language-modelling head: plain `generate`, `save_pretrained` and `from_pretrained`."""

    config_class = LlavaVideoConfig

    def __init__(self, config: LlavaVideoConfig) -> None:
        LlavaOnevisionPreTrainedModel.__init__(self, config)
        self.model = LlavaVideoModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()


AutoConfig.register(LlavaVideoConfig.model_type, LlavaVideoConfig, exist_ok=True)
AutoModel.register(LlavaVideoConfig, LlavaVideoModel, exist_ok=True)
AutoModelForImageTextToText.register(LlavaVideoConfig, LlavaVideoForConditionalGeneration, exist_ok=True)
# transformers finds renamings by model type and by class.
for _ours, _theirs in (
    (LlavaVideoConfig.model_type, LlavaOnevisionConfig.model_type),
    (LlavaVideoModel.__name__, LlavaOnevisionModel.__name__),
):
    register_checkpoint_conversion_mapping(
        _ours, get_checkpoint_conversion_mapping(_theirs) or [], overwrite=True
    )

"""Shapes of models: those of the checkpoints that people use, by name, and of any config, as plain numbers.

A random model of `config_of(name)` has the tensors of the real checkpoint, so it takes the same time and memory. The
numbers are those of the checkpoints' public config.json; embeddings have the rows that they were padded to.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from .checks import whole_number
from .errors import ArgumentError, UnsupportedModelError, nearest, shown

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
    "vocab_size": 152000,
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


def config_of(name: str, *, decoder_layers: int | None = None, encoder_layers: int | None = None) -> Any:
    """The transformers config of a named geometry.

    Args:
        name: one of `GEOMETRIES`.
        decoder_layers: fewer (or more) than the checkpoint has, for machines that it does not fit on.
        encoder_layers: likewise, at least 2.

    Returns:
        A new `PretrainedConfig` of the family, for `AutoModelForImageTextToText.from_config`.

    Raises:
        ArgumentError: no such geometry, or a number of layers that is none.
    """
    if not isinstance(name, str) or name not in GEOMETRIES:
        hint = nearest(name if isinstance(name, str) else "", GEOMETRIES)
        raise ArgumentError(f"geometry={shown(name)}: no such geometry; {hint}")
    from transformers import AutoConfig

    from .registry import ADAPTERS

    ADAPTERS.names()  # importing the adapters makes LLaVA-Video known to transformers
    family, vision, text = GEOMETRIES[name]
    layers = (
        {"num_hidden_layers": whole_number("decoder_layers", decoder_layers)}
        if decoder_layers is not None
        else {}
    )
    depth = (
        {"num_hidden_layers": whole_number("encoder_layers", encoder_layers, least=2)}
        if encoder_layers is not None
        else {}
    )
    return AutoConfig.for_model(
        **family,
        vision_config={**vision, **depth},
        text_config={**text, **layers},
        tie_word_embeddings=text["tie_word_embeddings"],
    )


@dataclass(frozen=True)
class EncoderGeometry:
    """A vision transformer.

    Attributes:
        hidden: C, width. ffn: width of its two-matrix MLP. layers: L of the config. heads: of attention.
        runs: layers whose output is needed for `vision_feature_layer`; at most L.
        image_size: side of the pictures it takes, in pixels. patch_size: side of a patch, in pixels.
        channels: of a picture.
        cls: tokens it adds to the patches of a picture, 0 or 1.
    """

    hidden: int
    ffn: int
    layers: int
    heads: int
    runs: int
    image_size: int
    patch_size: int
    channels: int
    cls: int

    @property
    def side(self) -> int:
        """Patches along one side of a picture."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return self.side**2

    @property
    def tokens(self) -> int:
        """Tokens in the encoder per picture."""
        return self.patches + self.cls


@dataclass(frozen=True)
class DecoderGeometry:
    """A language model with a gated MLP.

    Attributes:
        hidden: D, width. ffn: width of its three-matrix MLP. layers: of it. heads: H. kv_heads: G. head_dim: d.
        vocab: rows of the embedding. tied: whether `lm_head` is the embedding.
    """

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool


@dataclass(frozen=True)
class Geometry:
    """The numbers of a model that its cost follows from.

    Attributes:
        model_type: of the family.
        encoder: the vision tower.
        projector: (in, out) of its matrices in order; read from the projector of LLaVA models, a two-layer MLP.
        decoder: the language model.
    """

    model_type: str
    encoder: EncoderGeometry
    projector: tuple[tuple[int, int], ...]
    decoder: DecoderGeometry

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, for JSON."""
        return asdict(self)

    def with_layers(self, *, decoder: int | None = None, encoder: int | None = None) -> Geometry:
        """The same widths with other depths."""
        text = self.decoder if decoder is None else replace(self.decoder, layers=decoder)
        vision = self.encoder
        if encoder is not None:
            vision = replace(vision, layers=encoder, runs=max(1, vision.runs + encoder - vision.layers))
        return replace(self, decoder=text, encoder=vision)


def geometry_of(config: Any) -> Geometry:
    """Read the numbers of any model with a vision tower, an MLP projector and a decoder.

    Args:
        config: of a model of a registered family, `PretrainedConfig`.

    Raises:
        UnsupportedModelError: the config lacks a number; the message names it.
    """
    vision, text = getattr(config, "vision_config", None), config.get_text_config()
    if vision is None:
        raise UnsupportedModelError(
            f"config of type {shown(getattr(config, 'model_type', None))} has no vision_config; cost is known of "
            "models with a vision encoder in front of a language model"
        )
    layers, heads = _number(vision, "num_hidden_layers"), _number(text, "num_attention_heads")
    wanted = getattr(config, "vision_feature_layer", -1)
    chosen = [wanted] if isinstance(wanted, int) else list(wanted)
    hidden, width = _number(vision, "hidden_size"), _number(text, "hidden_size")
    encoder = EncoderGeometry(
        hidden=hidden,
        ffn=_number(vision, "intermediate_size"),
        layers=layers,
        heads=_number(vision, "num_attention_heads"),
        runs=max(index if index >= 0 else layers + 1 + index for index in chosen),
        image_size=_number(vision, "image_size"),
        patch_size=_number(vision, "patch_size"),
        channels=getattr(vision, "num_channels", 3),
        cls=int(str(getattr(vision, "model_type", "")).startswith("clip")),
    )
    decoder = DecoderGeometry(
        hidden=width,
        ffn=_number(text, "intermediate_size"),
        layers=_number(text, "num_hidden_layers"),
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or width // heads,
        vocab=_number(text, "vocab_size"),
        tied=bool(getattr(config, "tie_word_embeddings", getattr(text, "tie_word_embeddings", False))),
    )
    return Geometry(config.model_type, encoder, ((hidden * len(chosen), width), (width, width)), decoder)


def _number(config: Any, key: str) -> int:
    value = getattr(config, key, None)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnsupportedModelError(
            f"{key}={shown(value)} in the {getattr(config, 'model_type', 'model')} config: expected a whole number of at "
            "least 1"
        )
    return value

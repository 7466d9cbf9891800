"""Shapes of models as plain numbers, read from a config: encoder, projector and decoder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vidcompress.adapters.family.geometry import downsample_ratio, tokens_per_side
from vidcompress.adapters.traits import encoder_has_cls
from vidcompress.checks import is_number
from vidcompress.errors import UnsupportedModelError, shown

MOST_LAYERS, MOST_PIXELS, MOST_WIDTH, MOST_WORDS, MOST_CHANNELS = 1000, 16_384, 2**20, 2**30, 1024
"""Upper bounds, beyond any real model; a config.json from elsewhere may state any number."""

ANY_SIDES = ("pixtral",)
"""Encoders that take pictures of any sides and state their numbers as encoders of one size do."""
UNLIKE_LAYERS = ("gemma4_text",)
"""Decoders whose layers differ in heads and widths, share keys and values, or have inputs of their own."""
KINDS = {
    "full_attention": "full",
    "chunked_attention": "full",  # at most
    "sliding_attention": "window",
    "linear_attention": "linear",
}
"""Kinds of decoder layers in a config, and in a `DecoderShape`."""
DELTA_RULES = ("qwen3_5_text",)
"""Decoders whose linear attention is a gated delta rule."""


@dataclass(frozen=True)
class EncoderShape:
    """A vision transformer.

    Attributes:
        hidden: C, width. ffn: width of its MLP. layers: L of the config. heads: of attention.
        runs: layers whose output is needed for `vision_feature_layer`; at most L.
        image_size: side of its pictures, in pixels; 0 for any sides. patch_size: side of a patch, in pixels.
        channels: of a picture.
        cls: tokens it adds to the patches of a picture, 0 or 1.
        gated: whether the MLP has three matrices, else two.
        frames: pictures that share a patch.
        merge: patches along one side of a token, where the projector joins patches; 1 where it does not.
        window: side of the squares that attention stays within, in patches; None for whole pictures.
        whole: layers whose attention is over whole pictures in spite of `window`.
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
    gated: bool = False
    frames: int = 1
    merge: int = 1
    window: int | None = None
    whole: int = 0

    @property
    def side(self) -> int:
        """Patches along one side of a picture."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return self.side**2

    @property
    def projected(self) -> int:
        """Tokens of a picture behind the projector."""
        return self.patches // self.merge**2

    @property
    def tokens(self) -> int:
        """Tokens in the encoder per picture."""
        return self.patches + self.cls


@dataclass(frozen=True)
class LinearShape:
    """Linear attention by a gated delta rule over a state of fixed size (Gated DeltaNet, arXiv 2412.06464).

    Attributes:
        key_heads: of queries, and of keys. value_heads: of values; each has a state of (key_dim, value_dim).
        key_dim: width of a head of queries and keys. value_dim: of a head of values.
        kernel: of the convolution of queries, keys and values, in tokens.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def values(self) -> int:
        """Width of all heads of values."""
        return self.value_heads * self.value_dim

    @property
    def mixed(self) -> int:
        """Width of queries, keys and values, which are the channels of the convolution."""
        return 2 * self.key_heads * self.key_dim + self.values

    @property
    def state(self) -> int:
        """Numbers of the state."""
        return self.value_heads * self.key_dim * self.value_dim


@dataclass(frozen=True)
class DecoderShape:
    """A language model with a gated MLP.

    Attributes:
        hidden: D, width. ffn: width of its three-matrix MLP. layers: of it. heads: H. kv_heads: G. head_dim: d.
        vocab: rows of the embedding. tied: whether `lm_head` is the embedding.
        base_vocab: rows before placeholders were added, where known; used for counts of the language model alone.
        kinds: of the layers, in order: "full" attention, attention within a "window", or "linear"; () for full ones
            alone.
        window: tokens that a layer with a window attends to, its own included; None without such layers.
        linear: linear attention of the others; None without.
        gated: whether attention has an output gate as wide as the queries, which their projection makes too.
    """

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    base_vocab: int
    kinds: tuple[str, ...] = ()
    window: int | None = None
    linear: LinearShape | None = None
    gated: bool = False


@dataclass(frozen=True)
class ModelShape:
    """Shape of a model: the numbers that its cost follows from.

    Attributes:
        model_type: of the family.
        encoder: the vision tower.
        projector: (in, out) of its matrices in order; mostly an MLP of two layers, and another for each level of
            companions.
        decoder: the language model.
    """

    model_type: str
    encoder: EncoderShape
    projector: tuple[tuple[int, int], ...]
    decoder: DecoderShape

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, for JSON."""
        return asdict(self)


def geometry_of(config: Any) -> ModelShape:
    """Read the numbers of any model with a vision tower, an MLP projector and a decoder.

    Args:
        config: of a model of a registered family, `PretrainedConfig`.

    Raises:
        UnsupportedModelError: the config lacks a number; the message names it.
    """
    vision, text = getattr(config, "vision_config", None), config.get_text_config()
    if getattr(text, "model_type", None) in UNLIKE_LAYERS:
        raise UnsupportedModelError(
            f"model_type={config.model_type!r} has a decoder whose layers are not alike, whose cost is not known; take "
            "a model of another family, or measure with compare"
        )
    if vision is None:
        raise UnsupportedModelError(
            f"config of type {shown(getattr(config, 'model_type', None))} has no vision_config; cost is known of "
            "models with a vision encoder in front of a language model"
        )
    if getattr(vision, "spatial_merge_size", None) is not None:
        encoder, projector = _packed(vision, _number(text, "hidden_size"))
        return ModelShape(config.model_type, encoder, projector, _decoder(config, text))
    if getattr(vision, "model_type", None) in ANY_SIDES:
        encoder, projector = _any_sides(config, vision, _number(text, "hidden_size"))
        return ModelShape(config.model_type, encoder, projector, _decoder(config, text))
    layers = _number(vision, "num_hidden_layers", most=MOST_LAYERS)
    chosen = _feature_layers(config, layers)
    hidden, width = _number(vision, "hidden_size"), _number(text, "hidden_size")
    encoder = EncoderShape(
        hidden=hidden,
        ffn=_number(vision, "intermediate_size"),
        layers=layers,
        heads=_number(vision, "num_attention_heads"),
        runs=max(chosen),
        image_size=_number(vision, "image_size", most=MOST_PIXELS),
        patch_size=_number(vision, "patch_size", most=MOST_PIXELS),
        channels=_number(vision, "num_channels", 3, most=MOST_CHANNELS),
        cls=int(encoder_has_cls(config)),
        merge=_merge(config),
    )
    matrices = [(hidden * len(chosen) * encoder.merge**2, width)]
    if getattr(config, "mm_tokens_per_image", None) is not None:  # Gemma's: an average, then one matrix
        matrices = [(hidden, width)]
    elif getattr(config, "scale_factor", None) is None:  # Idefics3 has one matrix, the others an MLP of two
        matrices.append((width, width))
    return ModelShape(config.model_type, encoder, tuple(matrices), _decoder(config, text))


def _packed(vision: Any, width: int) -> tuple[EncoderShape, tuple[tuple[int, int], ...]]:
    """Read an encoder of any number of patches, and the matrices between it and a decoder of that width."""
    kind = str(getattr(vision, "model_type", ""))
    if kind.startswith("glm"):  # gated layers, a convolution, and a gated merger
        raise UnsupportedModelError(
            f"vision_config of type {kind!r} is an encoder whose cost is not known; take a Qwen-VL model, whose "
            "encoder takes pictures of any size too"
        )
    inner = "embed_dim" if getattr(vision, "embed_dim", None) is not None else "hidden_size"  # of Qwen2-VL
    hidden, layers = _number(vision, inner), _number(vision, "depth", most=MOST_LAYERS)
    patch, merge = _number(vision, "patch_size", most=MOST_PIXELS), _number(vision, "spatial_merge_size")
    windows, companions = getattr(vision, "fullatt_block_indexes", None), ()
    if windows is None:
        companions = tuple(getattr(vision, "deepstack_visual_indexes", None) or ())
    ratio = getattr(vision, "mlp_ratio", None)
    ffn = getattr(vision, "intermediate_size", None)
    if ffn is None and isinstance(ratio, (int, float)):
        ffn = int(hidden * ratio)
    encoder = EncoderShape(
        hidden=hidden,
        ffn=int(ffn) if ffn is not None else _number(vision, "intermediate_size"),
        layers=layers,
        heads=_number(vision, "num_heads"),
        runs=layers,
        image_size=0,
        patch_size=patch,
        channels=_number(vision, "in_channels", 3, most=MOST_CHANNELS),
        cls=0,
        gated=windows is not None,
        frames=_number(vision, "temporal_patch_size", 1, most=MOST_CHANNELS),
        merge=merge,
        window=None if windows is None else _number(vision, "window_size") // merge // patch * merge,
        whole=0 if windows is None else len(windows),
    )
    together = hidden * merge**2
    return encoder, ((together, together), (together, width)) * (1 + len(companions))


def _any_sides(config: Any, vision: Any, width: int) -> tuple[EncoderShape, tuple[tuple[int, int], ...]]:
    """Read an encoder with gated MLPs that takes pictures of any sides, and the matrices behind it."""
    hidden, layers = _number(vision, "hidden_size"), _number(vision, "num_hidden_layers", most=MOST_LAYERS)
    merge = _number(config, "spatial_merge_size")
    encoder = EncoderShape(
        hidden=hidden,
        ffn=_number(vision, "intermediate_size"),
        layers=layers,
        heads=_number(vision, "num_attention_heads"),
        runs=max(_feature_layers(config, layers)),
        image_size=0,
        patch_size=_number(vision, "patch_size", most=MOST_PIXELS),
        channels=_number(vision, "num_channels", 3, most=MOST_CHANNELS),
        cls=0,
        gated=True,
        merge=merge,
    )
    return encoder, ((hidden * merge**2, hidden), (hidden, width), (width, width))


def _decoder(config: Any, text: Any) -> DecoderShape:
    width, heads = _number(text, "hidden_size"), _number(text, "num_attention_heads")
    if any(getattr(text, key, None) is not None for key in ("num_experts", "n_routed_experts")):
        raise UnsupportedModelError(
            f"model_type={config.model_type!r} is a mixture of experts, whose cost is not known; take a model of that "
            "family with one MLP per layer"
        )
    layers = _number(text, "num_hidden_layers", most=MOST_LAYERS)
    kinds = _kinds(config, text, layers)
    vocab = _number(text, "vocab_size", most=MOST_WORDS)
    return DecoderShape(
        hidden=width,
        ffn=_number(text, "intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        head_dim=_number(text, "head_dim", width // heads),
        vocab=vocab,
        tied=bool(getattr(config, "tie_word_embeddings", getattr(text, "tie_word_embeddings", False))),
        base_vocab=_number(text, "base_vocab_size", vocab, most=MOST_WORDS),
        kinds=() if set(kinds) == {"full"} else kinds,
        window=_number(text, "sliding_window", most=MOST_WORDS) if "window" in kinds else None,
        linear=_linear(text) if "linear" in kinds else None,
        gated="linear" in kinds,
    )


def _kinds(config: Any, text: Any, layers: int) -> tuple[str, ...]:
    """Return the kind of each decoder layer. Mistral states a window for all layers, and no kinds."""
    stated = getattr(text, "layer_types", None)
    if not stated:
        windows = getattr(text, "sliding_window", None) is not None and getattr(
            text, "use_sliding_window", True
        )
        return ("window" if windows else "full",) * layers
    delta = getattr(text, "model_type", None) in DELTA_RULES
    others = sorted(
        {str(kind) for kind in stated} - {kind for kind in KINDS if delta or KINDS[kind] != "linear"}
    )
    if others:
        raise UnsupportedModelError(
            f"model_type={config.model_type!r} has decoder layers of {', '.join(others)}, whose cost is not known; "
            "take a model whose layers are attention, or a Qwen3.5 model"
        )
    if len(stated) != layers:
        raise UnsupportedModelError(
            f"layer_types of {len(stated)} layers in the {text.model_type} config: num_hidden_layers={layers}; fetch "
            "the checkpoint again"
        )
    return tuple(KINDS[str(kind)] for kind in stated)


def _linear(text: Any) -> LinearShape:
    key_heads, value_heads = (_number(text, f"linear_num_{part}_heads") for part in ("key", "value"))
    if value_heads % key_heads:
        raise UnsupportedModelError(
            f"linear_num_key_heads={key_heads} in the {text.model_type} config: must divide linear_num_value_heads="
            f"{value_heads}; fetch the checkpoint again"
        )
    return LinearShape(
        key_heads=key_heads,
        value_heads=value_heads,
        key_dim=_number(text, "linear_key_head_dim"),
        value_dim=_number(text, "linear_value_head_dim"),
        kernel=_number(text, "linear_conv_kernel_dim", most=MOST_CHANNELS),
    )


def _feature_layers(config: Any, layers: int) -> list[int]:
    """Return the number of layers that run for each of the hidden states that the projector reads."""
    layer = getattr(config, "vision_feature_layer", -1)
    chosen = [layer] if isinstance(layer, int) else list(layer)
    if not chosen or not all(-layers - 1 <= index <= layers for index in chosen):
        raise UnsupportedModelError(
            f"vision_feature_layer={shown(layer)} in the {config.model_type} config: an encoder of {layers} layers "
            f"has hidden states from {-layers - 1} to {layers}; fetch the checkpoint again"
        )
    return [index if index >= 0 else layers + 1 + index for index in chosen]


def _kv_heads(text: Any, heads: int) -> int:
    kv_heads = _number(text, "num_key_value_heads", heads, most=heads)
    if heads % kv_heads:
        raise UnsupportedModelError(
            f"num_key_value_heads={kv_heads} in the {text.model_type} config: must divide num_attention_heads={heads}; "
            "fetch the checkpoint again"
        )
    return kv_heads


def _merge(config: Any) -> int:
    """Patches along one side of a token, from `downsample_ratio` (InternVL), `downsample_factor` or `scale_factor`."""
    if getattr(config, "mm_tokens_per_image", None) is not None:
        vision = config.vision_config
        side = _number(vision, "image_size", most=MOST_PIXELS) // _number(
            vision, "patch_size", most=MOST_PIXELS
        )
        return side // tokens_per_side(config, side)
    ratio = downsample_ratio(config)
    if not is_number(ratio) or not 0 < ratio <= 1:
        raise UnsupportedModelError(
            f"downsample_ratio={shown(ratio)} in the {config.model_type} config: must be above 0 and at most 1; fetch "
            "the checkpoint again"
        )
    return int(round(1 / ratio))


def _number(config: Any, key: str, default: int | None = None, *, most: int = MOST_WIDTH) -> int:
    value = getattr(config, key, None)
    if value is None and default is not None:
        return default
    if (
        isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]
    ):  # both sides of a square
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise UnsupportedModelError(
            f"{key}={shown(value)} in the {getattr(config, 'model_type', 'model')} config: expected a whole number "
            f"of at least 1 and at most {most}; fetch the checkpoint again"
        )
    return value

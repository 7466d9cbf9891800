"""Traits of a model family that decide how its prompts may be shortened and pruned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vidcompress.checks import is_whole, one_of
from vidcompress.errors import ArgumentError, shown

Container = Literal["list", "tensor", "hidden"]
CONTAINERS: tuple[Container, ...] = ("list", "tensor", "hidden")
_ENCODERS_WITH_CLS = {"clip_vision_model": True, "siglip_vision_model": False, "internvl_vision": True}


@dataclass(frozen=True)
class Traits:
    """Traits of one model.

    Attributes:
        axes: number of axes of its positions: 1, or 3 or 4 for M-RoPE (4: text, time, height, width). With more
            than 1, positions are always `original`.
        honours_positions: whether `generate` uses the caller's `position_ids`; where not, positions are
            always `contiguous`.
        hybrid: whether some decoder layers are not attention, so that dropped tokens cannot be masked.
        window: width of the decoder's sliding window, in tokens; None without one.
        qk_norm: whether the decoder normalises queries and keys.
        both_ways: whether tokens of one picture attend to later ones too, by masks that the model makes of token types;
            methods inside the language model would lose these masks.
        deep_levels: number of decoder layers behind which companion features of visual tokens are added.
        deep_arguments: names of the language model's arguments for them: the (row, column) bool mask of visual tokens,
            and the list of one (k, D) per level in the order of the mask. A method inside it adds them itself.
        container: what the model reads encoder outputs from: `list` of (k, D) in `pooler_output`, one entry per prompt
            row; `tensor` (sum of k, 1, D) in `pooler_output`; `hidden` (sum of k, 1, C) in `last_hidden_state`, before
            the projector.

    Raises:
        ArgumentError: axes not a whole number of at least 1, levels not one of at least 0, or another container.
    """

    axes: int = 1
    honours_positions: bool = True
    hybrid: bool = False
    window: int | None = None
    qk_norm: bool = False
    both_ways: bool = False
    deep_levels: int = 0
    deep_arguments: tuple[str, str] = ("visual_pos_masks", "deepstack_visual_embeds")
    container: Container = "list"

    def __post_init__(self) -> None:
        one_of("container", self.container, CONTAINERS)
        for name, least in (("axes", 1), ("deep_levels", 0)):
            value = getattr(self, name)
            if not is_whole(value) or value < least:
                raise ArgumentError(f"{name}={shown(value)}: must be a whole number of at least {least}")


def masks_tell(traits: Traits, columns: int) -> bool:
    """Return whether a compressed prompt equals the whole one of so many columns with dropped tokens masked.

    It does not where some layers are not attention, nor beyond a sliding window: that counts columns, and a shortened
    prompt has fewer between two tokens.
    """
    return not traits.hybrid and (traits.window is None or columns <= traits.window)


def read_traits(layers: Any) -> Traits:
    """Read the traits of decoder layers: the sliding window, and whether queries and keys are normalised.

    Args:
        layers: of the decoder, each with `self_attn` or without.
    """
    layers = list(layers)
    attentions = [_member(layer, "self_attn") for layer in layers]
    windows = [_window(attention) for attention in attentions]
    return Traits(
        window=min((int(window) for window in windows if window is not None), default=None),
        qk_norm=any(_member(attention, "q_norm") is not None for attention in attentions),
        hybrid=any(attention is None for attention in attentions),
    )


def _window(attention: Any) -> Any:
    """Return the sliding window of an attention, None without; Mistral's have it in their config alone."""
    own = getattr(attention, "__dict__", {})
    if "sliding_window" in own or hasattr(type(attention), "sliding_window") or "config" not in own:
        return _member(attention, "sliding_window")
    config = own["config"]
    return getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None


def _member(module: Any, name: str) -> Any:
    """Return an attribute or child of a module, None without one; a failing `getattr` of a module is slow."""
    own = getattr(module, "__dict__", {})
    if name in own:
        return own[name]
    child = own.get("_modules", {}).get(name)
    return getattr(type(module), name, None) if child is None else child


def encoder_has_cls(config: Any) -> bool:
    """Whether a vision encoder puts a CLS token before its patches.

    Args:
        config: of the model. For an encoder that is not known here `vision_feature_select_strategy` decides: "default"
            drops that token.
    """
    encoder = str(getattr(config.vision_config, "model_type", ""))
    by_strategy = getattr(config, "vision_feature_select_strategy", None) == "default"
    return _ENCODERS_WITH_CLS.get(encoder, by_strategy)

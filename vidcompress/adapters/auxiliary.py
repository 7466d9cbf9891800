"""Auxiliary weights that a checkpoint lacks, from the caller's folder: SigLIP's pooling head, CLIP's text tower.

Only safetensors are read, every tensor that is needed must have the shape that the folder's config states, and no code
from the folder is run. A folder is read once per process, when a method first needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vidcompress.core.reductions import full_precision
from vidcompress.core.tokens import Evidence, Quantity
from vidcompress.errors import ArgumentError, UnsupportedInputError, UnsupportedModelError

AUXILIARY: tuple[Quantity, ...] = ("pooling_attention", "pooled", "patch_embedding")
"""Quantities that `read_patches` makes."""


class PoolingHead(nn.Module):
    """SigLIP's attention pooling on top of its last layer norm: one learned query per view.

    Args:
        config: a `SiglipVisionConfig`.
    """

    prefixes = ("vision_model.", "")

    def __init__(self, config: Any) -> None:
        from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

        super().__init__()
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = SiglipMultiheadAttentionPoolingHead(config)

    def forward(self, hidden: Tensor) -> dict[Quantity, Tensor]:
        """Return head-mean attention (view, patch) and pooled features (view, C) of patches (view, patch, C)."""
        states = self.post_layernorm(hidden)
        probe = self.head.probe.expand(states.shape[0], -1, -1)
        pooled, attention = self.head.attention(probe, states, states)
        pooled = pooled + self.head.mlp(self.head.layernorm(pooled))
        return {"pooling_attention": attention[:, 0], "pooled": pooled[:, 0]}


class PatchProjection(nn.Module):
    """CLIP's projection into the space it shares with text, applied to patches instead of the CLS token.

    Args:
        config: a `CLIPConfig`.
    """

    prefixes = ("",)

    def __init__(self, config: Any) -> None:
        super().__init__()
        width = config.vision_config.hidden_size
        norm = nn.LayerNorm(width, eps=config.vision_config.layer_norm_eps)
        self.vision_model = nn.ModuleDict({"post_layernorm": norm})
        self.visual_projection = nn.Linear(width, config.projection_dim, bias=False)

    def forward(self, hidden: Tensor) -> dict[Quantity, Tensor]:
        """Return embeddings (view, patch, E) of patches (view, patch, C)."""
        return {"patch_embedding": self.visual_projection(self.vision_model["post_layernorm"](hidden))}


class TextTower:
    """CLIP's text tower with its tokenizer."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        where = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, **where)
            self._model, info = CLIPTextModelWithProjection.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **where,
            )
        except (OSError, ValueError, KeyError) as error:
            raise ArgumentError(
                f"auxiliary={folder!r}: its text tower does not load ({_line(error)})"
            ) from error
        wrong = sorted(map(str, {*info["missing_keys"], *info["mismatched_keys"]}))
        if wrong:
            raise ArgumentError(
                f"auxiliary={folder!r} lacks tensors of the text tower or has others: {wrong}"
            )
        self._model.eval()

    def __call__(self, text: str) -> Tensor:
        """Return embeddings (S, E) float32 of a text in S segments of at most the tower's length."""
        config = self._model.config
        ids = self._tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]
        size = int(config.max_position_embeddings) - 2
        first, last = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        parts = [[first, *ids[i : i + size], last] for i in range(0, max(1, len(ids)), size)]
        rows = torch.tensor([part + [last] * (size + 2 - len(part)) for part in parts], device="cpu")
        # Attention is causal and the first end token is read, so the filling behind it has no effect.
        embeddings: Tensor = self._model(input_ids=rows).text_embeds
        return embeddings


def read_patches(hidden: Tensor, wanted: Sequence[Evidence], has_cls: bool) -> dict[Evidence, Tensor]:
    """Return the evidence that auxiliary weights compute from the encoder's patches.

    Args:
        hidden: (view, patch, C), without CLS.
        wanted: those of `AUXILIARY`, each with its folder; others are left out.
        has_cls: whether the encoder has a CLS token (CLIP has one, SigLIP does not).

    Returns:
        For each item (view, patch), (view, C) or (view, patch, E), float32.

    Raises:
        UnsupportedModelError: the weights belong to another encoder.
        ArgumentError: the folder does not hold them.
    """
    out: dict[Evidence, Tensor] = {}
    kinds: tuple[tuple[tuple[Quantity, ...], bool, Any], ...] = (
        (("pooling_attention", "pooled"), False, pooling_head),
        (("patch_embedding",), True, patch_projection),
    )
    for quantities, cls, load in kinds:
        for item in wanted:
            if item.quantity not in quantities or item in out:
                continue
            folder = str(item.auxiliary)
            if has_cls != cls:
                raise UnsupportedModelError(
                    f"auxiliary={folder!r} for {item.quantity!r} goes with "
                    f"{'CLIP' if cls else 'SigLIP'} encoders, and this model's is "
                    f"{'one with a CLS token' if has_cls else 'one without a CLS token'}; leave auxiliary out"
                )
            values = _run(load(folder), hidden, folder)
            out |= {
                x: values[x.quantity]
                for x in wanted
                if x.quantity in values and x.auxiliary == item.auxiliary
            }
    return out


def _run(module: nn.Module, hidden: Tensor, folder: str) -> dict[Quantity, Tensor]:
    width = next(m for m in module.modules() if isinstance(m, nn.LayerNorm)).normalized_shape[0]
    if hidden.shape[-1] != width:
        raise UnsupportedModelError(
            f"auxiliary={folder!r} is for an encoder of {width} channels, and this model's has {hidden.shape[-1]}; "
            "name the checkpoint that its encoder comes from"
        )
    with full_precision(hidden):
        values: dict[Quantity, Tensor] = module.to(hidden.device)(hidden.float())
        return values


@lru_cache(maxsize=4)
def pooling_head(folder: str) -> PoolingHead:
    """Load the pooling head from a folder with a SigLIP checkpoint.

    Raises:
        ArgumentError: no such folder, or it lacks the tensors.
    """
    return _filled(PoolingHead, "SiglipVisionConfig", folder)  # type: ignore[no-any-return]


@lru_cache(maxsize=4)
def patch_projection(folder: str) -> PatchProjection:
    """Load the projection of patches from a folder with a CLIP checkpoint.

    Raises:
        ArgumentError: no such folder, or it lacks the tensors.
    """
    return _filled(PatchProjection, "CLIPConfig", folder)  # type: ignore[no-any-return]


@lru_cache(maxsize=4)
def text_tower(folder: str) -> TextTower:
    """Load the text tower from a folder with a CLIP checkpoint.

    Raises:
        ArgumentError: no such folder, or it lacks the tensors.
    """
    _check_folder(folder)
    return TextTower(folder)


@lru_cache(maxsize=4)
def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, trust_remote_code=False)


def question_text(model: Any, ids: Tensor) -> str:
    """Decode a prompt's token ids with the tokenizer from the model's own folder or hub id.

    Raises:
        UnsupportedInputError: the tokenizer does not load.
    """
    name = str(getattr(model.config, "_name_or_path", "") or "")
    try:
        if not name:
            raise OSError("the model was built in memory")
        tokenizer = _tokenizer(name)
    except (OSError, ValueError, KeyError) as error:
        raise UnsupportedInputError(
            f"auxiliary= needs the question as text, and the model's tokenizer does not load from {name!r} "
            f"({_line(error)}); save it beside the model, or leave auxiliary out"
        ) from error
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=True)).strip()


def evidence_of_question(
    model: Any, question: Tensor, evidence: Sequence[Evidence]
) -> dict[Evidence, Tensor]:
    """Return the evidence of a question.

    Args:
        model: with the language model's embeddings, and a name by which its tokenizer loads.
        question: (T,) int64 ids.
        evidence: quantities to compute; those not of the question are left out.

    Returns:
        For `question` (T, D), for `text_embedding` (S, E); both float32.
    """
    values: dict[Evidence, Tensor] = {}
    for item in evidence:
        if item.quantity == "question":
            table = model.get_input_embeddings()
            device = table.weight.device if table.weight.device.type != "meta" else model.device
            values[item] = table(question.to(device)).float()
        elif item.quantity == "text_embedding":
            values[item] = text_tower(str(item.auxiliary))(question_text(model, question))
    return values


def _check_folder(folder: str) -> None:
    if not (Path(folder) / "config.json").is_file():
        what = "has no config.json" if Path(folder).is_dir() else "is not a folder"
        raise ArgumentError(f"auxiliary={folder!r} {what}; pass the folder of a saved checkpoint")


def _filled(module: Any, config_class: str, folder: str) -> Any:
    """Make a module from a folder's config, with its tensors from the folder's safetensors."""
    import transformers

    _check_folder(folder)
    try:
        config = getattr(transformers, config_class).from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            filled = module(config)
        shapes = {name: tuple(value.shape) for name, value in filled.state_dict().items()}
        tensors = _read(folder, shapes, filled.prefixes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"auxiliary={folder!r} does not load: {_line(error)}") from error
    filled.load_state_dict(tensors, strict=True, assign=True)
    return filled.eval().requires_grad_(False)


def _read(folder: str, shapes: Mapping[str, tuple[int, ...]], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Read the named tensors in float32, under any of the prefixes."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            held = set(file.keys())
            for name, shape in shapes.items():
                key = next((prefix + name for prefix in prefixes if prefix + name in held), None)
                if key is not None and tuple(file.get_slice(key).get_shape()) == shape:
                    tensors[name] = file.get_tensor(key).float()
    missing = sorted(set(shapes) - set(tensors))
    if missing:
        raise ArgumentError(
            f"auxiliary={folder!r} lacks {len(missing)} tensors, or has them in other shapes: {missing[:4]}; pass the "
            "folder of the whole original checkpoint, as safetensors"
        )
    return tensors


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" .:")

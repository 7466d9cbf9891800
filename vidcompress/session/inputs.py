"""Model inputs: checks, encoding and selection, and the compressed inputs, a mapping to unpack in calls."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor

from vidcompress.adapters.base import Adapter, Visual
from vidcompress.checks import device as check_device
from vidcompress.checks import flag, is_whole
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import VisualBudget
from vidcompress.core.config import CompressionConfig
from vidcompress.core.devices import input_device
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.method import Method
from vidcompress.core.prompt import Prompt
from vidcompress.core.report import Report
from vidcompress.core.selection import Selection
from vidcompress.core.timing import Timings, phase
from vidcompress.core.tokens import LazyTokens, VisualTokens
from vidcompress.errors import ArgumentError, CompressionStateError, UnsupportedInputError, shown
from vidcompress.llm_pruning.cache_names import CACHE_NAMES, cache_name, given_cache
from vidcompress.llm_pruning.call import DecoderCall
from vidcompress.llm_pruning.mass import attentions_of
from vidcompress.session.columns import COUNTED, check_counted
from vidcompress.session.generation_options import is_filled
from vidcompress.session.held_clips import HeldTokens, encode_held
from vidcompress.session.view_skipping import encode_new_frames, encode_worthy_crops

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SentFeatures:
    """Features of the surviving tokens, one tensor per prompt row.

    Attributes:
        rows: by key of `mm_encoder_outputs`, one (k, D) tensor per prompt row that has visuals of it, in order.
        deep: by the same key, companions of the same tokens: per level one (k, D) tensor per prompt row.
    """

    rows: dict[str, list[Tensor]]
    deep: dict[str, list[list[Tensor]]] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = {key: [tuple(row.shape) for row in rows] for key, rows in self.rows.items()}
        levels = max((len(levels) for levels in self.deep.values()), default=0)
        return f"SentFeatures({rows}, companions of {levels} levels)"


def join_on_one_device(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate the parts of one prompt row on the device of the first."""
    return torch.cat([part.to(parts[0].device) for part in parts])


def row_features(
    adapter: Adapter,
    prompt: Prompt,
    tokens: Mapping[tuple[str, int], VisualTokens],
    selections: Mapping[tuple[str, int], Selection],
    sent: Mapping[tuple[str, int], Tensor],
) -> SentFeatures:
    """Join features and companions to one (k, D) tensor per prompt row and key of `sent_as`, in prompt order."""
    features = SentFeatures({}, {})
    for spans in prompt.spans:
        by_key: dict[str, list[tuple[str, int]]] = {}
        for span in spans:
            by_key.setdefault(adapter.sent_as[span.modality], []).append(span.key)
        for name, keys in by_key.items():
            parts = [sent[key] if key in sent else selections[key].gather(tokens[key]) for key in keys]
            whole = parts[0] if len(parts) == 1 else join_on_one_device(parts)
            features.rows.setdefault(name, []).append(whole)
            deep_keys = [key for key in keys if tokens[key].deep]
            levels = zip(*(selections[key].companions(tokens[key]) for key in deep_keys), strict=True)
            deep = features.deep.setdefault(name, [])
            for number, level in enumerate(levels):
                if number == len(deep):
                    deep.append([])
                deep[number].append(level[0] if len(level) == 1 else join_on_one_device(level))
    return features


def encode_visuals(
    adapter: Adapter,
    visuals: Mapping[tuple[str, int], Visual],
    plans: Mapping[tuple[str, int], VisualBudget],
    settings: CompressionConfig,
    timings: Timings,
) -> tuple[dict[tuple[str, int], VisualTokens], dict[tuple[str, int], int]]:
    """Encode images together and videos together; `encode` is timed, and `compress` of clips that are not held.

    Returns:
        The tokens of each visual, and the number of its views that were not encoded.
    """
    tokens: dict[tuple[str, int], VisualTokens] = {}
    alike: dict[tuple[str, int], int] = {}
    device = input_device(adapter.model)
    for modality in get_args(Modality):
        keys = [key for key in visuals if key[0] == modality]
        if not keys:
            continue
        if modality == "video" and settings.hold is not None:
            tokens |= {key: encode_held(adapter, visuals[key], plans[key], settings, timings) for key in keys}
            continue
        with phase(timings, "encode", device):
            encoded, fewer = _encode_alike(adapter, visuals, plans, settings, modality, keys)
        tokens |= dict(zip(keys, encoded, strict=True))
        alike |= dict(zip(keys, fewer, strict=False))
    return tokens, alike


def _encode_alike(
    adapter: Adapter,
    visuals: Mapping[tuple[str, int], Visual],
    plans: Mapping[tuple[str, int], VisualBudget],
    settings: CompressionConfig,
    modality: Modality,
    keys: list[tuple[str, int]],
) -> tuple[list[VisualTokens], list[int]]:
    """Encode the visuals of one modality; count the views that were not encoded, where any may be left out."""
    evidence = settings.method.needs(modality, has_cls := adapter.has_cls)
    # The heir of a token is the one that is most like it.
    reads = settings.weighs or settings.method.reads_features(modality, has_cls)
    frames = [settings.method.frames(visuals[key].layout, plans[key]) for key in keys]
    part = [visuals[key] for key in keys]
    if modality == "video" and settings.encoder_saving.frames:
        return encode_new_frames(adapter, part, evidence, frames, settings)
    if modality == "image" and settings.encoder_saving.crops:
        return encode_worthy_crops(adapter, part, [plans[key] for key in keys], evidence, settings)
    part = [
        replace(v, may_defer=not reads and plans[k].positions < plans[k].total)
        for k, v in zip(keys, part, strict=True)
    ]
    return adapter.encode(part, evidence, frames, settings.max_views), []


def select_tokens(
    tokens: Mapping[tuple[str, int], VisualTokens],
    plans: Mapping[tuple[str, int], VisualBudget],
    method: Method,
    visuals: Mapping[tuple[str, int], Visual],
) -> dict[tuple[str, int], Selection]:
    """Select from images together and from videos together, in float32 whatever the caller's autocast.

    Tokens of a visual in several runs of placeholders are in the order of their positions.
    """
    selections: dict[tuple[str, int], Selection] = {}
    for modality in ("image", "video"):
        keys = [key for key in tokens if key[0] == modality and not isinstance(tokens[key], HeldTokens)]
        if keys:
            batch = VisualBatch([tokens[key] for key in keys])
            with batch.full_precision():
                of_batch = method.select(batch, [plans[key] for key in keys])
            for key, one in zip(keys, of_batch, strict=True):
                selections[key] = one if len(visuals[key].placeholder_runs) == 1 else one.ascending()
    return selections | {key: one.selection for key, one in tokens.items() if isinstance(one, HeldTokens)}


def scores_of_all(selection: Selection, layout: Layout) -> Tensor | None:
    """Return the scores of a selection by position in the full sequence; NaN for positions that were not encoded.

    Args:
        selection: from the tokens that were encoded.
        layout: of these tokens.
    """
    scores = None if selection.scores is None else selection.scores.detach()
    if scores is None or len(layout) == layout.full_length:
        return scores
    return scores.new_full((layout.full_length,), torch.nan).index_copy(0, layout.source, scores)


def late_features(
    tokens: Mapping[tuple[str, int], VisualTokens], selections: Mapping[tuple[str, int], Selection]
) -> dict[tuple[str, int], Tensor]:
    """Return the features sent of visuals with a deferred projector, projected together."""
    late: dict[tuple[str, int], LazyTokens] = {
        key: one
        for key, one in tokens.items()
        if isinstance(one, LazyTokens) and one.waits and selections[key].features is None
    }
    if not late:
        return {}
    rows = LazyTokens.rows_of(list(late.values()), [selections[key].index for key in late])
    return dict(zip(late, rows, strict=True))


def far_positions(adapter: Adapter, columns: int) -> list[str]:
    """Return a note where a prompt is longer than the model's positions; none where positions are no columns."""
    most = getattr(adapter.model.config.get_text_config(), "max_position_embeddings", None)
    if most is None or not is_whole(most) or columns <= most or adapter.traits.axes != 1:
        return []
    return [
        f"the prompt has positions up to {columns - 1}, the language model was made for {most} "
        "(max_position_embeddings): answers may be bad; lower max_tokens, or use positions='contiguous'"
    ]


class CompressedInputs(Mapping[str, Any]):
    """Model inputs with encoded and selected visual tokens.

    A read-only mapping: `model.generate(**inputs)` or `model(**inputs)`. Every unpacking hands out fresh
    encoder outputs, because `generate` writes into the ones it is given. The answer is
    `out[:, inputs["input_ids"].shape[1]:]`. Keys are attributes too, as those of transformers' inputs.

    Attributes:
        report: counts of the tokens kept, per visual and view, and milliseconds.
        inside: what the call of the language model needs of hooks (pruning inside it, masses), or None.
        features: of the tokens sent, before they are put into encoder outputs.
        text_end: columns of the caller's prompt up to the last text that left it with its view; 0 where none did.
    """

    def __init__(
        self,
        values: dict[str, Any],
        features: SentFeatures,
        report: Report,
        adapter: Adapter,
        inside: DecoderCall | None = None,
        text_end: int = 0,
    ) -> None:
        self.text_end = text_end
        self._values, self.features, self.report, self.inside = values, features, report, inside
        self._hand_over, self._traits = adapter.hand_over, adapter.traits  # neither holds the model
        if logger.isEnabledFor(logging.INFO):
            _log(report)

    @property
    def scaled(self) -> bool:
        """Whether positions of a clip shrink, as `positions="scaled"` does with a long one."""
        return any(visual.position_scale is not None for visual in self.report.visuals)

    def pruning(self) -> AbstractContextManager[None]:
        """Return the context in which to call the model: `with inputs.pruning(): model.generate(**inputs)`.

        A method inside the language model prunes there, and with mass="on" attention weighs the tokens by the masses
        of these inputs; without either the block does nothing. The block is for calls with these inputs and for later
        turns over their cache, which state `position_ids` where positions have gaps: a turn outside it, or another
        prompt inside it, would be answered wrongly, and only the wrong number of rows, and a prompt of one token, can
        be noticed; a `compress` block takes care of turns, positions and prompts. With gradient checkpointing,
        `backward` belongs inside it too. Where transformers compiled decoding steps before, pass
        `disable_compile=True` to generate.
        """
        return nullcontext() if self.inside is None else self.inside.run()

    def continued(self, values: Mapping[str, Any], *, encoded: bool) -> CompressedInputs:
        """Return inputs of a later prompt about the same visuals.

        Args:
            values: the model inputs that differ; the others stay.
            encoded: whether the features are handed over again, because no cache holds them.
        """
        later = copy.copy(self)
        later._values = {**self._values, **values}
        if not encoded:
            later.features = SentFeatures({}, {})
        return later

    @property
    def data(self) -> dict[str, Any]:
        """The inputs as a dict, as in transformers' inputs."""
        return dict(self)

    def to(
        self,
        device: str | int | torch.device | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = False,
    ) -> CompressedInputs:
        """Move the tensors and features, and return the inputs themselves, as transformers' `BatchFeature.to` does.

        Args:
            device: where to; None leaves them. A dtype may stand in its place.
            dtype: a floating-point dtype for features and pixels; ids and masks keep theirs. None leaves all.
            non_blocking: as in `torch.Tensor.to`.

        Raises:
            ArgumentError: no device, one that is not there, or a dtype that is not of floating point.
        """
        if isinstance(device, torch.dtype) and dtype is None:
            device, dtype = None, device
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ArgumentError(
                f"dtype={shown(dtype)}: must be a floating-point torch.dtype, such as torch.bfloat16"
            )
        flag("non_blocking", non_blocking)
        place = (
            None
            if device is None
            else check_device("device", f"cuda:{device}" if is_whole(device) else device)
        )

        def moved(value: Any) -> Any:
            if isinstance(value, list):
                return [moved(entry) for entry in value]
            if isinstance(value, dict):
                return {key: moved(entry) for key, entry in value.items()}
            if not isinstance(value, Tensor):
                return value
            return value.to(place, dtype if value.is_floating_point() else None, non_blocking=non_blocking)

        self._values = {key: moved(value) for key, value in self._values.items()}
        self.features = SentFeatures(moved(self.features.rows), moved(self.features.deep))
        return self

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in self:
            return self[name]
        keys = "" if name.startswith("_") else f"; it has the keys {', '.join(self)}"
        raise AttributeError(f"CompressedInputs has no attribute {name!r}{keys}")

    def __getitem__(self, key: str) -> Any:
        if key == "mm_encoder_outputs" and self.features.rows:
            if self.inside is not None and not self.inside.hand_out():
                raise CompressionStateError(
                    f"{self.inside.why}: call it within `with inputs.pruning():` of the same thread, or use the "
                    f"vidcompress.compress block{self.inside.way_out}"
                )
            return self._hand_over(self._traits, self.features.rows, self.features.deep)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._values or (key == "mm_encoder_outputs" and bool(self.features.rows))

    def __iter__(self) -> Iterator[str]:
        yield from self._values
        if self.features.rows:
            yield "mm_encoder_outputs"

    def __len__(self) -> int:
        return len(self._values) + bool(self.features.rows)

    def __repr__(self) -> str:
        shapes = {
            k: tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for k, v in self._values.items()
        }
        features = [tuple(row.shape) for rows in self.features.rows.values() for row in rows]
        more = f", ... {len(features)} rows" if len(features) > 4 else ""
        listed = ", ".join(map(str, features[:4]))
        return f"CompressedInputs({shapes}, features=[{listed}{more}], {self.report!r})"


def _log(report: Report) -> None:
    """Log the counts that the host has, without a device synchronisation."""
    logger.info(
        "%s kept %d of %d visual tokens (budget %d) of %d images and videos",
        report.method,
        report.kept,
        report.total,
        report.budget,
        len(report.visuals),
    )
    if report.inside is not None:
        logger.info("%s keeps %.1f of them on average over the layers", report.method, report.mean_kept)
    for number, visual in enumerate(report.visuals):
        logger.debug("visual %d: %r, %d views encoded", number, visual, visual.encoded)


def check_inputs(adapter: Adapter, inputs: Mapping[str, Any], settings: CompressionConfig) -> Tensor:
    """Check inputs and return their token ids (row, column).

    Args:
        adapter: of the model.
        inputs: as the processor returns them.
        settings: how to compress.

    Raises:
        UnsupportedInputError: inputs that cannot be shortened, or that this family does not take.
        UnsupportedModelError: masses are on, and the decoder takes none.
    """
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or ids.shape[1] == 0:
        got = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise UnsupportedInputError(
            f"input_ids must be a tensor (row, column) with at least one column, got {got}; pass the processor's "
            "output with return_tensors='pt' (inputs_embeds cannot be shortened)"
        )
    if inputs.get("inputs_embeds") is not None or inputs.get("mm_encoder_outputs") is not None:
        raise UnsupportedInputError(
            "inputs_embeds and mm_encoder_outputs cannot be compressed: pass input_ids and pixels as the processor "
            "returns them"
        )
    mask = inputs.get("attention_mask")
    if mask is not None and not isinstance(mask, Tensor):
        raise UnsupportedInputError(
            f"attention_mask={shown(mask)}: must be a tensor (row, column) like input_ids, or left out"
        )
    _check_placed(adapter, inputs)
    for key in adapter.refused_keys:
        value = inputs.get(key)
        if value is not None and value != getattr(adapter.model.config, key, None):
            raise UnsupportedInputError(
                f"{key}={value!r} differs from the model's config; set it there or leave it out"
            )
    if settings.weighs:
        attentions_of(adapter)  # refused here, before anything is encoded
    if inputs.get("labels") is not None and settings.method.inside is not None:
        raise UnsupportedInputError(
            f"labels cannot go with method {settings.method.name!r}, which shortens the sequence inside the model; "
            "leave them out"
        )
    adapter.preset(inputs)  # refused here, since a family without presets does not read it
    if not adapter.video_keys and inputs.get("pixel_values_videos") is not None:
        raise UnsupportedInputError(
            f"{type(adapter.model).__name__} takes images only, got pixel_values_videos"
        )
    return ids


def _check_placed(adapter: Adapter, inputs: Mapping[str, Any]) -> None:
    """Refuse a filled cache beside pixels, and arguments that place the tokens of the uncompressed prompt."""
    given = {name for name, value in inputs.items() if value is not None}
    pixels = {*adapter.image_keys[:1], *adapter.video_keys[:1]}
    if not given.isdisjoint(CACHE_NAMES) and is_filled(given_cache(inputs)) and not given.isdisjoint(pixels):
        raise UnsupportedInputError(
            f"{cache_name()} together with pixels cannot be compressed; encode the pixels in the first call only"
        )
    if not given.isdisjoint(COUNTED):
        check_counted(inputs)

"""Adapter contract: everything the framework must know about one model family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from vidcompress.adapters.auxiliary import evidence_of_question
from vidcompress.adapters.presets import Preset, find_preset
from vidcompress.adapters.traits import Traits, read_traits
from vidcompress.core.config import CompressionConfig
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.tokens import Evidence, FrameSource, VisualTokens
from vidcompress.core.wrappers import unwrap
from vidcompress.errors import ArgumentError, UnsupportedInputError, UnsupportedModelError, shown
from vidcompress.registry import Registry, check_adapter_class

A = TypeVar("A", bound="type[Adapter]")


@dataclass(frozen=True, eq=False)
class Visual:
    """One image or one video of a batch before it is encoded.

    Attributes:
        modality: `image` or `video`.
        layout: its geometry, on the device of the pixels.
        pixels: (view, channel, height, width), a view of the caller's tensor without padding views; (view, patch,
            value) of an encoder that takes patches; or frames that are still being decoded, for an adapter with
            `reads_ahead`.
        size: (height, width) of the original image in pixels; None for videos.
        preset: the named layout that an image is in; None for the model's own.
        question: (T,) int64 ids, on the CPU, of the prompt's text about it, for methods that read it; None where it is
            not known.
        may_defer: whether only features of tokens that are sent will be read, so that `encode` may leave the projector
            to `VisualTokens.rows`, which runs it on those alone.
        runs: lengths of its runs of placeholders, in order; they sum to the full length of the layout. None: one run.
        view_text: finds the text of its views, such as the time of each frame: (ids (column,) of the prompt, columns of
            its runs) to ranges of text columns for each run, () where a run has no text. None: the family names no
            such text. `text_between_runs` serves text that stands between the runs.
        max_patches: most patches per encoder call, for an encoder of any number of patches; one view may have more.
        pictures: turns patches of some of its views into pictures (view, channel, height, width), which
            `encoder_saving="frames"` compares. None: the pixels are pictures, or cannot be compared.
        place: its place among all visuals of the batch, for families whose images and videos share one placeholder.
    """

    modality: Modality
    layout: Layout
    pixels: Tensor | FrameSource
    size: tuple[int, int] | None = None
    question: Tensor | None = None
    preset: Preset | None = None
    may_defer: bool = False
    runs: tuple[int, ...] | None = None
    view_text: Callable[[Tensor, Sequence[range]], Sequence[Sequence[range]]] | None = None
    max_patches: int = CompressionConfig.max_patches
    pictures: Callable[[Tensor], Tensor] | None = None
    place: int | None = None

    @property
    def placeholder_runs(self) -> tuple[int, ...]:
        """Lengths of the runs of placeholders: `runs`, or one run of all positions."""
        return (self.layout.full_length,) if self.runs is None else self.runs


class Adapter(ABC):
    """Adapter of one model family: its placeholders, its geometry and the encoding of its views.

    An adapter is made per model instance by `adapter_for`; it may not change the model.

    Class attributes:
        model_types: values of `config.model_type` it serves.
        image_keys, video_keys: processor outputs that describe pixels, the pixels themselves first; they leave the
            inputs once encoded. None of a kind means that the family does not take it.
        sent_as: for each modality the key of `mm_encoder_outputs`, and the placeholder, under which its tokens are
            handed to the model: its own, unless the family reads both from one.
        presets: named layouts of pictures that the inputs may be in, which then hold the name as `preset`; it is one of
            the `image_keys` of a family that has any.
        refused_keys: inputs that would change the features in ways the adapter does not follow.
        full_precision: modules that quantising the decoder leaves alone, as paths from the model's root.
        judged: whether `compress` judges it on the first inputs of each model (`session/entrance.py`).
        reads_ahead: whether `visuals` and `encode` take clips as a list of `FrameSource`, and ask these by slices for
            the frames that are about to be encoded, so that the others are decoded meanwhile.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    image_keys: ClassVar[tuple[str, ...]] = ("pixel_values", "image_sizes")
    video_keys: ClassVar[tuple[str, ...]] = ()
    sent_as: ClassVar[Mapping[Modality, Modality]] = {"image": "image", "video": "video"}
    presets: ClassVar[tuple[Preset, ...]] = ()
    refused_keys: ClassVar[tuple[str, ...]] = ("vision_feature_layer", "vision_feature_select_strategy")
    full_precision: ClassVar[tuple[str, ...]] = ("lm_head",)
    judged: ClassVar[bool] = False
    reads_ahead: ClassVar[bool] = False

    def __init__(self, model: Any) -> None:
        self.model = model

    def __deepcopy__(self, memo: Any) -> Adapter:
        """Return an adapter of the same model; a copy of its owner shares the model."""
        return type(self)(self.model)

    @property
    def image_token_id(self) -> int:
        """Id of the image placeholder."""
        return int(self.model.config.image_token_id)

    @property
    def video_token_id(self) -> int | None:
        """Id of the video placeholder, or None where the family takes images only."""
        value = getattr(self.model.config, "video_token_id", None) if self.video_keys else None
        return None if value is None else int(value)

    def placeholder(self, modality: Modality) -> int:
        """Id of the placeholder that stands for each surviving token of a modality."""
        video = self.video_token_id
        return self.image_token_id if self.sent_as[modality] == "image" or video is None else video

    @property
    @abstractmethod
    def has_cls(self) -> bool:
        """Whether the vision encoder has a CLS token."""

    @cached_property
    def traits(self) -> Traits:
        """Traits of the model: those that its decoder's layers show, and the defaults of `Traits`.

        A family with other positions, companions or another container overrides this with
        `dataclasses.replace(super().traits, axes=4)`.
        """
        decoder = getattr(getattr(self.model, "model", None), "language_model", None)
        return read_traits(getattr(decoder, "layers", ()))

    @property
    def home_tokens(self) -> int | None:
        """Number of visual tokens of the clips that the checkpoint was trained on; `positions="scaled"` shrinks longer
        clips to it. It is `home_tokens` of the config; None leaves it to the name and `models/home_tokens.json`."""
        home: int | None = getattr(self.model.config, "home_tokens", None)
        return home

    @property
    def decoder(self) -> Any:
        """The language model: its `layers`, its `rotary_emb`, its `config`; for methods that prune inside it.

        Raises:
            UnsupportedModelError: the adapter does not name it.
        """
        decoder = getattr(getattr(self.model, "model", None), "language_model", None)
        if not hasattr(decoder, "layers") or not hasattr(decoder, "rotary_emb"):
            raise UnsupportedModelError(
                f"{type(self).__name__} names no decoder with layers and rotary_emb; override `decoder`, or use a "
                "method before the language model"
            )
        return decoder

    @abstractmethod
    def visuals(self, inputs: Mapping[str, Any]) -> tuple[list[Visual], list[Visual]]:
        """Return the images and the videos of processor outputs, each in the order of their placeholders.

        Raises:
            UnsupportedInputError: ill-shaped pixels or sizes.
        """

    def positions(self, inputs: Mapping[str, Any], ids: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the positions of the uncompressed prompt as the stock model counts them; None where they are columns.

        Args:
            inputs: of the caller.
            ids: (row, column) int64.
            mask: (row, column), 0 at padding; None for no padding.

        Returns:
            (axis, row, column) int64 with `traits.axes` axes; `adapters.stock_positions` asks the model for them.

        Raises:
            UnsupportedInputError: an input that positions follow from is missing.
        """
        return None

    @classmethod
    def hand_over(
        cls,
        traits: Traits,
        rows: Mapping[str, Sequence[Tensor]],
        deep: Mapping[str, Sequence[Sequence[Tensor]]],
    ) -> dict[str, Any]:
        """Return encoder outputs of the surviving tokens for `mm_encoder_outputs`; saved inputs need no model for it.

        Args:
            traits: of the model.
            rows: by key of `sent_as`, one (k, D) tensor per prompt row that has visuals of it, in order.
            deep: by the same key, companions of the same tokens: per level one (k, D) tensor per prompt row.

        Returns:
            By key an output object of transformers, made anew at every call.
        """
        from vidcompress.adapters.stock import encoded_visuals

        return {
            key: encoded_visuals(parts, deep.get(key, ()), traits.container) for key, parts in rows.items()
        }

    def projected_rows(self, layout: Layout) -> int:
        """Number of rows through the projector for an image or a video: every patch of its views.

        Families that pool before the projector override this; `vidcompress cost` reads it.
        """
        vision = self.model.config.vision_config
        return len(layout.views) * (int(vision.image_size) // int(vision.patch_size)) ** 2

    def preset(self, inputs: Mapping[str, Any]) -> Preset | None:
        """Return the preset of processor outputs; None for the model's own layout.

        Raises:
            UnsupportedInputError: the family has no such preset.
        """
        name, family = inputs.get("preset"), str(self.model.config.model_type)
        return None if name is None else find_preset(name, self.presets, family, error=UnsupportedInputError)

    def projects_late(self, visual: Visual) -> bool:
        """Whether `encode` defers the projector of a visual with `may_defer`."""
        return False

    def text_evidence(self, visual: Visual, evidence: Sequence[Evidence]) -> dict[Evidence, Tensor]:
        """Return the evidence of the question about a visual; empty where the question is not known.

        Returns:
            For `question` the language model's input embeddings (T, D), for `text_embedding` the auxiliary text
            tower's (S, E); both float32.
        """
        asked, items = visual.question, [e for e in evidence if e.quantity in ("question", "text_embedding")]
        return {} if asked is None or not items else evidence_of_question(self.model, asked, items)

    @abstractmethod
    def encode(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence] = (),
        frames: Sequence[tuple[int, ...] | None] | None = None,
        max_views: int = 16,
    ) -> list[VisualTokens]:
        """Encode images or videos (one modality at a time), in chunks of at most `max_views` views.

        Args:
            visuals: what to encode.
            evidence: quantities to collect beside the features.
            frames: for each visual the frames to encode, None for all.
            max_views: bound on views in the encoder at once, hence on its memory.

        Returns:
            For each visual its tokens exactly as the stock model would splice them; where `may_defer` is set, they may
            be `LazyTokens`. The evidence `hidden` and `cls_hidden` goes with `VisualTokens.project`; without one
            both may be left out, and methods that merge what it reads merge the features instead. So may `cls_hidden`
            where the projector reads several patches at once.
        """

    def encode_chosen(
        self,
        visuals: Sequence[Visual],
        evidence: Sequence[Evidence],
        choose: Callable[[int, VisualTokens], Sequence[int] | None],
        max_views: int = 16,
    ) -> list[tuple[VisualTokens, int]]:
        """Encode images: their thumbnails first, then only the crops that `choose` names.

        Args:
            visuals: images.
            evidence: quantities to collect.
            choose: given an image's number and the tokens of its thumbnail, the views to encode beside it; None for
                every one.
            max_views: bound on views in the encoder at once.

        Returns:
            For each image its tokens, with zeros for what was not encoded, and how many views were encoded.

        Raises:
            UnsupportedModelError: the family's adapter does not support it.
        """
        raise UnsupportedModelError(
            f"encoder_saving='crops' is not known to {type(self).__name__}; leave it out, or define encode_chosen there"
        )


def register_adapter(cls: A) -> A:
    """Class decorator: serve the model types named in the class attribute `model_types`.

    Raises:
        ArgumentError: not a subclass of `Adapter`; no model types, or keys of wrong types; an abstract method that is
            missing; a model type that is taken.
    """
    if not (isinstance(cls, type) and issubclass(cls, Adapter)):
        raise ArgumentError(
            f"register_adapter takes a subclass of vidcompress.adapters.base.Adapter, got {shown(cls)}"
        )
    check_adapter_class(cls, Adapter)
    ADAPTERS.add(cls.model_types, cls)
    return cls


ADAPTERS: Registry[type[Adapter]] = Registry(
    "adapter",
    "vidcompress.adapters",
    "vidcompress.adapters",
    register_adapter,
    "a package of yours can add a family, see docs/guide-family.md",
)


def adapter_for(model: Any) -> Adapter:
    """Return a new adapter around a loaded model, by `model.config.model_type`: the generic one where none is its own.

    Args:
        model: a transformers model, or a wrapper that `wrappers.unwrap` knows; the adapter is around the model in it.

    Raises:
        UnsupportedModelError: no adapter serves this class, or a wrapper that is not served.
    """
    model = unwrap(model)
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    if not isinstance(model_type, str):
        raise UnsupportedModelError(
            f"model must be a transformers model with a config, got {type(model).__name__}; pass one that "
            "from_pretrained returned"
        )
    from transformers import PreTrainedModel

    if isinstance(model, nn.Module) and not isinstance(model, PreTrainedModel):
        raise UnsupportedModelError(
            f"model is a {type(model).__name__}, which has the config of a transformers model and is none; pass the "
            "model inside it (wrappers of torch.compile, PEFT, accelerate and DistributedDataParallel may stay)"
        )
    return ADAPTERS.get(model_type, otherwise=True)(model)

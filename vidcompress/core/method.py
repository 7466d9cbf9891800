"""Compression method: a frozen dataclass of options with a pure `select`; and the registry of methods.

A method derives from the base that leaves it one function: `Method` (`select`, of a batch), `ScoredMethod` (`scores`,
of a batch) or `PerVisualMethod` (`select_visual`, of one image or video).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor

from vidcompress.core.batch import VisualBatch, spend
from vidcompress.core.budget import VisualBudget
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.report.visual import Allotment
from vidcompress.core.selection import Selection
from vidcompress.core.stream.stream import Stream, StreamSize, whole_clip
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown
from vidcompress.registry import Registry, check_method_class

Positions = Literal["contiguous", "original", "scaled"]
POSITIONS: tuple[Positions, ...] = ("contiguous", "original", "scaled")
Mass = Literal["on", "off"]
MASS: tuple[Mass, ...] = ("on", "off")

M = TypeVar("M", bound="type[Method]")


@dataclass(frozen=True)
class Method(ABC):
    """Base of all methods. Fields are options; everything else is a class attribute.

    A subclass is a pure function on tensors: it reads no files and no transformers, and no visual changes another's.

    Class attributes:
        name: the public name. summary: its effect in one line, for lists where it has no card.
        modalities: which of `image` and `video` it serves.
        positions: the position policy the authors use, the default for this method.
        mass: whether attention gives a token sent the weight of all tokens that it stands for, the default for this
            method.
        uses_budget: False for a method that keeps everything.
        sequential: whether it chooses tokens one after another, in as many rounds of kernels as tokens are kept.
        merges: whether some features it sends are new ones, made of several tokens.
        exact: whether the realised count equals the budget (`pool`, `frames` reach the largest count below).
        compares: what features are compared with: "nothing", a few "means", those of their "views", "all" of the
            input, or those "kept"; `multiplications` reads it.
        changes_views: whether it leaves views out before the encoder.
        where: "before" the language model, or "inside" it.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    modalities: ClassVar[frozenset[Modality]] = frozenset()
    positions: ClassVar[Positions] = "contiguous"
    mass: ClassVar[Mass] = "off"
    exact: ClassVar[bool] = True
    uses_budget: ClassVar[bool] = True
    where: ClassVar[Literal["before", "inside"]] = "before"
    merges: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    compares: ClassVar[Literal["nothing", "means", "views", "all", "kept"]] = "means"
    changes_views: ClassVar[bool] = False

    @property
    def inside(self) -> Any:
        """The method's part inside the language model: an `InLLMMethod`, or None."""
        return None

    def sent(self, budget: int, total: int) -> int:
        """Number of the N positions that may be sent for a budget of B; both count separators."""
        return budget if self.uses_budget else total

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Encoder quantities that `select` will read; features are always there.

        Args:
            modality: of the visual input.
            has_cls: whether the encoder has a CLS token.
        """
        return ()

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Whether `select` reads features of tokens that it does not send.

        Where it does not, it takes what it sends by `VisualTokens.rows` if at all, and a projector that works position
        by position runs on those tokens only. Arguments are those of `needs`.
        """
        return True

    def multiplications(self, sizes: Sequence[int], sent: int, width: int) -> int:
        """Number of multiplications by which `select` compares features, as `vidcompress cost` counts them.

        Args:
            sizes: tokens of each view. sent: positions sent.
            width: D, numbers of a feature.
        """
        if self.compares == "nothing":
            return 0
        total = sum(sizes)
        squares = {"views": sum(size * size for size in sizes), "all": total * total, "kept": total * sent}
        return width * (2 * total + squares.get(self.compares, 0))

    def frames(self, layout: Layout, budget: VisualBudget) -> tuple[int, ...] | None:
        """Numbers of the frames of a video to encode, or None for all."""
        return None

    def crops(self, thumbnail: VisualTokens, layout: Layout, budget: VisualBudget) -> tuple[int, ...] | None:
        """Numbers of the crops of an image to encode beside its thumbnail, or None for all.

        Called under `encoder_saving="crops"` only. `select` must send nothing of the other crops.

        Args:
            thumbnail: its tokens, with the evidence asked for.
            layout, budget: of the whole image.

        Raises:
            ArgumentError: the method leaves out no crops.
        """
        raise ArgumentError(
            f"encoder_saving='crops' leaves out crops that get nothing, which method {self.name!r} does not decide by "
            "the thumbnail; use globalcom2 with allocation='gated', or leave it out"
        )

    def stream(self, size: StreamSize) -> Stream:
        """Return an empty stream of frames; without one raise UnsupportedInputError, which names what to use."""
        whole_clip(repr(self.name))

    @abstractmethod
    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Select the tokens of images or videos that the language model receives.

        Args:
            batch: B visuals with features, layouts and the evidence asked for.
            budgets: one per visual: positions that may be sent, and how many of these are separators.

        Returns:
            One selection per visual.
        """

    def check(self, layout: Layout) -> None:
        """Refuse an input this method does not serve.

        Raises:
            UnsupportedInputError: naming the method, the input and the way out.
        """
        if layout.modality not in self.modalities:
            served, got = " and ".join(sorted(self.modalities)), layout.modality
            raise UnsupportedInputError(
                f"method {self.name!r} serves {served} inputs only, got {'an' if got == 'image' else 'a'} {got}; use "
                "globalcom2, or a control such as uniform"
            )


@dataclass(frozen=True)
class ScoredMethod(Method):
    """A method that is a token score plus a weight per view.

    The exact policy spends the budget's tokens on the views in proportion to their weights (capped, to the
    token) and keeps the best-scored tokens of each view, in sequence order, plus the budget's separators.
    """

    @abstractmethod
    def scores(
        self, batch: VisualBatch, budgets: Sequence[VisualBudget]
    ) -> tuple[Tensor, Tensor | Allotment]:
        """Token scores (N,) float32, higher is kept; and tokens wanted per view, (V,) float64 or an `Allotment`.

        N and V count the positions and views of all B visuals, one after the other, as `batch.layout` does.
        """

    def cut(self, batch: VisualBatch) -> VisualBatch:
        """Return the batch whose views share the budget under `exact`: the same views, or tiles of them."""
        return batch

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Select with the authors' counts, rounding and order; as `exact` where no code was published."""
        return self._exact(VisualBatch([tokens]), [budget])[0]

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Select in one pass under `exact`; visual by visual under `reference`, as the authors' code does."""
        if all(budget.policy == "exact" for budget in budgets):
            return self._exact(batch, budgets)
        return [
            self.reference(one, budget)
            if budget.policy == "reference"
            else self._exact(VisualBatch([one]), [budget])[0]
            for one, budget in zip(batch.visuals, budgets, strict=True)
        ]

    def _exact(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        batch = self.cut(batch)
        return spend(batch, *self.scores(batch, budgets), budgets)


@dataclass(frozen=True)
class PerVisualMethod(Method):
    """A method that selects from one visual after another, because its shapes differ between visuals."""

    @abstractmethod
    def select_visual(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Select the tokens of one image or one video that the language model receives.

        Args:
            tokens: N positions with features (N, D), layout and the evidence asked for.
            budget: positions that may be sent, and how many of these are separators.
        """

    def select(self, batch: VisualBatch, budgets: Sequence[VisualBudget]) -> list[Selection]:
        """Return `select_visual` of each visual."""
        return [self.select_visual(one, budget) for one, budget in zip(batch.visuals, budgets, strict=True)]


def register_method(cls: M) -> M:
    """Class decorator: make a `Method` subclass available under its `name`.

    Raises:
        ArgumentError: not a frozen dataclass deriving from `Method`; no name, summary or modalities; an abstract
            method that is missing, or one with another signature than the base class; a name that is taken.
    """
    if not (isinstance(cls, type) and issubclass(cls, Method)):
        raise ArgumentError(
            f"register_method takes a subclass of vidcompress.core.method.Method, got {shown(cls)}"
        )
    check_method_class(cls, Method)
    METHODS.add([cls.name], cls)
    return cls


METHODS: Registry[type[Method]] = Registry(
    "method", "vidcompress.methods", "vidcompress.methods", register_method
)

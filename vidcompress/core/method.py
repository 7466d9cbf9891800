"""What a method is: a frozen dataclass of options with a pure `select`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from vidcompress.checks import one_of
from vidcompress.core.batch import RaggedBatch, batch_layouts, can_batch, spend
from vidcompress.core.budget import VisualBudget, half_up, ratio_fraction
from vidcompress.core.layout import Layout, Modality
from vidcompress.core.reductions import per_view
from vidcompress.core.selection import Selection, largest_remainder, top_per_view, with_separators
from vidcompress.core.tokens import Evidence, VisualTokens
from vidcompress.errors import ArgumentError, UnsupportedInputError, shown
from vidcompress.registry.catalogue import Registry
from vidcompress.registry.signatures import check_method_class

Positions = Literal["contiguous", "original"]
POSITIONS: tuple[Positions, ...] = ("contiguous", "original")

M = TypeVar("M", bound=type[Any])


def _maker(cls: type, name: str) -> float:
    """Place in the method resolution order of the class that a function is of; infinite where none has it."""
    return next((place for place, base in enumerate(cls.__mro__) if name in vars(base)), float("inf"))


@dataclass(frozen=True)
class Method(ABC):
    """Base of all methods. Fields are options; everything else is a class attribute.

    A subclass is a pure function on tensors: it may not look at files, at transformers or at other visuals.

    Class attributes:
        name: the public name. summary: its effect in one line, for lists where it has no card.
        modalities: which of `image` and `video` it serves.
        positions: the position policy the authors use, the default for this method.
        uses_budget: False for a method that keeps everything.
        sequential: whether it chooses tokens one after another, in as many rounds of kernels as tokens are kept.
        merges: whether some features it sends are new ones, made of several tokens.
        exact: whether the realised count equals the budget (`pool`, `frames` reach the largest count below).
        compares: features with "nothing", with a few "means", with those of their "views" or with "all" of the input;
            what `vidcompress cost` goes by.
        changes_views: whether it leaves views out before the encoder.
        where: "before" the language model, or "inside" it.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    modalities: ClassVar[frozenset[Modality]] = frozenset()
    positions: ClassVar[Positions] = "contiguous"
    exact: ClassVar[bool] = True
    uses_budget: ClassVar[bool] = True
    where: ClassVar[Literal["before", "inside"]] = "before"
    merges: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    compares: ClassVar[Literal["nothing", "means", "views", "all"]] = "means"
    changes_views: ClassVar[bool] = False

    @property
    def inside(self) -> Any:
        """What goes on pruning inside the language model: an `InLLMMethod`, or None."""
        return None

    def sent(self, budget: int, total: int) -> int:
        """How many of N positions may be sent for a budget of B, both with separators."""
        return budget if self.uses_budget else total

    def needs(self, modality: Modality, has_cls: bool) -> tuple[Evidence, ...]:
        """Which encoder quantities `select` will read; features are always there.

        Args:
            modality: of the visual input.
            has_cls: whether the encoder has a CLS token.
        """
        return ()

    def reads_features(self, modality: Modality, has_cls: bool) -> bool:
        """Whether `select` reads features of tokens that it does not send.

        Where it does not, it takes what it sends by `VisualTokens.rows` if at all, and a projector that works position
        by position runs on those tokens only.

        Args:
            modality: of the visual input.
            has_cls: whether the encoder has a CLS token.
        """
        return True

    def frames(self, layout: Layout, budget: VisualBudget) -> tuple[int, ...] | None:
        """Which frames of a video to encode at all, or None for every one."""
        return None

    def crops(self, thumbnail: VisualTokens, layout: Layout, budget: VisualBudget) -> tuple[int, ...] | None:
        """Which crops of an image to encode beside its thumbnail, or None for every one.

        Asked under `encoder_saving="crops"` only. `select` must send nothing of the others.

        Args:
            thumbnail: its tokens, with the evidence asked for.
            layout: of the whole image.
            budget: of the whole image.

        Raises:
            ArgumentError: the method never gives a crop nothing.
        """
        raise ArgumentError(
            f"encoder_saving='crops' leaves out crops that get nothing, which method {self.name!r} does not decide by "
            "the thumbnail; use globalcom2 with allocation='gated', or leave it out"
        )

    @abstractmethod
    def select(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Choose what the language model sees of one image or one video.

        Args:
            tokens: N positions with features (N, D), layout and the evidence asked for.
            budget: how many positions may be sent, of which how many separators.
        """

    def select_batch(
        self, tokens: Sequence[VisualTokens], budgets: Sequence[VisualBudget]
    ) -> list[Selection]:
        """Choose for several images, or several videos, what `select` chooses for each; here one by one.

        A method that can do it in one pass says how; the selections are the same as alone, to the last token.

        Args:
            tokens: one entry per visual, at least one.
            budgets: one per visual.
        """
        return [self.select(one, budget) for one, budget in zip(tokens, budgets, strict=True)]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Whoever writes a `select` or `scores` of their own is asked for each visual, whatever a base does for batches.
        super().__init_subclass__(**kwargs)
        for one, batch in (("select", "select_batch"), ("scores", "scores_batch")):
            if _maker(cls, one) < _maker(cls, batch) < float("inf"):
                general = next(base for base in reversed(cls.__mro__) if batch in vars(base))
                setattr(cls, batch, vars(general)[batch])

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
    token) and keeps the best-scored tokens of each view, in sequence order, plus the planned separators.
    """

    @abstractmethod
    def scores(self, tokens: VisualTokens, budget: VisualBudget) -> tuple[Tensor, Tensor]:
        """Return token scores (N,) float32, higher is kept, and view weights (V,) float64, tokens wanted."""

    def reference(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """The authors' counts, rounding and order; the same as `exact` where no code was published."""
        return self._exact(tokens, budget)

    def select(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        """Dispatch on the policy of the budget."""
        return self.reference(tokens, budget) if budget.policy == "reference" else self._exact(tokens, budget)

    def scores_batch(
        self, joined: RaggedBatch, tokens: Sequence[VisualTokens], budgets: Sequence[VisualBudget]
    ) -> tuple[Tensor, Tensor]:
        """The `scores` of several visuals, one after the other: of tokens (N,), of views (V,)."""
        pairs = [self.scores(one, budget) for one, budget in zip(tokens, budgets, strict=True)]
        return torch.cat([scores for scores, _ in pairs]), torch.cat([weights for _, weights in pairs])

    def select_batch(
        self, tokens: Sequence[VisualTokens], budgets: Sequence[VisualBudget]
    ) -> list[Selection]:
        """Under `exact` the tokens of all visuals are ranked and chosen in one pass."""
        if not can_batch(tokens) or any(budget.policy != "exact" for budget in budgets):
            return super().select_batch(tokens, budgets)
        joined = batch_layouts(tuple(one.layout for one in tokens))
        scores, weights = self.scores_batch(joined, tokens, budgets)
        totals = [tokens_to_keep(one.layout, budget) for one, budget in zip(tokens, budgets, strict=True)]
        return spend(joined, scores, weights, totals, [budget.separators for budget in budgets])

    def _exact(self, tokens: VisualTokens, budget: VisualBudget) -> Selection:
        layout = tokens.layout
        scores, weights = self.scores(tokens, budget)
        total = tokens_to_keep(layout, budget)
        counts = largest_remainder(weights, total, layout.sizes_tensor[:-1])
        kept = top_per_view(scores, layout, counts, total)
        return Selection(with_separators(layout, kept, budget.separators))


def register_method(cls: M) -> M:
    """Class decorator: make a `Method` subclass available under its `name`.

    Raises:
        ArgumentError: not a frozen dataclass deriving from `Method`; no name, summary or modalities; an abstract
            method that is missing, or one that cannot be called as the base class says; a name that is taken.
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


def require_numbers(**options: object) -> None:
    """Refuse options that are not real numbers.

    Raises:
        ArgumentError: naming the option and its value.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ArgumentError(f"{name} must be a number, got {shown(value)}")


def require_one_of(allowed: tuple[str, ...], **options: object) -> None:
    """Refuse options that are not among the allowed names.

    Raises:
        ArgumentError: naming the option, its value and what is allowed.
    """
    for name, value in options.items():
        one_of(name, value, allowed)


def require_flags(**options: object) -> None:
    """Refuse options that are neither True nor False.

    Raises:
        ArgumentError: naming the option and its value.
    """
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ArgumentError(f"{name} must be true or false, got {shown(value)}")


_said: set[str] = set()


def say_once(message: str) -> None:
    """Warn once per process: of a fallback, say, that a method takes in place of weights it was not given."""
    if message not in _said:
        _said.add(message)
        warnings.warn(message, stacklevel=3)


def by_view(values: Tensor, layout: Layout) -> Tensor:
    """Sum (N,) values over each view: (V,) in the dtype of `values`; separators are left out.

    Deterministic on every device, unlike atomic adds.
    """
    return per_view(values, layout).sum(1)


def tokens_to_keep(layout: Layout, budget: VisualBudget) -> int:
    """How many tokens, separators apart, the budget leaves; what `exact` methods keep to the token.

    Under `reference` the authors' budget is a share of the tokens alone, so it is R of them (half up, at least
    one) and the separators come on top.
    """
    if budget.policy == "exact":
        return budget.tokens
    if budget.positions == 0:
        return 0
    whole = layout.full_length - layout.num_separators
    return min(whole, max(1, half_up(ratio_fraction(budget.ratio) * whole)))

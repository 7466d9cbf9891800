"""Contract of a method, checked on made-up layouts of every kind and on the embedded models."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from vidcompress.adapters.layouts import image_layout, native_layout, unpadded_box, video_layout
from vidcompress.core.batch import VisualBatch
from vidcompress.core.budget import POLICIES, SEPARATORS, Budget, VisualBudget, visual_budget
from vidcompress.core.layout import Layout
from vidcompress.core.method import Method, ScoredMethod
from vidcompress.core.method_lookup import get_method
from vidcompress.core.report.visual import Allotment
from vidcompress.core.selection import Selection
from vidcompress.core.tokens import AXES, VisualTokens
from vidcompress.errors import ArgumentError, BudgetError
from vidcompress.methods.card import card_of
from vidcompress.testing.expect import ContractError, positions_of, require
from vidcompress.testing.inside import check_inside
from vidcompress.testing.models import check_counts, check_identity, check_masked
from vidcompress.testing.rows import check_rows

EMBEDDED = (
    ("tiny-next", "image"),
    ("tiny-onevision", "image"),
    ("tiny-onevision", "video"),
    ("tiny-qwen", "image"),
    ("tiny-qwen", "video"),
)
NATIVE_SIDE = 64
"""Side of made-up frames in pixels, where a family takes pictures of any size."""
LENGTHS = {"C": 12, "E": 8, "T": 5, "S": 2}
"""Lengths of the axes of evidence that neither layout nor features fix."""
LEAST_PROSE = 200
"""Least characters of a card below its head; the package's shortest card has 302."""


def check_method(method: str | Method, **options: Any) -> None:
    """Run every check on a method.

    Args:
        method: a registered name or an instance.
        **options: of the method, with a name.

    Raises:
        ContractError: a rule is violated.
    """
    chosen = get_method(method, **options)
    check_card(chosen)
    if chosen.inside is not None:
        for case in EMBEDDED:
            if case[1] in chosen.modalities:
                check_inside(*embedded_case(*case), chosen)
        return
    for name, layout in layouts().items():
        if layout.modality in chosen.modalities:
            check_selections(chosen, layout, name)
    for model, inputs in (embedded_case(*case) for case in EMBEDDED if case[1] in chosen.modalities):
        check_identity(model, inputs, chosen, max_views=(16,))
        check_counts(model, inputs, chosen)
        for positions in positions_of(model):
            check_masked(model, inputs, chosen, positions=positions)
        check_rows(model, inputs, chosen)


def check_card(method: Method) -> None:
    """Check the card of a method, if there is one beside its module.

    Args:
        method: the method.

    Raises:
        ContractError: the card is malformed, belongs to another method, or has less prose than `LEAST_PROSE`.
    """
    try:
        card = card_of(type(method))
    except ArgumentError as error:
        raise ContractError(f"method {method.name!r}: {error}") from error
    if card is None:
        return
    require(
        bool(card.effect.strip()), f"card {card.name!r}: effect is empty; say in one sentence what is kept"
    )
    length = len(card.text.strip())
    require(
        length >= LEAST_PROSE,
        f"card {card.name!r} has {length} characters of prose below its head; write at least {LEAST_PROSE}: how tokens "
        "are scored, how views share the budget, what it costs, and where it loses",
    )


def select_alone(method: Method, tokens: VisualTokens, budget: VisualBudget) -> Selection:
    """Return the selection of a method from one image or video: a batch of one.

    Args:
        method: an instance.
        tokens: of the image or video.
        budget: positions that may be sent.
    """
    return method.select(VisualBatch([tokens]), [budget])[0]


def check_selections(method: Method, layout: Layout, where: str = "layout") -> None:
    """Check that selections are well formed and of the requested size, at every ratio and separator policy.

    Args:
        method: the method.
        layout: geometry of an image or video that it serves.
        where: name of the layout in messages.

    Raises:
        ContractError: counts, types or order are wrong; the method is not a pure function.
    """
    for has_cls in (False, True):
        tokens = made_up(layout, method, has_cls=has_cls)
        for ratio in ("0.05", "0.25", "0.6", "1"):
            for policy in POLICIES:
                for separators in SEPARATORS if policy == "exact" else ("keep",):
                    requested = Budget(ratio)
                    try:
                        (positions,) = requested.split([len(layout)])
                        budget = visual_budget(
                            layout, positions, ratio=requested.ratio, separators=separators, policy=policy
                        )
                        selection = select_alone(method, tokens, budget)
                    except BudgetError:
                        continue  # refused with advice
                    what = f"{method.name} on {where} at {ratio}, policy {policy}, separators {separators}"
                    _check_selection(selection, tokens, budget, method, what)
                    again = select_alone(method, tokens, budget)
                    require(
                        torch.equal(selection.index, again.index), f"{what}: two calls select differently"
                    )
    _check_purity(method, layout, where)
    if isinstance(method, ScoredMethod):
        _check_scores(method, layout, where)
    _check_batch(method, layout, where)
    for name, features in _odd_features(layout).items():
        tokens = made_up(layout, method, width=features.shape[1]).replace(features=features)
        budget = visual_budget(layout, max(1, len(layout) // 2))
        try:
            _check_selection(
                select_alone(method, tokens, budget),
                tokens,
                budget,
                method,
                f"{method.name} on {where}, {name}",
            )
        except BudgetError:
            continue


def _check_selection(
    selection: Selection, tokens: VisualTokens, budget: VisualBudget, method: Method, what: str
) -> None:
    require(isinstance(selection, Selection), f"{what}: returns {type(selection).__name__}, not a Selection")
    index, layout = selection.index, tokens.layout
    require(
        index.ndim == 1 and index.dtype == torch.int64, f"{what}: index must be (K,) int64, got {index.dtype}"
    )
    inside = not len(index) or 0 <= int(index.min()) <= int(index.max()) < len(tokens)
    require(inside, f"{what}: index leaves 0 to {len(tokens) - 1}")
    require(len(index.unique()) == len(index), f"{what}: a position is selected twice")
    if selection.features is not None:
        shape, expected = tuple(selection.features.shape), (len(index), tokens.features.shape[1])
        require(shape == expected, f"{what}: features of shape {shape}, expected {expected}")
        alike = selection.features.dtype == tokens.features.dtype
        require(
            alike, f"{what}: features are {selection.features.dtype}, they came as {tokens.features.dtype}"
        )
    _check_mass(selection, layout, what)
    if budget.policy == "reference" or not method.uses_budget:
        return
    count, separators = len(index), int(layout.separator[index].sum())
    if not method.exact:
        require(count <= budget.positions, f"{what}: selects {count}, the budget is {budget.positions}")
        return
    require(count == budget.positions, f"{what}: selects {count}, the budget is {budget.positions}")
    require(
        separators == budget.separators, f"{what}: {separators} separators, the plan has {budget.separators}"
    )
    if count == len(tokens):
        require(index.tolist() == list(range(count)), f"{what}: the whole input is not in its own order")


def _check_mass(selection: Selection, layout: Layout, what: str) -> None:
    """Check that masses, where they are stated, count each token once that is not heirless, and are 1 at separators."""
    mass, lost = selection.mass, selection.heirless
    if mass is None or not len(mass):
        return
    separator = layout.separator[selection.index]
    require(
        bool((mass[separator] == 1).all()), f"{what}: a separator stands for itself, and its mass must be 1"
    )
    require(
        bool((mass > 0).all()), f"{what}: masses must be above 0, the smallest is {float(mass.min()):.3g}"
    )
    total = layout.num_tokens
    if lost is not None:
        require(
            lost.shape == layout.separator.shape and not bool((lost & layout.separator).any()),
            f"{what}: heirless marks tokens that are no separators, one entry for each of {len(layout)} positions",
        )
        require(not bool(lost[selection.index].any()), f"{what}: a token that is sent cannot be heirless")
        total -= int(lost.sum())
    if bool(separator.all()):
        return  # no token was sent that could stand for others
    summed = float(mass[~separator].double().sum())
    require(
        abs(summed - total) <= 1e-3 * total,
        f"{what}: the masses of tokens sum to {summed:.6g}, and {total} tokens are not heirless; a token stands for "
        "itself and for all that were left out for it or merged into it",
    )


def _check_batch(method: Method, layout: Layout, where: str) -> None:
    """Check that batched selections equal single ones, and that features a method does not read have no effect."""
    for has_cls in (False, True):
        tokens = made_up(layout, method, has_cls=has_cls)
        # Of another size as well, or a mean over the batch would be that of each alone.
        turned = {key: value.flip(0) * 3 for key, value in tokens.evidence.items()}
        batch = [tokens, tokens.replace(features=tokens.features.flip(0) * 3 + 1, evidence=turned)]
        budget = visual_budget(layout, max(1, len(layout) // 3))
        try:
            alone = [select_alone(method, one, budget).index for one in batch]
        except BudgetError:
            return
        together = [selection.index for selection in method.select(VisualBatch(batch), [budget, budget])]
        require(
            len(together) == 2 and all(map(torch.equal, alone, together)),
            f"{method.name} on {where}: selects other tokens from two visuals than from each alone; what it computes "
            "over a whole visual must not run over the batch: loop over batch.visuals, or use in_groups",
        )
        if not method.reads_features(layout.modality, has_cls):
            others = tokens.replace(features=tokens.features.flip(0))
            require(
                torch.equal(select_alone(method, others, budget).index, alone[0]),
                f"{method.name} on {where}: reads features, which reads_features() denies",
            )


def _check_scores(method: ScoredMethod, layout: Layout, where: str) -> None:
    """Scores and weights of ordinary tokens are numbers: what is not would count as nothing and say nothing."""
    budget = visual_budget(layout, max(1, len(layout) // 3))
    batch = method.cut(VisualBatch([made_up(layout, method)]))
    try:
        scores, asked = method.scores(batch, [budget])
    except BudgetError:
        return
    layout, weights = batch.layout, asked.weights if isinstance(asked, Allotment) else asked
    for name, values, count, real in (
        ("scores", scores, len(layout), ~layout.separator),
        ("weights", weights, len(layout.views), layout.sizes_tensor[:-1] > 0),
    ):
        shape, what = tuple(values.shape), f"{method.name} on {where}: {name}"
        require(shape == (count,), f"{what} are of shape {shape}, must be ({count},)")
        least = -torch.inf if name == "scores" else 0.0
        fine = torch.isfinite(values) & (values >= least)
        require(
            bool(fine[real].all()),
            f"{what} must be finite{'' if name == 'scores' else ' and not negative'}, got "
            f"{values[real & ~fine][:1].tolist()} of features that are ordinary",
        )


def _check_purity(method: Method, layout: Layout, where: str) -> None:
    """Check that inputs are not written to, and that the global random generator has no effect."""
    tokens = made_up(layout, method)
    features, evidence = (
        tokens.features.clone(),
        {key: value.clone() for key, value in tokens.evidence.items()},
    )
    budget = visual_budget(layout, max(1, len(layout) // 3))
    picked = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.manual_seed(seed)
            try:
                picked.append(select_alone(method, tokens, budget).index)
            except BudgetError:
                return
    require(
        torch.equal(*picked),
        f"{method.name} on {where}: the global random state decides; take a seed as option",
    )
    unwritten = torch.equal(features, tokens.features)
    unwritten &= all(torch.equal(value, tokens.evidence[key]) for key, value in evidence.items())
    require(unwritten, f"{method.name} on {where}: features or evidence were written into")


@lru_cache(maxsize=1)
def layouts() -> dict[str, Layout]:
    """Return small layouts of every kind by name: with and without newlines, padded, shrunk, single views, tokens."""
    padded = unpadded_box((480, 640), (12, 12))
    return {
        "a picture of 2 x 2 crops": image_layout((6, 6), (2, 2)),
        "a padded picture": image_layout((6, 6), (2, 2), unpadded=padded),
        "a picture with crops that are all padding": image_layout((4, 4), (1, 3), unpadded=(0, 4, 4, 4)),
        "a shrunk canvas": image_layout((5, 5), (3, 3), shrunk=(9, 11)),
        "one view with a newline": image_layout((4, 5)),
        "one view without a newline": image_layout((4, 5), newline=False),
        "a picture at native resolution": native_layout((5, 7)),
        "one token": image_layout((1, 1), newline=False),
        "a clip with one newline": video_layout(8, (4, 4), "end"),
        "a clip with a newline per row": video_layout(6, (3, 5), "row"),
        "a clip without newlines": video_layout(5, (3, 3), "none"),
        "one frame": video_layout(1, (5, 5), "end"),
        "frames of one token": video_layout(9, (1, 1), "row"),
    }


def made_up(layout: Layout, method: Method, *, has_cls: bool = True, width: int = 16) -> VisualTokens:
    """Make seeded random features (N, width) and the method's evidence, float32, with a projector of the evidence."""
    generator = torch.Generator("cpu").manual_seed(0)
    features = torch.randn(len(layout), width, generator=generator, device="cpu")
    sizes = {"N": len(layout), "V": len(layout.views), "D": width, **LENGTHS}
    evidence = {}
    for key in method.needs(layout.modality, has_cls):
        shape = [sizes[axis] for axis in AXES.get(key.quantity, "N")]
        evidence[key] = torch.rand(shape, generator=generator, device="cpu")
    weight = torch.randn(LENGTHS["C"], width, generator=generator, device="cpu")
    return VisualTokens(features, layout, evidence, lambda hidden: hidden @ weight.to(hidden.dtype))


def _odd_features(layout: Layout) -> Mapping[str, torch.Tensor]:
    ramp = torch.linspace(-1, 1, len(layout) * 8, device="cpu").view(len(layout), 8)
    return {
        "features that are all zero": torch.zeros_like(ramp),
        "features that are all alike": torch.ones_like(ramp),
        "bfloat16 features": ramp.to(torch.bfloat16),
        "float16 features of any size": (ramp * 6e4).to(torch.float16),
    }


@lru_cache(maxsize=len(EMBEDDED))
def embedded_case(name: str, modality: str) -> tuple[Any, dict[str, Any]]:
    """Return an embedded model on the CPU, and its inputs for one made-up picture or clip of three frames.

    Args:
        name: "tiny-next", "tiny-onevision" or "tiny-qwen".
        modality: `image` or `video`.
    """
    from vidcompress.loading.load import load_model
    from vidcompress.media import load_processor

    model = load_model(name, device="cpu")
    processor = load_processor(model)
    size = processor.geometry.image_size or NATIVE_SIDE
    generator = torch.Generator("cpu").manual_seed(0)
    shape = (2 * size, 3 * size // 2, 3) if modality == "image" else (3, size, size, 3)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8, device="cpu").numpy()
    message = {"role": "user", "content": [{"type": modality}, {"type": "text", "text": "what is shown?"}]}
    prompt = processor.apply_chat_template([message])
    media = {"images": [pixels]} if modality == "image" else {"videos": [pixels]}
    return model, dict(processor(text=prompt, **media))

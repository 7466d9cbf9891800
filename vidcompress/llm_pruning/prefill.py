"""State of one prefill: a sequence per stage; a new one begins at each layer where tokens are left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import torch
from torch import Tensor

from vidcompress.core.pruning.method import Between
from vidcompress.core.pruning.plan import PruningPlan
from vidcompress.core.reductions import full_precision
from vidcompress.llm_pruning.attention import attention_rows, head_norms, turned_keys
from vidcompress.llm_pruning.companions import Companions
from vidcompress.ops.mass import hand_over


class Capture:
    """Capture of a layer's q_proj and k_proj outputs in its next run: the last `queries` columns, and all keys."""

    def __init__(self, layer: Any, queries: int) -> None:
        self.queries: Tensor | None = None
        self.keys: Tensor | None = None
        self._count, self._thread = queries, get_ident()  # other threads may run the same layer meanwhile
        attention = layer.self_attn
        self._handles = [
            attention.q_proj.register_forward_hook(self._take_queries),
            attention.k_proj.register_forward_hook(self._take_keys),
        ]

    def _take_queries(self, module: Any, args: Any, output: Tensor) -> None:
        if get_ident() == self._thread:
            self.queries = output[:, -self._count :].detach()

    def _take_keys(self, module: Any, args: Any, output: Tensor) -> None:
        if get_ident() == self._thread:
            self.keys = output.detach()

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _NoCapture:
    def remove(self) -> None:
        """Do nothing: there are no hooks."""


@dataclass(eq=False)
class LayerSequence:
    """Sequence of some consecutive layers.

    Attributes:
        columns: (b, n) int64, for each entry its column in the shortened prompt (a merged token's: its centre's).
        real: (b, n) bool, False at padding; None when all are real.
        visual: (b, n) bool, real visual entries.
        position_ids: (b, n) int64; without gaps behind a stage, since attention might read gaps as packed sequences.
        embeddings: rotary (cos, sin), each (b, n, d), of the positions under the policy.
        dropped: (b, 1) int64, offset of later positions from the caller's; None without one.
        masks: attention masks, and biases of columns, built for it.
        mass: (b, n) float32, number of tokens that each entry stands for, 1 at text and padding; None where masses do
            not count.
        owner: (b, n) int64, the visual of its row that each entry belongs to, -1 for text and separators; None without
            masses.
    """

    columns: Tensor
    real: Tensor | None
    visual: Tensor
    position_ids: Tensor
    embeddings: tuple[Tensor, Tensor]
    dropped: Tensor | None = None
    masks: dict[Any, Any] = field(default_factory=dict)
    mass: Tensor | None = None
    owner: Tensor | None = None

    def flags(self) -> Tensor:
        """(b, n) bool: real entries."""
        return torch.ones_like(self.visual) if self.real is None else self.real


@dataclass(eq=False)
class Prefill:
    """State of one prefill.

    Attributes:
        plan: what to prune.
        copies: rows of the model's batch per prompt (beams, several sequences).
        now: the current sequence.
        sequences: by layer, for the layers behind the first stage.
        queries: number of last columns that are queries; the same in all layers, as only visual columns are dropped.
        weights: (b, q) float32, weight of each of them.
        companions: companions added to visual tokens behind the first layers; None without any.
    """

    plan: PruningPlan
    copies: int
    now: LayerSequence
    queries: int
    weights: Tensor
    companions: Companions | None = None
    sequences: dict[int, LayerSequence] = field(default_factory=dict)
    capture: Any = field(default_factory=_NoCapture)

    def at(self, layer: int) -> LayerSequence | None:
        """Return the sequence of a layer; None before the first stage."""
        return self.sequences.get(layer)

    def accompany(self, layer: int, hidden: Tensor) -> Tensor | None:
        """Return a layer's output (b, n, D) with the companions of its level added; None where there are none."""
        if self.companions is None or layer >= len(self.companions.levels):
            return None
        sequence = self.at(layer)
        if sequence is None:
            return self.companions.add(layer, hidden)
        return self.companions.add(layer, hidden, sequence.columns, sequence.visual)


def start(plan: PruningPlan, hidden: Tensor, kwargs: dict[str, Any], mass: Tensor | None = None) -> Prefill:
    """Begin a prefill with the input of the first layer.

    Args:
        plan: what to prune.
        hidden: (b, C, D).
        kwargs: further arguments of the layer.
        mass: (row, C) float32, number of tokens that each column stands for; None where masses do not count.
    """
    rows, width = plan.real.shape
    copies = hidden.shape[0] // rows
    device = hidden.device

    def spread(tensor: Tensor) -> Tensor:
        return tensor.to(device).repeat_interleave(copies, dim=0)

    real = spread(plan.real)
    visual = spread(plan.visual)
    b = hidden.shape[0]
    ids = kwargs.get("position_ids")
    ids = torch.arange(width, device=device)[None] if ids is None else ids.to(device)
    cos, sin = kwargs["position_embeddings"]
    now = LayerSequence(
        columns=torch.arange(width, device=device).expand(b, width),
        real=real,
        visual=visual,
        position_ids=ids.expand(b, width),
        embeddings=(cos.expand(b, -1, -1), sin.expand(b, -1, -1)),
        mass=None if mass is None else spread(mass),
        owner=None if mass is None else spread(plan.owner),
    )
    queries = width - min(plan.ends) if plan.method.asks == "text" else 1
    queries = max(queries, 1)
    behind = torch.tensor(plan.ends, device="cpu")[:, None] <= torch.arange(
        width - queries, width, device="cpu"
    )
    if plan.method.asks == "text":
        with full_precision(hidden):
            weights = plan.method.weigh(hidden, visual, spread(behind) & real[:, -queries:])
    else:
        weights = torch.ones((b, 1), device=device)
    return Prefill(plan, copies, now, queries, weights)


def next_sequence(prefill: Prefill, layer: int, hidden: Tensor, decoder: Any) -> Tensor:
    """Rank the visual tokens before `layer`, leave out the worst, and return the states left: (b, n', D)."""
    plan, now = prefill.plan, prefill.now
    counts = [pair for pair in plan.tokens_from(layer) for _ in range(prefill.copies)]
    attention, keys = _read(prefill, layer, hidden, decoder)
    between = Between(
        hidden=hidden,
        attention=attention,
        weights=prefill.weights.to(hidden.device),
        visual=now.visual.to(hidden.device),
        real=now.flags().to(hidden.device),
        rotary=_on(now.embeddings, hidden.device),
        counts=tuple(count for count, _ in counts),
        keys=keys,
    )
    with full_precision(hidden):
        scores = plan.method.score(between).masked_fill(~between.visual, -torch.inf)
    kept = _best(scores, [count for count, _ in counts]) & between.visual
    whole, visual = hidden, kept
    mass, owner = now.mass, now.owner
    stays = kept | (between.real & ~between.visual)
    position = torch.arange(hidden.shape[1], device=hidden.device, dtype=torch.float64)
    key = torch.where(stays, position, -1.0)
    source = position.to(torch.int64).expand(hidden.shape[0], -1)
    if any(merged for _, merged in counts):
        before = [sum(pair) for pair in plan.tokens_from(layer - 1) for _ in range(prefill.copies)]
        pruned = [have - stay for have, (stay, _) in zip(before, counts, strict=True)]
        with full_precision(hidden):
            merged_states, centre, there = plan.method.merge(between, scores, kept, pruned)
        if mass is not None and owner is not None:
            # A merged entry begins with its centre's mass, so that it never has none, and inherits like one that stays.
            begins = mass.gather(1, centre).masked_fill(~there, 0.0)
            mass = torch.cat((mass.scatter_add(1, centre, -begins), begins), dim=1)
            owner = torch.cat((owner, owner.gather(1, centre)), dim=1)
        whole = torch.cat((hidden, merged_states.to(hidden.dtype)), dim=1)
        behind = (between.visual * (position + 1)).amax(
            dim=1, keepdim=True
        ) - 1  # the last visual entry of each row
        steps = torch.arange(1, merged_states.shape[1] + 1, device=hidden.device) / (
            merged_states.shape[1] + 1
        )
        key = torch.cat((key, torch.where(there, behind + steps, -1.0)), dim=1)
        source = torch.cat((source, centre), dim=1)
        visual = torch.cat((kept, there), dim=1)
    if mass is not None and owner is not None:
        most = max(sum(pair) for pair in counts)
        mass = hand_over(whole, mass, owner, stays=visual & (key >= 0), most=most)
    # Known on the host: the number of entries left in each row, and so the width of the longest.
    lengths = [plan.texts[i // prefill.copies] + sum(pair) for i, pair in enumerate(counts)]
    width = max(lengths)
    index = key.argsort(dim=1, stable=True)[:, -width:]
    real = key.gather(1, index) >= 0
    entry = source.gather(1, index)
    now = LayerSequence(
        columns=now.columns.gather(1, entry),
        real=None if min(lengths) == width else real,
        visual=visual.gather(1, index),
        position_ids=(real.to(torch.int64).cumsum(dim=1) - 1).clamp(min=0),
        embeddings=(_pick(now.embeddings[0], entry), _pick(now.embeddings[1], entry)),
        mass=None if mass is None else mass.gather(1, index).masked_fill(~real, 1.0),
        owner=None if owner is None else owner.gather(1, index).masked_fill(~real, -1),
    )
    if plan.contiguous:
        _renumber(now, prefill.now, hidden, decoder)
    prefill.now = now
    for number in range(layer, len(decoder.layers)):
        prefill.sequences[number] = now
    _note(prefill, layer, now, real)
    return _pick(whole, index)


def _read(prefill: Prefill, layer: int, hidden: Tensor, decoder: Any) -> tuple[Tensor, Tensor | None]:
    """Return (b, H, q, n) attention rows of the layer before, or of this one where the method reads its weights.

    A method that reads keys alone gets no rows, and the keys (b, n, G * d).
    """
    plan, now = prefill.plan, prefill.now
    if plan.method.source == "previous":
        attention = decoder.layers[layer - 1].self_attn
        capture = prefill.capture
        queries, keys = capture.queries.to(hidden.device), capture.keys.to(hidden.device)
        capture.remove()
        prefill.capture = _NoCapture()
    else:
        attention = decoder.layers[layer].self_attn
        normed = decoder.layers[layer].input_layernorm(hidden)
        queries, keys = attention.q_proj(normed[:, -prefill.queries :]), attention.k_proj(normed)
    cos, sin = _on(now.embeddings, hidden.device)
    norms, head_dim = head_norms(attention), attention.head_dim
    with full_precision(hidden):
        if plan.method.reads == "keys":
            none = hidden.new_zeros((*hidden.shape[:1], 0, 0, hidden.shape[1]), dtype=torch.float32)
            return none, turned_keys(keys, cos, sin, head_dim=head_dim, norm=norms[1])
        rows = attention_rows(
            queries,
            keys,
            cos,
            sin,
            head_dim=head_dim,
            scaling=attention.scaling,
            real=now.flags().to(hidden.device),
            norms=norms,
        )
    return rows, None


def _on(embeddings: tuple[Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    return embeddings[0].to(device), embeddings[1].to(device)


def _best(scores: Tensor, counts: list[int]) -> Tensor:
    """Return (b, n) bool: the best `counts[b]` of each row, ties by column; NaN comes last."""
    order = torch.nan_to_num(scores, nan=-torch.inf).argsort(dim=1, descending=True, stable=True)
    limit = torch.tensor(counts, device="cpu").to(scores.device)[:, None]
    first = torch.arange(scores.shape[1], device=scores.device) < limit
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, first)


def _pick(states: Tensor, index: Tensor) -> Tensor:
    """Gather (b, n, D) along its columns."""
    index = index.to(states.device)
    return states.gather(1, index[:, :, None].expand(-1, -1, states.shape[-1]))


def _renumber(now: LayerSequence, before: LayerSequence, hidden: Tensor, decoder: Any) -> None:
    """Set rotary embeddings of positions without gaps, and their offset from the positions of later tokens."""
    given = before.position_ids[:, -1:] + (0 if before.dropped is None else before.dropped)
    now.dropped = given.to(hidden.device) - now.position_ids[:, -1:]
    now.embeddings = decoder.rotary_emb(hidden, now.position_ids)


def _note(prefill: Prefill, layer: int, now: LayerSequence, real: Tensor) -> None:
    """Write the columns that are left, of the first copy of each row, into the plan's outcome."""
    there = torch.zeros((real.shape[0], prefill.plan.real.shape[1]), dtype=torch.bool, device=real.device)
    there.scatter_reduce_(1, now.columns, real, reduce="amax", include_self=True)
    prefill.plan.outcome.kept[layer] = there[:: prefill.copies]

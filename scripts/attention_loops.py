"""Loop versions of the encoder-attention methods, token by token: the cost of a straightforward port.

For views of one size. Each function returns the features to send.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vidcompress.core.tokens import Evidence, VisualTokens


def _views(tokens: VisualTokens) -> list[list[int]]:
    """Positions of each view."""
    owners = [int(owner) for owner in tokens.layout.view]
    return [[i for i, owner in enumerate(owners) if owner == v] for v in range(len(tokens.layout.views))]


def _read(tokens: VisualTokens, *quantities: str) -> Tensor | None:
    """The first of the quantities that is there, of whatever layer."""
    for quantity in quantities:
        for item, value in tokens.evidence.items():
            if item.quantity == quantity:
                return value
    return None


def _attention(tokens: VisualTokens) -> Tensor:
    found = _read(tokens, "cls_attention_whole", "cls_attention", "attention_received")
    assert found is not None
    return found


def _merged(tokens: VisualTokens) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What is merged, and what makes features of it: the projector's inputs, or the features themselves."""
    hidden = _read(tokens, "hidden")
    if hidden is None or tokens.project is None:
        return tokens.features, lambda made: made
    return hidden, tokens.project


def _with_separators(tokens: VisualTokens, sent: dict[int, Tensor]) -> Tensor:
    for i in range(len(tokens)):
        if bool(tokens.layout.separator[i]):
            sent[i] = tokens.features[i]
    return torch.stack([sent[i] for i in sorted(sent)])


def loop_fastervlm(tokens: VisualTokens, ratio: float) -> Tensor:
    """Of each view the best by CLS attention."""
    attention, sent = _attention(tokens), {}
    for places in _views(tokens):
        order = torch.argsort(torch.stack([attention[i] for i in places]), descending=True)
        for k in range(round(ratio * len(places))):
            i = places[int(order[k])]
            sent[i] = tokens.features[i]
    return _with_separators(tokens, sent)


def loop_hired(tokens: VisualTokens, ratio: float, alpha: float = 0.5) -> Tensor:
    """The thumbnail's early attention counts, stripe by stripe, then the best of each view."""
    early = tokens.evidence[Evidence("cls_attention", 0)]
    late, views = tokens.evidence[Evidence("cls_attention", "features")], _views(tokens)
    total = int(sum(map(len, views)) * ratio)
    first = min(int(total * alpha), len(views[0]))
    marked = torch.zeros(len(views[0]))
    order = torch.argsort(torch.stack([early[i] for i in views[0]]), descending=True)
    for k in range(int(len(views[0]) * (1 - alpha))):
        marked[int(order[k])] = 1
    crops = len(views) - 1
    worth = [
        marked[j * len(marked) // crops : (j + 1) * len(marked) // crops].sum().item() for j in range(crops)
    ]
    counts = [first, *(int(w / sum(worth) * (total - first)) for w in worth)]
    sent = {}
    for places, count in zip(views, counts, strict=True):
        order = torch.argsort(torch.stack([late[i] for i in places]), descending=True)
        for k in range(count):
            i = places[int(order[k])]
            sent[i] = tokens.features[i]
    return _with_separators(tokens, sent)


def loop_prumerge(tokens: VisualTokens, ratio: float, spatial: float = 0.0) -> Tensor:
    """Kept tokens one after another, each with its 32 nearest neighbours added; then one token for the pruned."""
    attention = _attention(tokens)
    keys = torch.nn.functional.normalize(tokens.evidence[Evidence("keys", -1)], dim=-1)
    (hidden, project), sent = _merged(tokens), {}
    for places in _views(tokens):
        order = torch.argsort(torch.stack([attention[i] for i in places]), descending=True)
        count = int(ratio * len(places)) - 1
        best = count - int(count * spatial + 0.5)
        kept = [places[int(k)] for k in order[:best]]
        rest = [i for i in places if i not in kept]
        kept += [rest[int((k + 0.5) * len(rest) / (count - best))] for k in range(count - best)]
        for i in kept:
            near = (
                torch.stack([keys[i] @ keys[j] if j != i else torch.tensor(-2.0) for j in places])
                .topk(32)
                .indices
            )
            made = hidden[i].clone()
            for k in near:
                made += attention[places[int(k)]] * hidden[places[int(k)]]
            sent[i] = project(made[None])[0]
        pruned = [i for i in places if i not in kept]
        extra = torch.zeros_like(hidden[0])
        for i in pruned:
            extra += attention[i] * hidden[i]
        sent[pruned[-1]] = project(extra[None])[0]
    return _with_separators(tokens, sent)


def loop_visionzip(tokens: VisualTokens, ratio: float, share: float = 0.15625) -> Tensor:
    """Dominant tokens, then every other token to its nearest centre."""
    attention, of_cls = _attention(tokens), _read(tokens, "cls_hidden")
    keys = torch.nn.functional.normalize(tokens.evidence[Evidence("mean_keys", "features")], dim=-1)
    (hidden, project), sent = _merged(tokens), {}
    for number, places in enumerate(_views(tokens)):
        budget = round(ratio * len(places))
        contextual = round(share * budget)
        order = torch.argsort(torch.stack([attention[i] for i in places]), descending=True)
        dominant = [places[int(k)] for k in order[: budget - contextual - (of_cls is not None)]]
        for i in dominant:
            sent[i] = tokens.features[i]
        rest = [i for i in places if i not in dominant]
        centres = rest[:: max(1, len(rest) // contextual)][:contextual]
        groups: dict[int, list[Tensor]] = {c: [] for c in centres}
        for i in rest:
            if i not in groups:
                near = torch.stack([keys[i] @ keys[c] for c in centres])
                groups[centres[int(near.argmax())]].append(hidden[i])
        for c, members in groups.items():
            made = hidden[c] + torch.stack(members).mean(0) if members else hidden[c]
            sent[c] = project(made[None])[0]
        if of_cls is not None:
            free = next(i for i in places if i not in sent)
            sent[free] = project(of_cls[number][None])[0]
    return _with_separators(tokens, sent)


def loop_prumerge_plus(tokens: VisualTokens, ratio: float) -> Tensor:
    """Three quarters of the kept tokens are evenly spaced ones."""
    return loop_prumerge(tokens, ratio, 0.75)


LOOPS = {
    "fastervlm": loop_fastervlm,
    "hired": loop_hired,
    "prumerge": loop_prumerge,
    "prumerge_plus": loop_prumerge_plus,
    "visionzip": loop_visionzip,
}

"""The methods of CLS attention token by token, the way they read on paper: what a straightforward port costs.

Image inputs only: views of one size, a thumbnail first. Each function returns the features to send.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidcompress.views import Evidence, VisualTokens


def _views(tokens: VisualTokens) -> list[list[int]]:
    """Positions of each view."""
    owners = [int(owner) for owner in tokens.layout.view]
    return [[i for i, owner in enumerate(owners) if owner == v] for v in range(len(tokens.layout.views))]


def _with_separators(tokens: VisualTokens, sent: dict[int, Tensor]) -> Tensor:
    for i in range(len(tokens)):
        if bool(tokens.layout.separator[i]):
            sent[i] = tokens.features[i]
    return torch.stack([sent[i] for i in sorted(sent)])


def loop_fastervlm(tokens: VisualTokens, ratio: float) -> Tensor:
    """Of each view the best by CLS attention."""
    attention, sent = tokens.evidence[Evidence("cls_attention", "features")], {}
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


def loop_prumerge(tokens: VisualTokens, ratio: float) -> Tensor:
    """Kept tokens one after another, each with its 32 nearest neighbours added; then one token for the pruned."""
    attention = tokens.evidence[Evidence("cls_attention_whole", -1)]
    keys = torch.nn.functional.normalize(tokens.evidence[Evidence("keys", -1)], dim=-1)
    hidden, sent = tokens.evidence[Evidence("hidden", "features")], {}
    assert tokens.project is not None
    for places in _views(tokens):
        order = torch.argsort(torch.stack([attention[i] for i in places]), descending=True)
        kept = [places[int(k)] for k in order[: int(ratio * len(places)) - 1]]
        for i in kept:
            near = (
                torch.stack([keys[i] @ keys[j] if j != i else torch.tensor(-2.0) for j in places])
                .topk(32)
                .indices
            )
            made = hidden[i].clone()
            for k in near:
                made += attention[places[int(k)]] * hidden[places[int(k)]]
            sent[i] = tokens.project(made[None])[0]
        pruned = [i for i in places if i not in kept]
        extra = torch.zeros_like(hidden[0])
        for i in pruned:
            extra += attention[i] * hidden[i]
        sent[pruned[-1]] = tokens.project(extra[None])[0]
    return _with_separators(tokens, sent)


def loop_visionzip(tokens: VisualTokens, ratio: float, share: float = 0.15625) -> Tensor:
    """Dominant tokens, then every other token to its nearest centre."""
    attention = tokens.evidence[Evidence("cls_attention", "features")]
    keys = torch.nn.functional.normalize(tokens.evidence[Evidence("mean_keys", "features")], dim=-1)
    hidden, sent = tokens.evidence[Evidence("hidden", "features")], {}
    assert tokens.project is not None
    for number, places in enumerate(_views(tokens)):
        budget = round(ratio * len(places))
        contextual = round(share * budget)
        order = torch.argsort(torch.stack([attention[i] for i in places]), descending=True)
        dominant = [places[int(k)] for k in order[: budget - contextual - 1]]
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
            sent[c] = tokens.project(made[None])[0]
        free = next(i for i in places if i not in sent)
        sent[free] = tokens.project(tokens.evidence[Evidence("cls_hidden", "features")][number][None])[0]
    return _with_separators(tokens, sent)


LOOPS = {
    "fastervlm": loop_fastervlm,
    "hired": loop_hired,
    "prumerge": loop_prumerge,
    "visionzip": loop_visionzip,
}


def attention_image(layout_tokens: VisualTokens, width: int = 1024) -> VisualTokens:
    """The same tokens with seeded evidence of a CLIP-L of `width` channels; its projector only repeats channels."""
    layout, features = layout_tokens.layout, layout_tokens.features
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    attention = {
        key: drawn(len(layout)).exp() / 577
        for key in (
            Evidence("cls_attention", "features"),
            Evidence("cls_attention", 0),
            Evidence("cls_attention_whole", -1),
        )
    }
    vectors = {
        Evidence("keys", -1): drawn(len(layout), width),
        Evidence("mean_keys", "features"): drawn(len(layout), 64),
        Evidence("hidden", "features"): drawn(len(layout), width),
        Evidence("cls_hidden", "features"): drawn(len(layout.views), width),
    }
    times = features.shape[1] // width
    return VisualTokens(features, layout, attention | vectors, lambda hidden: hidden.repeat(1, times))

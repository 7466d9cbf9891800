"""Methods written down the way their formulas read, one token at a time: what a straightforward port costs.

For `bench_select.py`, at its ratio of one quarter. Each asks the device for every token that it picks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vidcompress.views import Evidence, VisualTokens

RATIO = 0.25


def _views(tokens: VisualTokens) -> list[list[int]]:
    owners = tokens.layout.view.tolist()
    views: list[list[int]] = [[] for _ in tokens.layout.views]
    for position, owner in enumerate(owners):
        if owner < len(views):
            views[owner].append(position)
    return views


def _send(tokens: VisualTokens, kept: list[int]) -> Tensor:
    return torch.stack([tokens.features[i] for i in sorted(kept)])


def loop_divprune(tokens: VisualTokens) -> Tensor:
    """Max-min over all tokens."""
    positions = [i for view in _views(tokens) for i in view]
    unit = normalize(torch.stack([tokens.features[i] for i in positions]), dim=-1)
    distance = 1 - unit @ unit.T
    kept: list[int] = []
    for _ in range(int(RATIO * len(positions))):
        if kept:
            nearest = distance[:, kept].amin(1)
        else:
            nearest = distance.topk(2, dim=0, largest=False).values[1]
        nearest[kept] = -1
        kept.append(int(nearest.argmax().item()))
    return _send(tokens, [positions[i] for i in kept])


def loop_cdpruner(tokens: VisualTokens) -> Tensor:
    """The determinantal point process view by view."""
    question = normalize(tokens.evidence[Evidence("question")], dim=-1)
    views, kept = _views(tokens), []
    relevance = [(normalize(tokens.features[view], dim=-1) @ question.T).mean(1) for view in views]
    low, high = min(float(r.min()) for r in relevance), max(float(r.max()) for r in relevance)
    for view, raw in zip(views, relevance, strict=True):
        unit, r = normalize(tokens.features[view], dim=-1), (raw - low + 1e-6) / (high - low)
        kernel = r[:, None] * (unit @ unit.T) * r
        variance = kernel.diagonal().clone()
        rows: list[Tensor] = []
        for _ in range(int(RATIO * len(view))):
            j = int(variance.argmax().item())
            kept.append(view[j])
            row = kernel[j].clone()
            for before in rows:
                row -= before[j] * before
            row /= variance[j].sqrt()
            rows.append(row)
            variance = variance - row.square()
            variance[j] = -torch.inf
    return _send(tokens, kept)


def loop_evs(tokens: VisualTokens) -> Tensor:
    """One pair of frames at a time."""
    views = _views(tokens)
    change = [torch.full((len(views[0]),), 255.0)]
    for before, after in zip(views, views[1:], strict=False):
        product = normalize(tokens.features[before], dim=-1) * normalize(tokens.features[after], dim=-1)
        change.append(1 - product.sum(-1))
    positions = [i for view in views for i in view]
    best = torch.cat(change).argsort(descending=True, stable=True)[: int(RATIO * len(positions))]
    return _send(tokens, [positions[i] for i in best.tolist()])


def loop_dycoke(tokens: VisualTokens) -> Tensor:
    """Windows of eight frames, half of the budget for their first."""
    views, kept = _views(tokens), []
    for t, view in enumerate(views):
        offset = t % 8
        if not offset:
            kept += view
            continue
        partner = views[t - (offset & -offset)]
        novelty = [
            -torch.cosine_similarity(tokens.features[a], tokens.features[b], dim=0).item()
            for a, b in zip(view, partner, strict=True)
        ]
        count = int(len(view) * RATIO / 2 * 8 / 7)
        kept += [view[i] for i in sorted(range(len(view)), key=lambda i: -novelty[i])[:count]]
    return _send(tokens, kept)


def loop_fastvid(tokens: VisualTokens) -> Tensor:
    """Segment by segment, peak by peak."""
    views, saliency = _views(tokens), tokens.evidence[Evidence("attention_received")]
    pooled = [normalize(normalize(tokens.features[view], dim=-1).mean(0), dim=0) for view in views]
    alike = [float(a @ b) for a, b in zip(pooled, pooled[1:], strict=False)]
    cuts = set(sorted(range(len(alike)), key=alike.__getitem__)[:7]) | {
        t for t, s in enumerate(alike) if s < 0.9
    }
    segments, start = [], 0
    for t in range(len(views)):
        if t in cuts or t == len(views) - 1:
            segments.append(range(start, t + 1))
            start = t + 1
    each = int(RATIO * len(views[0]))
    context, rows, free = int(each * 0.4), [], {}
    for t, view in enumerate(views):
        order = saliency[view].argsort(descending=True).tolist()
        rows += [tokens.features[view[i]] for i in order[: each - context]]
        free[t] = [view[i] for i in order[each - context :]]
    for segment in segments:
        anchors = list(segment)[::-1][::4]
        pool = [i for t in segment for i in free[t]]
        x = tokens.features[pool]
        for t in anchors:
            own = tokens.features[free[t]]
            distance = torch.cdist(own, own) / own.shape[1] ** 0.5
            density = torch.exp(-distance.topk(4, largest=False).values.square().mean(1))
            scores = []
            for i in range(len(own)):
                denser = distance[i][density > density[i]]
                scores.append(float(density[i] * (denser.min() if len(denser) else distance.max())))
            count = min(len(own), context * len(segment) // len(anchors))
            peaks = sorted(range(len(own)), key=lambda i: -scores[i])[:count]
            if not peaks:
                continue
            joins = (normalize(x, dim=-1) @ normalize(own[peaks], dim=-1).T).argmax(1)
            for number, peak in enumerate(peaks):
                joined = x[joins == number]
                weight = max(1 / (len(joined) + 1), 0.6)
                mean = joined.mean(0) if len(joined) else torch.zeros_like(own[peak])
                rows.append(weight * own[peak] + (1 - weight) * mean)
    return torch.stack(rows)

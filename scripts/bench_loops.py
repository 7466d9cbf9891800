"""Loop versions of methods, one token at a time as in their formulas: the cost of a straightforward port.

For `bench_select.py`, at its ratio of one quarter. Each asks the device for every token that it picks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from vidcompress.core.tokens import Evidence, VisualTokens

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


def loop_globalcom2_image(tokens: VisualTokens) -> Tensor:
    """The image formulas token by token, the way they read on paper."""
    layout, logits = tokens.layout, next(iter(tokens.evidence.values()))
    rows, cols = layout.grid
    position = {}
    for i in range(len(layout)):
        position[int(layout.view[i]), int(layout.row[i]), int(layout.col[i])] = i
    grid = torch.zeros(rows, cols)
    for r in range(rows):
        for c in range(cols):
            grid[r, c] = logits[position[0, r, c]]
    kept = []
    order = torch.argsort(grid.flatten(), descending=True)
    for k in range(int(rows * cols * RATIO)):
        kept.append(position[0, int(order[k]) // cols, int(order[k]) % cols])
    worth = []
    for view in layout.views[1:]:
        assert view.box is not None
        total = 0.0
        for r in range(int(view.box[0]), int(view.box[2])):
            for c in range(int(view.box[1]), int(view.box[3])):
                total += grid[r, c].item()
        worth.append(total)
    power = torch.exp((torch.tensor(worth, dtype=torch.float64) - max(worth)) / 10)
    sigma = power / (power.sum() + 1e-8)
    assert layout.canvas is not None
    large = interpolate(grid[None, None], size=layout.canvas, mode="bilinear")[0, 0]
    for j in range(1, len(layout.views)):
        places = [i for i in range(len(layout)) if int(layout.view[i]) == j]
        own = torch.stack([logits[i] for i in places])
        ours = torch.stack([large[int(layout.row[i]), int(layout.col[i])] for i in places])
        score = own / own.norm() + ours / ours.norm()
        rate = min(1.0, RATIO * (1 + sigma[j - 1].item() - sigma.mean().item()))
        best = torch.argsort(score, descending=True)[: int(len(places) * rate)]
        kept += [places[int(b)] for b in best]
    kept += [i for i in range(len(layout)) if bool(layout.separator[i])]
    return torch.stack([tokens.features[i] for i in sorted(kept)])


def loop_vidcom2(tokens: VisualTokens) -> Tensor:
    """The VidCom2 formulas frame by frame."""
    layout, frames = tokens.layout, len(tokens.layout.views)
    flat = torch.stack([tokens.features[i] for i in range(len(layout)) if not bool(layout.separator[i])])
    channels = torch.argsort(flat.var(0, correction=0))[: flat.shape[1] // 2]
    unit = normalize(flat[:, channels], dim=-1).view(frames, -1, len(channels))
    clip, kept, similar, worth = unit.mean((0, 1)), [], [], []
    for t in range(frames):
        to_clip, to_frame = torch.zeros(unit.shape[1]), torch.zeros(unit.shape[1])
        for a in (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0):
            to_clip += torch.exp(-(unit[t] - clip).square().sum(-1) / (2 * a))
            to_frame += torch.exp(-(unit[t] - unit[t].mean(0)).square().sum(-1) / (2 * a))
        similar.append(to_clip + to_frame)
        worth.append(-to_clip.mean().item())
    share = torch.softmax((torch.tensor(worth) - max(worth)) / 0.01, 0)
    for t in range(frames):
        rate = min(1.0, RATIO * (1 + share[t].item() - share.mean().item()))
        best = torch.argsort(similar[t])[: max(1, round(rate * unit.shape[1]))]
        kept += [t * unit.shape[1] + int(b) for b in sorted(best)]
    return torch.stack([tokens.features[i] for i in kept])


def loop_globalcom2_video(tokens: VisualTokens) -> Tensor:
    """The video form of GlobalCom2 frame by frame."""
    layout, frames = tokens.layout, len(tokens.layout.views)
    flat = torch.stack([tokens.features[i] for i in range(len(layout)) if not bool(layout.separator[i])])
    unit = normalize(flat, dim=-1).view(frames, -1, flat.shape[1])
    clip = normalize(unit.mean((0, 1)), dim=0)
    far, own, worth, kept = [], [], [], []
    for t in range(frames):
        far.append(-(unit[t] @ clip))
        own.append(-(unit[t] @ normalize(unit[t].mean(0), dim=0)))
        worth.append(sum(x.item() for x in far[-1]))
    power = torch.exp((torch.tensor(worth, dtype=torch.float64) - max(worth)) / 10)
    sigma = power / (power.sum() + 1e-8)
    for t in range(frames):
        score = far[t] / far[t].norm() + own[t] / own[t].norm()
        rate = min(1.0, RATIO * (1 + sigma[t].item() - sigma.mean().item()))
        best = torch.argsort(score, descending=True)[: int(unit.shape[1] * rate)]
        kept += [t * unit.shape[1] + int(b) for b in sorted(best)]
    return torch.stack([tokens.features[i] for i in kept])


def loop_none(tokens: VisualTokens) -> Tensor:
    """Everything, token by token."""
    return torch.stack([tokens.features[i] for i in range(len(tokens))])


def loop_random(tokens: VisualTokens) -> Tensor:
    """The first of a shuffled list of all tokens."""
    places = [i for i in range(len(tokens)) if not bool(tokens.layout.separator[i])]
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0))
    return _send(tokens, [places[int(k)] for k in order[: int(RATIO * len(places))]])


def loop_uniform(tokens: VisualTokens) -> Tensor:
    """Every fourth token."""
    places = [i for i in range(len(tokens)) if not bool(tokens.layout.separator[i])]
    count = int(RATIO * len(places))
    return _send(tokens, [places[int((k + 0.5) * len(places) / count)] for k in range(count)])


def loop_frames(tokens: VisualTokens) -> Tensor:
    """Every fourth frame."""
    views = _views(tokens)
    count = int(RATIO * len(views))
    chosen = [i * (len(views) - 1) // (count - 1) for i in range(count)]
    return _send(tokens, [i for t in chosen for i in views[t]])


def loop_pool(tokens: VisualTokens) -> Tensor:
    """The mean of every two by two cells of a view."""
    made = []
    for number, places in enumerate(_views(tokens)):
        view = tokens.layout.views[number]
        for r in range(0, view.rows, 2):
            for c in range(0, view.cols, 2):
                cells = [(r + dr) * view.cols + c + dc for dr in (0, 1) for dc in (0, 1)]
                made.append(torch.stack([tokens.features[places[k]] for k in cells]).mean(0))
    return torch.stack(made)


def loop_globalcom2(tokens: VisualTokens) -> Tensor:
    """By medium."""
    video = tokens.layout.modality == "video"
    return loop_globalcom2_video(tokens) if video else loop_globalcom2_image(tokens)


def loop_vcast(tokens: VisualTokens) -> Tensor:
    """Frame by frame, token by token."""
    views, kept = _views(tokens), []
    means = [normalize(tokens.features[view].mean(0), dim=-1) for view in views]
    curved = [1.0] * len(views)
    for t in range(1, len(views) - 1):
        before, after = means[t] - means[t - 1], means[t + 1] - means[t]
        curved[t] = 1 - float(torch.cosine_similarity(before, after, dim=0))
    shares = torch.softmax(torch.tensor(curved) / 0.7, 0).tolist()
    spare = int(RATIO * sum(map(len, views))) - len(views)
    for view, mean, share in zip(views, means, shares, strict=True):
        norms = [float(tokens.features[i].norm()) for i in view]
        low, high = min(norms), max(norms)
        scores = [
            1 - float(tokens.features[i] @ mean) / norm + (norm - low) / (high - low)
            for i, norm in zip(view, norms, strict=True)
        ]
        order = sorted(range(len(view)), key=lambda n: -scores[n])
        kept += [view[n] for n in order[: 1 + int(share * spare)]]
    return _send(tokens, kept)


def loop_vispruner(tokens: VisualTokens) -> Tensor:
    """View by view: half by attention, then duplicates dropped eight at a time."""
    key = Evidence("cls_attention", "features")
    attention = tokens.evidence.get(key, tokens.evidence.get(Evidence("attention_received", "features")))
    hidden = tokens.evidence.get(Evidence("hidden", "features"), tokens.features)
    states, kept = normalize(hidden, dim=-1), []
    assert attention is not None
    for view in _views(tokens):
        count = int(RATIO * len(view))
        order = sorted(view, key=lambda i: -float(attention[i]))
        kept += order[: count // 2]
        row = order[count // 2 :]
        while len(row) > count - count // 2:
            even, odd = row[::2], row[1::2]
            most = (states[even] @ states[odd].T).amax(1).tolist()
            places = sorted(range(len(even)), key=lambda n: -most[n])
            row = [even[n] for n in places[min(8, len(row) - count + count // 2) :]] + odd
        kept += row
    return _send(tokens, kept)


def _peaks(x: Tensor, count: int, neighbours: int) -> tuple[list[int], list[int]]:
    """Centres of density peaks, one token at a time, and the number of each token's centre."""
    distance = torch.cdist(x, x) / x.shape[1] ** 0.5
    near = distance.topk(min(neighbours, len(x)), largest=False).values
    density = torch.exp(-near.square().mean(1))
    scores = []
    for i in range(len(x)):
        denser = distance[i][density > density[i]]
        scores.append(float(density[i] * (denser.min() if len(denser) else distance.max())))
    centres = sorted(range(len(x)), key=lambda i: -scores[i])[:count]
    return centres, [int(distance[i][centres].argmin()) for i in range(len(x))]


def _means(x: Tensor, count: int, neighbours: int) -> list[Tensor]:
    """The mean of each cluster."""
    if not count or not len(x):
        return []
    _, owner = _peaks(x, count, neighbours)
    groups = [[i for i, own in enumerate(owner) if own == number] for number in range(count)]
    return [x[group].mean(0) for group in groups if group]


def loop_prunevid(tokens: VisualTokens) -> Tensor:
    """Window by window, group by group."""
    frames = [tokens.features[view] for view in _views(tokens)]
    means = torch.stack([frame.mean(0) for frame in frames])
    _, label = _peaks(means, max(1, len(frames) // 4), 7)
    starts = [t for t in range(len(frames)) if t == 0 or label[t] != label[t - 1]]
    rows: list[Tensor] = []
    for first, end in zip(starts, [*starts[1:], len(frames)], strict=True):
        x = torch.stack(frames[first:end])
        unit, window = normalize(x, dim=-1), end - first
        still = []
        for n in range(x.shape[1]):
            pairs = (unit[:, n] @ unit[:, n].T).sum() - window
            still.append(window > 1 and float(pairs) / (window * (window - 1)) > 0.8)
        mask = torch.tensor(still)
        if still.count(True):
            rows += _means(x[:, mask].mean(0), int(RATIO * still.count(True)), 7)
        for frame in x:
            rows += _means(frame[~mask], int(RATIO * still.count(False)), 7)
    return torch.stack(rows)


def loop_holitom(tokens: VisualTokens) -> Tensor:
    """The programme window by window, then group by group."""
    views = _views(tokens)
    frames = [tokens.features[view] for view in views]
    attention = tokens.evidence[Evidence("attention_received", "features")]
    steps = [torch.cosine_similarity(a, b, dim=-1) > 0.8 for a, b in zip(frames, frames[1:], strict=False)]
    best, start = [0] * len(frames), [0] * len(frames)
    for i in range(len(frames)):
        best[i], start[i] = (best[i - 1] if i else 0), i
        still = torch.ones_like(steps[0])
        for first in range(i - 1, -1, -1):
            still = still & steps[first]
            value = (best[first - 1] if first else 0) + int(still.sum()) * (i - first)
            if value > best[i]:
                best[i], start[i] = value, first
    rows, end = [], len(frames) - 1
    while end >= 0:
        first = start[end]
        mask = torch.zeros(len(views[0]), dtype=torch.bool)
        if end > first:
            mask = torch.stack(steps[first:end]).all(0)
            rows += _means(
                torch.stack(frames[first : end + 1])[:, mask].mean(0), int(RATIO * int(mask.sum())), 7
            )
        for t in range(first, end + 1):
            rest = [i for n, i in enumerate(views[t]) if not mask[n]]
            rest.sort(key=lambda i: -float(attention[i]))
            rows += [tokens.features[i] for i in rest[: int(RATIO * len(rest))]]
        end = first - 1
    return torch.stack(rows)


def loop_flashvid(tokens: VisualTokens) -> Tensor:
    """Frame by frame, token by token, segment by segment."""
    views = _views(tokens)
    frames = [tokens.features[view] for view in views]
    attention = tokens.evidence[Evidence("attention_received", "features")]
    means = torch.stack([frame.mean(0) for frame in frames])
    alike = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(means, means[1:], strict=False)]
    cuts = set(sorted(range(len(alike)), key=alike.__getitem__)[:7]) | {
        t for t, value in enumerate(alike) if value < 0.9
    }
    starts = [0, *(t + 1 for t in sorted(cuts)), len(frames)]
    each = int(RATIO * len(views[0]))
    chosen, rows = int(0.7 * each) + 1, []
    for first, end in zip(starts, starts[1:], strict=False):
        centre = means[first:end].mean(0)
        free: list[list[int]] = []
        for t in range(first, end):
            unit = normalize(frames[t], dim=-1)
            weight = attention[views[t]] * (frames[t] @ centre).clamp(min=0)
            far = (1 - unit @ unit.T) * weight
            taken = [int(far.topk(2, dim=0, largest=False).values[1].argmax())]
            while len(taken) < chosen:
                near = far[taken].amin(0)
                near[taken] = -1
                taken.append(int(near.argmax()))
            rows += [frames[t][i] for i in taken]
            free.append([i for i in range(len(views[t])) if i not in taken])
        total = [frames[t].clone() for t in range(first, end)]
        count = [torch.ones(len(views[0])) for _ in total]
        roots = [set(places) for places in free]
        for t in range(len(total) - 1, 0, -1):
            here, before = frames[first + t][free[t]], frames[first + t - 1][free[t - 1]]
            best = (normalize(here, dim=-1) @ normalize(before, dim=-1).T).max(1)
            for i, value, j in zip(free[t], best.values.tolist(), best.indices.tolist(), strict=True):
                if value > 0.8:
                    parent = free[t - 1][j]
                    total[t - 1][parent] += total[t][i]
                    count[t - 1][parent] += count[t][i]
                    roots[t].discard(i)
        left = sum(map(len, roots))
        for x, n, places in zip(total, count, roots, strict=True):
            order = sorted(places)
            share = min(len(order), round((each - chosen) * (end - first) * len(order) / max(1, left)))
            rows += _means(x[order] / n[order][:, None], share, 7)
    return torch.stack(rows)


LOOPS = {
    "cdpruner": loop_cdpruner,
    "divprune": loop_divprune,
    "dycoke": loop_dycoke,
    "evs": loop_evs,
    "fastvid": loop_fastvid,
    "flashvid": loop_flashvid,
    "frames": loop_frames,
    "globalcom2": loop_globalcom2,
    "holitom": loop_holitom,
    "none": loop_none,
    "pool": loop_pool,
    "prunevid": loop_prunevid,
    "random": loop_random,
    "uniform": loop_uniform,
    "vcast": loop_vcast,
    "vidcom2": loop_vidcom2,
    "vispruner": loop_vispruner,
}

"""The decoder run by hand, one row, head by head, without cache or hooks; tokens left out as each method says.

With a strength, attention weighs tokens by their masses, and tokens that are left out hand theirs on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch


@dataclass
class Token:
    """One entry of the sequence."""

    state: torch.Tensor
    position: int
    kind: str  # "text", "visual" or "answer"
    column: int
    keep: bool = True
    mass: float = 1.0
    owner: int = -1  # which visual


@dataclass
class Rule:
    """Which method, and per stage its first layer, the tokens kept and the tokens made."""

    method: str
    stages: list[tuple[int, int, int]]
    contiguous: bool
    log: dict[int, list[int]] = field(default_factory=dict)
    strength: float = 0.0


def rope(decoder: Any, vector: torch.Tensor, position: int) -> torch.Tensor:
    """Turn the pairs (i, i + d / 2) by the angle position * frequency."""
    angle = position * decoder.rotary_emb.inv_freq
    one, other = vector.chunk(2)
    return torch.cat((one * angle.cos() - other * angle.sin(), other * angle.cos() + one * angle.sin()))


def positions_of(tokens: list[Token], contiguous: bool) -> list[int]:
    return list(range(len(tokens))) if contiguous else [t.position for t in tokens]


def heads_of(decoder: Any, layer: Any, tokens: list[Token], positions: list[int]) -> tuple[Any, Any, Any]:
    """q[i][h], k[i][g], v[i][g] with rotary positions applied."""
    attention, d = layer.self_attn, layer.self_attn.head_dim
    x = layer.input_layernorm(torch.stack([t.state for t in tokens])[None])[0]
    q, k, v = (
        p(x).reshape(len(tokens), -1, d) for p in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    for i, position in enumerate(positions):
        for h in range(q.shape[1]):
            q[i, h] = rope(decoder, q[i, h], position)
        for g in range(k.shape[1]):
            k[i, g] = rope(decoder, k[i, g], position)
    return q, k, v


def weights_of(q: Any, k: Any, row: int, head: int, d: int, bias: Any = 0.0) -> torch.Tensor:
    group = head // (q.shape[1] // k.shape[1])
    return torch.softmax(k[: row + 1, group] @ q[row, head] / math.sqrt(d) + bias, dim=0)


def run_layer(
    decoder: Any, layer: Any, tokens: list[Token], positions: list[int], strength: float = 0.0
) -> None:
    bias = torch.tensor([strength * math.log(t.mass) for t in tokens])
    q, k, v = heads_of(decoder, layer, tokens, positions)
    d, share = layer.self_attn.head_dim, q.shape[1] // k.shape[1]
    mixed = []
    for i in range(len(tokens)):
        parts = []
        for h in range(q.shape[1]):
            w = weights_of(q, k, i, h, d, bias[: i + 1])
            parts.append(w @ v[: i + 1, h // share])
        mixed.append(torch.cat(parts))
    out = layer.self_attn.o_proj(torch.stack(mixed)[None])[0]
    states = torch.stack([t.state for t in tokens]) + out
    states = states + layer.mlp(layer.post_attention_layernorm(states[None]))[0]
    for token, state in zip(tokens, states, strict=True):
        token.state = state


def scores(decoder: Any, rule: Rule, layer: int, before: list[Token], raters: list[int]) -> dict[int, float]:
    """Score of each visual token by its index in `before`: what layer - 1 took in, unless the next layer is read."""
    reads = decoder.layers[layer] if rule.method == "pdrop" else decoder.layers[layer - 1]
    positions = positions_of(before, rule.contiguous)
    q, k, _ = heads_of(decoder, reads, before, positions)
    d = reads.self_attn.head_dim
    prompt = [i for i, t in enumerate(before) if t.kind != "answer"]
    rows = (
        [prompt[-1]]
        if rule.method in ("fastv", "pdrop")
        else [i for i in prompt if before[i].column in raters]
    )
    visual = [i for i in prompt if before[i].kind == "visual"]
    table: dict[int, dict[int, float]] = {}
    for h in range(q.shape[1]):
        table[h] = dict.fromkeys(visual, 0.0)
        for row in rows:
            w = weights_of(q, k, row, h, d)
            for i in visual:
                value = float(w[i])
                if rule.method == "sparsevlm2":
                    ones = torch.ones(d)
                    plain = float(rope(decoder, ones, positions[row]) @ rope(decoder, ones, positions[i]))
                    value /= plain / math.sqrt(d)
                table[h][i] += value / len(rows)
    chosen = list(table)
    if rule.method == "sparsevlm2":
        count = max(1, round(len(chosen) * 14 / 32))
        chosen = sorted(chosen, key=lambda h: -sum(table[h].values()))[:count]
    return {i: sum(table[h][i] for h in chosen) / len(chosen) for i in visual}


def dart_scores(
    decoder: Any, layer: int, before: list[Token], now: list[Token], contiguous: bool, kept: int
) -> dict[int, float]:
    """Pivots of the largest keys of layer - 1, and in turns for each the tokens least like it."""
    _, k, _ = heads_of(decoder, decoder.layers[layer - 1], before, positions_of(before, contiguous))
    norms = [float(k[i].abs().sum()) for i in range(len(before))]
    visual = [i for i, t in enumerate(before) if t.kind == "visual"]
    text = [i for i, t in enumerate(before) if t.kind == "text" and i > max(visual)]
    pivots = sorted(visual, key=lambda i: (-norms[i], i))[: min(4, kept)]
    turns = pivots + sorted(text, key=lambda i: (-norms[i], i))[:4]
    left, score = kept - len(pivots), {i: 2.0 * (i in pivots) for i in visual}
    for number, pivot in enumerate(turns):
        alike = {
            i: float(torch.cosine_similarity(now[pivot].state, now[i].state, dim=0))
            for i in visual
            if not score[i]
        }
        share = left // len(turns) + (number < left % len(turns))
        for i in sorted(alike, key=lambda i: (alike[i], i))[:share]:
            score[i] = 1.0
    return score


def raters_of(tokens: list[Token]) -> list[int]:
    """Columns of the text behind the picture that get more than their share of its attention."""
    visual = [t for t in tokens if t.kind == "visual"]
    last = max(t.column for t in visual)
    text = [t for t in tokens if t.kind == "text" and t.column > last]
    total = torch.zeros(len(text))
    for v in visual:
        total += torch.softmax(torch.stack([v.state @ t.state for t in text]), dim=0)
    share = total / len(visual)
    found = [t.column for t, s in zip(text, share.tolist(), strict=True) if s > float(share.mean())]
    return found or [t.column for t in text]


def cluster(states: list[torch.Tensor], count: int) -> tuple[list[int], list[int]]:
    """Density peaks: centres, and for each state its cluster."""
    n, width = len(states), math.sqrt(len(states[0]))
    dist = [[float((a - b).norm()) / width for b in states] for a in states]
    density = [math.exp(-sum(x * x for x in sorted(row)[:count]) / count) for row in dist]
    far = max(max(row) for row in dist)
    apart = []
    for i in range(n):
        denser = [j for j in range(n) if density[j] > density[i] or (density[j] == density[i] and j < i)]
        apart.append(min((dist[i][j] for j in denser), default=far))
    centres = sorted(range(n), key=lambda i: (-density[i] * apart[i], i))[:count]
    member = [min(range(count), key=lambda c: (dist[i][centres[c]], c)) for i in range(n)]
    for number, centre in enumerate(centres):
        member[centre] = number
    return centres, member


def leave_out(rule: Rule, tokens: list[Token], score: dict[int, float], kept: int, made: int) -> list[Token]:
    order = sorted(score, key=lambda i: (-score[i], i))
    stay, gone = set(order[:kept]), order[kept:]
    left_out = [tokens[i] for i in gone]
    out = [t for i, t in enumerate(tokens) if t.kind != "visual" or i in stay]
    if made:
        members = min(int(0.3 * len(gone) + 1e-9) + 1, len(gone))
        best = gone[:members]
        centres, member = cluster([tokens[i].state for i in best], made)
        new = []
        for number, centre in enumerate(centres):
            group = [tokens[i].state for i, m in zip(best, member, strict=True) if m == number]
            at = tokens[best[centre]]
            new.append(replace(at, state=sum(group) / len(group)))
            at.mass = 0.0  # its own goes with it
        behind = max(i for i, t in enumerate(tokens) if t.kind == "visual")
        place = sum(t.kind != "visual" or i in stay for i, t in enumerate(tokens[: behind + 1]))
        out[place:place] = new
    hand_over(left_out, out)
    return out


def hand_over(gone: list[Token], left: list[Token]) -> None:
    """The mass of each goes to what is left of its visual and nearest to it."""
    for token in gone:
        heirs = [t for t in left if t.owner == token.owner >= 0]
        if heirs:
            near = max(heirs, key=lambda t: float(torch.cosine_similarity(t.state, token.state, dim=0)))
            near.mass += token.mass


@torch.no_grad()
def run(decoder: Any, tokens: list[Token], rule: Rule) -> torch.Tensor:
    """Last hidden state of the last token, (D,)."""
    tokens = [replace(t, state=t.state.clone()) for t in tokens]
    seen = any(t.kind == "visual" for t in tokens)
    raters = raters_of([t for t in tokens if t.kind != "answer"]) if seen and "sparse" in rule.method else []
    stages = {layer: (kept, made) for layer, kept, made in rule.stages}
    taken_in = tokens
    for number, layer in enumerate(decoder.layers):
        if number in stages:
            read = tokens if rule.method == "pdrop" else taken_in
            if rule.method == "dart":
                score = dart_scores(decoder, number, read, tokens, rule.contiguous, stages[number][0])
            else:
                score = scores(decoder, rule, number, read, raters)
            tokens = leave_out(rule, tokens, score, *stages[number])
            rule.log[number] = sorted(t.column for t in tokens if t.kind == "visual")
        taken_in = [replace(t) for t in tokens]
        run_layer(decoder, layer, tokens, positions_of(tokens, rule.contiguous), rule.strength)
    return decoder.norm(tokens[-1].state[None, None])[0, 0]

"""Benchmark of in-LLM pruning: plan, attention rows, ranking, merging and gathering during a prefill.

The decoder's own layers are not run: hidden states, and the queries and keys of the layer that is read, are drawn. One
set of projection weights stands for all layers. Beside it the same steps written head by head and token by token.
"""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, Qwen2Config
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer, Qwen2RotaryEmbedding

from vidcompress.core.pruning.method import InLLMMethod
from vidcompress.core.pruning.plan import PruningPlan
from vidcompress.llm_pruning.masks import layer_mask
from vidcompress.llm_pruning.prefill import Capture, next_sequence, start

BEFORE, AFTER = 35, 20
"""Text tokens on either side of the visual ones."""


class Scene:
    """A prompt between the layers of a decoder shaped like Vicuna-7B (image) or Qwen2-7B (clip), batch 1, float32."""

    def __init__(self, medium: str, visual: int) -> None:
        torch.manual_seed(0)
        if medium == "image":
            config: Any = LlamaConfig(num_hidden_layers=32, intermediate_size=1)
            layer: Any = LlamaDecoderLayer(config, 0)
            rotary: Any = LlamaRotaryEmbedding(config)
        else:
            config = Qwen2Config(
                hidden_size=3584,
                num_hidden_layers=28,
                num_attention_heads=28,
                num_key_value_heads=4,
                intermediate_size=1,
            )
            layer, rotary = Qwen2DecoderLayer(config, 0), Qwen2RotaryEmbedding(config)
        self.layers, self.visual = config.num_hidden_layers, visual
        self.decoder = SimpleNamespace(layers=[layer.eval()] * self.layers, rotary_emb=rotary)
        self.width = BEFORE + visual + AFTER
        self.hidden = torch.randn(1, self.width, config.hidden_size)
        with torch.no_grad():
            normed = layer.input_layernorm(self.hidden)
            self.queries, self.keys = layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed)
        positions = torch.arange(self.width)[None]
        self.given = {"position_ids": positions, "position_embeddings": rotary(self.hidden, positions)}

    def plan(self, method: InLLMMethod, ratio: Fraction) -> PruningPlan:
        """The plan of one row at a ratio, half up."""
        budget = int(ratio * self.visual + Fraction(1, 2))
        schedule = method.plan_layers(self.visual, budget, self.layers, ratio=ratio)
        columns = [[torch.arange(BEFORE, BEFORE + self.visual)]]
        return PruningPlan(
            method,
            lengths=[self.width],
            columns=columns,
            separators=[[torch.zeros(self.visual, dtype=torch.bool)]],
            ends=[BEFORE + self.visual],
            schedules=[schedule],
            budgets=[budget],
            contiguous=method.positions == "contiguous",
        )

    def captured(self, count: int, columns: Tensor) -> Any:
        """What the hooks on q_proj and k_proj would have kept of a layer that took in these columns."""
        capture = Capture(self.decoder.layers[0], count)
        capture.remove()
        capture.queries, capture.keys = self.queries[:, -count:], self.keys[:, : columns.shape[1]]
        return capture


@torch.no_grad()
def ours(scene: Scene, method: InLLMMethod, ratio: Fraction) -> Tensor:
    """All stages of one prefill."""
    plan, hidden = scene.plan(method, ratio), scene.hidden
    prefill = start(plan, hidden, scene.given)
    for layer in plan.layers:
        if method.source == "previous":
            prefill.capture = scene.captured(prefill.queries, prefill.now.columns)
        hidden = next_sequence(prefill, layer, hidden, scene.decoder)
        layer_mask("sdpa", prefill.now.real, hidden.shape[1], hidden.shape[1], hidden)
    return hidden


def _turned(vector: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = vector.shape[-1] // 2
    return vector * cos + torch.cat((-vector[half:], vector[:half])) * sin


def _rows(
    scene: Scene, hidden: Tensor, at: list[int], asks: list[int], reads_next: bool
) -> list[list[Tensor]]:
    """Attention of each head, for each asking token, over all tokens, which are at these positions."""
    attention = scene.decoder.layers[0].self_attn
    cos, sin = (part[0][at] for part in scene.given["position_embeddings"])
    n, d = hidden.shape[0], attention.head_dim
    if reads_next:
        normed = scene.decoder.layers[0].input_layernorm(hidden)
        queries, keys = attention.q_proj(normed), attention.k_proj(normed)
    else:
        queries, keys = scene.queries[0][-n:], scene.keys[0][:n]
    share = queries.shape[1] // keys.shape[1]
    rows = []
    for h in range(queries.shape[1] // d):
        g = h // share
        k = torch.stack([_turned(keys[i, g * d : (g + 1) * d], cos[i], sin[i]) for i in range(n)])
        of_head = []
        for i in asks:
            q = _turned(queries[i, h * d : (h + 1) * d], cos[i], sin[i])
            of_head.append(torch.softmax(k[: i + 1] @ q * attention.scaling, dim=0))
        rows.append(of_head)
    return rows


def _raters(hidden: Tensor, visual: list[int], text: list[int]) -> list[int]:
    total = torch.zeros(len(text))
    for v in visual:
        total += torch.softmax(torch.stack([hidden[v] @ hidden[t] for t in text]), dim=0)
    found = [t for t, share in zip(text, total, strict=True) if share > total.mean()]
    return found or text


def _clusters(states: Tensor, count: int) -> Tensor:
    """Density peaks token by token, and the mean of what is nearest to each."""
    distance = torch.stack([(states - x).norm(dim=1) for x in states]) / states.shape[1] ** 0.5
    density = [float(torch.exp(-row.topk(count, largest=False).values.square().mean())) for row in distance]
    dense, apart = torch.tensor(density), []
    for i, row in enumerate(distance):
        denser = row[dense > dense[i]]
        apart.append(density[i] * float(denser.min() if len(denser) else distance.max()))
    centres = sorted(range(len(states)), key=lambda i: -apart[i])[:count]
    member = [int(torch.argmin(torch.stack([row[c] for c in centres]))) for row in distance]
    made = []
    for number, centre in enumerate(centres):
        group = [states[i] for i, m in enumerate(member) if m == number] or [states[centre]]
        made.append(torch.stack(group).mean(0))
    return torch.stack(made)


def _least_like_pivots(scene: Scene, hidden: Tensor, kinds: list[bool], kept: int) -> list[int]:
    """Visual tokens in the order in which DART keeps them: four pivots, then those least like each of eight."""
    cos, sin = (part[0] for part in scene.given["position_embeddings"])
    d, norms = scene.decoder.layers[0].self_attn.head_dim, []
    for i in range(len(kinds)):
        heads = scene.keys[0, i].split(d)
        norms.append(sum(float(_turned(k, cos[i], sin[i]).abs().sum()) for k in heads))
    visual = [i for i, seen in enumerate(kinds) if seen]
    order = sorted(visual, key=lambda i: -norms[i])[:4]
    pivots = order + sorted(range(visual[-1] + 1, len(kinds)), key=lambda i: -norms[i])[:4]
    left, rest = kept - 4, set(visual) - set(order)
    for number, pivot in enumerate(pivots):
        each = left // len(pivots) + (number < left % len(pivots))
        alike = {i: float(torch.cosine_similarity(hidden[pivot], hidden[i], dim=0)) for i in rest}
        order += sorted(rest, key=alike.__getitem__)[:each]
        rest -= set(order)
    return order + sorted(rest)


@torch.no_grad()
def loop(scene: Scene, method: InLLMMethod, ratio: Fraction) -> Tensor:
    """The same stages as they read on paper."""
    plan, name = scene.plan(method, ratio), method.name
    hidden, kinds = scene.hidden[0], [BEFORE <= i < BEFORE + scene.visual for i in range(scene.width)]
    raters: list[int] = []
    if method.asks == "text" and name != "dart":
        text = [i - scene.width for i in range(BEFORE + scene.visual, scene.width)]
        raters = _raters(hidden, [i for i, seen in enumerate(kinds) if seen], text)
    at = list(range(scene.width))
    for stage in plan.schedules[0].stages:
        visual = [i for i, seen in enumerate(kinds) if seen]
        asks = [len(kinds) + t for t in raters] if raters else [len(kinds) - 1]
        if name == "dart":
            kept = sorted(_least_like_pivots(scene, hidden, kinds, stage.kept)[: stage.kept])
            hidden = hidden[[i for i, seen in enumerate(kinds) if not seen or i in set(kept)]]
            continue
        heads = _rows(scene, hidden, at, asks, method.source == "next")
        cos, sin = (part[0][at] for part in scene.given["position_embeddings"])
        scores = []
        for rows in heads:
            score = torch.zeros(len(kinds))
            for i, row in zip(asks, rows, strict=True):
                if name == "sparsevlm2":
                    row = row / ((cos[i] @ cos[: i + 1].T + sin[i] @ sin[: i + 1].T) / len(cos[0]) ** 0.5)
                score[: len(row)] += row / len(asks)
            scores.append(score)
        if name == "sparsevlm2":
            scores.sort(key=lambda score: -float(score[visual].sum()))
            scores = scores[: round(len(scores) * 14 / 32)]
        mean = torch.stack(scores).mean(0)
        order = sorted(visual, key=lambda i: -float(mean[i]))
        stay, gone = set(order[: stage.kept]), order[stage.kept :]
        parts = [hidden[i] for i, seen in enumerate(kinds) if not seen or i in stay]
        at = [at[i] for i, seen in enumerate(kinds) if not seen or i in stay]
        kinds = [seen for i, seen in enumerate(kinds) if not seen or i in stay]
        if stage.merged:
            members = gone[: int(0.3 * len(gone)) + 1]
            made = _clusters(torch.stack([hidden[i] for i in members]), stage.merged)
            end = BEFORE + stage.kept
            parts[end:end], kinds[end:end] = list(made), [True] * len(made)
        hidden = torch.stack(parts)
        at = list(range(len(parts))) if plan.contiguous else at
    return hidden[None]


LOOPED = ("dart", "fastv", "pdrop", "sparsevlm", "sparsevlm2")
"""What `loop` knows."""

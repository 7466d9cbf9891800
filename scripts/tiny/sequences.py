"""Training sequences for the decoder: one picture with many questions, each of which sees only the picture.

Every question of a scene is a first question: a block mask hides the others, and the positions of each start
right behind the picture. So one pass trains on exactly what inference sees, many times over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import torch
from torch.nn import functional as F

from tiny.native import Prompt
from tiny.words import load_tokenizer

HEADS: Final = {
    "tiny-onevision": ["<|im_start|>", "user"],
    "tiny-next": ["<s>", "user", ":"],
    "tiny-qwen": ["<|im_start|>", "user"],
}
"""Model name to the tokens before the picture."""
TAILS: Final = {
    "tiny-onevision": ["<|im_end|>", "<|im_start|>", "assistant"],
    "tiny-next": ["assistant", ":"],
    "tiny-qwen": ["<|im_end|>", "<|im_start|>", "assistant"],
}
"""Model name to the tokens between the question and the answer."""
BLOCKED: Final = -1e4

Turn = tuple[str, str, float]


@cache
def ids_of(name: str, text: str) -> tuple[int, ...]:
    """Return the token ids of a text."""
    return tuple(load_tokenizer(name)(text, add_special_tokens=False)["input_ids"])


def turn_ids(name: str, question: str, answer: str) -> tuple[list[int], int]:
    """Return the ids from the question to the end of the answer, and the index of the answer's first token."""
    tokenizer = load_tokenizer(name)
    before = [*ids_of(name, question), *tokenizer.convert_tokens_to_ids(TAILS[name])]
    return [*before, *ids_of(name, answer), tokenizer.eos_token_id], len(before)


def talk(
    model: Any, name: str, visuals: Sequence[torch.Tensor | Prompt], conversations: list[list[Turn]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run the decoder over a batch of pictures and questions.

    Args:
        model: the model.
        name: its name.
        visuals: per scene, the projected visual tokens (V_i, D) as the language model receives them; of native
            resolution a `Prompt`, which has positions and deepstack as well.
        conversations: per scene, (question, answer, weight) of every turn.

    Returns:
        Over all answer tokens of the batch: logits (A, vocabulary) float32, targets (A,), weights (A,), and the
        number of the turn each belongs to (A,), counted over the whole batch.
    """
    embed, device = model.get_input_embeddings(), model.device
    head = torch.tensor(load_tokenizer(name).convert_tokens_to_ids(HEADS[name]), device=device)
    start = len(head) + max(len(visual) for visual in visuals)
    encoded = [[(*turn_ids(name, q, a), w) for q, a, w in turns] for turns in conversations]
    longest = max(sum(len(ids) for ids, _, _ in turns) for turns in encoded)
    batch, length = len(visuals), start + longest
    tokens = torch.full((batch, longest), load_tokenizer(name).pad_token_id)
    positions = torch.arange(length).repeat(batch, 1)
    block = torch.full(
        (batch, length), -1
    )  # -1 is seen by all that follows, -2 by none, else the turn's number
    rows, columns, targets, weights, owners = [], [], [], [], []
    number = 0
    axes = positions.repeat(3, 1, 1) if isinstance(visuals[0], Prompt) else None
    for row, turns in enumerate(encoded):
        visual = visuals[row]
        visible = len(head) + len(visual)
        block[row, visible:] = -2
        follows = visible
        if axes is not None and isinstance(visual, Prompt):
            axes[:, row, len(head) : visible] = visual.positions
            follows = visual.length
        column = start
        for ids, first, weight in turns:
            end = column + len(ids)
            tokens[row, column - start : end - start] = torch.tensor(ids)
            positions[row, column:end] = follows + torch.arange(len(ids))
            block[row, column:end] = number
            for offset in range(first, len(ids)):
                rows.append(row)
                columns.append(column + offset - 1)
                targets.append(ids[offset])
                weights.append(weight)
                owners.append(number)
            column = end
            number += 1
    tokens_of = [visual.embeddings if isinstance(visual, Prompt) else visual for visual in visuals]
    padded = torch.stack([F.pad(part, (0, 0, 0, start - len(head) - len(part))) for part in tokens_of])
    first = embed(head).unsqueeze(0).expand(batch, -1, -1).to(padded.dtype)
    embeddings = torch.cat([first, padded, embed(tokens.to(device)).to(padded.dtype)], dim=1)
    seen = (block[:, None, :] == -1) | (block[:, None, :] == block[:, :, None])
    seen &= torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(batch, 1, length, length).masked_fill_(~seen[:, None], BLOCKED)
    extra: dict[str, Any] = {}
    prompts = [visual for visual in visuals if isinstance(visual, Prompt)]
    if axes is not None:
        axes[:, :, start:] = positions[:, start:]
        seen_columns = torch.zeros(batch, length, dtype=torch.bool)
        for row, one in enumerate(prompts):
            seen_columns[row, len(head) : len(head) + len(one)] = one.seen
        extra = {
            "visual_pos_masks": seen_columns.to(device),
            "deepstack_visual_embeds": [
                torch.cat(level) for level in zip(*(one.deep for one in prompts), strict=True)
            ],
        }
    hidden = model.model.language_model(
        inputs_embeds=embeddings,
        attention_mask=mask.to(
            device, torch.bfloat16 if torch.is_autocast_enabled(device.type) else torch.float32
        ),
        position_ids=(positions if axes is None else axes).to(device),
        use_cache=False,
        **extra,
    ).last_hidden_state
    logits = model.lm_head(
        hidden[torch.tensor(rows, device=device), torch.tensor(columns, device=device)]
    ).float()
    answers = torch.tensor(targets, device=device), torch.tensor(weights, device=device)
    return logits, *answers, torch.tensor(owners, device=device)


def answers_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy over answer tokens."""
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def answers_right(logits: torch.Tensor, targets: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """Say per turn whether greedy decoding gives exactly the answer: bool (turns,)."""
    wrong = (logits.argmax(-1) != targets).long()
    mistakes = torch.zeros(int(owners.max()) + 1, dtype=torch.long, device=owners.device)
    return (mistakes.index_add_(0, owners, wrong) == 0).cpu()

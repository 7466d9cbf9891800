"""Decoder training, the second lesson: questions about scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional as F

from tiny import native
from tiny.architecture import GRID, NATIVE, PATCH
from tiny.encoder import labels_loss, look, normalise
from tiny.material import SMALLER, TURNS, Piece, clip_piece, conversation, make_piece
from tiny.sequences import HEADS, answers_loss, answers_right, ids_of, talk
from tiny.stages import Stage
from tiny.views import Views, labelled_views
from tiny.words import load_tokenizer, special_ids
from vidcompress.tools.evaluation.shapes import HELD_OUT_SEEDS, ask_all, held_out_questions
from vidcompress.tools.evaluation.shapes.clip import ClipScene

MEASURED: Final = 240
"""Held-out questions per medium that are asked after every round."""

_held_out: dict[str, list[tuple[Piece, Any]]] = {}


def timestamps(piece: Piece) -> list[str]:
    """Return the text before each temporal patch of a clip: the mean time of its two frames."""
    last = (piece.scene.frames if isinstance(piece.scene, ClipScene) else len(piece.views)) - 1
    pairs = [(2 * index, min(2 * index + 1, last)) for index in range(len(piece.views) // 2)]
    return [f"<{sum(pair) / 2 / piece.fps:.1f} seconds>" for pair in pairs]


def lay_out(model: Any, pieces: list[Piece], features: list[torch.Tensor]) -> list[native.Prompt]:
    """Turn encoder states of pieces of native resolution, per piece (T, states, patches, width), into prompts."""
    grids = [(piece.views.shape[1] // PATCH, piece.views.shape[2] // PATCH) for piece in pieces]
    tokens: list[list[torch.Tensor] | None] = [None] * len(pieces)
    for grid in sorted(set(grids)):
        members = [index for index, other in enumerate(grids) if other == grid]
        stacked = torch.cat([features[index] for index in members])
        sizes = [len(features[index]) for index in members]
        levels = [level.split(sizes) for level in native.merge(model, list(stacked.unbind(1)))]
        for number, index in enumerate(members):
            tokens[index] = [level[number] for level in levels]
    ids = special_ids(load_tokenizer(NATIVE))
    between = (ids["vision_start"], ids["vision_end"])
    prompts = []
    for piece, grid, part in zip(pieces, grids, tokens, strict=True):
        assert part is not None
        before: list[list[int]] = [[]]
        if piece.layout == "video":
            before = [list(ids_of(NATIVE, text)) for text in timestamps(piece)]
        prompts.append(native.prompt(model, part, grid, len(HEADS[NATIVE]), before, between))
    return prompts


def project(
    model: Any, pieces: list[Piece], features: list[torch.Tensor]
) -> Sequence[torch.Tensor | native.Prompt]:
    """Turn encoder features into what the language model receives.

    Args:
        model: the model.
        pieces: the scenes.
        features: per scene, (n_views, 64, width), or the states of native resolution (see `encode`).

    Returns:
        Per scene, (V, D): projected, pooled (videos), unpadded, with newlines, as the model's own code does it.
        (Glances have no counterpart there: a quarter of the tokens of a single view, for the first steps only.)
    """
    inner = model.model
    if model.config.model_type == "qwen3_vl":
        return lay_out(model, pieces, features)
    counts = [len(part) for part in features]
    projected = inner.multi_modal_projector(torch.cat(features)).split(counts)
    visuals: list[torch.Tensor | None] = [None] * len(pieces)
    clips = [index for index, piece in enumerate(pieces) if piece.layout == "video"]
    if clips:
        pooled = inner.apply_pooling(torch.cat([projected[index] for index in clips]))
        for index, part in zip(clips, pooled.split([counts[index] for index in clips]), strict=True):
            newline = inner.image_newline[None].to(part.dtype)
            visuals[index] = torch.cat([part.flatten(0, 1), newline])
    for index, piece in enumerate(pieces):
        if piece.layout == "glance":
            square = projected[index].view(GRID, GRID, -1).permute(2, 0, 1)
            few = F.avg_pool2d(square.float(), 2).flatten(1).T.to(square.dtype)
            visuals[index] = torch.cat([few, inner.image_newline[None].to(few.dtype)])
    images = [index for index, piece in enumerate(pieces) if piece.layout in ("image", "single")]
    if images:
        extra = {}
        if hasattr(model.config, "vision_aspect_ratio"):
            extra["vision_aspect_ratio"] = model.config.vision_aspect_ratio
        else:
            extra["vision_feature_select_strategy"] = model.config.vision_feature_select_strategy
        packed, _ = inner.pack_image_features(
            [projected[index] for index in images],
            torch.tensor([pieces[index].size for index in images]),
            image_newline=inner.image_newline,
            **extra,
        )
        for index, part in zip(images, packed, strict=True):
            visuals[index] = part
    return [visual for visual in visuals if visual is not None]


def encode(model: Any, name: str, pieces: list[Piece]) -> list[torch.Tensor]:
    """Encode the views of pieces: per piece (n_views, 64, width); of native resolution (T, states, patches, width)."""
    if name == NATIVE:
        return _encode_native(model, pieces)
    pixels = np.concatenate([piece.views for piece in pieces])
    features, _ = look(model, normalise(pixels, name).to(model.device))
    return list(features.split([len(piece.views) for piece in pieces]))


def _encode_native(model: Any, pieces: list[Piece]) -> list[torch.Tensor]:
    """Encode the temporal patches of pieces, all of one grid together."""
    pairs = [
        piece.views.reshape(-1, 2, *piece.views.shape[1:]) if piece.layout == "video" else piece.views
        for piece in pieces
    ]
    states: list[torch.Tensor | None] = [None] * len(pieces)
    for size in sorted({part.shape[-3:-1] for part in pairs}):
        members = [index for index, part in enumerate(pairs) if part.shape[-3:-1] == size]
        values = [native.patches(pairs[index]) for index in members]
        stacked = torch.as_tensor(np.concatenate(values)).to(model.device)
        encoded = torch.stack(native.look(model, stacked, (size[0] // PATCH, size[1] // PATCH)), dim=1)
        for index, part in zip(members, encoded.split([len(one) for one in values]), strict=True):
            states[index] = part
    return [part for part in states if part is not None]


def simple_question(seed: int, material: str, name: str) -> tuple[Piece, Any]:
    """Make a single-view piece of a held-out seed with one question of any type."""
    piece = make_piece(material, seed, name, worn=False)
    questions = ask_all(piece.scene, np.random.default_rng([seed, 8]))
    return piece, questions[seed % len(questions)]


def held_out_pieces(name: str, medium: str, count: int) -> list[tuple[Piece, Any]]:
    """Prepare the first `count` held-out questions of a medium (or of single views), each with its piece."""
    key = f"{name} {medium} {count}"
    if key not in _held_out:
        found = []
        if medium in ("frame", "glance", "thumb"):
            found = [simple_question(seed, medium, name) for seed in HELD_OUT_SEEDS[:count]]
        else:
            for seed, scene, question in held_out_questions(medium, count):  # type: ignore[arg-type]
                still = not isinstance(scene, ClipScene)
                piece = make_piece("image", seed, name, worn=False) if still else clip_piece(scene, name)
                found.append((piece, question))
        _held_out[key] = found
    return _held_out[key]


@torch.no_grad()
def accuracy(model: Any, name: str, medium: str, count: int) -> dict[str, float]:
    """Answer held-out questions with all tokens.

    Args:
        model: the model.
        name: its name.
        medium: "image" or "clip", or "frame", "glance" or "thumb" for single views.
        count: how many questions.

    Returns:
        Question type to the share answered exactly right, and "all" for all of them.
    """
    hits: dict[str, list[float]] = {"all": []}
    asked = held_out_pieces(name, medium, count)
    for start in range(0, len(asked), 24):
        part = asked[start : start + 24]
        pieces = [piece for piece, _ in part]
        visuals = project(model, pieces, encode(model, name, pieces))
        turns = [[(question.text, question.answer, 1.0)] for _, question in part]
        logits, targets, _, owners = talk(model, name, visuals, turns)
        for (_, question), right in zip(part, answers_right(logits, targets, owners).tolist(), strict=True):
            hits["all"].append(float(right))
            hits.setdefault(question.type, []).append(float(right))
    return {kind: float(np.mean(values)) for kind, values in hits.items()}


class Talking:
    """One round: its pieces, with cached features while the encoder is frozen."""

    def __init__(
        self, state: Any, stage: Stage, name: str, rng: np.random.Generator, first_seed: int
    ) -> None:
        self.state, self.stage, self.name = state, stage, name
        self.pieces: dict[str, list[Piece]] = {}
        self.features: dict[str, list[torch.Tensor]] = {}
        self.labelled: Views | None = None
        seed = first_seed
        for material, share in stage.mix:
            count = round(stage.pictures * share)
            self.pieces[material] = [make_piece(material, seed + index, name) for index in range(count)]
            seed += count
        if stage.encoder_lr == 0:
            with torch.no_grad(), torch.autocast(state.model.device.type, torch.bfloat16):
                for material, pieces in self.pieces.items():
                    self.features[material] = []
                    for start in range(0, len(pieces), 32):
                        found = encode(state.model, name, pieces[start : start + 32])
                        self.features[material].extend(part.to(torch.bfloat16) for part in found)
        else:
            self.labelled = labelled_views(seed, 24 * 24, pairs=name == NATIVE)

    def batches(self, rng: np.random.Generator) -> Iterator[tuple[str, list[int], np.random.Generator]]:
        """Yield (material, indices of its pieces, generator for the questions), shuffled."""
        for _ in range(self.stage.passes):
            plan: list[tuple[str, list[int]]] = []
            for material, pieces in self.pieces.items():
                size = self.stage.batch // SMALLER[material]
                order = rng.permutation(len(pieces))
                plan.extend(
                    (material, [int(index) for index in order[start : start + size]])
                    for start in range(0, len(order) - size + 1, size)
                )
            for number in rng.permutation(len(plan)):
                yield (*plan[int(number)], rng)

    def loss(self, batch: tuple[str, list[int], np.random.Generator]) -> torch.Tensor:
        """Loss of the answers, and of the encoder's first lesson while the encoder is trained."""
        material, indices, rng = batch
        model, name = self.state.model, self.name
        pieces = [self.pieces[material][index] for index in indices]
        extra = torch.zeros((), device=model.device)
        if self.labelled is not None:
            features = encode(model, name, pieces)
            chosen = rng.integers(0, len(self.labelled.pixels), 24)
            views = Views(**{key: value[chosen] for key, value in vars(self.labelled).items()})
            extra = 0.3 * labels_loss(model, self.state.heads, views, name)
        else:
            features = [self.features[material][index] for index in indices]
        turns = round(self.stage.turns * TURNS[material])
        weights = dict(self.stage.weights)
        conversations = [conversation(piece.scene, rng, turns, weights) for piece in pieces]
        logits, targets, importance, _ = talk(model, name, project(model, pieces, features), conversations)
        return answers_loss(logits, targets, importance) + extra

    def measure(self) -> dict[str, float]:
        """Accuracy on held-out questions, per medium and type."""
        found = {}
        materials = {material for material, _ in self.stage.mix}
        for medium in [name for name in ("frame", "glance", "thumb", "clip", "image") if name in materials]:
            scores = accuracy(self.state.model, self.name, medium, MEASURED)
            found.update({f"{medium} {kind}": value for kind, value in scores.items()})
        return found

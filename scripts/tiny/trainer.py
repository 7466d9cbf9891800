"""Training loop: rounds, checkpoints, resumption."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlavaOnevisionForConditionalGeneration

from tiny import attention, lessons
from tiny.architecture import build
from tiny.encoder import Heads
from tiny.stages import Stage
from tiny.words import load_tokenizer, special_ids
from vidcompress.progress import counting_bar

COUNTERS = ("stage", "round", "step", "seconds", "cpu_seconds", "history")
"""Fields of a state that a checkpoint holds as they are."""


@dataclass
class State:
    """Everything a run needs to go on as if it had never stopped (with the run's seed)."""

    model: Any
    heads: Heads
    seed: int = 0
    optimizer: torch.optim.Optimizer | None = None
    stage: int = 0
    round: int = 0
    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def fresh_state(name: str, seed: int, device: str = "cpu") -> State:
    """Build an untrained state on `device`; the same seed gives the same weights."""
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(name)
    model = build(name, len(tokenizer), special_ids(tokenizer))
    if torch.device(device).type == "cpu":
        attention.use(model)
    return State(model.to(device), Heads(model.config.vision_config.hidden_size).to(device), seed)


def encoder_parameters(model: Any) -> list[torch.nn.Parameter]:
    """List the weights of the encoder, without what projects its features for the language model."""
    inner = model.model
    if hasattr(inner, "vision_tower"):
        return list(inner.vision_tower.parameters())
    tower = inner.visual
    return [
        parameter
        for part in (tower.patch_embed, tower.pos_embed, tower.blocks)
        for parameter in part.parameters()
    ]


def make_optimizer(state: State, stage: Stage) -> torch.optim.AdamW:
    """Make the optimizer of a stage; a zero encoder rate freezes the encoder."""
    tower = encoder_parameters(state.model)
    for parameter in tower:
        parameter.requires_grad_(stage.encoder_lr > 0)
    known = {id(parameter) for parameter in tower}
    others = [parameter for parameter in state.model.parameters() if id(parameter) not in known]
    groups: list[dict[str, Any]] = []
    for parameters, rate in (
        (tower, stage.encoder_lr),
        (others, stage.lr),
        (list(state.heads.parameters()), stage.lr),
    ):
        if rate > 0:
            matrices = [parameter for parameter in parameters if parameter.ndim > 1]
            vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
            groups.append({"params": matrices, "peak": rate, "weight_decay": 0.02})
            groups.append({"params": vectors, "peak": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))


def adopt_decoder(state: State, folder: Path | None) -> None:
    """Give the model the decoder of another exported one with the same words.

    Args:
        state: whose model receives it.
        folder: the exported tiny-onevision.

    Raises:
        ValueError: if there is no such folder.
    """
    if folder is None or not (folder / "model.safetensors").exists():
        raise ValueError(
            f"decoder={folder} holds no exported model; train tiny-onevision and pass its folder"
        )
    donor = LlavaOnevisionForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32
    ).model.language_model
    decoder = state.model.model.language_model
    missing = decoder.load_state_dict(donor.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        for key in missing:
            decoder.get_parameter(key).zero_()


def rate(stage: Stage, step: int) -> float:
    """Return the share of the peak learning rate at `step` of a stage: linear warm-up, then cosine to the floor."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.floor + (1 - stage.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def save(state: State, path: Path) -> None:
    """Write a checkpoint in one go: a reader finds the old one or the new one, never half of one."""
    payload = {
        "model": state.model.state_dict(),
        "heads": state.heads.state_dict(),
        "optimizer": state.optimizer.state_dict() if state.optimizer else None,
        "torch_rng": torch.get_rng_state(),
        "seed": state.seed,
        **{key: getattr(state, key) for key in COUNTERS},
    }
    partial = path.with_suffix(".partial")
    torch.save(payload, partial)
    os.replace(partial, path)


def load(path: Path, name: str, seed: int, stages: tuple[Stage, ...], device: str = "cpu") -> State:
    """Read a checkpoint back, onto `device`; the next round continues from it.

    Raises:
        ValueError: if the checkpoint was begun with another seed.
    """
    payload = torch.load(path, map_location="cpu", weights_only=True)
    if payload.get("seed", seed) != seed:
        raise ValueError(
            f"seed={seed}, but {path} was begun with {payload['seed']}; use that one or another run_dir"
        )
    state = fresh_state(name, seed, device)
    state.model.load_state_dict(payload["model"])
    state.heads.load_state_dict(payload["heads"])
    for key in COUNTERS:
        setattr(state, key, payload.get(key, getattr(state, key)))
    if state.round > 0 and state.stage < len(stages):
        state.optimizer = make_optimizer(state, stages[state.stage])
        state.optimizer.load_state_dict(payload["optimizer"])
    torch.set_rng_state(payload["torch_rng"])
    return state


def log_line(state: State) -> str:
    """Return the last round's report as one line of plain text."""
    words = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in state.history[-1].items())
    return f"{time.strftime('%H:%M:%S')} {state.seconds:7.0f} s  {'  '.join(words)}\n"


def train(
    name: str,
    run_dir: Path,
    stages: tuple[Stage, ...],
    seed: int,
    resume: bool = True,
    stop_after: int | None = None,
    after_round: Callable[[State], None] | None = None,
    decoder: Path | None = None,
    device: str = "cpu",
    hours: float | None = None,
) -> State:
    """Train, or go on training.

    Args:
        name: a key of `stages.CURRICULA`.
        run_dir: where the checkpoint `state.pt` and the plain-text log `log.txt` go.
        stages: the curriculum.
        seed: of the weights, the pictures and the questions.
        resume: continue from `run_dir/state.pt` if it is there.
        stop_after: end after this many rounds of this call.
        after_round: called after every checkpoint (for exports).
        decoder: folder of the exported model whose decoder a stage with `adopt` begins with.
        device: where to train, as torch spells it.
        hours: end after the round in which the whole run, with its resumptions, has used this many CPU hours.

    Returns:
        The final state.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = run_dir / "state.pt"
    going_on = resume and checkpoint.exists()
    state = load(checkpoint, name, seed, stages, device) if going_on else fresh_state(name, seed, device)
    rounds = 0
    with counting_bar() as progress, (run_dir / "log.txt").open("a", buffering=1) as log:
        for index in range(state.stage, len(stages)):
            stage = stages[index]
            if state.round >= stage.rounds:  # the stage was shortened while it ran
                state.stage, state.round = index + 1, 0
                continue
            called = f"{name} {stage.name}"
            bar = progress.add_task(called, total=stage.rounds, completed=state.round)
            while state.round < stage.rounds:
                if stage.adopt and state.round == 0:
                    adopt_decoder(state, decoder)
                if state.optimizer is None or state.round == 0:
                    state.optimizer = make_optimizer(state, stage)
                began, cpu_began = time.monotonic(), time.process_time()
                report = run_round(state, stage, name, seed)
                state.round += 1
                state.seconds += time.monotonic() - began
                state.cpu_seconds += time.process_time() - cpu_began
                report = {"stage": stage.name, "round": state.round, "step": state.step, **report}
                state.history.append(report)
                log.write(log_line(state))
                progress.update(bar, advance=1, description=f"{called}, loss {report['loss']:.3f}")
                last = state.round == stage.rounds
                if last:
                    state.stage, state.round = index + 1, 0
                save(state, checkpoint)
                if after_round is not None:
                    after_round(state)
                rounds += 1
                spent = hours is not None and state.cpu_seconds >= 3600 * hours
                if spent or (stop_after is not None and rounds >= stop_after):
                    return state
                if last:
                    break
    return state


def run_round(state: State, stage: Stage, name: str, seed: int) -> dict[str, Any]:
    """Draw a round's pictures, train on them, measure; everything follows from (seed, stage, round) and the state."""
    optimizer = state.optimizer
    assert optimizer is not None
    rng = np.random.default_rng([seed, state.stage, state.round])
    lesson = lessons.open_lesson(state, stage, name, rng)
    losses = []
    done = state.round * stage.round_steps
    state.model.train()
    for local, batch in enumerate(lesson.batches(rng)):
        share = rate(stage, done + local)
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak"]
        with torch.autocast(state.model.device.type, torch.bfloat16):
            loss = lesson.loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        state.step += 1
    state.model.eval()
    with torch.autocast(state.model.device.type, torch.bfloat16):
        measured = lesson.measure()
    return {"loss": float(np.mean(losses)), "seen": state.step, **measured}

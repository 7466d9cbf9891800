"""Fuzz cases by number: the file, its mutation and the public entry that reads it, from number and seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from .clip_mutations import KINDS
from .mutations import mutate_bytes, mutate_json, mutate_safetensors, mutate_template

WEIGHTS = {"video": 45, "image": 20, "checkpoint": 31, "card": 2, "journal": 2}
"""How often each kind of file is drawn."""

READERS = {
    "video": {
        "read_video auto": 2,
        "read_video pyav": 4,
        "read_video decord": 4,
        "read_video stream": 2,
        "read_video odd file": 2,
        "VisualQA": 1,
        "eval": 1,
    },
    "image": {
        "load_image": 6,
        "load_image bytes": 2,
        "load_image gzip": 2,
        "load_image odd file": 1,
        "VisualQA": 1,
    },
    "checkpoint": {"load_processor": 4, "load_model": 3, "VisualQA.from_pretrained": 3},
    "card": {"parse_card": 1},
    "journal": {"run_sweep": 1},
}
"""Kind -> what reads it, and how often."""


@dataclass(frozen=True)
class Case:
    """A broken file and its reader.

    Attributes:
        number: of the case in its run.
        kind: of the file, a key of `READERS`.
        base: name of the valid file.
        reader: the entry that is called.
        mutations: what was done to it.
        data: the broken file.
        seed: for choices of the reader, such as how many frames it asks for.
    """

    number: int
    kind: str
    base: str
    reader: str
    mutations: tuple[str, ...]
    data: bytes = field(repr=False)
    seed: int = 0


def make_case(material: dict[str, list[Path]], seed: int, number: int) -> Case:
    """Make one case anew.

    Args:
        material: from `make_material`.
        seed: of the run.
        number: of the case.
    """
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    path = rng.choice(material[kind])
    readers = READERS[kind]
    reader = rng.choices(list(readers), list(readers.values()))[0]
    if path.name == "model.safetensors" and reader == "load_processor":
        reader = "load_model"  # the processor does not look at weights
    data = path.read_bytes()
    if path.name == "model.safetensors":
        broken, done = mutate_safetensors(data, rng)
    elif path.name.endswith(".jinja"):
        broken, done = mutate_template(data, rng)
    elif path.suffix == ".json" and rng.random() < 0.85:
        broken, done = mutate_json(data, rng)
    else:
        other = rng.choice(material[kind])
        special = KINDS if kind in ("video", "image") else ()
        broken, done = mutate_bytes(data, rng, [other.read_bytes()], special)
    return Case(number, kind, path.name, reader, tuple(done), broken, rng.randrange(1 << 30))
